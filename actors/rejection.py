"""A request that a host refuses: a trace that says what and where, and an answer for the parent that waits for it.

The trace never goes into the log of a job: a request may come under the id of one that runs. It stands under the id
that was asked for if no job has that, else under the id that follows from the request's place in the queue. All of it
may be done again, since the request is dropped last.
"""

from __future__ import annotations

import logging

import msgspec

from actors.order import job_id_of, parent_of
from actors.requests import publish_wake
from bus import headers as h
from bus import jobid, subjects
from bus.connection import Bus
from bus.errors import Fenced, UsageError
from bus.failure import failure_of
from bus.mailbox import Delivery
from bus.messages import JobRejected, ReplyFailed
from bus.objects import Blobs
from bus.reader import Stored, last_of_each
from bus.streams import EVENTS
from store.log import append_event, append_unfenced

log = logging.getLogger("callboard.host")

# More than that of what cannot be run is of no use to anybody.
SHOWN_LIMIT_BYTES = 64 * 1024
BEGINNING_BYTES = 1000


async def reject(bus: Bus, blobs: Blobs, delivery: Delivery, error: UsageError) -> None:
    """Leave a trace, tell a waiting parent, and drop the request. Raises: BusError."""
    workspace, workflow, _ = subjects.parse_request(delivery.subject)
    workspace = _usable(workspace)
    job, asked = _trace_id(delivery, workspace, error)
    event = JobRejected(
        job=job, workflow=workflow, failure=failure_of(error), requested_job=asked, input=shown(delivery.body)
    )
    await _leave_trace(bus, blobs, delivery, workspace, event)
    await _tell_parent(bus, blobs, delivery, error)
    log.warning("%s: refused: %s", delivery.subject, error)
    await delivery.ack()


async def _leave_trace(bus: Bus, blobs: Blobs, delivery: Delivery, workspace: str, event: JobRejected) -> None:
    """Write the rejection, once for this request, under an id that no job has."""
    while True:
        prefix = subjects.log_prefix(workspace, event.job)
        newest = await _newest(bus, f"{prefix}.job.*")
        if newest and not newest.subject.endswith(".job.rejected"):
            event = msgspec.structs.replace(event, job=_own_id(delivery), requested_job=event.job)
            continue
        if newest and newest.at >= delivery.stored_at:
            return  # an earlier delivery of this request left it
        expected = newest.sequence if newest else 0
        condition = {h.EXPECTED_SEQUENCE: str(expected), h.EXPECTED_SUBJECT: f"{prefix}.job.*"}
        try:
            await append_event(bus, blobs, prefix, event, condition, since=expected)
            return
        except Fenced:
            continue  # a job took the id, or another request under it was refused: look again


async def _newest(bus: Bus, subject: str) -> Stored | None:
    found = await last_of_each(bus, EVENTS, [subject])
    return max(found, key=lambda stored: stored.sequence, default=None)


async def _tell_parent(bus: Bus, blobs: Blobs, delivery: Delivery, error: UsageError) -> None:
    try:
        parent = parent_of(delivery)
    except UsageError:
        return  # nobody can be told; the trace has the reason
    if parent and not delivery.headers.get(h.JOB_WAKE):
        reply = ReplyFailed(job=parent.job, call=parent.call, failure=failure_of(error))
        await append_unfenced(bus, blobs, parent.workspace, reply)
        await publish_wake(bus, parent.workspace, parent.workflow, parent.job, "reply")


def _trace_id(delivery: Delivery, workspace: str, error: UsageError) -> tuple[str, str]:
    """(the id to leave the trace under, the id asked for if that one cannot be used)."""
    asked = delivery.headers.get(h.JOB_ID, "")
    if error.code == "job_id_conflict":
        return _own_id(delivery), asked
    try:
        return job_id_of(delivery, workspace), ""
    except UsageError:
        return _own_id(delivery), asked


def _own_id(delivery: Delivery) -> str:
    return jobid.from_delivery(delivery.stored_ns, delivery.sequence)


def _usable(workspace: str) -> str:
    """The workspace of a trace; one that cannot be gets its trace in the default workspace."""
    try:
        return subjects.check_name(workspace, "workspace")
    except UsageError:
        return subjects.DEFAULT_WORKSPACE


def shown(body: bytes) -> msgspec.Raw:
    """The input as far as it is JSON, else its beginning as text: what came must be there to look at."""
    if len(body) <= SHOWN_LIMIT_BYTES:
        try:
            msgspec.json.decode(body)
            return msgspec.Raw(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    return msgspec.Raw(msgspec.json.encode(body[:BEGINNING_BYTES].decode(errors="replace")))
