"""Which nodes are there: pure, a fold of the log's node events and of what is heard of the nodes.

A node is on the roll from its ``node.started`` or its first answer until its ``node.stopped``. It is here, or away
since it was declared lost. Times ``…_s`` are of the leader's own clock; instants are used for what the log says only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from bus.messages import Event
from bus.system_events import NodeLost, NodeReturned, NodeStarted, NodeStopped

# A node that stopped in order may still answer for a moment.
_LEAVING_S = 10.0
FORGET_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class Here:
    """Heard of at ``heard_s``, or expected since then."""

    heard_s: float


@dataclass(frozen=True)
class Away:
    """Declared lost at ``lost_at``, after ``silent_s`` seconds of silence."""

    lost_at: datetime
    silent_s: float


@dataclass(frozen=True)
class Gone:
    """Stopped in order at ``stopped_s``."""

    stopped_s: float


Standing = Here | Away | Gone


class Roll:
    """The nodes by name."""

    def __init__(self) -> None:
        self.nodes: dict[str, Standing] = {}

    def read(self, event: Event, now_s: float) -> None:
        """Fold an event of the log; it may be read twice."""
        name = event.job
        match event:
            case NodeStarted():
                # One that was lost stays so until it is heard of: only then its return is written.
                if not isinstance(self.nodes.get(name), Away):
                    self.nodes[name] = Here(now_s)
            case NodeStopped():
                self.nodes[name] = Gone(now_s)
            case NodeLost(silent_s=silent_s, at=lost_at):
                self.nodes[name] = Away(lost_at, silent_s)
            case NodeReturned():
                self.nodes[name] = Here(now_s)
            case _:
                pass

    def hear(self, name: str, now_s: float) -> Away | None:
        """A node has answered; how it stood if it was lost until now."""
        before = self.nodes.get(name)
        if isinstance(before, Gone) and now_s - before.stopped_s < _LEAVING_S:
            return None
        if isinstance(before, Away):
            return before  # until its return is written
        self.nodes[name] = Here(now_s)
        return None

    def deafen(self, now_s: float) -> None:
        """We ourselves could not hear anything until now: nobody's silence counts."""
        for name, standing in self.nodes.items():
            if isinstance(standing, Here):
                self.nodes[name] = Here(now_s)

    def silent(self, now_s: float, lost_after_s: float) -> Iterator[tuple[str, float]]:
        """The nodes that are to be declared lost, each with its silence in seconds."""
        for name, standing in sorted(self.nodes.items()):
            if isinstance(standing, Here) and now_s - standing.heard_s >= lost_after_s:
                yield name, now_s - standing.heard_s

    def forget(self, now_s: float, now_at: datetime) -> None:
        """Drop what is of no interest any more: nodes that stopped, and those that were lost for more than a day."""
        for name, standing in list(self.nodes.items()):
            match standing:
                case Gone(stopped_s) if now_s - stopped_s >= _LEAVING_S:
                    del self.nodes[name]
                case Away(lost_at) if now_at - lost_at > FORGET_AFTER:
                    del self.nodes[name]
                case _:
                    pass
