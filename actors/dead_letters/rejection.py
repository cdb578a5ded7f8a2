"""A request that is refused for good: a dead letter, a trace that says what and where, an answer for its parent.

Hosts refuse what they cannot read or run, the gateway's sweep what no host will ever take. The trace never goes into
the log of a job: a request may come under the id of one that runs. It stands under the id that was asked for if no job
has that, else under the id that follows from the request's place in the queue. Two may find the same request, and each
may die half-way: so the trace is appended on the condition that it is not there yet, the request goes last, and all of
it may be done again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

import msgspec

from actors.dead_letters.dead_letters import keep_letter, letter_body
from actors.jobs.order import Placed, job_id_of, parent_of
from actors.jobs.requests import publish_wake
from bus import headers as h
from bus import jobid, subjects
from bus.connection import Bus
from bus.errors import Fenced, UsageError
from bus.event import NULL
from bus.failure import Failure, failure_of
from bus.mailbox import Delivery
from bus.messages import DeadKept, JobRejected, ReplyFailed
from bus.objects import Blobs
from bus.reader import Stored, last_of_each
from bus.streams import EVENTS, JOBS
from store.log import append_event, append_unfenced

log = logging.getLogger("callboard.rejection")

# More than that of what cannot be run is of no use to anybody.
SHOWN_LIMIT_BYTES = 64 * 1024
BEGINNING_BYTES = 1000


@dataclass(frozen=True)
class Refused:
    """A request as it stands in the queue, and why nobody runs it. ``deliveries`` is 0 if no host ever had it.

    ``workspace`` and ``workflow`` are those asked for, as far as that can be said; ``actor`` is who refuses.
    """

    subject: str
    sequence: int
    body: bytes
    headers: dict[str, str]
    stored_ns: int
    stored_at: datetime
    failure: Failure
    workspace: str
    workflow: str
    deliveries: int = 0
    actor: str = ""

    def trace_id(self) -> tuple[str, str]:
        """(the id to leave the trace under, the id asked for if that one cannot be used)."""
        if self.failure.code == "job_id_conflict":
            return own_id(self), self.headers.get(h.JOB_ID, "")
        return asked_id(self, self.workspace)


def own_id(request: Placed) -> str:
    """The job id that follows from a request's place in the queue."""
    return jobid.from_delivery(request.stored_ns, request.sequence)


def asked_id(request: Placed, workspace: str) -> tuple[str, str]:
    """(the id of the job that a request asks for, what it named instead if that can be no id)."""
    try:
        return job_id_of(request, workspace), ""
    except UsageError:
        return own_id(request), request.headers.get(h.JOB_ID, "")


def refused_delivery(delivery: Delivery, error: UsageError, actor: str) -> Refused:
    """A request that a host was given."""
    workspace, workflow, _ = subjects.parse_request(delivery.subject)
    return Refused(
        subject=delivery.subject, sequence=delivery.sequence, body=delivery.body, headers=delivery.headers,
        stored_ns=delivery.stored_ns, stored_at=delivery.stored_at, failure=failure_of(error),
        workspace=usable(workspace), workflow=workflow, deliveries=delivery.attempt, actor=actor,
    )  # fmt: skip


def refused_stored(stored: Stored, failure: Failure, workspace: str, workflow: str, actor: str) -> Refused:
    """A request that still lies in the queue."""
    return Refused(
        subject=stored.subject, sequence=stored.sequence, body=stored.body, headers=message_headers(stored),
        stored_ns=stored.stored_ns, stored_at=stored.at, failure=failure,
        workspace=usable(workspace), workflow=workflow, actor=actor,
    )  # fmt: skip


async def reject(bus: Bus, blobs: Blobs, delivery: Delivery, error: UsageError, actor: str) -> None:
    """Refuse a request that a host was given, and drop it. Raises: BusError."""
    await record_refusal(bus, blobs, refused_delivery(delivery, error, actor))
    await delivery.ack()


async def record_refusal(bus: Bus, blobs: Blobs, refused: Refused) -> None:
    """Keep the request as a dead letter, leave a trace, and tell a waiting parent. Raises: BusError."""
    await _leave_trace(bus, blobs, refused)
    await _tell_parent(bus, blobs, refused)
    log.warning("%s: refused: %s", refused.subject, refused.failure.message)


async def _leave_trace(bus: Bus, blobs: Blobs, refused: Refused) -> None:
    """Write the rejection, once for this request, under an id that no job has; the letter comes before it."""
    job, asked = refused.trace_id()
    while True:
        prefix = subjects.log_prefix(refused.workspace, job)
        newest = await _newest(bus, f"{prefix}.job.*")
        if newest and not newest.subject.endswith(".job.rejected"):
            job, asked = own_id(refused), job
            continue
        if newest and newest.at >= refused.stored_at:
            return  # left already: by an earlier delivery of this request, or by another sweep
        await keep_letter(bus, blobs, refused.workspace, _letter(refused, job))
        event = JobRejected(
            job=job, workflow=refused.workflow, failure=refused.failure, requested_job=asked, input=shown(refused.body)
        )
        expected = newest.sequence if newest else 0
        condition = {h.EXPECTED_SEQUENCE: str(expected), h.EXPECTED_SUBJECT: f"{prefix}.job.*"}
        try:
            await append_event(bus, blobs, prefix, event, condition, since=expected)
            return
        except Fenced:
            continue  # a job took the id, or another request under it was refused: look again


def _letter(refused: Refused, job: str) -> DeadKept:
    return DeadKept(
        job=job, failure=refused.failure, subject=refused.subject, stream=JOBS, stream_sequence=refused.sequence,
        deliveries=refused.deliveries, body=letter_body(refused.body), headers=refused.headers, actor=refused.actor,
    )  # fmt: skip


async def _newest(bus: Bus, subject: str) -> Stored | None:
    found = await last_of_each(bus, EVENTS, [subject])
    return max(found, key=lambda stored: stored.sequence, default=None)


async def _tell_parent(bus: Bus, blobs: Blobs, refused: Refused) -> None:
    """A job that waits for this one as its child must not wait for ever."""
    if refused.headers.get(h.JOB_WAKE):
        return
    try:
        parent = parent_of(refused)
    except UsageError as error:  # nobody can be told; the trace has the reason
        log.warning("seq %d of %s: %s", refused.sequence, JOBS, error.args[0])
        return
    if parent:
        reply = ReplyFailed(job=parent.job, call=parent.call, failure=refused.failure, actor=refused.actor)
        await append_unfenced(bus, blobs, parent.workspace, reply)
        await publish_wake(bus, parent.workspace, parent.workflow, parent.job, "reply")


def message_headers(stored: Stored) -> dict[str, str]:
    """The headers that a message came with, without those that a direct get adds."""
    return {name: value for name, value in stored.headers.items() if name not in h.OF_READING}


def usable(workspace: str) -> str:
    """The workspace of a trace; one that cannot be gets its trace in the default workspace."""
    try:
        return subjects.check_name(workspace, "workspace")
    except UsageError:
        return subjects.DEFAULT_WORKSPACE


def shown(body: bytes) -> msgspec.Raw:
    """The input as far as it is JSON, else its beginning as text: what came must be there to look at."""
    if not body:
        return NULL
    if len(body) <= SHOWN_LIMIT_BYTES:
        try:
            msgspec.json.decode(body)
            return msgspec.Raw(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    return msgspec.Raw(msgspec.json.encode(body[:BEGINNING_BYTES].decode(errors="replace")))
