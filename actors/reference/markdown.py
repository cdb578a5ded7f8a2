"""Markdown that says what it should whatever texts hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def prose(text: str) -> str:
    """A text of people's, which may be Markdown itself but holds no tags."""
    return _TAG.sub("&lt;", text.strip())


def cell(text: str) -> str:
    """A text in a table: on one line, without borders of its own."""
    return _without_borders(prose(" ".join(text.split())))


def code(text: str) -> str:
    """A text as it stands, also in a table; empty if there is none."""
    text = " ".join(text.split())
    if not text:
        return ""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in (text[0], text[-1]) else ""
    return f"{fence}{pad}{_without_borders(text)}{pad}{fence}"


def seconds(time_s: float) -> str:
    """A time as it was written, which a reader may look for in the code."""
    return f"{time_s:g} s"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table whose cells are Markdown already; columns without anything in them are left out."""
    filled = [list(row) for row in rows]
    kept = [i for i in range(len(head)) if i == 0 or any(row[i] for row in filled)]
    yield _row(head[i] for i in kept)
    yield _row("---" for _ in kept)
    yield from (_row(row[i] for i in kept) for row in filled)


def _row(cells: Iterable[str]) -> str:
    return "|" + "".join(f" {each} |" if each else " |" for each in cells)


def _without_borders(text: str) -> str:
    return re.sub(r"(\\*)\|", lambda found: found[1] * 2 + "\\|", text)
