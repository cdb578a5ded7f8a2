"""What the supervisor tells those who watch it: a closed union of frozen Structs, ready for the wire."""

from __future__ import annotations

import msgspec

from bus.system_events import KillCause


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


class ChildKilled(msgspec.Struct, frozen=True, tag=True):
    """A child was sent SIGKILL since it was found wanting; its exit, which counts as a failure, follows."""

    name: str
    pid: int
    cause: KillCause
    reason: str


class ChildHeld(msgspec.Struct, frozen=True, tag=True):
    """Someone has stopped a child: it stays so until someone asks to start it."""

    name: str


class ChildRestarting(msgspec.Struct, frozen=True, tag=True):
    """A child will be started again in ``delay_s`` seconds; ``restarts`` counts this one."""

    name: str
    delay_s: float
    restarts: int


class GroupGivenUp(msgspec.Struct, frozen=True, tag=True):
    """Too many restarts: all children of the group are stopped and stay so until someone asks for a restart."""

    group: str
    reason: str


SupervisionEvent = ChildStarted | ChildExited | ChildKilled | ChildHeld | ChildRestarting | GroupGivenUp
