"""Jobs as rows: what a filter of ``callboard pause`` and its like finds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from actors.console.amount import ago, plural
from actors.console.job_page import STATE_STYLES
from actors.console.page import Column, Page, SheetBuilder, Span, line, one_line
from store.job_list import ListedJob

ROW_LIMIT = 200


def job_list_page(jobs: Sequence[ListedJob], now: datetime) -> Page:
    """A table of the jobs, the oldest first; of more than ``ROW_LIMIT`` the first ones."""
    if not jobs:
        return [line("no job is meant by this")]
    builder = SheetBuilder([Column("job"), Column("workflow"), Column("state"), Column("taken up", "right")])
    for job in jobs[:ROW_LIMIT]:
        state = Span(_state(job, now), STATE_STYLES.get(job.state, ""))
        builder.add(Span(one_line(job.job), "name"), one_line(job.workflow), state, ago(job.submitted_at, now))
    left_out = len(jobs) - ROW_LIMIT
    return [builder.sheet(plural(len(jobs), "job") + (f", the first {ROW_LIMIT} shown" if left_out > 0 else ""))]


def _state(job: ListedJob, now: datetime) -> str:
    if job.state == "paused":
        return f"paused by {one_line(job.paused_by) or 'unknown'}"
    return f"planned, {ago(job.starts_at, now)}" if job.starts_at else job.state
