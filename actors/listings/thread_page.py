"""Threads, and what was said in one: ``callboard threads``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from actors.console.amount import ago, plural
from actors.console.page import Block, Column, Gap, Line, Page, SheetBuilder, Span, Style, clean, line, one_line
from actors.threads.thread import Thread


class ThreadRow(msgspec.Struct, frozen=True, kw_only=True):
    """One thread, for programs."""

    name: str
    exchanges: int
    summed_up: int
    began_at: datetime
    last_at: datetime
    last_agent: str


def thread_rows(threads: Sequence[Thread]) -> list[ThreadRow]:
    """Threads without what was said in them."""
    return [
        ThreadRow(
            name=thread.name, exchanges=thread.count, summed_up=thread.summed_up, began_at=thread.began_at,
            last_at=thread.last_at, last_agent=thread.last_agent,
        )
        for thread in threads
    ]  # fmt: skip


def thread_list_page(rows: Sequence[ThreadRow], now: datetime) -> Page:
    """A table of the threads."""
    if not rows:
        return [line("no agent keeps a thread")]
    builder = SheetBuilder(
        [Column("thread", shrink=True), Column("exchanges", "right"), Column("last agent"), Column("last"),
         Column("began")]
    )  # fmt: skip
    for row in rows:
        name, agent = Span(one_line(row.name), "name"), one_line(row.last_agent)
        builder.add(name, f"{row.exchanges:,}", agent, ago(row.last_at, now), ago(row.began_at, now))
    return [builder.sheet(plural(len(rows), "thread"))]


def thread_page(thread: Thread, now: datetime) -> Page:
    """What was said, the oldest first."""
    blocks: list[Block] = [line(Span(one_line(thread.name), "strong"), f"  {plural(thread.count, 'exchange')}")]
    if thread.summary:
        blocks.append(line(Span(f"the first {thread.summed_up} are told to agents as a summary:", "dim"), indent=2))
        blocks += _words("  ", thread.summary, "dim")
    for exchange in thread.exchanges:
        who = f"{exchange.agent}  {exchange.job}"
        blocks += [Gap(), line(Span(one_line(who), "kind"), Span(f"  {ago(exchange.at, now)}", "dim"))]
        blocks += [*_words("> ", exchange.prompt, "name"), *_words("", exchange.answer, "")]
    return blocks


def _words(label: str, text: str, style: Style) -> Iterator[Line]:
    for number, words in enumerate(clean(text.strip()).splitlines()):
        yield line(Span(label if number == 0 else " " * len(label), "dim"), Span(words, style), indent=2)
