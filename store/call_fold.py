"""One operation in the view of a job: what each event of it makes of it. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

import msgspec

from bus.messages import (
    CallAgent,
    CallJob,
    CallTool,
    Emitted,
    ReplyCompleted,
    ReplyFailed,
    ReplyProgress,
    ReplyRetrying,
)
from store.view import CallView, Progress

# The kind of a call whose command is not in the log, as after a hole in it.
UNKNOWN_KIND = "unknown"

_KINDS: dict[type, str] = {CallTool: "tool", CallAgent: "agent", CallJob: "job"}


def begun(event: CallTool | CallAgent | CallJob) -> CallView:
    """A call that was asked for."""
    return CallView(
        call=event.call,
        kind=_KINDS[type(event)],
        name=event.name,
        version=event.version,
        started_at=event.at,
        input=event.input,
        child=event.child if isinstance(event, CallAgent | CallJob) else "",
    )


def emitted(event: Emitted) -> CallView:
    """Something that the job told the world."""
    return CallView(
        call=event.call, kind="emit", name=event.name, state="completed", started_at=event.at, ended_at=event.at,
        duration_s=0.0, output=event.data,
    )  # fmt: skip


def asked_again(call: CallView) -> CallView:
    """A failed call of a job that is retried."""
    return CallView(
        call=call.call, kind=call.kind, name=call.name, version=call.version, started_at=call.started_at,
        child=call.child, input=call.input,
    )  # fmt: skip


def unannounced(event: ReplyCompleted | ReplyFailed | ReplyRetrying | ReplyProgress) -> CallView:
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


def replied(call: CallView, event: ReplyCompleted | ReplyFailed | ReplyRetrying | ReplyProgress) -> CallView:
    """The call once this is known of it."""
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
        duration_s=seconds_between(call.started_at, ended_at),
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


def seconds_between(start: datetime, end: datetime) -> float:
    """Seconds between instants of two clocks: never below zero, however they differ."""
    return max(0.0, (end - start).total_seconds())
