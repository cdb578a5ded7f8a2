"""What the machine asks to be done outside of it: a closed union. Each is answered once, with a value or a failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from actors.workflow.document import ApprovalStep
from bus.subjects import Priority
from supervisor.breaker import OnOpen
from supervisor.retry import Retry


@dataclass(frozen=True, slots=True)
class Call:
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


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for a time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WaitSignal:
    """Wait for a signal; ``fresh``: one that comes from now on."""

    signal: str
    timeout_s: float | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Approve:
    """Ask people; ``title``, ``details`` and ``edit`` are those of ``step``, computed."""

    step: ApprovalStep
    title: str
    details: Any
    edit: Any


@dataclass(frozen=True, slots=True)
class Emit:
    """Write an event of the user's."""

    event: str
    data: Any


@dataclass(frozen=True, slots=True)
class Clock:
    """The time."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Take a lock; answered with the key that it is given back under."""

    name: str


@dataclass(frozen=True, slots=True)
class Unlock:
    """Give a lock back; ``key`` is what taking it was answered with."""

    key: str


What = Call | Sleep | WaitSignal | Approve | Emit | Clock | Lock | Unlock


@dataclass(frozen=True, slots=True)
class Ask:
    """``id`` is how it is answered; ``place`` is where it stands in the job, what its durable keys begin with."""

    id: str
    place: str
    what: What
