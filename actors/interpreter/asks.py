"""What the machine asks to be done outside of it: a closed union. Each is answered once, with a value or a failure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from actors.workflow.document import ApprovalStep
from bus.subjects import Priority
from supervisor.breaker import OnOpen
from supervisor.retry import Retry


class Call(msgspec.Struct, frozen=True):
    """Run a component. ``cache_s``: an output that was had at most so long ago for the same ``cache_key`` will do.

    ``cache_key`` None stands for the input. ``waits``: for the end of a job that is started.
    """

    kind: Literal["tool", "agent", "job"]
    run: str
    input: dict[str, Any]
    retry: Retry | None = None
    timeout_s: float | None = None
    on_open: OnOpen | None = None
    cache_s: float | None = None
    cache_key: Any = None
    priority: Priority | None = None
    waits: bool = True


class Sleep(msgspec.Struct, frozen=True):
    """Wait for a time."""

    seconds: float


class WaitSignal(msgspec.Struct, frozen=True):
    """Wait for a signal; ``fresh``: one that comes from now on."""

    signal: str
    timeout_s: float | None = None
    fresh: bool = False


class Approve(msgspec.Struct, frozen=True):
    """Ask people; ``title``, ``details`` and ``edit`` are those of ``step``, computed."""

    step: ApprovalStep
    title: str
    details: Any
    edit: Any


class Emit(msgspec.Struct, frozen=True):
    """Write an event of the user's."""

    event: str
    data: Any


class Clock(msgspec.Struct, frozen=True):
    """The time."""


class Lock(msgspec.Struct, frozen=True):
    """Take a lock; answered with the key that it is given back under."""

    name: str


class Unlock(msgspec.Struct, frozen=True):
    """Give a lock back; ``key`` is what taking it was answered with."""

    key: str


What = Call | Sleep | WaitSignal | Approve | Emit | Clock | Lock | Unlock


class Ask(msgspec.Struct, frozen=True):
    """``id`` is how it is answered; ``place`` is where it stands in the job, what its durable keys begin with."""

    id: str
    place: str
    what: What
