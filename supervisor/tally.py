"""What a node has counted since it began, and what it knows at one moment: the material of its metrics. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from bus.system_events import BreakerClosed, BreakerEvent, BreakerHalfOpened, BreakerOpened
from supervisor.events import ChildKilled, ChildRestarting, SupervisionEvent
from supervisor.heartbeat import Heartbeat
from supervisor.status import NodeStatus

BREAKER_STATES = ("closed", "open", "half_open")
_STATE_AFTER = {BreakerOpened: "open", BreakerHalfOpened: "half_open", BreakerClosed: "closed"}


@dataclass
class Tally:
    """Counts since the node began. Breakers are known from their first transition on."""

    restarts: Counter[str] = field(default_factory=Counter)
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    breakers: dict[str, str] = field(default_factory=dict)

    def note(self, event: SupervisionEvent) -> None:
        """Something happened to a child of this node."""
        match event:
            case ChildRestarting(name=name):
                self.restarts[name] += 1
            case ChildKilled(name=name, cause=cause):
                self.kills[name, cause] += 1
            case _:
                pass

    def note_breaker(self, event: BreakerEvent) -> None:
        """A breaker, of whichever node, changed its state."""
        state = _STATE_AFTER[type(event)]
        self.breakers[event.breaker] = state
        self.transitions[event.breaker, state] += 1


@dataclass(frozen=True)
class Snapshot:
    """A node at one moment. ``ages_s``: seconds since each actor's last heartbeat; ``pending`` by stream, consumer."""

    status: NodeStatus
    tally: Tally
    beats: Mapping[str, Heartbeat]
    ages_s: Mapping[str, float]
    pending: Mapping[tuple[str, str], int]
