"""One job as people see it: a pure fold over its events.

The fold applies the rules of the log itself: the first reply of a call counts and later ones change nothing; what the
host recorded on its own (``op`` set) has no command before it; a request taken up after a rejection begins anew; a
failed job that is retried has not ended, and the calls that it failed by are running again. It
never fails on a strange order of events: a log with a hole still shows all that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, assert_never

import msgspec

from bus.amendment import Change
from bus.approval_events import ApprovalAnswered, ApprovalAsked, ApprovalEscalated
from bus.errors import UsageError
from bus.event import NULL, ForkedFrom, Parent
from bus.failure import Failure
from bus.messages import (
    CallAgent,
    CallJob,
    CallTool,
    DeadDropped,
    DeadKept,
    DeadRedriven,
    Emitted,
    Event,
    JobAmended,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobForked,
    JobOwned,
    JobPaused,
    JobRejected,
    JobResumed,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
    ReplyProgress,
    ReplyRetrying,
    Signal,
)
from bus.schedule_events import ScheduleEvent
from bus.system_events import BreakerEvent, NodeEvent
from store.approval import ApprovalView
from store.job_approvals import JobApprovals
from store.log import Recorded

JobState = Literal[
    "planned", "submitted", "running", "waiting", "paused", "completed", "failed", "cancelled", "rejected"
]
CallState = Literal["running", "retrying", "completed", "failed"]
ENDED: frozenset[JobState] = frozenset({"completed", "failed", "cancelled", "rejected"})

# The kind of a call whose command is not in the log, as after a hole in it.
UNKNOWN_KIND = "unknown"


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


def fold_view(workspace: str, events: Iterable[Recorded]) -> JobView:
    """The job that these events, in order, make. Raises: UsageError if there are none: such a job does not exist."""
    fold = JobFold(workspace)
    for recorded in events:
        fold.add(recorded)
    return fold.view()


class JobFold:
    """The fold as it grows: ``add`` events in order, ask for the ``view`` at any time.

    An event at or below the last sequence is ignored, so a tail may be fed in again from anywhere.
    """

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace
        self._view: JobView | None = None
        self._calls: dict[str, CallView] = {}
        self._signals: list[SignalView] = []
        self._approvals = JobApprovals()
        self._letters: dict[int, tuple[str, int]] = {}
        self._anew: set[str] = set()
        self._paused: JobPaused | None = None
        self._sequence = 0

    def view(self) -> JobView:
        """The job as known by now. Raises: UsageError before the first event."""
        if self._view is None:
            raise UsageError("a job without events does not exist", code="no_such_job", hint="check id and workspace")
        view = self._view
        if (paused := self._paused) is not None and not view.has_ended:
            view = msgspec.structs.replace(view, state="paused", paused_by=paused.by, paused_at=paused.at)
        return msgspec.structs.replace(
            view,
            calls=tuple(self._calls.values()),
            signals=tuple(self._signals),
            approvals=self._approvals.views(job_ended=view.has_ended),
            letters=tuple(self._letters),
            last_sequence=self._sequence,
        )

    def add(self, recorded: Recorded) -> None:
        """Take in one event."""
        if recorded.sequence <= self._sequence:
            return
        self._sequence = recorded.sequence
        event = recorded.event
        if self._view is None:
            self._view = JobView(workspace=self._workspace, job=event.job)
        self._take(self._view, recorded.sequence, event)

    def _take(self, view: JobView, sequence: int, event: Event) -> None:
        match event:
            case JobSubmitted():
                self._on_submitted(view, event)
            case JobOwned():
                self._set(_unless_ended(view, state="running", host=event.host, owners=view.owners + 1, **_AWAKE))
            case JobWaiting():
                self._set(_unless_ended(view, state="waiting", waiting_on=event.on, waiting_until=event.until))
            case JobPaused() | JobResumed():
                self._paused = event if isinstance(event, JobPaused) else None
            case JobCompleted() | JobFailed() | JobCancelled() | JobRejected():
                self._set(_ended(view, event))
            case CallTool() | CallAgent() | CallJob():
                self._set(_awake(view))
                self._on_command(event)
            case ReplyCompleted() | ReplyFailed() | ReplyRetrying() | ReplyProgress():
                self._on_reply(view, sequence, event)
            case Emitted():
                self._on_emitted(view, event)
            case Signal() | ApprovalAsked() | ApprovalAnswered() | ApprovalEscalated():
                self._on_word(view, sequence, event)
            case JobRetried() | JobForked() | JobAmended():
                self._on_turned(view, sequence, event)
            case DeadKept() | DeadRedriven() | DeadDropped():
                self._on_letter(sequence, event)
            case _:
                # The log of a node, of the breakers, or of a schedule is no job's.
                _: NodeEvent | BreakerEvent | ScheduleEvent = event

    def _set(self, view: JobView) -> None:
        self._view = view

    def _on_submitted(self, view: JobView, event: JobSubmitted) -> None:
        if view.state == "rejected":
            view = JobView(workspace=view.workspace, job=view.job)
            self._calls.clear()
            self._paused = None
        if view.submitted_at is None:
            self._set(_submitted(view, event))
            self._on_copies(event)

    def _on_copies(self, event: JobSubmitted) -> None:
        """What a fork brings along; a child that had not ended is its own."""
        for copy in event.recorded:
            match copy.event:
                case ReplyCompleted() | ReplyFailed() as reply:
                    call = self._calls.get(reply.call) or _unannounced(reply)
                    self._calls[call.call] = msgspec.structs.replace(_replied(call, reply), copied=True)
                case Emitted() as emitted:
                    self._calls[emitted.call] = msgspec.structs.replace(_emitted(emitted), copied=True)
                case JobAmended() as amended:
                    assert self._view is not None
                    self._on_turned(self._view, copy.sequence, amended)
                case command:
                    self._on_command(command)

    def _on_command(self, event: CallTool | CallAgent | CallJob) -> None:
        """The first one counts, and after a retry the first one since."""
        if event.call in self._anew:
            self._anew.discard(event.call)
            if self._calls[event.call].state not in ("completed", "failed"):
                self._calls[event.call] = _begun(event)
        self._calls.setdefault(event.call, _begun(event))

    def _on_word(
        self, view: JobView, sequence: int, event: Signal | ApprovalAsked | ApprovalAnswered | ApprovalEscalated
    ) -> None:
        if isinstance(event, Signal):
            said = SignalView(sequence=sequence, name=event.name, at=event.at, by=event.by, data=event.data)
            self._signals.append(said)
            return
        self._approvals.add(event, sequence)
        if not isinstance(event, ApprovalAnswered):
            self._set(_awake(view))
        if isinstance(event, ApprovalAsked):
            self._calls.setdefault(
                event.call,
                CallView(call=event.call, kind="approval", name="approval", started_at=event.at, input=event.details),
            )

    def _on_emitted(self, view: JobView, event: Emitted) -> None:
        self._set(_awake(view))
        call = self._calls.get(event.call)
        if call is None or call.state not in ("completed", "failed"):
            self._calls[event.call] = _emitted(event)

    def _on_turned(self, view: JobView, sequence: int, event: JobRetried | JobForked | JobAmended) -> None:
        match event:
            case JobRetried():
                self._on_retried(view, event)
            case JobForked():  # it may be told twice
                self._set(msgspec.structs.replace(view, forks=tuple(dict.fromkeys((*view.forks, event.fork)))))
            case JobAmended(by=by, at=at, change=change):
                amendment = AmendmentView(sequence=sequence, at=at, by=by, change=change)
                self._set(msgspec.structs.replace(view, amendments=(*view.amendments, amendment)))

    def _on_retried(self, view: JobView, event: JobRetried) -> None:
        """Only a failed job can be retried: it waits for a host again."""
        if view.state != "failed":
            return
        nothing = {"ended_at": None, "duration_s": None, "failure": None}
        self._set(msgspec.structs.replace(view, state="submitted", retries=view.retries + 1, **nothing))
        for call in self._calls.values():
            if call.call in event.calls and call.state == "failed":
                self._calls[call.call] = _asked_again(call)
            if self._calls[call.call].state in ("running", "retrying") and call.kind != "approval":
                self._anew.add(call.call)

    def _on_letter(self, sequence: int, event: DeadKept | DeadRedriven | DeadDropped) -> None:
        """What a letter's message meant to the job is a reply or an end; a message has one letter."""
        if not isinstance(event, DeadKept):
            self._letters.pop(event.letter, None)
        elif (place := (event.stream, event.stream_sequence)) not in self._letters.values():
            self._letters[sequence] = place

    def _on_reply(
        self, view: JobView, sequence: int, event: ReplyCompleted | ReplyFailed | ReplyRetrying | ReplyProgress
    ) -> None:
        if isinstance(event, ReplyCompleted):
            self._approvals.add(event, sequence)
        if isinstance(event, ReplyCompleted | ReplyFailed) and event.op and not event.actor:
            self._set(_awake(view))
        call = self._calls.get(event.call) or _unannounced(event)
        if call.state not in ("completed", "failed"):
            self._calls[event.call] = _replied(call, event)


_AWAKE = {"waiting_on": (), "waiting_until": None}


def _unless_ended(view: JobView, **changes: object) -> JobView:
    return view if view.has_ended else msgspec.structs.replace(view, **changes)


def _awake(view: JobView) -> JobView:
    """A host that writes is at work: it may have gone on after its ``job.waiting`` without being asked again."""
    return msgspec.structs.replace(view, state="running", **_AWAKE) if view.state == "waiting" else view


def _submitted(view: JobView, event: JobSubmitted) -> JobView:
    return msgspec.structs.replace(
        view,
        workflow=event.workflow,
        version=event.version,
        app=event.app,
        priority=event.priority,
        parent=event.parent,
        forked_from=event.forked_from,
        requested_at=event.requested_at,
        deadline_at=event.deadline_at,
        submitted_at=event.at,
        input=event.input,
    )


def _ended(view: JobView, event: JobCompleted | JobFailed | JobCancelled | JobRejected) -> JobView:
    if view.has_ended:
        return view
    started_at = view.submitted_at or event.at
    view = msgspec.structs.replace(view, ended_at=event.at, duration_s=_seconds(started_at, event.at), **_AWAKE)
    match event:
        case JobCompleted():
            return msgspec.structs.replace(view, state="completed", output=event.output)
        case JobFailed():
            return msgspec.structs.replace(view, state="failed", failure=event.failure)
        case JobCancelled():
            workflow = view.workflow or event.workflow
            return msgspec.structs.replace(
                view, state="cancelled", ended_by=event.by, reason=event.reason, workflow=workflow
            )
        case JobRejected():
            workflow, taken = view.workflow or event.workflow, view.input if view.submitted_at else event.input
            return msgspec.structs.replace(
                view, state="rejected", failure=event.failure, workflow=workflow, input=taken
            )
    assert_never(event)


# ---- calls

_KINDS: dict[type, str] = {CallTool: "tool", CallAgent: "agent", CallJob: "job"}


def _begun(event: CallTool | CallAgent | CallJob) -> CallView:
    return CallView(
        call=event.call,
        kind=_KINDS[type(event)],
        name=event.name,
        version=event.version,
        started_at=event.at,
        input=event.input,
        child=event.child if isinstance(event, CallJob) else "",
    )


def _emitted(event: Emitted) -> CallView:
    return CallView(
        call=event.call, kind="emit", name=event.name, state="completed", started_at=event.at, ended_at=event.at,
        duration_s=0.0, output=event.data,
    )  # fmt: skip


def _asked_again(call: CallView) -> CallView:
    """A failed call of a job that is retried."""
    return CallView(
        call=call.call, kind=call.kind, name=call.name, version=call.version, started_at=call.started_at,
        child=call.child, input=call.input,
    )  # fmt: skip


def _unannounced(event: ReplyCompleted | ReplyFailed | ReplyRetrying | ReplyProgress) -> CallView:
    """What the host recorded itself, or a reply whose command the log does not hold."""
    op, spent_s = "", 0.0
    if isinstance(event, ReplyCompleted | ReplyFailed):
        op, spent_s = event.op, event.duration_s
    return CallView(
        call=event.call, kind=op or UNKNOWN_KIND, name=_name_in(event.call), started_at=_before(event.at, spent_s)
    )


def _name_in(call: str) -> str:
    """The name in the key of an operation: ``gather:1.0/quote:2`` is about ``quote``."""
    return call.rpartition("/")[2].partition(":")[0] or call


def _before(at: datetime, spent_s: float) -> datetime:
    try:
        return at - timedelta(seconds=spent_s)
    except (OverflowError, ValueError):  # a reply may claim any duration
        return at


def _replied(call: CallView, event: ReplyCompleted | ReplyFailed | ReplyRetrying | ReplyProgress) -> CallView:
    attempts = max(call.attempts, event.attempt)
    match event:
        case ReplyCompleted():
            return _closed(call, event, state="completed", output=event.output, failure=None)
        case ReplyFailed():
            return _closed(call, event, state="failed", failure=event.failure)
        case ReplyRetrying(handed_back=True):
            return msgspec.structs.replace(call, state="retrying", attempts=max(call.attempts, event.attempt - 1))
        case ReplyRetrying():
            return msgspec.structs.replace(
                call, state="retrying", attempts=attempts, failure=event.failure, actor=event.actor, progress=None
            )
        case ReplyProgress():
            progress = Progress(event.done, event.total, event.note)
            return msgspec.structs.replace(call, state="running", attempts=attempts, progress=progress)
    assert_never(event)


def _closed(call: CallView, event: ReplyCompleted | ReplyFailed, **changes: object) -> CallView:
    ended_at = (_due_at(event) if isinstance(event, ReplyCompleted) else None) or event.at
    return msgspec.structs.replace(
        call,
        ended_at=ended_at,
        duration_s=_seconds(call.started_at, ended_at),
        attempts=max(call.attempts, event.attempt),
        actor=event.actor,
        **changes,
    )


_WAITS = ("sleep", "timer")
_decode_instant = msgspec.json.Decoder(datetime).decode


def _due_at(event: ReplyCompleted) -> datetime | None:
    """When a wait ends: it is recorded when it begins, with the instant of its end as the output."""
    if event.op not in _WAITS:
        return None
    try:
        due_at = _decode_instant(event.output)
    except msgspec.MsgspecError:
        return None
    return due_at if due_at.tzinfo else None


def _seconds(start: datetime, end: datetime) -> float:
    """Seconds between instants of two clocks: never below zero, however they differ."""
    return max(0.0, (end - start).total_seconds())
