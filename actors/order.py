"""A job request as a host reads it from the queue."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from bus import headers as h
from bus import jobid
from bus.errors import UsageError
from bus.mailbox import Delivery
from bus.messages import Parent
from bus.objects import Blobs
from bus.subjects import Priority, check_job_id, parse_request


@dataclass(frozen=True)
class Order:
    """What is asked for. ``body`` is the input's JSON as it came; ``wake`` says why a parked job is woken."""

    workspace: str
    workflow: str
    priority: Priority
    job: str
    body: bytes
    wake: str = ""
    parent: Parent | None = None
    traceparent: str = ""


def job_id_of(delivery: Delivery, workspace: str) -> str:
    """The id that the request names, else the one that follows from its message id or its place. Raises: UsageError."""
    if given := delivery.headers.get(h.JOB_ID):
        return check_job_id(given)
    if message_id := delivery.headers.get(h.MSG_ID):
        return jobid.from_message_id(workspace, message_id)
    return jobid.from_delivery(delivery.stored_ns, delivery.sequence)


async def read_order(delivery: Delivery, blobs: Blobs) -> Order:
    """Raises: UsageError (an id with illegal characters, a header that cannot be read), BlobMissing, BusError."""
    workspace, workflow, priority = parse_request(delivery.subject)
    headers, body = delivery.headers, delivery.body
    if sha256 := headers.get(h.JOB_BLOB):
        body = await blobs.get(sha256)
    return Order(
        workspace=workspace, workflow=workflow, priority=priority, job=job_id_of(delivery, workspace), body=body,
        wake=headers.get(h.JOB_WAKE, ""), parent=parent_of(delivery),
        traceparent=headers.get(h.TRACEPARENT, ""),
    )  # fmt: skip


def parent_of(delivery: Delivery) -> Parent | None:
    """The call that this request answers, if any. Raises: UsageError if the header cannot be read."""
    header = delivery.headers.get(h.JOB_PARENT)
    if not header:
        return None
    try:
        return msgspec.json.decode(header, type=Parent)
    except msgspec.DecodeError as error:
        message = f"header {h.JOB_PARENT} cannot be read: {error}"
        raise UsageError(message, code="bad_header", path=h.JOB_PARENT) from error
