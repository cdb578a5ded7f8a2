"""One event as one line: ``callboard tail``. Coloured by kind on a terminal; with ``--json`` the event as it is."""

from __future__ import annotations

from datetime import tzinfo
from typing import assert_never

import msgspec

from actors.console.amount import clock, count, duration, instant
from actors.console.page import Line, Span, Style, line, one_line
from actors.console.system_event_line import SYSTEM_STYLES, system_essentials
from bus.amendment import in_words
from bus.approval_events import ApprovalAnswered, ApprovalAsked, ApprovalEscalated, ApprovalEvent
from bus.failure import Failure
from bus.messages import (
    CallAgent,
    CallJob,
    CallTool,
    DeadDropped,
    DeadEvent,
    DeadKept,
    DeadRedriven,
    Emitted,
    Event,
    JobAmended,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobForked,
    JobOwned,
    JobPaused,
    JobRejected,
    JobResumed,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    Reply,
    ReplyCompleted,
    ReplyFailed,
    ReplyProgress,
    ReplyRetrying,
    Signal,
    encode,
)
from bus.schedule_events import ScheduleFired, ScheduleSkipped
from bus.system_events import BreakerEvent, NodeEvent
from store.tail import TailItem, Unread

_VALUE_LIMIT = 120
_KIND_WIDTH = 15
_JOB_WIDTH = 17

_STYLES: dict[type, Style] = {
    JobSubmitted: "name",
    JobOwned: "dim",
    JobWaiting: "busy",
    JobPaused: "busy",
    JobCompleted: "good",
    JobFailed: "bad",
    JobCancelled: "warn",
    JobRejected: "bad",
    ReplyCompleted: "good",
    ReplyFailed: "bad",
    ReplyRetrying: "warn",
    ReplyProgress: "dim",
    Signal: "kind",
    ApprovalAsked: "busy",
    ApprovalAnswered: "kind",
    ApprovalEscalated: "warn",
    Emitted: "kind",
    DeadKept: "bad",
    JobRetried: "warn",
    JobAmended: "kind",
    **SYSTEM_STYLES,
}


def event_line(item: TailItem, *, workspace: str = "", zone: tzinfo | None = None) -> Line:
    """Local time, job, kind and the essentials.

    With ``workspace`` the job stands alone, without one as ``workspace/job``. ``zone`` None is the machine's own.
    """
    if isinstance(item, Unread):
        return _unread_line(item)
    event = item.event
    style = _STYLES.get(type(event), "")
    job = event.job if item.workspace == workspace else f"{item.workspace}/{event.job}"
    return line(
        Span(clock(event.at, zone), "dim"),
        "  ",
        one_line(job).ljust(_JOB_WIDTH),
        "  ",
        Span(str(event.__struct_config__.tag).ljust(_KIND_WIDTH), style),
        " ",
        *_trimmed(_essentials(event)),
    )


def _unread_line(item: Unread) -> Line:
    place = f"seq {item.sequence}, {one_line(item.subject)}: "
    return line(Span("unreadable", "bad"), "  ", Span(place, "dim"), one_line(item.reason))


def _trimmed(spans: list[Span | str]) -> list[Span | str]:
    """Without empty pieces, a blank between the others."""
    pieces = [span for span in spans if (span.text if isinstance(span, Span) else span)]
    return [part for piece in pieces for part in (" ", piece)]


def event_json(item: TailItem) -> str:
    """One JSON object: the event's own fields, with the place in the log before them."""
    if isinstance(item, Unread):
        told = {"sequence": item.sequence, "subject": item.subject, "unreadable": item.reason}
        return msgspec.json.encode(told).decode()
    place = {"sequence": item.sequence, "workspace": item.workspace, "kind": item.event.kind}
    # The body is put behind the place as it is: its output and input are not decoded, so no number is rounded.
    return _one_line_json(msgspec.json.encode(place)[:-1] + b"," + encode(item.event)[1:])


def _one_line_json(body: bytes) -> str:
    # An input that came pretty-printed would break the line; a literal line break in JSON stands outside of strings.
    return body.replace(b"\r", b"").replace(b"\n", b"").decode(errors="replace")


# ---- the essentials


def _essentials(event: Event) -> list[Span | str]:
    match event:
        case CallTool() | CallAgent() | CallJob():
            child = f"as {one_line(event.child)}" if isinstance(event, CallAgent | CallJob) else ""
            return [
                Span(one_line(f"{event.name} v{event.version}"), "name"),
                _call(event.call),
                child,
                _value(event.input),
            ]
        case ReplyCompleted() | ReplyFailed() | ReplyRetrying() | ReplyProgress():
            return [_call(event.call), *_reply(event)]
        case Emitted():
            return [Span(one_line(event.name), "name"), _call(event.call), _value(event.data)]
        case Signal():
            by = f"by {one_line(event.by)}" if event.by else ""
            return [Span(one_line(event.name), "name"), _value(event.data), by]
        case ApprovalAsked() | ApprovalAnswered() | ApprovalEscalated():
            return [_call(event.call), *_approval(event)]
        case DeadKept() | DeadRedriven() | DeadDropped():
            return _dead(event)
        case ScheduleFired():
            by = f"by {one_line(event.by)}" if event.by else ""
            return [Span(one_line(event.workflow), "name"), f"as {one_line(event.run)}", by]
        case ScheduleSkipped():
            running = f"while {one_line(event.running)} goes on" if event.running else ""
            return [f"due {event.due_at:%Y-%m-%d %H:%M:%SZ}", one_line(event.reason), running]
        case _ if isinstance(event, NodeEvent | BreakerEvent):
            return system_essentials(event)
        case _:
            return _job(event)


def _job(event: JobEvent) -> list[Span | str]:
    match event:
        case JobSubmitted():
            origin = event.forked_from
            source = f"fork of {one_line(origin.job)} from {one_line(origin.step)}" if origin else ""
            return [Span(one_line(f"{event.workflow} {event.version}"), "name"), source, _value(event.input)]
        case JobOwned():
            return ["by", one_line(event.host)]
        case JobWaiting():
            until = f"until {clock(event.until)}" if event.until else ""
            return ["for" if event.on else "", one_line(", ".join(event.on)), until]
        case JobPaused() | JobResumed():
            return [f"by {one_line(event.by)}" if event.by else ""]
        case JobRetried():
            return [one_line(", ".join(event.calls)), f"by {one_line(event.by)}" if event.by else ""]
        case JobAmended(by=by, change=change):
            return [one_line(in_words(change)) if change else "", f"by {one_line(by)}" if by else ""]
        case JobForked():
            return ["as", Span(one_line(event.fork), "name"), f"from {one_line(event.step)}"]
        case JobCompleted():
            return [_value(event.output)]
        case JobFailed():
            return [_failure(event.failure)]
        case JobCancelled():
            return [f"by {one_line(event.by)}" if event.by else "", one_line(event.reason)]
        case JobRejected():
            return [Span(one_line(event.workflow), "name"), _failure(event.failure)]
    assert_never(event)


def _reply(event: Reply) -> list[Span | str]:
    match event:
        case ReplyCompleted():
            return [
                one_line(event.op),
                duration(event.duration_s or None),
                _attempt(event.attempt),
                "from the cache" if event.cached else "",
                _value(event.output),
            ]
        case ReplyFailed():
            return [
                one_line(event.op),
                duration(event.duration_s or None),
                _attempt(event.attempt),
                _failure(event.failure),
            ]
        case ReplyRetrying(handed_back=True):
            return ["handed back"]
        case ReplyRetrying():
            failure = _failure(event.failure) if event.failure else ""
            return [f"attempt {event.attempt} failed, again in {duration(event.delay_s)}:", failure]
        case ReplyProgress():
            total = f" of {count(event.total)}" if event.total is not None else ""
            return [f"{count(event.done)}{total}", one_line(event.note)]
    assert_never(event)


def _approval(event: ApprovalEvent) -> list[Span | str]:
    roles = one_line(", ".join(event.roles))
    match event:
        case ApprovalAsked():
            until = f"until {instant(event.expires_at)}" if event.expires_at else ""
            whom = f"of {roles}" if roles else ""
            return [Span(one_line(event.title), "name"), whom, until, _value(event.details)]
        case ApprovalAnswered():
            said = Span("approves", "good") if event.approved else Span("rejects", "bad")
            return [one_line(event.by), said, _value(event.edited), _value(event.answer), one_line(event.comment)]
        case ApprovalEscalated():
            return [f"level {event.level}: asks {roles} too"]
    assert_never(event)


def _dead(event: DeadEvent) -> list[Span | str]:
    match event:
        case DeadKept():
            times = f"after {event.deliveries} deliveries:"
            return [_call(event.call or one_line(event.subject)), times, _failure(event.failure)]
        case DeadRedriven():
            return [f"letter {event.letter}", f"by {one_line(event.by)}" if event.by else ""]
        case DeadDropped():
            return [f"letter {event.letter}", f"by {one_line(event.by)}" if event.by else "", one_line(event.reason)]
    assert_never(event)


def _call(call: str) -> Span:
    return Span(one_line(call), "dim")


def _attempt(attempt: int) -> str:
    return f"attempt {attempt}" if attempt > 1 else ""


def _failure(failure: Failure) -> Span:
    """The message, with its code in front if it says more than "error"; where and what would be right behind it."""
    text = failure.message if failure.code in ("", "error") else f"{failure.code}: {failure.message}"
    place = f" at {failure.path}" if failure.path and failure.path not in text else ""
    hint = f" ({failure.hint})" if failure.hint else ""
    return Span(one_line(text + place + hint, 300), "bad")


def _value(raw: msgspec.Raw) -> Span:
    """JSON as it came, in one line, cut; nothing for null."""
    beginning = bytes(memoryview(raw)[: _VALUE_LIMIT * 8]).decode(errors="replace")
    return Span("" if beginning == "null" else one_line(beginning, _VALUE_LIMIT), "dim")
