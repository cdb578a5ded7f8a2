"""What a line of the log says of nodes, actors, breakers and duties."""

from __future__ import annotations

from typing import assert_never

from actors.console.amount import duration
from actors.console.page import Span, Style, one_line
from bus.system_events import (
    ActorExited,
    ActorKilled,
    ActorRestarting,
    ActorsGivenUp,
    ActorStarted,
    ActorStopped,
    AssetLoaded,
    AssetNotLoaded,
    BreakerClosed,
    BreakerEvent,
    BreakerHalfOpened,
    BreakerOpened,
    DutiesTaken,
    NodeDraining,
    NodeEvent,
    NodeLost,
    NodeReturned,
    NodeStarted,
    NodeStopped,
)

SYSTEM_STYLES: dict[type, Style] = {
    NodeStarted: "name",
    NodeStopped: "warn",
    NodeDraining: "warn",
    NodeLost: "bad",
    NodeReturned: "good",
    ActorExited: "warn",
    ActorRestarting: "warn",
    ActorKilled: "bad",
    ActorStopped: "warn",
    ActorsGivenUp: "bad",
    AssetNotLoaded: "bad",
    BreakerOpened: "bad",
    BreakerHalfOpened: "warn",
    BreakerClosed: "good",
}


def system_essentials(event: NodeEvent | BreakerEvent) -> list[Span | str]:
    """What there is to say beside the kind of the event."""
    match event:
        case BreakerOpened() | BreakerHalfOpened() | BreakerClosed():
            return _breaker(event)
        case NodeStarted() | NodeStopped() | NodeDraining() | NodeLost() | NodeReturned() | DutiesTaken():
            return _node(event)
        case ActorStarted() | ActorExited() | ActorRestarting() | ActorKilled() | ActorStopped() | ActorsGivenUp():
            return _actor(event)
        case AssetLoaded():
            again = "anew" if event.refreshed else ""
            return [_name(event.asset), one_line(event.version), f"in {one_line(event.actor)}", again]
        case AssetNotLoaded():
            return [_name(event.asset), f"in {one_line(event.actor)}", Span(one_line(event.reason), "bad")]
    assert_never(event)


def _node(
    event: NodeStarted | NodeStopped | NodeDraining | NodeLost | NodeReturned | DutiesTaken,
) -> list[Span | str]:
    match event:
        case NodeStarted():
            return [f"pid {event.pid}", one_line(event.version), one_line(", ".join(event.actors))]
        case NodeStopped():
            return [one_line(event.reason)]
        case NodeDraining():
            return [_by(event.by)]
        case NodeLost():
            return [f"silent for {duration(event.silent_s)}", _by(event.by)]
        case NodeReturned():
            return [f"away for {duration(event.away_s)}", _by(event.by)]
        case DutiesTaken():
            return [f"epoch {event.epoch}"]
    assert_never(event)


def _actor(
    event: ActorStarted | ActorExited | ActorRestarting | ActorKilled | ActorStopped | ActorsGivenUp,
) -> list[Span | str]:
    match event:
        case ActorStarted():
            return [_name(event.actor), f"pid {event.pid}"]
        case ActorExited():
            return [_name(event.actor), _pid(event.pid), one_line(event.description)]
        case ActorRestarting():
            return [_name(event.actor), f"in {duration(event.delay_s)}, restart {event.restarts}"]
        case ActorKilled():
            return [_name(event.actor), _pid(event.pid), Span(one_line(event.reason), "bad")]
        case ActorStopped():
            return [_name(event.actor), "by request"]
        case ActorsGivenUp():
            return [_name(event.group), Span(one_line(event.reason), "bad")]
    assert_never(event)


def _breaker(event: BreakerEvent) -> list[Span | str]:
    match event:
        case BreakerOpened():
            how_long = f"for {duration(event.open_s)}:" if event.open_s else "until it is closed by hand:"
            return [_name(event.breaker), how_long, Span(one_line(event.reason), "bad"), _by(event.by)]
        case BreakerHalfOpened():
            return [_name(event.breaker), _by(event.by)]
        case BreakerClosed():
            return [_name(event.breaker), _by(event.by), "by hand" if event.forced else ""]
    assert_never(event)


def _name(name: str) -> Span:
    return Span(one_line(name), "name")


def _pid(pid: int | None) -> str:
    return f"pid {pid}" if pid is not None else ""


def _by(who: str) -> str:
    return f"by {one_line(who)}" if who else ""
