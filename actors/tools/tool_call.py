"""A command to a tool as it comes from the log, where anybody with the right to publish may have put anything."""

from __future__ import annotations

import logging
import random

import msgspec

from actors.dead_letters.dead_letters import keep_letter, letter_body
from bus import subjects
from bus.amendment import Change
from bus.connection import Bus, Message
from bus.errors import Unreadable
from bus.failure import Failure
from bus.mailbox import Delivery
from bus.messages import CallTool, DeadKept, JobAmended, ReplyFailed, decode
from bus.objects import Blobs
from bus.streams import EVENTS
from store.artifacts import unclaim
from store.log import append_unfenced

log = logging.getLogger("callboard.tool")


class _Envelope(msgspec.Struct):
    """The one thing of a command that cannot be read by which its job can still be told."""

    call: str = ""


async def read_call(delivery: Delivery, blobs: Blobs) -> tuple[str, CallTool]:
    """(workspace, command). Raises: Unreadable (no command, or not the one that its subject says), BusError."""
    subject, sequence = delivery.subject, delivery.sequence
    place = subjects.parse_event(subject)
    event = decode(delivery.body, subject=subject, sequence=sequence)
    if event.blob is not None:
        try:
            event = await unclaim(blobs, event)
        except Unreadable as error:
            raise Unreadable(subject, sequence, f"its blob: {error.reason}") from error
    if not isinstance(event, CallTool):
        raise Unreadable(subject, sequence, f"the body is a {event.kind}, not a call of a tool")
    if (event.job, event.kind) != (place.job, place.kind):
        raise Unreadable(subject, sequence, f"the body is {event.kind} of job {event.job!r}")
    return place.workspace, event


def amendment_in(msg: Message) -> Change | None:
    """The change that a republished event tells of; None if it cannot be told from it."""
    try:
        event = decode(msg.data, subject=msg.subject)
    except Unreadable:
        return None
    return event.change if isinstance(event, JobAmended) else None


def refusal(delivery: Delivery, reason: str, *, actor: str) -> ReplyFailed:
    """The answer to a command that cannot be served; a command that names its call fails there, others fail nothing."""
    failure = Failure(code="unreadable", message=f"{delivery.subject} (seq {delivery.sequence}): {reason}",
                      retryable=False)  # fmt: skip
    return ReplyFailed(job=subjects.parse_event(delivery.subject).job, call=_call_of(delivery.body), failure=failure,
                       actor=actor)  # fmt: skip


def call_letter(delivery: Delivery, event: ReplyFailed) -> DeadKept:
    """The command as a dead letter; ``event`` is the answer that its job is going to get."""
    return DeadKept(
        job=event.job, call=event.call, failure=event.failure, subject=delivery.subject, stream=EVENTS,
        stream_sequence=delivery.sequence, deliveries=delivery.attempt, body=letter_body(delivery.body),
        headers=dict(delivery.headers), actor=event.actor,
    )  # fmt: skip


def _call_of(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Envelope).call
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


async def refuse(bus: Bus, blobs: Blobs, delivery: Delivery, reason: str, *, actor: str) -> None:
    """It is kept as a dead letter, leaves a trace, as the answer to its call as far as that can be told, and goes."""
    log.error("refused: %s (seq %d): %s", delivery.subject, delivery.sequence, reason)
    place = subjects.parse_event(delivery.subject)
    try:
        event = refusal(delivery, reason, actor=actor)
        await keep_letter(bus, blobs, place.workspace, call_letter(delivery, event))
        await append_unfenced(bus, blobs, place.workspace, event, since=delivery.sequence)
    except Exception as error:  # noqa: BLE001 - a delivery that nobody ends is kept in progress for ever
        log.warning("%s: %s; handing it back", delivery.subject, error)
        await delivery.nak(backoff_s(delivery.attempt))
        return
    await delivery.term(f"unreadable: {reason}")


def backoff_s(deliveries: int) -> float:
    """The wait before a call that could not even be begun is tried again."""
    return min(60.0, 0.5 * 2.0 ** min(deliveries, 10)) * (0.5 + random.random() / 2)
