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
    if text.isprintable():
        return text
    return "".join(char if char == "\n" or char.isprintable() else _visible(char) for char in text)


def _visible(char: str) -> str:
    """An escape for what a terminal would obey or nobody could see: controls, direction marks, surrogates."""
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def one_line(text: str, limit: int = 200) -> str:
    """``text`` in one line of at most ``limit`` characters, line breaks shown as blanks."""
    # The cut comes first: cleaning a megabyte to show 200 characters would be felt. Blanks are few among so many.
    short = " ".join(text[: limit * 4 + 100].split())
    return cut(clean(short), limit)


def cut(text: str, limit: int) -> str:
    """``text``, or its beginning and an ellipsis if it is longer than ``limit`` characters."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


# ---- layout


def plain_lines(page: Iterable[Block]) -> list[str]:
    """The page without colours, nothing cut: for pipes and files."""
    return [block_line.plain.rstrip() for block in page for block_line in layout(block)]


def layout(block: Block, width: int | None = None) -> list[Line]:
    """The lines of a block. With a ``width`` in columns, cells of tables are cut until the table fits it."""
    match block:
        case Line():
            return [block]
        case Gap():
            return [Line(())]
        case Sheet():
            return _sheet_lines(block, width)


def _sheet_lines(sheet: Sheet, width: int | None) -> list[Line]:
    titles = tuple(Span(column.title, "dim") for column in sheet.columns)
    is_titled = any(column.title for column in sheet.columns)
    table = (titles, *sheet.rows) if is_titled else sheet.rows
    widths = [max((display_width(row[i].text) for row in table), default=0) for i in range(len(titles))]
    if width is not None and is_titled:  # facts are read, so they are never cut
        _shrink(widths, sheet.columns, width)
    lines = [line(Span(sheet.title, "strong"))] if sheet.title else []
    lines += [_row(row, widths, sheet.columns) for row in table]
    return [*lines, line(Span(sheet.note, "dim"))] if sheet.note else lines


_GAP = "  "
_LEAST = 8


def _shrink(widths: list[int], columns: Sequence[Column], width: int) -> None:
    """Take from the widest column that may shrink until all fit, or none is left that has more than a little."""
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while over > 0:
        wide = [i for i, column in enumerate(columns) if column.shrink and widths[i] > _LEAST]
        if not wide:
            return
        widest = max(wide, key=lambda i: widths[i])
        widths[widest] -= 1
        over -= 1


def _row(cells: Sequence[Span], widths: Sequence[int], columns: Sequence[Column]) -> Line:
    spans: list[Span] = []
    for cell, width, column in zip(cells, widths, columns, strict=True):
        text = _cut_to(cell.text, width)
        blanks = " " * (width - display_width(text))
        pieces = (
            [Span(blanks), Span(text, cell.style)]
            if column.align == "right"
            else [Span(text, cell.style), Span(blanks)]
        )
        spans += [Span(_GAP), *pieces] if spans else pieces
    if columns and columns[-1].align == "left":
        spans.pop()  # no blanks at the end of a line
    return Line(tuple(span for span in spans if span.text))


def _cut_to(text: str, width: int) -> str:
    if display_width(text) <= width:
        return text
    text = text[:width]  # a letter is a column wide at least, or takes none
    while text and display_width(text) > width - 1:
        text = text[:-1]
    return text + "…" if width else ""


def display_width(text: str) -> int:
    """Columns that ``text`` takes on a terminal: wide characters of East Asia and emoji take two."""
    if text.isascii():
        return len(text)
    return sum(_width(char) for char in text)


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
