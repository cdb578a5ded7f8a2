"""Dead letters: ``callboard dead``, and one of them whole: ``callboard dead show``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo

import msgspec

from actors.console.amount import ago, instant, plural, size
from actors.console.job_page import failure_blocks
from actors.console.page import Block, Column, Gap, Page, SheetBuilder, Span, Style, clean, facts, line, one_line
from actors.dead_letters.dead_letters import Attempt, Letter, Redriven, WholeLetter
from bus.subjects import DEFAULT_WORKSPACE

_STYLES: dict[str, Style] = {"kept": "bad", "redriven": "good", "dropped": "dim"}
_LINES = 200
_ROW_BYTES = 16
_DUMP_ROWS = 32


def letters_page(letters: Sequence[Letter], now: datetime, *, closed: bool = False) -> Page:
    """A table of letters, the oldest first, and what can be done; ``closed``: with what became of each."""
    if not letters:
        return [line(Span("no dead letters", "good"))]
    columns = [Column("id", "right"), Column("when"), Column("job"), Column("what", shrink=True)]
    builder = SheetBuilder([*columns, *([Column("state")] if closed else []), Column("reason", shrink=True)])
    for letter in letters:
        cells: list[Span | str] = [str(letter.id), ago(letter.at, now), one_line(letter.job), _what(letter)]
        state: list[Span | str] = [Span(letter.state, _STYLES[letter.state])] if closed else []
        builder.add(*cells, *state, Span(_reason(letter), "bad" if letter.state == "kept" else "dim"))
    page: Page = [builder.sheet(plural(len(letters), "dead letter"))]
    kept = [letter for letter in letters if letter.state == "kept"]
    return page + _next(kept[0]) if kept else page


def _what(letter: Letter) -> str:
    if letter.kind == "job":
        return "the job itself"
    return one_line(letter.call or letter.subject, 80)


def _reason(letter: Letter) -> str:
    failure = letter.failure
    return one_line(failure.message if failure.code in ("", "error") else f"{failure.code}: {failure.message}", 120)


def _next(letter: Letter) -> list[Block]:
    place = "" if letter.workspace == DEFAULT_WORKSPACE else f" --workspace {letter.workspace}"
    steps = [
        (f"callboard dead show {letter.id}{place}", "all of it"),
        (f"callboard dead redrive {letter.id}{place}", "give it out again, once its cause is gone"),
        (f"callboard dead drop {letter.id} --reason '...'{place}", "let it be"),
    ]
    return [line(Span("next: ", "dim"), step, Span(f"   {why}", "dim")) for step, why in steps]


def letter_page(whole: WholeLetter, now: datetime, *, zone: tzinfo | None = None) -> Page:
    """All that is known of one letter: why, where it stood, what was tried, and the message itself."""
    letter = whole.letter
    title = line(Span(letter.state, _STYLES[letter.state]), "  ", Span(f"dead letter {letter.id}", "strong"))
    page: Page = [title, _facts(whole, now, zone), Gap(), *failure_blocks("reason", letter.failure)]
    for blocks in (_attempts(whole.attempts, now), _headers(letter), _body(whole.body)):
        if blocks:
            page += [Gap(), *blocks]
    return page + ([Gap(), *_next(letter)[1:]] if letter.state == "kept" else [])


def _facts(whole: WholeLetter, now: datetime, zone: tzinfo | None) -> Block:
    letter = whole.letter
    closed = f"{instant(letter.closed_at, zone)}  ({ago(letter.closed_at, now)})" if letter.closed_at else ""
    return facts(
        [
            ("workspace", letter.workspace),
            ("job", one_line(letter.job)),
            ("call", one_line(letter.call)),
            ("kept", f"{instant(letter.at, zone)}  ({ago(letter.at, now)})"),
            ("stood at", f"{one_line(letter.subject)}, seq {letter.sequence} of {letter.stream}"),
            ("deliveries", str(letter.deliveries)),
            ("given up by", one_line(letter.actor)),
            (letter.state if letter.state != "kept" else "", closed),
            ("by", one_line(letter.closed_by)),
            ("because", one_line(letter.reason)),
            ("size", size(len(whole.body))),
        ]
    )


def _attempts(attempts: Sequence[Attempt], now: datetime) -> list[Block]:
    if not attempts:
        return []
    builder = SheetBuilder([Column("attempt", "right"), Column("when"), Column("actor"), Column("failed", shrink=True)])
    for attempt in attempts:
        message = attempt.failure.message if attempt.failure else ""
        builder.add(str(attempt.attempt), ago(attempt.at, now), one_line(attempt.actor), one_line(message))
    return [builder.sheet()]


def _headers(letter: Letter) -> list[Block]:
    pairs = [(one_line(name, 60), one_line(value, 500)) for name, value in letter.headers.items()]
    return [line(Span("headers", "dim")), facts(pairs)] if pairs else []


def _body(body: bytes) -> list[Block]:
    if not body:
        return [line(Span("body ", "dim"), "(empty)")]
    try:
        text = msgspec.json.format(body, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _dump(body)
    lines = clean(text).split("\n")
    more = [line(Span(f"... {plural(len(lines) - _LINES, 'line')} more; --json has all", "dim"))]
    shown: list[Block] = [line(one_line(each, 2_000), indent=len(each) - len(each.lstrip())) for each in lines[:_LINES]]
    return [line(Span("body", "dim")), *shown, *(more if len(lines) > _LINES else [])]


def _dump(body: bytes) -> list[Block]:
    """What is no JSON, as bytes in hex with their letters beside."""
    rows: list[Block] = [line(Span("body, which is not JSON", "dim"))]
    for start in range(0, min(len(body), _ROW_BYTES * _DUMP_ROWS), _ROW_BYTES):
        part = body[start : start + _ROW_BYTES]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        rows.append(line(f"{start:08x}  {part.hex(' '):<{3 * _ROW_BYTES}} {letters}"))
    left = len(body) - _ROW_BYTES * _DUMP_ROWS
    return [*rows, *([line(Span(f"... {left:,} bytes more; --json has all", "dim"))] if left > 0 else [])]


def redriven_page(done: Sequence[Redriven], workspace: str) -> Page:
    """What became of letters that were to be re-driven: those that could not be come last, with the reason."""
    place = "" if workspace == DEFAULT_WORKSPACE else f" --workspace {workspace}"
    page: Page = []
    for one in sorted(done, key=lambda one: one.how == "refused"):
        if one.how == "refused":
            page.append(line(Span(f"{one.letter}", "bad"), f"  not re-driven: {one_line(one.refused)}"))
            page += [line(Span(f"-> {one_line(one.hint)}"), indent=2)] if one.hint else []
            continue
        told = {"retried": "goes on", "published": "is in the queue again", "already": "had been given out again"}
        page.append(line(Span(f"{one.letter}", "good"), f"  job {one_line(one.job)} {told[one.how]}"))
    jobs = dict.fromkeys(one.job for one in done if one.how != "refused")
    steps = [line(Span("next: ", "dim"), f"callboard result {job} --wait{place}") for job in list(jobs)[:1]]
    return [*page, *steps]
