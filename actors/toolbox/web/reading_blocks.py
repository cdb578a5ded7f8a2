"""The blocks of a page that is written down for reading: paragraphs, lists, quotes, tables, code. Pure."""

from __future__ import annotations

import re

_SPACES = re.compile(r"[^\S\n]+")
_AROUND_BREAK = re.compile(r" ?\n ?")
_FENCES = re.compile(r"`{3,}")
# Deeper than that, nobody sees where something belongs.
_DEPTH_LIMIT = 8


class ReadingBlocks:
    """Takes blocks in their order. ``quoted`` is how deep in quotations the next one stands."""

    def __init__(self, *, plain: bool) -> None:
        self.quoted = 0
        self._plain = plain
        self._written: list[tuple[bool, str]] = []
        # Each list that is open: the number of its next item, None for bullets.
        self._lists: list[int | None] = []
        self._bullet = ""

    def paragraph(self, text: str, *, heading: int = 0) -> None:
        """Words, with breaks where the page has them; nothing if there are none."""
        text = _AROUND_BREAK.sub("\n", _SPACES.sub(" ", text)).strip()
        if not text:
            return
        if heading and not self._plain:
            text = f"{'#' * heading} {_SPACES.sub(' ', text.replace(chr(10), ' '))}"
        self._write(text.splitlines())

    def verbatim(self, text: str) -> None:
        """Code, or whatever else is set as it was typed."""
        lines = text.strip("\n").rstrip().splitlines()
        if not lines:
            return
        longest = max((len(fence) for fence in _FENCES.findall(text)), default=2)
        fence = "`" * (longest + 1)
        self._write(lines if self._plain else [fence, *lines, fence])

    def rule(self) -> None:
        """A line across the page."""
        if not self._plain:
            self._write(["---"])

    def begin_list(self, number: int | None) -> None:
        """A list whose items are numbered from ``number``, or have bullets."""
        self._lists.append(number)

    def end_list(self) -> None:
        """The innermost list ends."""
        if self._lists:
            self._lists.pop()
        self._bullet = ""

    def begin_item(self) -> None:
        """The next block is the first one of an item."""
        number = self._lists[-1] if self._lists else None
        self._bullet = "- " if number is None else f"{number}. "
        if number is not None:
            self._lists[-1] = number + 1

    def table(self, cells: list[list[list[str]]], *, as_text: bool = False) -> None:
        """Rows of cells, each a list of texts; as paragraphs if they are no table to look at."""
        rows = [[" ".join(" ".join(texts).split()) for texts in row] for row in cells]
        rows = [row for row in rows if any(row)]
        width = max((len(row) for row in rows), default=0)
        if not rows:
            return
        if as_text or self._plain or width == 1:
            for row in rows:
                self.paragraph(" | ".join(cell for cell in row if cell))
            return
        head, *rest = ["| " + " | ".join(_padded(row, width)) + " |" for row in rows]
        self._write([head, "|" + " --- |" * width, *rest])

    def text(self) -> str:
        """All of it. Items of a list stand close together, all else has an empty line between."""
        parts: list[str] = []
        was_item = False
        for is_item, block in self._written:
            if parts:
                parts.append("\n" if is_item and was_item else "\n\n")
            parts.append(block)
            was_item = is_item
        return "".join(parts)

    def _write(self, lines: list[str]) -> None:
        depth = min(len(self._lists), _DEPTH_LIMIT)
        quote = "" if self._plain else "> " * min(self.quoted, _DEPTH_LIMIT)
        bullet, self._bullet = self._bullet, ""
        first = quote + "  " * (depth - bool(bullet)) + bullet
        further = quote + "  " * depth
        self._written.append((bool(bullet), "\n".join([first + lines[0], *(further + line for line in lines[1:])])))


def _padded(row: list[str], width: int) -> list[str]:
    return [cell.replace("|", "\\|") for cell in row] + [""] * (width - len(row))
