"""The view of a job as a pure fold over its events.

The fold applies the rules of the log itself: the first reply of a call counts and later ones change nothing; what the
host recorded on its own (``op`` set) has no command before it; a request taken up after a rejection begins anew; a
failed job that is retried has not ended, and the calls that it failed by are running again. It
never fails on a strange order of events: a log with a hole still shows all that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from bus.approval_events import ApprovalAnswered, ApprovalAsked, ApprovalEscalated
from bus.errors import UsageError
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
from store.call_fold import asked_again, begun, emitted, replied, seconds_between, unannounced
from store.job_approvals import JobApprovals
from store.log import Recorded
from store.view import AmendmentView, CallView, JobView, SignalView


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
                    call = self._calls.get(reply.call) or unannounced(reply)
                    self._calls[call.call] = msgspec.structs.replace(replied(call, reply), copied=True)
                case Emitted() as sent:
                    self._calls[sent.call] = msgspec.structs.replace(emitted(sent), copied=True)
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
                self._calls[event.call] = begun(event)
        self._calls.setdefault(event.call, begun(event))

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
            self._calls[event.call] = emitted(event)

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
                self._calls[call.call] = asked_again(call)
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
        call = self._calls.get(event.call) or unannounced(event)
        if call.state not in ("completed", "failed"):
            self._calls[event.call] = replied(call, event)


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
    view = msgspec.structs.replace(view, ended_at=event.at, duration_s=seconds_between(started_at, event.at), **_AWAKE)
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
