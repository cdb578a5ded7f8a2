"""Requests to the queue of jobs: a new job, a wake-up for a parked one, and a wake-up at a given time.

A request is published again when its answer was lost, so a host may get it twice. That is harmless: the second one
finds the job in the log under the same id. ``Nats-Msg-Id`` is therefore left out, unless the caller chose one: the
server would keep each id for two minutes (measured: 0.15 KB each and a sixth of its throughput), per stream and not per
workspace, and would swallow a request that reuses a job id with another input, which has to be refused with a trace.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import datetime
from typing import NamedTuple

import msgspec

from bus import headers as h
from bus import jobid, subjects
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, StreamFull, TooLarge, UsageError
from bus.event import ForkedFrom, Parent
from bus.messages import JobSubmitted
from bus.moment import Moment, check_instant, check_seconds, instant_of, moment_text, rfc3339
from bus.objects import Blobs
from bus.reader import last_of_each
from bus.streams import EVENTS
from bus.subjects import PRIORITIES, Priority, check_job_id, check_name
from store.artifacts import CLAIM_BYTES
from store.log import recorded

log = logging.getLogger("callboard.requests")

MAX_INPUT_BYTES = 8 * 1024 * 1024
_FULL_RETRY_S = 1.0
_canonical = msgspec.json.Encoder(order="deterministic").encode


class JobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for one job, or for a ``fork``. ``input`` is JSON; the names are checked by :func:`check_request`.

    ``version`` is a major or a whole version; empty: the newest. ``message_id`` is put into ``Nats-Msg-Id``, which the
    server deduplicates over all workspaces. ``start`` is when the job is to begin, seconds from now or an instant;
    ``deadline`` is when it fails unless it has ended, an instant or seconds from its planned start, or from now.
    """

    workflow: str
    job: str
    input: bytes = b"{}"
    workspace: str = subjects.DEFAULT_WORKSPACE
    priority: Priority = "normal"
    message_id: str = ""
    traceparent: str = ""
    parent: Parent | None = None
    version: str = ""
    fork: ForkedFrom | None = None
    start: Moment | None = None
    deadline: Moment | None = None


def check_request(request: JobRequest) -> JobRequest:
    """``request`` if it can be published. Raises: UsageError that names what is wrong, TooLarge."""
    check_name(request.workspace, "workspace")
    check_name(request.workflow, "workflow")
    check_job_id(request.job)
    if request.priority not in PRIORITIES:
        raise UsageError(f"priority {request.priority!r} does not exist", code="bad_priority", path="priority",
                         hint=f"one of {', '.join(PRIORITIES)}")  # fmt: skip
    if len(request.input) > MAX_INPUT_BYTES:
        raise TooLarge("the input", size_bytes=len(request.input), limit_bytes=MAX_INPUT_BYTES)
    return request


def check_times(start: Moment | None, deadline: Moment | None, now: datetime) -> None:
    """Raises: UsageError for a moment that cannot be, or a deadline that is over before the job can begin."""
    for moment, path in ((start, "start"), (deadline, "deadline")):
        if moment is not None:
            check_instant(moment, path) if isinstance(moment, datetime) else check_seconds(moment, path)
    begins_at = now if start is None else max(now, instant_of(start, now))
    if deadline is not None and instant_of(deadline, begins_at) <= begins_at:
        when = "it begins" if start is not None else "now"
        raise UsageError(f"the deadline is not after {when}: the job could only fail", code="bad_deadline",
                         path="deadline", hint="a later one, or none")  # fmt: skip


def job_id_for(workspace: str, job_id: str | None, idempotency_key: str | None) -> str:
    """The id that a caller gave, the one that follows from the key, else a new one. Raises: UsageError."""
    if job_id is not None and idempotency_key is not None:
        raise UsageError("a job id and an idempotency key", code="bad_job_id", hint="give one of them")
    if job_id is not None:
        return check_job_id(job_id)
    if idempotency_key == "":
        raise UsageError("the idempotency key is empty", code="bad_job_id", path="idempotency_key")
    return jobid.new() if idempotency_key is None else jobid.from_message_id(workspace, idempotency_key)


def headers_of(request: JobRequest, blob: str = "") -> dict[str, str]:
    """The headers of a request; ``blob`` is the sha256 of an input that lies in the object store."""
    headers = {h.JOB_ID: request.job}
    if request.message_id:
        headers[h.MSG_ID] = request.message_id
    if request.traceparent:
        headers[h.TRACEPARENT] = request.traceparent
    if request.parent:
        headers[h.JOB_PARENT] = msgspec.json.encode(request.parent).decode()
    if request.fork:
        headers[h.JOB_FORK] = msgspec.json.encode(request.fork).decode()
    if blob:
        headers[h.JOB_BLOB] = blob
    if request.version:
        headers[h.JOB_VERSION] = request.version
    if request.start is not None:
        headers[h.JOB_START] = moment_text(request.start)
    if request.deadline is not None:
        headers[h.JOB_DEADLINE] = moment_text(request.deadline)
    return headers


async def publish_request(bus: Bus, blobs: Blobs, request: JobRequest) -> None:
    """Put a request into the queue; when this returns it is stored, and waits out an absent server.

    Raises: UsageError, TooLarge, StreamFull (try again later), PermissionRefused, BusClosed, ApiError.
    """
    check_request(request)
    body, headers = await message_of(blobs, request)
    subject = subjects.job_request(request.workspace, request.workflow, request.priority)
    await _append(bus, subject, body, headers)


async def message_of(blobs: Blobs, request: JobRequest) -> tuple[bytes, dict[str, str]]:
    """A request's body and headers; an input that is too big for a message is put into the object store."""
    if len(request.input) <= CLAIM_BYTES:
        return request.input, headers_of(request)
    return b"", headers_of(request, await blobs.put(request.input))


async def publish_wake(bus: Bus, workspace: str, workflow: str, job: str, reason: str) -> None:
    """Wake a parked job, since ``reason`` (``signal.<name>``, ``reply``) is in its log; others drop the wake-up.

    Waits while the server is away or the queue is full: a wake-up that is lost is a job that sleeps for ever.
    Raises: PermissionRefused, BusClosed, ApiError.
    """
    headers = {h.JOB_ID: job, h.JOB_WAKE: reason}
    await _append_when_room(bus, subjects.job_request(workspace, workflow), headers)


async def publish_again(bus: Bus, subject: str, body: bytes, headers: dict[str, str]) -> None:
    """Put a request into the queue as it came once. Raises: StreamFull, PermissionRefused, BusClosed, ApiError."""
    await _append(bus, subject, body, headers)


async def publish_schedule(bus: Bus, workspace: str, workflow: str, job: str, due_at: datetime) -> None:
    """Have the server wake ``job`` at ``due_at`` (aware), up to 250 ms late; replaces the job's earlier schedule.

    Waits like :func:`publish_wake`. Raises: ValueError for a naive ``due_at``, PermissionRefused, BusClosed, ApiError.
    """
    headers = {
        h.SCHEDULE: f"@at {rfc3339(due_at)}",
        h.SCHEDULE_TARGET: subjects.job_request(workspace, workflow),
        h.JOB_ID: job,
        h.JOB_WAKE: "timer",
    }
    await _append_when_room(bus, subjects.timer(workspace, job, "wake"), headers)


async def _append_when_room(bus: Bus, subject: str, headers: dict[str, str]) -> None:
    while True:
        try:
            return await _append(bus, subject, b"", headers)
        except StreamFull as error:
            log.warning("%s; trying again", error)
            await asyncio.sleep(_FULL_RETRY_S * (0.5 + random.random()))


async def _append(bus: Bus, subject: str, body: bytes, headers: dict[str, str]) -> None:
    wait_s = 0.1
    while True:
        try:
            await bus.append(subject, body, headers=headers)
            return
        except (Ambiguous, NoResponder) as error:
            log.warning("request to %s: %s; publishing it again", subject, error)
        await bus.settle()
        await asyncio.sleep(random.random() * wait_s)
        wait_s = min(2.0, wait_s * 2)


# ---- ids that were used before


class Earlier(NamedTuple):
    """What the log holds of a job id: whether the job began, and the sequence of a rejection before (0: none)."""

    exists: bool
    rejected_sequence: int


async def find_earlier(bus: Bus, blobs: Blobs, request: JobRequest) -> Earlier:
    """Look for an earlier use of the request's id. Raises: UsageError ``job_id_conflict`` if it was for another job."""
    prefix = subjects.log_prefix(request.workspace, request.job)
    wanted = [f"{prefix}.job.submitted", f"{prefix}.job.rejected"]
    rejected = 0
    for stored in await last_of_each(bus, EVENTS, wanted):
        if stored.subject == wanted[1]:
            rejected = stored.sequence
            continue
        event = (await recorded(blobs, stored)).event
        assert isinstance(event, JobSubmitted)
        _check_same(event, request)
        return Earlier(True, 0)
    return Earlier(False, rejected)


def _check_same(submitted: JobSubmitted, request: JobRequest) -> None:
    if submitted.workflow != request.workflow:
        difference = f"a job of workflow {submitted.workflow!r}"
    elif not same_json(bytes(submitted.input), request.input):
        difference = "a job with another input"
    elif submitted.forked_from != request.fork:
        difference = f"a fork of {submitted.forked_from.job}" if submitted.forked_from else "a job that is no such fork"
    else:
        return
    raise UsageError(f"job id {request.job!r} belongs to {difference}", code="job_id_conflict", path="job_id",
                     hint="use another job id, or the same workflow and input")  # fmt: skip


def same_json(one: bytes, other: bytes) -> bool:
    """Whether two JSON texts say the same: spaces and the order of keys do not count, an empty text is ``{}``."""
    return one == other or _canonical(msgspec.json.decode(one or b"{}")) == _canonical(
        msgspec.json.decode(other or b"{}")
    )
