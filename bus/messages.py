"""Every event of the log, as a closed union of tagged structs in JSON.

``type``, ``job`` and ``at`` are in each of them. A reader ignores fields that it does not know, so fields may be
added; a tag or a field that exists is a contract and is pinned by tests.

``call`` is the key of a durable operation: its name and its place in the job, stable over every replay.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from bus.amendment import Change
from bus.approval_events import ApprovalEvent
from bus.errors import Unreadable
from bus.event import NULL, BaseEvent, ForkedFrom, Parent
from bus.failure import Failure
from bus.schedule_events import ScheduleEvent
from bus.subjects import call_kind, check_name
from bus.system_events import (
    BreakerEvent,
    NodeEvent,
)

# ---- the job's own life, written by its host


class JobSubmitted(BaseEvent, frozen=True, tag="job.submitted"):
    """The request was taken up; holds all that is needed to run the job from the log alone.

    A fork brings what its source had recorded: ``recorded`` are copies of events, which stand in no log of their own,
    so nobody is given a command a second time. At ``deadline_at`` the job fails if it has not ended by then.
    ``amendable``: it has steps, which may be changed while it runs.
    """

    workflow: str
    version: str
    app: str = ""
    input: msgspec.Raw = NULL
    priority: str = "normal"
    parent: Parent | None = None
    traceparent: str = ""
    requested_at: datetime | None = None
    forked_from: ForkedFrom | None = None
    recorded: tuple[Copy, ...] = ()
    deadline_at: datetime | None = None
    amendable: bool = False


class JobOwned(BaseEvent, frozen=True, tag="job.owned"):
    """``host`` owns the job from here; this event's sequence is the epoch that fences its writes.

    ``request`` is the sequence in JOBS of the message that is the host's lease: when that very message comes again, its
    holder is gone and whoever gets it takes the job over; any other request for the job is a duplicate.
    """

    host: str
    request: int = 0
    node: str = ""
    pid: int = 0
    version: str = ""


class JobWaiting(BaseEvent, frozen=True, tag="job.waiting"):
    """The job is parked: nothing runs, the log holds it until one of ``on`` comes or ``until`` is reached."""

    on: tuple[str, ...] = ()
    until: datetime | None = None


class JobPaused(BaseEvent, frozen=True, tag="job.paused"):
    """Nothing new begins until it is resumed; calls in flight go on. ``signal`` is the sequence of the word for it."""

    by: str = ""
    signal: int = 0


class JobResumed(BaseEvent, frozen=True, tag="job.resumed"):
    """A paused job goes on. ``signal`` is the sequence of the word for it."""

    by: str = ""
    signal: int = 0


class JobCompleted(BaseEvent, frozen=True, tag="job.completed"):
    """The job returned ``output``."""

    output: msgspec.Raw = NULL


class JobFailed(BaseEvent, frozen=True, tag="job.failed"):
    """The job raised, or could not go on."""

    failure: Failure


class JobCancelled(BaseEvent, frozen=True, tag="job.cancelled"):
    """The job ended since somebody asked for it. ``workflow`` is there if it never began: it was only planned."""

    by: str = ""
    reason: str = ""
    workflow: str = ""


class JobRetried(BaseEvent, frozen=True, tag="job.retried"):
    """A failed job goes on from where it failed: its end is void, and so are the failed replies to ``calls``.

    Whoever appends this publishes a wake-up request after it, as after a signal; any host may take the job.
    """

    calls: tuple[str, ...] = ()
    by: str = ""


class JobAmended(BaseEvent, frozen=True, tag="job.amended"):
    """Something is to go on otherwise. ``change`` is None only where the whole event lies in the object store.

    Whoever appends this publishes a wake-up request after it, as after a signal.
    """

    change: Change | None = None
    by: str = ""


class JobForked(BaseEvent, frozen=True, tag="job.forked"):
    """Job ``fork`` of the same workspace goes its own way with what was recorded here before sequence ``point``.

    Written before the fork begins, so it may stand here twice. It changes nothing for this job.
    """

    fork: str
    step: str
    point: int


class JobRejected(BaseEvent, frozen=True, tag="job.rejected"):
    """The request was refused and never ran; ``requested_job`` is the id asked for when that id is another job's."""

    workflow: str
    failure: Failure
    requested_job: str = ""
    input: msgspec.Raw = NULL


# ---- commands


class _Call(BaseEvent, frozen=True, kw_only=True):
    call: str
    name: str
    version: int
    input: msgspec.Raw = NULL
    timeout_s: float | None = None
    retry: dict[str, Any] | None = None
    traceparent: str = ""


class CallTool(_Call, frozen=True, tag="call.tool"):
    """Run that tool, major ``version``, on ``input``; the answer is a reply with the same ``call``."""

    @property
    def kind(self) -> str:
        return call_kind("tool", self.name, self.version)


class _ChildCall(_Call, frozen=True, kw_only=True):
    child: str


class CallAgent(_ChildCall, frozen=True, kw_only=True, tag="call.agent"):
    """Have that agent run as the child job ``child``."""

    @property
    def kind(self) -> str:
        return call_kind("agent", self.name, self.version)


class CallJob(_ChildCall, frozen=True, kw_only=True, tag="call.job"):
    """Run that workflow as the child job ``child``."""

    @property
    def kind(self) -> str:
        return call_kind("job", self.name, self.version)


# ---- replies: the lowest sequence for a call counts


class ReplyCompleted(BaseEvent, frozen=True, tag="reply.completed"):
    """The operation is done. ``op`` is empty for a call, else what the host itself recorded (local, sleep, signal).

    ``cached``: the tool did not run; another call with the same input had this output.
    """

    call: str
    output: msgspec.Raw = NULL
    op: str = ""
    attempt: int = 1
    duration_s: float = 0.0
    actor: str = ""
    cached: bool = False


class ReplyFailed(BaseEvent, frozen=True, tag="reply.failed"):
    """The operation failed and no attempt is left."""

    call: str
    failure: Failure
    op: str = ""
    attempt: int = 1
    duration_s: float = 0.0
    actor: str = ""


class ReplyRetrying(BaseEvent, frozen=True, tag="reply.retrying"):
    """Attempt ``attempt`` ended with ``failure``; the next one comes after ``delay_s``.

    ``handed_back`` marks a call that a stopping actor gave back before it began: it does not count as an attempt.
    """

    call: str
    attempt: int
    failure: Failure | None = None
    delay_s: float = 0.0
    handed_back: bool = False
    actor: str = ""


class ReplyProgress(BaseEvent, frozen=True, tag="reply.progress"):
    """How far a running call is: ``done`` of ``total`` (None if unknown), in units of its own."""

    call: str
    attempt: int
    done: float
    total: float | None = None
    note: str = ""


# ---- signals


class Signal(BaseEvent, frozen=True, tag="signal"):
    """Somebody's word to a job: cancel, terminate, pause, resume, or a name of the user's."""

    name: str
    data: msgspec.Raw = NULL
    by: str = ""

    @property
    def kind(self) -> str:
        return f"signal.{check_name(self.name, 'signal')}"


# ---- events of the user's


class Emitted(BaseEvent, frozen=True, tag="emit"):
    """The job tells the world that ``name`` has happened. ``call`` is the operation that it did so by."""

    name: str
    call: str
    data: msgspec.Raw = NULL

    @property
    def kind(self) -> str:
        return f"emit.{check_name(self.name, 'event')}"


# ---- what a fork takes with it

Copied = CallTool | CallAgent | CallJob | ReplyCompleted | ReplyFailed | Emitted | JobAmended


class Copy(msgspec.Struct, frozen=True):
    """An event of the job that was forked, as it stands there, and where."""

    sequence: int
    event: Copied


# ---- dead letters


class DeadKept(BaseEvent, frozen=True, tag="dead.kept"):
    """A message that nobody can work on was taken out of its queue. This event's sequence is the letter's id.

    ``subject``, ``stream`` and ``stream_sequence`` say where it stood; ``body`` is base64 of its bytes, which may be
    anything. ``call`` is the call of the job that it was, empty for a job request.
    """

    failure: Failure
    subject: str
    stream: str
    stream_sequence: int
    deliveries: int
    body: str = ""
    headers: dict[str, str] | None = None
    call: str = ""
    actor: str = ""


class DeadRedriven(BaseEvent, frozen=True, tag="dead.redriven"):
    """The letter ``letter`` was given out again."""

    letter: int
    by: str = ""


class DeadDropped(BaseEvent, frozen=True, tag="dead.dropped"):
    """The letter ``letter`` is of no interest any more."""

    letter: int
    by: str = ""
    reason: str = ""


JobEnd = JobCompleted | JobFailed | JobCancelled | JobRejected
JobEvent = JobSubmitted | JobOwned | JobWaiting | JobPaused | JobResumed | JobRetried | JobAmended | JobForked | JobEnd
Call = CallTool | CallAgent | CallJob
# Those that another job answers.
ChildCall = CallAgent | CallJob
Reply = ReplyCompleted | ReplyFailed | ReplyRetrying | ReplyProgress
DeadEvent = DeadKept | DeadRedriven | DeadDropped
Event = (
    JobEvent | Call | Reply | Signal | ApprovalEvent | Emitted | DeadEvent | NodeEvent | BreakerEvent | ScheduleEvent
)
Ended = (JobCompleted, JobFailed, JobCancelled, JobRejected)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """The event's JSON body."""
    return _encoder.encode(event)


def decode(body: bytes, *, subject: str = "", sequence: int = 0) -> Event:
    """The event in a body. Raises: Unreadable, which says where it stands and why it cannot be read."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(subject, sequence, str(error)) from error
