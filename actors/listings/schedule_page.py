"""Schedules: ``callboard schedules list`` and ``show``, and the jobs that are planned."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from actors.console.amount import ago, duration, instant, plural
from actors.console.job_list_page import job_list_page
from actors.console.page import Block, Column, Gap, Page, SheetBuilder, Span, facts, line, one_line
from actors.schedules.book import ScheduleView
from store.job_list import ListedJob

_INPUT_CHARS = 300


def schedule_list_page(schedules: Sequence[ScheduleView], planned: Sequence[ListedJob], now: datetime) -> Page:
    """A table of schedules, and one of planned jobs if there are any."""
    page: list[Block] = []
    if schedules:
        columns = ("schedule", "workflow", "when", "overlap", "next", "last run", "skipped")
        builder = SheetBuilder([Column(name) for name in columns])
        for each in schedules:
            builder.add(
                Span(one_line(each.name), "name"), one_line(each.workflow), when(each), each.overlap,
                Span("paused", "warn") if each.is_paused else ago(min(each.next_at, default=None), now),
                ago(each.last_due_at, now), ago(each.skipped_at, now),
            )  # fmt: skip
        page.append(builder.sheet(plural(len(schedules), "schedule")))
    else:
        page.append(line("there is no schedule"))
    return [*page, Gap(), *job_list_page(planned, now)] if planned else page


def schedule_page(view: ScheduleView, now: datetime) -> Page:
    """One schedule: its rule, its next times, its last run."""
    state = Span("paused", "warn") if view.is_paused else Span("active", "good")
    skipped = f"{instant(view.skipped_at)}  ({one_line(view.skipped_for)})" if view.skipped_at else ""
    return [
        line(state, "  ", Span(one_line(view.name), "strong"), "  ", one_line(view.workflow)),
        facts(
            [
                ("when", when(view)),
                ("overlap", view.overlap),
                ("priority", view.priority if view.priority != "normal" else ""),
                ("deadline", f"{duration(view.deadline_s)} after its start" if view.deadline_s else ""),
                ("input", one_line(bytes(view.input).decode(errors="replace"))[:_INPUT_CHARS]),
                ("changed", f"{instant(view.changed_at)}  ({ago(view.changed_at, now)})" if view.changed_at else ""),
                ("by", one_line(view.by)),
                ("last run", f"{one_line(view.last_run)}  ({ago(view.last_due_at, now)})" if view.last_run else ""),
                ("last skipped", skipped),
                *(("next" if n == 0 else "", f"{instant(at)}  ({ago(at, now)})") for n, at in enumerate(view.next_at)),
            ]
        ),
    ]


def when(view: ScheduleView) -> str:
    """The rule as it was written."""
    if view.every_s is not None:
        return f"every {duration(view.every_s)}"
    return f"{view.cron} {view.time_zone or 'UTC'}"
