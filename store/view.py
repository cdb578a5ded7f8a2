"""One job as people see it: what ``store.job_fold`` makes of the events of its log."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from bus.amendment import Change
from bus.event import NULL, ForkedFrom, Parent
from bus.failure import Failure
from store.approval import ApprovalView

JobState = Literal[
    "planned", "submitted", "running", "waiting", "paused", "completed", "failed", "cancelled", "rejected"
]
CallState = Literal["running", "retrying", "completed", "failed"]
ENDED: frozenset[JobState] = frozenset({"completed", "failed", "cancelled", "rejected"})


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a running call is, in units of its own; ``total`` None if unknown."""

    done: float
    total: float | None = None
    note: str = ""


class CallView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One durable operation of a job.

    ``kind`` is tool, agent or job for a call, else what the host recorded (local, sleep, signal, approval).
    ``attempts`` counts the attempts that are known to have begun: 0 means that nothing was heard of the call yet.
    ``copied``: a fork has it from its source, and it was not run again.
    """

    call: str
    kind: str
    name: str
    version: int = 0
    state: CallState = "running"
    started_at: datetime
    ended_at: datetime | None = None
    duration_s: float | None = None
    attempts: int = 0
    failure: Failure | None = None
    progress: Progress | None = None
    actor: str = ""
    child: str = ""
    copied: bool = False
    input: msgspec.Raw = NULL
    output: msgspec.Raw = NULL


class SignalView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A word somebody sent to the job."""

    sequence: int
    name: str
    at: datetime
    by: str = ""
    data: msgspec.Raw = NULL


class AmendmentView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change that somebody made to the job while it was under way."""

    sequence: int
    at: datetime
    by: str = ""
    change: Change | None = None


class JobView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job at one moment: everything in its log up to ``last_sequence``.

    ``owners`` counts how often a host took it up: more than one means that it was resumed. ``duration_s`` is None
    until it has ended. ``ended_by`` and ``reason`` say who cancelled it and why. ``retries`` counts how often it went
    on after it had failed, ``starts_at`` is when a planned job is to begin, ``paused_by`` and ``paused_at`` say who
    paused it and since when, ``letters`` are the ids of its dead letters that nobody has dealt with. ``forks`` are jobs
    that were forked from it.
    """

    workspace: str
    job: str
    state: JobState = "submitted"
    workflow: str = ""
    version: str = ""
    app: str = ""
    priority: str = "normal"
    parent: Parent | None = None
    forked_from: ForkedFrom | None = None
    forks: tuple[str, ...] = ()
    requested_at: datetime | None = None
    starts_at: datetime | None = None
    submitted_at: datetime | None = None
    deadline_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: float | None = None
    host: str = ""
    owners: int = 0
    input: msgspec.Raw = NULL
    output: msgspec.Raw = NULL
    failure: Failure | None = None
    ended_by: str = ""
    reason: str = ""
    waiting_on: tuple[str, ...] = ()
    waiting_until: datetime | None = None
    paused_by: str = ""
    paused_at: datetime | None = None
    calls: tuple[CallView, ...] = ()
    signals: tuple[SignalView, ...] = ()
    amendments: tuple[AmendmentView, ...] = ()
    approvals: tuple[ApprovalView, ...] = ()
    retries: int = 0
    letters: tuple[int, ...] = ()
    last_sequence: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ENDED
