"""The jobs that have not ended, as far as it takes to see that one is stuck. Pure: a fold of ``log.*.*.job.*``, of
signals and of answers to approvals, which knows nothing of the jobs that have ended.

A job that is not parked is owned: its owner's request is in JOBS, un-acked. A parked job waits for a signal, an answer,
a child or an instant, and whoever brings that also publishes a wake-up. What contradicts this for longer than
``settle_s`` is suspect; it is looked into before anything is done (``stuck_jobs``).

There may be very many that wait. What they have in common (workspace, workflow, what they wait on) is kept once: 380
bytes for each parked job instead of 600.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bus.approval_events import ApprovalAnswered
from bus.event import Parent
from bus.messages import (
    Event,
    JobAmended,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobRetried,
    JobSubmitted,
    JobWaiting,
)
from bus.messages import Signal as SignalEvent

Key = tuple[str, str]  # workspace, job
_NO_CHILDREN: dict[str, tuple[str, float]] = {}


@dataclass(slots=True)
class OpenJob:
    """One job. ``…_at`` are sequences, ``…_s`` the leader's clock when it learnt of it.

    ``ended_children``: by call, the child's id and when its end was learnt of; ``signal_at`` is the newest signal
    or answer, ``signal`` its kind.
    """

    workflow: str
    parent: Parent | None
    changed_s: float
    owned_at: int = 0
    request: int = 0
    waiting_at: int = 0
    on: tuple[str, ...] = ()
    until: datetime | None = None
    signal_at: int = 0
    signal: str = ""
    signal_s: float = 0.0
    ended_children: dict[str, tuple[str, float]] = field(default_factory=lambda: _NO_CHILDREN)

    @property
    def is_parked(self) -> bool:
        """Whether nobody owns it, by its own word."""
        return self.waiting_at > self.owned_at


@dataclass(frozen=True)
class Ownerless:
    """Owned and not parked: stuck if the request ``request`` is not in the queue any more."""

    key: Key
    workflow: str
    owned_at: int
    request: int


@dataclass(frozen=True)
class Overslept:
    """Parked until an instant that has long passed: its timer, or the wake-up of it, is lost."""

    key: Key
    workflow: str
    waiting_at: int


@dataclass(frozen=True)
class Unheard:
    """Parked before the signal or answer of kind ``signal`` came, and still parked: the wake-up is lost."""

    key: Key
    workflow: str
    waiting_at: int
    signal: str


@dataclass(frozen=True)
class Unanswered:
    """Parked on call ``call``, whose child ``child`` has ended: the reply, or its wake-up, is lost."""

    key: Key
    workflow: str
    waiting_at: int
    call: str
    child: str


Suspect = Ownerless | Overslept | Unheard | Unanswered


class OpenJobs:
    """Folds events in the order of each job's log. ``reopened`` are ended jobs that go on: their logs must be read."""

    def __init__(self) -> None:
        self.jobs: dict[Key, OpenJob] = {}
        self.reopened: set[Key] = set()

    def read(self, workspace: str, sequence: int, event: Event, now_s: float) -> None:
        """Fold one event; it may be read twice."""
        key = (sys.intern(workspace), event.job)
        match event:
            case JobSubmitted():
                self.jobs.setdefault(key, OpenJob(sys.intern(event.workflow), event.parent, now_s))
            case JobCompleted() | JobFailed() | JobCancelled():
                self.end(workspace, event.job, now_s)
            case JobRetried() if key not in self.jobs:
                self.reopened.add(key)
            case _:
                if (job := self.jobs.get(key)) is not None:
                    _change(job, sequence, event, now_s)

    def end(self, workspace: str, job: str, now_s: float) -> None:
        """A job has ended: forget it, except for a parent that may wait for its answer."""
        ended = self.jobs.pop((workspace, job), None)
        self.reopened.discard((workspace, job))
        if ended is None or ended.parent is None:
            return
        parent = self.jobs.get((ended.parent.workspace, ended.parent.job))
        if parent is not None:
            if parent.ended_children is _NO_CHILDREN:
                parent.ended_children = {}
            parent.ended_children[ended.parent.call] = (job, now_s)

    def suspects(self, now_s: float, now_at: datetime, settle_s: float) -> Iterator[Suspect]:
        """The jobs to look into, each for the first reason that there is."""
        for key, job in self.jobs.items():
            if now_s - job.changed_s >= settle_s and (found := _suspect(key, job, now_s, now_at, settle_s)):
                yield found


def _change(job: OpenJob, sequence: int, event: Event, now_s: float) -> None:
    match event:
        case JobOwned(request=request) if sequence > job.owned_at:
            job.owned_at, job.request, job.changed_s = sequence, request, now_s
            job.on, job.until = (), None
        case JobWaiting(on=on, until=until) if sequence > job.waiting_at:
            job.waiting_at, job.on, job.until, job.changed_s = sequence, _kept_once(on), until, now_s
        case SignalEvent() | ApprovalAnswered() | JobAmended() if sequence > job.signal_at:
            job.signal_at, job.signal, job.signal_s = sequence, sys.intern(event.kind), now_s
        case _:
            pass


@functools.lru_cache(1024)
def _kept_once(on: tuple[str, ...]) -> tuple[str, ...]:
    return on


def _suspect(key: Key, job: OpenJob, now_s: float, now_at: datetime, settle_s: float) -> Suspect | None:
    if not job.is_parked:
        return Ownerless(key, job.workflow, job.owned_at, job.request)
    if job.signal_at > job.waiting_at and now_s - job.signal_s >= settle_s:
        return Unheard(key, job.workflow, job.waiting_at, job.signal)
    for call in job.on if job.ended_children else ():
        child, ended_s = job.ended_children.get(call, ("", now_s))
        if child and now_s - ended_s >= settle_s:
            return Unanswered(key, job.workflow, job.waiting_at, call, child)
    # Twice the time: the instant is of another machine's clock.
    if job.until is not None and now_at - job.until >= timedelta(seconds=2 * settle_s):
        return Overslept(key, job.workflow, job.waiting_at)
    return None
