"""A page as data: lines of styled spans and sheets of cells. Rendered as plain text here, with rich by ``screen``.

Text that comes from users and from the wire enters through :func:`one_line` or :func:`clean`, so that nothing in a
failure message or an event can move the cursor, colour the terminal or break a line in two.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

# Styles by meaning; the screen maps them to colours.
Style = Literal["", "dim", "strong", "good", "busy", "warn", "bad", "name", "kind"]
Align = Literal["left", "right"]


class Span(NamedTuple):
    """A piece of text in one style."""

    text: str
    style: Style = ""


@dataclass(frozen=True)
class Line:
    """One line of spans, as long as they are."""

    spans: tuple[Span, ...]
    indent: int = 0

    @property
    def plain(self) -> str:
        """The text without styles."""
        return " " * self.indent + "".join(span.text for span in self.spans)


@dataclass(frozen=True)
class Column:
    """A column of a sheet; on a narrow terminal those that may ``shrink`` are cut first."""

    title: str
    align: Align = "left"
    shrink: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table. Without column titles it is a list of facts."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Span, ...], ...]
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Gap:
    """An empty line."""


Block = Line | Sheet | Gap
Page = list[Block]


def line(*spans: Span | str, indent: int = 0) -> Line:
    """A line of spans and plain texts."""
    return Line(tuple(span if isinstance(span, Span) else Span(span) for span in spans), indent)


def facts(pairs: Iterable[tuple[str, Span | str]]) -> Sheet:
    """Names and values, those without a value left out."""
    rows = [(Span(name, "dim"), span) for name, value in pairs if (span := _span(value)).text]
    return Sheet((Column(""), Column("", shrink=True)), tuple(rows))


def _span(value: Span | str) -> Span:
    return value if isinstance(value, Span) else Span(value)


@dataclass
class SheetBuilder:
    """Rows added one by one; texts become spans."""

    columns: Sequence[Column]
    title: str = ""
    rows: list[tuple[Span, ...]] = field(default_factory=list)

    def add(self, *cells: Span | str) -> None:
        """One row, a cell for each column."""
        assert len(cells) == len(self.columns)
        self.rows.append(tuple(_span(cell) for cell in cells))

    def sheet(self, note: str = "") -> Sheet:
        """The sheet as it is now."""
        return Sheet(tuple(self.columns), tuple(self.rows), self.title, note)


# ---- text from elsewhere


def clean(text: str) -> str:
    """``text`` without characters that control a terminal; line breaks stay, tabs become blanks."""
    text = text.replace("\r\n", "\n").expandtabs(4)
    return "".join(c if c == "\n" or _is_harmless(c) else _visible(c) for c in text)


def _is_harmless(char: str) -> bool:
    # Cc: control, Cf: direction marks and the like, Cs: lone surrogates, Zl and Zp: line and paragraph separators.
    return unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _visible(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def one_line(text: str, limit: int = 200) -> str:
    """``text`` in one line of at most ``limit`` characters, line breaks shown as blanks."""
    # The cut comes first: cleaning a megabyte to show 200 characters would be felt. Blanks are few among so many.
    short = " ".join(text[: limit * 4 + 100].split())
    return cut(clean(short), limit)


def cut(text: str, limit: int) -> str:
    """``text``, or its beginning and an ellipsis if it is longer than ``limit`` characters."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


# ---- plain text


def plain_lines(page: Iterable[Block]) -> list[str]:
    """The page without colours, nothing cut: for pipes and files."""
    lines: list[str] = []
    for block in page:
        match block:
            case Line():
                lines.append(block.plain)
            case Gap():
                lines.append("")
            case Sheet():
                lines += _sheet_lines(block)
    return lines


def _sheet_lines(sheet: Sheet) -> list[str]:
    rows = [[cell.text for cell in row] for row in sheet.rows]
    titles = [column.title for column in sheet.columns]
    table = [titles, *rows] if any(titles) else rows
    widths = [max((display_width(row[i]) for row in table), default=0) for i in range(len(titles))]
    lines = [sheet.title] if sheet.title else []
    lines += [_row(row, widths, sheet.columns) for row in table]
    return [*lines, sheet.note] if sheet.note else lines


def _row(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    padded = [_pad(cell, width, column.align) for cell, width, column in zip(cells, widths, columns, strict=True)]
    return "  ".join(padded).rstrip()


def _pad(text: str, width: int, align: Align) -> str:
    blanks = " " * (width - display_width(text))
    return blanks + text if align == "right" else text + blanks


def display_width(text: str) -> int:
    """Columns that ``text`` takes on a terminal: wide characters of East Asia and emoji take two."""
    if text.isascii():
        return len(text)
    return sum(_width(char) for char in text)


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
