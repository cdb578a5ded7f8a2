"""One job on a page: ``callboard show``. State, facts, a timeline of its calls, what failed, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

import msgspec

from actors.console.amendment_blocks import amendment_blocks, without_notes
from actors.console.amount import ago, count, duration, instant, plural
from actors.console.approval_page import approval_blocks
from actors.console.page import Block, Column, Gap, Page, SheetBuilder, Span, Style, clean, cut, facts, line, one_line
from actors.jobs.undo_key import is_undo
from bus.failure import GIVEN_UP, Failure
from bus.subjects import DEFAULT_WORKSPACE
from store.view import CallView, JobState, JobView

BAR_WIDTH = 24
CALL_LIMIT = 60
_VALUE_LIMIT = 300
_CALL_NOTE_LIMIT = 80
_TRACEBACK_LINES = 30
_SIGNAL = re.compile(r"(?:^|/)signal-([^/]+):\d+$")
# A call that was given up, or a job that was only started: what becomes of it is no matter of this job's any more.
_LEFT = "not awaited"
_OPEN = ("running", "retrying")

STATE_STYLES: dict[str, Style] = {
    "planned": "busy",
    "running": "busy",
    "waiting": "busy",
    "paused": "warn",
    "retrying": "warn",
    "completed": "good",
    "failed": "bad",
    "cancelled": "warn",
    "rejected": "bad",
}


def job_page(
    view: JobView,
    now: datetime,
    *,
    zone: tzinfo | None = None,
    ascii_only: bool = False,
    call_limit: int | None = CALL_LIMIT,
    has_advice: bool = True,
) -> Page:
    """The page of a job as it stands at ``now``; of more than ``call_limit`` calls (None: no limit) it picks.

    ``has_advice``: with commands that fit its state, which would be wrong for a state of the past.
    """
    whole, view = view, without_notes(view)
    sections: list[list[Block]] = [
        [_title(view), _facts(view, now, zone)],
        _timeline(view, now, ascii_only=ascii_only, limit=call_limit),
        _signals(view, now),
        amendment_blocks(whole, now),
        *(approval_blocks(approval, now) for approval in view.approvals),
        _failure(view),
        _next_step(view) if has_advice else [],
    ]
    filled = [section for section in sections if section]
    return [block for section in filled for block in (*section, Gap())][:-1]


def _title(view: JobView) -> Block:
    name = one_line(" ".join(part for part in (view.workflow, view.version) if part)) or "a job"
    return line(
        Span(view.state, STATE_STYLES.get(view.state, "")), "  ", Span(name, "strong"), "  ", one_line(view.job)
    )


def _facts(view: JobView, now: datetime, zone: tzinfo | None) -> Block:
    return facts(
        [
            ("workspace", view.workspace),
            ("app", one_line(view.app)),
            ("priority", one_line(view.priority) if view.priority != "normal" else ""),
            ("parent", _parent(view)),
            ("forked from", _source(view)),
            ("forks", one_line(", ".join(view.forks))),
            ("planned for", _moment(view.starts_at, now, zone)),
            ("deadline", _moment(view.deadline_at, now, zone)),
            ("submitted", _moment(view.submitted_at, now, zone)),
            ("queued for", _queued(view)),
            ("ended", _moment(view.ended_at, now, zone)),
            ("took", duration(view.duration_s) if view.submitted_at else ""),
            ("host", _host(view)),
            ("paused by", _paused(view, now)),
            ("waits for", _waits(view, now)),
            ("calls", _call_counts(view)),
            ("retried", plural(view.retries, "time") if view.retries else ""),
            ("dead letters", ", ".join(str(letter) for letter in view.letters)),
            ("input", _value(view.input)),
            ("output", _value(view.output)),
            ("cancelled by", one_line(view.ended_by)),
            ("reason", one_line(view.reason)),
        ]
    )


def _moment(at: datetime | None, now: datetime, zone: tzinfo | None) -> str:
    return f"{instant(at, zone)}  ({ago(at, now)})" if at else ""


def _queued(view: JobView) -> str:
    if not (view.requested_at and view.submitted_at):
        return ""
    waited_s = (view.submitted_at - view.requested_at).total_seconds()
    return duration(waited_s) if waited_s >= 1 else ""  # less says nothing: two clocks


def _parent(view: JobView) -> str:
    if view.parent is None:
        return ""
    place = "" if view.parent.workspace == view.workspace else f" in workspace {view.parent.workspace}"
    return one_line(f"{view.parent.workflow} {view.parent.job}{place}, call {view.parent.call}")


def _source(view: JobView) -> str:
    if view.forked_from is None:
        return ""
    reused = plural(sum(call.copied for call in view.calls), "result")
    return one_line(f"{view.forked_from.job}, at {view.forked_from.step} ({reused} reused)")


def _paused(view: JobView, now: datetime) -> str:
    return f"{one_line(view.paused_by) or 'unknown'} since {ago(view.paused_at, now)}" if view.paused_at else ""


def _host(view: JobView) -> str:
    return one_line(view.host) + (f"  (taken up {view.owners} times)" if view.owners > 1 else "")


def _waits(view: JobView, now: datetime) -> str:
    until = f"until {ago(view.waiting_until, now)}" if view.waiting_until else ""
    return " ".join(part for part in (one_line(", ".join(view.waiting_on)), until) if part)


def _call_counts(view: JobView) -> str:
    calls = view.calls
    if not calls:
        return ""
    states = [_LEFT if _is_left(call, is_over=view.has_ended) else call.state for call in calls]
    told = [f"{states.count(s)} {s}" for s in ("running", "retrying", "failed", _LEFT) if s in states]
    retried = sum(call.attempts > 1 for call in calls)
    told += [f"{retried} needed more than one attempt"] if retried else []
    return count(len(calls)) + (f"  ({', '.join(told)})" if told else "")


def _value(raw: msgspec.Raw) -> str:
    text = bytes(memoryview(raw)[: _VALUE_LIMIT * 8]).decode(errors="replace")
    return "" if text == "null" else one_line(text, _VALUE_LIMIT)


# ---- timeline


@dataclass(frozen=True)
class Axis:
    """The time that all bars of a page share."""

    start: datetime
    end: datetime

    def cells(self, start: datetime, end: datetime, width: int) -> tuple[int, int]:
        """First cell and number of cells (1 at least) of a bar within ``width``."""
        whole_s = max((self.end - self.start).total_seconds(), 1e-9)
        first = int(width * min(1.0, max(0.0, (start - self.start).total_seconds() / whole_s)))
        last = round(width * min(1.0, max(0.0, (end - self.start).total_seconds() / whole_s)))
        first = min(first, width - 1)
        return first, max(1, last - first)


def bar(axis: Axis, start: datetime, end: datetime, *, width: int = BAR_WIDTH, ascii_only: bool = False) -> str:
    """A span of time as a bar on the axis."""
    full, empty = ("=", ".") if ascii_only else ("━", "·")
    first, length = axis.cells(start, end, width)
    return empty * first + full * length + empty * (width - first - length)


def _timeline(view: JobView, now: datetime, *, ascii_only: bool, limit: int | None) -> list[Block]:
    if not view.calls:
        return []
    shown = _chosen(view.calls, limit)
    axis = _axis(view, now)
    builder = SheetBuilder(
        [
            Column("call", shrink=True),
            Column("what"),
            Column("state"),
            Column("tries", "right"),
            Column("at", "right"),
            Column("took", "right"),
            Column("timeline"),
            Column("note", shrink=True),
        ]
    )
    for call in shown:
        if call.copied:
            builder.add(one_line(call.call, 60), _what(call), Span("reused", "dim"), "", "", "", "", _call_note(call))
            continue
        end = min(call.ended_at or axis.end, axis.end)
        builder.add(
            one_line(call.call, 60),
            _what(call),
            _call_state(call, now, is_over=view.has_ended),
            str(call.attempts) if call.attempts else "",
            "+" + duration(max(0.0, (call.started_at - axis.start).total_seconds())),
            duration(call.duration_s if _is_through(call, axis) else (axis.end - call.started_at).total_seconds()),
            Span(bar(axis, call.started_at, end, ascii_only=ascii_only), STATE_STYLES.get(call.state, "")),
            _call_note(call),
        )
    left = len(view.calls) - len(shown)
    return [builder.sheet(f"... and {plural(left, 'completed call')} more" if left else "")]


def _is_through(call: CallView, axis: Axis) -> bool:
    """A sleep and a timer have their end on record when they begin; one that lies ahead was not reached."""
    return call.ended_at is not None and (call.kind not in ("sleep", "timer") or call.ended_at <= axis.end)


def _what(call: CallView) -> str:
    is_component = call.version or call.kind in ("tool", "agent", "job")
    return one_line(f"{call.name} v{call.version}" if is_component else call.kind)


def _axis(view: JobView, now: datetime) -> Axis:
    own = [call.started_at for call in view.calls if not call.copied]
    start = min(own + ([view.submitted_at] if view.submitted_at else []))
    return Axis(start, max(view.ended_at or now, start + timedelta(microseconds=1)))


def _chosen(calls: Sequence[CallView], limit: int | None) -> list[CallView]:
    """All calls, or those that need a look and then the earliest, in their order."""
    if limit is None or len(calls) <= limit:
        return list(calls)
    ranked = sorted(range(len(calls)), key=lambda i: (calls[i].state == "completed", i))
    return [calls[i] for i in sorted(ranked[:limit])]


def _call_state(call: CallView, now: datetime, *, is_over: bool) -> Span:
    is_asleep = call.kind == "sleep" and call.ended_at is not None and call.ended_at > now
    if _is_left(call, is_over=is_over) or (is_over and is_asleep):
        return Span(_LEFT, "dim")
    if is_asleep:
        return Span("sleeping", "busy")
    return Span(call.state, STATE_STYLES.get(call.state, ""))


def _is_left(call: CallView, *, is_over: bool) -> bool:
    """Whether nobody waits for it any more, or did when the job ended."""
    is_given_up = call.failure is not None and call.failure.code == GIVEN_UP
    return is_given_up or (is_over and call.state in _OPEN)


def _call_note(call: CallView) -> Span:
    if _is_left(call, is_over=False):
        return Span("")
    if call.state in ("failed", "retrying") and call.failure:
        return Span(one_line(call.failure.message, _CALL_NOTE_LIMIT), "bad" if call.state == "failed" else "warn")
    if call.progress and call.state == "running":
        total = f" of {count(call.progress.total)}" if call.progress.total is not None else ""
        return Span(one_line(f"{count(call.progress.done)}{total} {call.progress.note}", _CALL_NOTE_LIMIT), "dim")
    return Span(one_line(f"job {call.child}") if call.child else "", "dim")


def _signals(view: JobView, now: datetime) -> list[Block]:
    if not view.signals:
        return []
    builder = SheetBuilder([Column("signal"), Column("when"), Column("by"), Column("data", shrink=True)])
    for signal in view.signals:
        builder.add(one_line(signal.name), ago(signal.at, now), one_line(signal.by), _value(signal.data))
    return [builder.sheet()]


# ---- failure and next step


def _failure(view: JobView) -> list[Block]:
    """The job's failure, or that of the first call that is in trouble."""
    if view.failure:
        return failure_blocks("failed" if view.state == "failed" else view.state, view.failure)
    calls = [call for call in view.calls if not _is_left(call, is_over=False)]
    troubled = next((call for call in calls if call.failure and call.state in ("failed", "retrying")), None)
    if troubled is None or troubled.failure is None or view.has_ended:
        return []
    return failure_blocks(f"{one_line(troubled.call, 60)} {troubled.state}", troubled.failure)


def failure_blocks(title: str, failure: Failure) -> list[Block]:
    """What is known of a failure, the remote traceback last."""
    message = failure.message if failure.code in ("", "error") else f"{failure.code}: {failure.message}"
    blocks: list[Block] = [line(Span(f"{title}: ", "bad"), Span(one_line(message, 1000), "strong"))]
    details = msgspec.json.encode(failure.details).decode() if failure.details else ""
    pairs = [
        ("where", one_line(failure.path)),
        ("hint", one_line(failure.hint)),
        ("exception", one_line(failure.exception)),
        ("details", one_line(details, 500)),
    ]
    if any(value for _, value in pairs):
        blocks.append(facts(pairs))
    return [*blocks, *_traceback(failure.traceback)]


def _traceback(text: str) -> list[Block]:
    lines = clean(text).rstrip("\n").split("\n") if text.strip() else []
    left_out = len(lines) - _TRACEBACK_LINES
    shown = [f"... {plural(left_out, 'line')} before", *lines[-_TRACEBACK_LINES:]] if left_out > 0 else lines
    return [line(Span(cut(text_line, 500), "dim"), indent=2) for text_line in shown]


def _next_step(view: JobView) -> list[Block]:
    """Commands that fit the state; none when there is nothing to do."""
    job = view.job if view.workspace == DEFAULT_WORKSPACE else f"{view.job} --workspace {view.workspace}"
    steps = [line(Span("next: ", "dim"), command, Span(f"   {why}", "dim")) for command, why in _steps(view, job)]
    return list(steps)


def _steps(view: JobView, job: str) -> list[tuple[str, str]]:
    running: dict[JobState, list[tuple[str, str]]] = {
        "planned": [(f"callboard cancel {job}", "it shall not begin")],
        "submitted": [("callboard ps", "is a node running that has this workflow?")],
        "running": [(f"callboard tail {job}", "follow it")],
        "paused": [(f"callboard resume {job}", "let it go on")],
        "waiting": [(f"callboard tail {job}", "follow it")],
        "failed": [(f"callboard tail {job} --json", "every event, with the whole failure"), *_retry(view, job)],
        "rejected": [("callboard components --schema", "workflows and what they take")],
    }
    if view.state == "waiting" and (asked := [each.step for each in view.approvals if each.state == "open"]):
        return [(f"callboard approve {view.job} {one_line(step)}{job.removeprefix(view.job)}", "or reject it")
                for step in asked]  # fmt: skip
    signals = dict.fromkeys(found[1] for key in view.waiting_on if (found := _SIGNAL.search(key)))
    if view.state == "waiting" and signals:
        return [(f"callboard signal {job} {one_line(name)}", "give it what it waits for") for name in signals]
    place = job.removeprefix(view.job)
    letters = [(f"callboard dead show {letter}{place}", "what nobody could work on") for letter in view.letters[:1]]
    return running.get(view.state, []) + letters


def _retry(view: JobView, job: str) -> list[tuple[str, str]]:
    """A job that has undone something cannot go on."""
    if any(is_undo(call.call) for call in view.calls):
        return []
    return [(f"callboard retry {job}", "go on from where it failed, once its cause is gone")]
