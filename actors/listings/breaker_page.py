"""Circuits: ``callboard breakers``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from actors.console.amount import ago, plural
from actors.console.page import Column, Page, SheetBuilder, Span, Style, line, one_line

_STYLES: dict[str, Style] = {"closed": "good", "half_open": "warn", "open": "bad"}


class CountsLike(Protocol):
    """What was seen within the window."""

    @property
    def calls(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def slow(self) -> int: ...


class BreakerLike(Protocol):
    """What is shown of a circuit (``actors.breakers.breaker_states.BreakerState``)."""

    @property
    def key(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def since(self) -> datetime | None: ...
    @property
    def until(self) -> datetime | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def by(self) -> str: ...
    @property
    def forced(self) -> bool: ...
    @property
    def counts(self) -> CountsLike: ...


def breaker_page(breakers: Sequence[BreakerLike], now: datetime) -> Page:
    """A table of all circuits that were ever open."""
    if not breakers:
        return [line(Span("no circuit was ever open", "good"))]
    builder = SheetBuilder(
        [
            Column("circuit"),
            Column("state"),
            Column("since"),
            Column("until"),
            Column("calls", "right"),
            Column("failed", "right"),
            Column("slow", "right"),
            Column("by", shrink=True),
            Column("reason", shrink=True),
        ]
    )
    for breaker in breakers:
        _add(builder, breaker, now)
    held = sum(breaker.state != "closed" for breaker in breakers)
    return [builder.sheet(f"{plural(len(breakers), 'circuit')}, {held} not closed")]


def _add(builder: SheetBuilder, breaker: BreakerLike, now: datetime) -> None:
    counts = breaker.counts
    builder.add(
        Span(one_line(breaker.key), "name"),
        Span(breaker.state.replace("_", "-"), _STYLES.get(breaker.state, "")),
        ago(breaker.since, now),
        _until(breaker, now),
        str(counts.calls or ""),
        str(counts.failures or ""),
        str(counts.slow or ""),
        one_line(breaker.by),
        one_line(breaker.reason) or ("by hand" if breaker.forced else ""),
    )


def _until(breaker: BreakerLike, now: datetime) -> str:
    if breaker.state == "open" and breaker.until is None:
        return "closed by hand"
    if breaker.until is not None and breaker.until <= now:
        return "a call probes it"
    return ago(breaker.until, now)
