"""Every event of the log, as a closed union of tagged structs in JSON.

``type``, ``job`` and ``at`` are in each of them. A reader ignores fields that it does not know, so fields may be
added; a tag or a field that exists is a contract and is pinned by tests.

``call`` is the key of a durable operation: its name and its place in the job, stable over every replay.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from bus.errors import Unreadable, UsageError
from bus.failure import Failure
from bus.subjects import call_kind, check_name

NULL = msgspec.Raw(b"null")


def utc_now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


class BlobRef(msgspec.Struct, frozen=True):
    """A claim check: the whole event lies in the object store under its sha256 (hex)."""

    sha256: str
    size_bytes: int


class Parent(msgspec.Struct, frozen=True):
    """The call of another job that this job answers."""

    workspace: str
    job: str
    call: str
    workflow: str


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    job: str
    at: datetime = msgspec.field(default_factory=utc_now)
    blob: BlobRef | None = None

    @property
    def kind(self) -> str:
        """The kind's tokens in the subject; the tag itself unless a name is part of it."""
        return str(self.__struct_config__.tag)


# ---- the job's own life, written by its host


class JobSubmitted(_Event, frozen=True, tag="job.submitted"):
    """The request was taken up; holds all that is needed to run the job from the log alone."""

    workflow: str
    version: str
    app: str = ""
    input: msgspec.Raw = NULL
    priority: str = "normal"
    parent: Parent | None = None
    traceparent: str = ""
    requested_at: datetime | None = None


class JobOwned(_Event, frozen=True, tag="job.owned"):
    """``host`` owns the job from here; this event's sequence is the epoch that fences its writes.

    ``request`` is the sequence in JOBS of the message that is the host's lease: when that very message comes again, its
    holder is gone and whoever gets it takes the job over; any other request for the job is a duplicate.
    """

    host: str
    request: int = 0
    node: str = ""
    pid: int = 0
    version: str = ""


class JobWaiting(_Event, frozen=True, tag="job.waiting"):
    """The job is parked: nothing runs, the log holds it until one of ``on`` comes or ``until`` is reached."""

    on: tuple[str, ...] = ()
    until: datetime | None = None


class JobPaused(_Event, frozen=True, tag="job.paused"):
    """No new calls until it is resumed; calls in flight go on."""

    by: str = ""


class JobResumed(_Event, frozen=True, tag="job.resumed"):
    """A paused job goes on."""

    by: str = ""


class JobCompleted(_Event, frozen=True, tag="job.completed"):
    """The job returned ``output``."""

    output: msgspec.Raw = NULL


class JobFailed(_Event, frozen=True, tag="job.failed"):
    """The job raised, or could not go on."""

    failure: Failure


class JobCancelled(_Event, frozen=True, tag="job.cancelled"):
    """The job ended since somebody asked for it."""

    by: str = ""
    reason: str = ""


class JobRejected(_Event, frozen=True, tag="job.rejected"):
    """The request was refused and never ran; ``requested_job`` is the id asked for when that id is another job's."""

    workflow: str
    failure: Failure
    requested_job: str = ""
    input: msgspec.Raw = NULL


# ---- commands


class _Call(_Event, frozen=True, kw_only=True):
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


class CallAgent(_Call, frozen=True, tag="call.agent"):
    """Run that agent on ``input``."""

    @property
    def kind(self) -> str:
        return call_kind("agent", self.name, self.version)


class CallJob(_Call, frozen=True, kw_only=True, tag="call.job"):
    """Run that workflow as the child job ``child``."""

    child: str

    @property
    def kind(self) -> str:
        return call_kind("job", self.name, self.version)


# ---- replies: the lowest sequence for a call counts


class ReplyCompleted(_Event, frozen=True, tag="reply.completed"):
    """The operation is done. ``op`` is empty for a call, else what the host itself recorded (local, sleep, signal)."""

    call: str
    output: msgspec.Raw = NULL
    op: str = ""
    attempt: int = 1
    duration_s: float = 0.0
    actor: str = ""


class ReplyFailed(_Event, frozen=True, tag="reply.failed"):
    """The operation failed and no attempt is left."""

    call: str
    failure: Failure
    op: str = ""
    attempt: int = 1
    duration_s: float = 0.0
    actor: str = ""


class ReplyRetrying(_Event, frozen=True, tag="reply.retrying"):
    """Attempt ``attempt`` ended with ``failure``; the next one comes after ``delay_s``.

    ``handed_back`` marks a call that a stopping actor gave back before it began: it does not count as an attempt.
    """

    call: str
    attempt: int
    failure: Failure | None = None
    delay_s: float = 0.0
    handed_back: bool = False
    actor: str = ""


class ReplyProgress(_Event, frozen=True, tag="reply.progress"):
    """How far a running call is: ``done`` of ``total`` (None if unknown), in units of its own."""

    call: str
    attempt: int
    done: float
    total: float | None = None
    note: str = ""


# ---- signals


class Signal(_Event, frozen=True, tag="signal"):
    """Somebody's word to a job: cancel, pause, resume, or a name of the user's."""

    name: str
    data: msgspec.Raw = NULL
    by: str = ""

    @property
    def kind(self) -> str:
        return f"signal.{check_name(self.name, 'signal')}"


# ---- nodes: the log of workspace _system, where a node stands in the place of a job


class NodeStarted(_Event, frozen=True, tag="node.started"):
    """A supervisor began; ``actors`` are the names of its children."""

    pid: int
    version: str = ""
    actors: tuple[str, ...] = ()


class NodeStopped(_Event, frozen=True, tag="node.stopped"):
    """A supervisor ended in order. One that was killed leaves no word."""

    reason: str = ""


class ActorStarted(_Event, frozen=True, tag="actor.started"):
    """A child process runs."""

    actor: str
    pid: int


class ActorExited(_Event, frozen=True, tag="actor.exited"):
    """A child process ended: how, and whether its supervisor had asked for it."""

    actor: str
    description: str
    expected: bool
    pid: int | None = None


class ActorRestarting(_Event, frozen=True, tag="actor.restarting"):
    """A child will be started again after ``delay_s``."""

    actor: str
    delay_s: float
    restarts: int


class ActorsGivenUp(_Event, frozen=True, tag="actor.given_up"):
    """A group of children ended too often; none of them is started again until somebody asks."""

    group: str
    reason: str


JobEnd = JobCompleted | JobFailed | JobCancelled | JobRejected
JobEvent = JobSubmitted | JobOwned | JobWaiting | JobPaused | JobResumed | JobEnd
Call = CallTool | CallAgent | CallJob
Reply = ReplyCompleted | ReplyFailed | ReplyRetrying | ReplyProgress
NodeEvent = NodeStarted | NodeStopped | ActorStarted | ActorExited | ActorRestarting | ActorsGivenUp
Event = JobEvent | Call | Reply | Signal | NodeEvent
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


def check_json(raw: bytes, what: str) -> msgspec.Raw:
    """``raw`` if it is JSON, to be put into an event as it is. Raises: UsageError with the position that is wrong."""
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{what} is not JSON: {error}", code="invalid_json", path="$") from error
    return msgspec.Raw(raw)
