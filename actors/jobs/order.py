"""A job request as a host reads it from the queue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec

from actors.jobs.requests import MAX_INPUT_BYTES
from bus import headers as h
from bus import jobid
from bus.errors import TooLarge, UsageError
from bus.event import ForkedFrom, Parent
from bus.mailbox import Delivery
from bus.moment import instant_of, parse_moment
from bus.objects import BlobMissing, Blobs
from bus.subjects import Priority, check_job_id, check_name, parse_request

# So many deliveries, some seconds in all, until a blob that is not in the object store counts as missing.
MISSING_AFTER = 4
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Order:
    """What is asked for. ``body`` is the input's JSON as it came; ``wake`` says why a parked job is woken.

    ``version`` is a major or a whole version that a new job shall run on; empty: the newest. ``fork``: the job that
    goes its own way from there. ``starts_at`` is there if the job is still to be planned: it may not begin before.
    """

    workspace: str
    workflow: str
    priority: Priority
    job: str
    body: bytes
    wake: str = ""
    parent: Parent | None = None
    traceparent: str = ""
    version: str = ""
    fork: ForkedFrom | None = None
    starts_at: datetime | None = None
    deadline_at: datetime | None = None


class Placed(Protocol):
    """A request and its place in the queue: a delivery, or a stored message."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def sequence(self) -> int: ...
    @property
    def stored_ns(self) -> int: ...


def job_id_of(delivery: Placed, workspace: str) -> str:
    """The id that the request names, else the one that follows from its message id or its place. Raises: UsageError."""
    if given := delivery.headers.get(h.JOB_ID):
        return check_job_id(given)
    if message_id := delivery.headers.get(h.MSG_ID):
        return jobid.from_message_id(workspace, message_id)
    return jobid.from_delivery(delivery.stored_ns, delivery.sequence)


async def read_order(delivery: Delivery, blobs: Blobs) -> Order:
    """Raises: UsageError (names with illegal characters, a header that cannot be read, a body over the limit),
    BlobMissing, BusError.
    """
    workspace, workflow, priority = parse_request(delivery.subject)
    check_name(workspace, "workspace")
    headers, body = delivery.headers, delivery.body
    if sha256 := headers.get(h.JOB_BLOB):
        body = await _blob(sha256, delivery, blobs)
    if len(body) > MAX_INPUT_BYTES:
        raise TooLarge("the input", size_bytes=len(body), limit_bytes=MAX_INPUT_BYTES)
    return Order(
        workspace=workspace, workflow=workflow, priority=priority, job=job_id_of(delivery, workspace), body=body,
        wake=headers.get(h.JOB_WAKE, ""), parent=_paid_here(parent_of(delivery), workspace),
        traceparent=headers.get(h.TRACEPARENT, ""), version=headers.get(h.JOB_VERSION, ""), fork=fork_of(delivery),
        starts_at=_starts_at(delivery), deadline_at=moment_in(headers, h.JOB_DEADLINE, delivery.stored_at),
    )  # fmt: skip


def _starts_at(delivery: Delivery) -> datetime | None:
    """When the job is to begin, if that is still to come; all by the server's clock."""
    if h.SCHEDULER in delivery.headers:  # its time has come: the server's schedule brought it
        return None
    starts_at = moment_in(delivery.headers, h.JOB_START, delivery.stored_at)
    return starts_at if starts_at is not None and starts_at > delivery.stored_at else None


def moment_in(headers: Mapping[str, str], name: str, base: datetime) -> datetime | None:
    """The instant that a header names, or counts from ``base``; None without it. Raises: UsageError ``bad_header``."""
    if not (text := headers.get(name)):
        return None
    try:
        return instant_of(parse_moment(text, name), base)
    except UsageError as error:
        raise UsageError(str(error.args[0]), code="bad_header", path=name, hint=error.hint) from error


async def _blob(sha256: str, delivery: Delivery, blobs: Blobs) -> bytes:
    """The input from the object store; one that is not there may still come to a replica that lags, for a while."""
    if not _SHA256.fullmatch(sha256):
        raise UsageError(f"header {h.JOB_BLOB} is no sha256 in hex", code="bad_header", path=h.JOB_BLOB)
    try:
        return await blobs.get(sha256)
    except BlobMissing as error:
        if delivery.attempt < MISSING_AFTER:
            raise
        hint = "put the input into the object store before the request is published"
        raise UsageError(str(error), code="blob_missing", path=h.JOB_BLOB, hint=hint) from error


def parent_of(delivery: Placed) -> Parent | None:
    """The call that this request answers, if any. Raises: UsageError if the header cannot be read."""
    header = delivery.headers.get(h.JOB_PARENT)
    if not header:
        return None
    try:
        parent = msgspec.json.decode(header, type=Parent)
        check_name(parent.workspace, "workspace")
        check_name(parent.workflow, "workflow")
        check_job_id(parent.job)
        for account in parent.budgets:
            check_job_id(account.partition(".")[2])
    except (msgspec.DecodeError, RecursionError, UsageError) as error:
        raise _bad_header(h.JOB_PARENT, error) from error
    return parent


def _paid_here(parent: Parent | None, workspace: str) -> Parent | None:
    """Who may ask for jobs of one workspace may not have those of another one pay. Raises: UsageError."""
    foreign = [account for account in (parent.budgets if parent else ()) if account.partition(".")[0] != workspace]
    if foreign:
        raise _bad_header(h.JOB_PARENT, ValueError(f"account {foreign[0]!r} is not of workspace {workspace}"))
    return parent


def fork_of(delivery: Placed) -> ForkedFrom | None:
    """Where the job that is asked for leaves another one, if it does. Raises: UsageError if that cannot be read."""
    header = delivery.headers.get(h.JOB_FORK)
    if not header:
        return None
    try:
        fork = msgspec.json.decode(header, type=ForkedFrom)
        check_name(fork.workspace, "workspace")
        check_job_id(fork.job)
    except (msgspec.DecodeError, RecursionError, UsageError) as error:
        raise _bad_header(h.JOB_FORK, error) from error
    return fork


def _bad_header(name: str, error: Exception) -> UsageError:
    return UsageError(f"header {name} cannot be read: {error}", code="bad_header", path=name)
