"""What lies in the outboxes of this machine: ``callboard outbox list``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from actors.console.amount import ago, plural, size
from actors.console.page import Column, Page, SheetBuilder, Span, line, one_line


class HeldRow(msgspec.Struct, frozen=True, kw_only=True):
    """One held message. ``outbox`` is the node's name, or ``client``; ``in_use``: a living process goes on with it."""

    id: str
    outbox: str
    kind: str
    about: str
    owner: str
    destination: str
    size_bytes: int
    stored_at: datetime
    in_use: bool = False
    trouble: str = ""


class OutboxView(msgspec.Struct, frozen=True, kw_only=True):
    """All outboxes of a user; the limit is that of each."""

    messages: int
    size_bytes: int
    limit_bytes: int
    oldest_at: datetime | None = None
    held: list[HeldRow] = []


def outbox_page(view: OutboxView, now: datetime) -> Page:
    """A table of what is held, the oldest first."""
    if not view.held:
        return [line(Span("nothing is held: all of it has been delivered", "good"))]
    columns = ["id", "outbox", "kind", "about"]
    builder = SheetBuilder(
        [*(Column(title) for title in columns), Column("size", "right"), Column("held"), Column("for", shrink=True),
         Column("state", shrink=True)]
    )  # fmt: skip
    for row in view.held:
        builder.add(
            Span(one_line(row.id), "name"), one_line(row.outbox), row.kind, one_line(row.about), size(row.size_bytes),
            ago(row.stored_at, now), one_line(row.destination), _state(row),
        )  # fmt: skip
    held = f"{plural(view.messages, 'message')}, {size(view.size_bytes)} of {size(view.limit_bytes)}"
    return [builder.sheet(f"{held}, the oldest {ago(view.oldest_at, now)}")]


def _state(row: HeldRow) -> Span:
    if row.trouble:
        return Span(one_line(f"refused: {row.trouble}"), "bad")
    if row.in_use:
        return Span(f"{one_line(row.owner)} goes on with it", "busy")
    return Span("waits for the server", "warn")


def view_of(rows: Sequence[HeldRow], limit_bytes: int) -> OutboxView:
    """The rows with their sums."""
    held = sorted(rows, key=lambda row: row.stored_at)
    return OutboxView(
        messages=len(held), size_bytes=sum(row.size_bytes for row in held), limit_bytes=limit_bytes,
        oldest_at=held[0].stored_at if held else None, held=held,
    )  # fmt: skip


def instant_of(stored_at: float) -> datetime:
    """Seconds since the epoch as an instant."""
    return datetime.fromtimestamp(stored_at, UTC)
