"""Events of nodes, actors, breakers and duties: the log of workspace ``_system``.

A node stands in the place of a job; breakers share the log of the name ``breakers``.
"""

from __future__ import annotations

from typing import Literal

from bus.event import BaseEvent

BREAKERS_LOG = "breakers"

KillCause = Literal["stalled", "deaf", "memory", "cpu"]


class NodeStarted(BaseEvent, frozen=True, tag="node.started"):
    """A supervisor began; ``actors`` are the names of its children."""

    pid: int
    version: str = ""
    actors: tuple[str, ...] = ()


class NodeStopped(BaseEvent, frozen=True, tag="node.stopped"):
    """A supervisor ended in order. One that was killed leaves no word."""

    reason: str = ""


class ActorStarted(BaseEvent, frozen=True, tag="actor.started"):
    """A child process runs."""

    actor: str
    pid: int


class ActorExited(BaseEvent, frozen=True, tag="actor.exited"):
    """A child process ended: how, and whether its supervisor had asked for it."""

    actor: str
    description: str
    expected: bool
    pid: int | None = None


class ActorRestarting(BaseEvent, frozen=True, tag="actor.restarting"):
    """A child will be started again after ``delay_s``."""

    actor: str
    delay_s: float
    restarts: int


class ActorStopped(BaseEvent, frozen=True, tag="actor.stopped"):
    """Someone has stopped a child; it stays so until someone asks to start it."""

    actor: str


class ActorsGivenUp(BaseEvent, frozen=True, tag="actor.given_up"):
    """A group of children ended too often; none of them is started again until somebody asks."""

    group: str
    reason: str


class ActorKilled(BaseEvent, frozen=True, tag="actor.killed"):
    """The supervisor ended a child by SIGKILL: ``cause`` for programs, ``reason`` for people. A restart follows."""

    actor: str
    cause: KillCause
    reason: str
    pid: int | None = None


class AssetLoaded(BaseEvent, frozen=True, tag="asset.loaded"):
    """The process of an actor has loaded what its calls share; ``refreshed``: anew."""

    actor: str
    asset: str
    version: str
    refreshed: bool = False


class AssetNotLoaded(BaseEvent, frozen=True, tag="asset.failed"):
    """An asset could not be loaded, or is not valid.

    ``refreshed``: the value before it stays in use; else the process ends.
    """

    actor: str
    asset: str
    version: str
    reason: str
    refreshed: bool = False


class NodeDraining(BaseEvent, frozen=True, tag="node.draining"):
    """A node takes nothing more and hands everything back; it ends when that is done."""

    by: str = ""


class NodeLost(BaseEvent, frozen=True, tag="node.lost"):
    """Nothing was heard of a node for ``silent_s`` seconds; said by the node that leads."""

    silent_s: float
    by: str = ""


class NodeReturned(BaseEvent, frozen=True, tag="node.returned"):
    """A node that was lost is heard again."""

    away_s: float
    by: str = ""


class DutiesTaken(BaseEvent, frozen=True, tag="duties.taken"):
    """This node leads from here: ``epoch`` fences what it does in that capacity."""

    epoch: int


class BreakerOpened(BaseEvent, frozen=True, tag="breaker.opened"):
    """A circuit is open: no calls for ``open_s`` seconds.

    Within the window ``calls`` were seen, of which ``failures`` failed and ``slow`` were slow. ``forced``: a person has
    opened it, and if ``open_s`` is 0 it stays open until somebody closes it.
    """

    breaker: str
    reason: str
    open_s: float
    calls: int = 0
    failures: int = 0
    slow: int = 0
    by: str = ""
    forced: bool = False


class BreakerHalfOpened(BaseEvent, frozen=True, tag="breaker.half_opened"):
    """One call is let through by ``by``, to see whether the circuit can be closed."""

    breaker: str
    by: str = ""


class BreakerClosed(BaseEvent, frozen=True, tag="breaker.closed"):
    """Calls flow again; ``forced`` by a person, or since the probe succeeded."""

    breaker: str
    by: str = ""
    forced: bool = False


NodeEvent = (
    NodeStarted | NodeStopped | NodeDraining | NodeLost | NodeReturned | DutiesTaken
    | ActorStarted | ActorExited | ActorRestarting | ActorKilled | ActorStopped | ActorsGivenUp
    | AssetLoaded | AssetNotLoaded
)  # fmt: skip
BreakerEvent = BreakerOpened | BreakerHalfOpened | BreakerClosed
