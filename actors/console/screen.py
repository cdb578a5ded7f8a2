"""Where pages go: a terminal gets colours and fits its width, a pipe or file gets plain lines with nothing cut."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from actors.console.page import Block, Line, Style, clean, layout, plain_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_COLOURS: dict[Style, str] = {
    "": "",
    "dim": "bright_black",
    "strong": "bold",
    "good": "green",
    "busy": "cyan",
    "warn": "yellow",
    "bad": "bold red",
    "name": "bold",
    "kind": "magenta",
}


class Screen:
    """Prints pages to ``out``. ``json`` is for callers: whether the user asked for data in place of pages.

    Colours are off for ``no_color``, a non-empty ``NO_COLOR`` (no-color.org) and ``TERM=dumb``, and in a pipe.
    """

    def __init__(
        self,
        out: TextIO | None = None,
        *,
        json: bool = False,
        no_color: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        env = os.environ if env is None else env
        self.out = sys.stdout if out is None else out
        self.json = json
        self.is_tty = self.out.isatty() and env.get("TERM") != "dumb"
        self.has_color = self.is_tty and not no_color and not env.get("NO_COLOR")
        self._console: Console | None = None

    @property
    def ascii_only(self) -> bool:
        """Whether bars and marks have to do without letters beyond ASCII."""
        return "utf" not in (getattr(self.out, "encoding", None) or "ascii").lower()

    def show(self, page: Iterable[Block]) -> None:
        """Print a page, all at once in a pipe. Raises: BrokenPipeError when the reader of a pipe is gone."""
        if not self.is_tty:
            self._write("".join(f"{text}\n" for text in plain_lines(page)))
            return
        for block in page:
            self._render(block)
        self.out.flush()

    def show_json(self, value: Any) -> None:
        """Print data: indented for people at a terminal, one line in a pipe. ``value`` may be JSON text already."""
        raw = value if isinstance(value, bytes | msgspec.Raw) else msgspec.json.encode(value)
        text = bytes(raw).decode(errors="replace")
        self._write(msgspec.json.format(text, indent=2) + "\n" if self.is_tty else _one_line(text) + "\n")

    def json_line(self, text: str) -> None:
        """Print one line of JSON: for streams of them."""
        self._write(text + "\n")

    def say(self, text: str, *, dim: bool = False) -> None:
        """Print words as they come, of whoever: nothing in them can steer the terminal."""
        harmless = clean(text)
        self._write(f"\x1b[2m{harmless}\x1b[0m" if dim and harmless and self.has_color else harmless)

    def _write(self, text: str) -> None:
        encoding = getattr(self.out, "encoding", None) or "utf-8"
        # A terminal or locale that lacks a letter gets "?" in its place; a traceback would help nobody.
        self.out.write(text.encode(encoding, "replace").decode(encoding))
        self.out.flush()

    # ---- rich

    def _render(self, block: Block) -> None:
        console = self.console
        for block_line in layout(block, console.width):
            console.print(_text(block_line), soft_wrap=True)

    @property
    def console(self) -> Console:
        """What rich prints with."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                file=self.out,
                force_terminal=True,
                no_color=not self.has_color,
                highlight=False,
                emoji=False,
                markup=False,
                legacy_windows=False,
            )
        return self._console


def _one_line(text: str) -> str:
    return msgspec.json.format(text, indent=-1)


def _text(block: Line) -> Text:
    from rich.text import Text

    text = Text(" " * block.indent)
    for span in block.spans:
        text.append(span.text, style=_COLOURS[span.style] or None)
    return text
