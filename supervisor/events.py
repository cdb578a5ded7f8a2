"""What the supervisor tells those who watch it: a closed union of frozen Structs, ready for the wire."""

from __future__ import annotations

import msgspec


class ChildStarted(msgspec.Struct, frozen=True, tag=True):
    """A process runs; whether it serves is for its own heartbeat to say."""

    name: str
    pid: int


class ChildExited(msgspec.Struct, frozen=True, tag=True):
    """A process ended; ``expected`` if we stopped it. ``pid`` is None if it could not even be started."""

    name: str
    pid: int | None
    description: str
    expected: bool


class ChildRestarting(msgspec.Struct, frozen=True, tag=True):
    """A child will be started again in ``delay_s`` seconds; ``restarts`` counts this one."""

    name: str
    delay_s: float
    restarts: int


class GroupGivenUp(msgspec.Struct, frozen=True, tag=True):
    """Too many restarts: all children of the group are stopped and stay so until someone asks for a restart."""

    group: str
    reason: str


SupervisionEvent = ChildStarted | ChildExited | ChildRestarting | GroupGivenUp
