"""Locks: ``callboard locks``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from actors.console.amount import ago, plural
from actors.console.page import Column, Page, SheetBuilder, Span, line, one_line
from actors.locks.lock_store import LockState

QUEUE_LIMIT = 10


def lock_page(states: Sequence[LockState], now: datetime) -> Page:
    """A table of the locks: holders first, then the queue in its order, the first ``QUEUE_LIMIT`` of it."""
    if not states:
        return [line(Span("no lock is held", "good"))]
    builder = SheetBuilder(
        [
            Column("lock"),
            Column("kind"),
            Column("limit", "right"),
            Column("job"),
            Column("operation", shrink=True),
            Column("state"),
            Column("since"),
            Column("token", "right"),
        ]
    )
    for state in states:
        _add(builder, state, now)
    waiting = sum(len(state.queue) for state in states)
    return [builder.sheet(f"{plural(len(states), 'lock')}, {plural(waiting, 'claim')} waiting")]


def _add(builder: SheetBuilder, state: LockState, now: datetime) -> None:
    first = [Span(one_line(state.name), "name"), state.kind, str(state.limit)]
    blank = ["", "", ""]
    for number, held in enumerate(state.holders):
        row = first if number == 0 else blank
        call = one_line(held.claim.call)
        builder.add(*row, one_line(held.claim.job), call, Span("holds", "busy"), ago(held.since, now), str(held.token))
    for number, waiting in enumerate(state.queue[:QUEUE_LIMIT]):
        row = blank if number or state.holders else first
        claim = waiting.claim
        state_span = Span(f"waits, {number + 1}.", "warn")
        builder.add(*row, one_line(claim.job), one_line(claim.call), state_span, ago(claim.asked_at, now), "")
    if len(state.queue) > QUEUE_LIMIT:
        builder.add(*blank, f"... and {len(state.queue) - QUEUE_LIMIT} more", "", "", "", "")
