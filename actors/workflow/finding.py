"""What is wrong with a document: where it stands, what it is, and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import msgspec

# How a place in a document is said inside of this package: names of fields and numbers of items, from the top.
Path = tuple[str | int, ...]

_PLAIN = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_TEXT_LIMIT_CHARS = 400


class Finding(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One fault. ``line`` and ``column`` count from 1; ``path`` is as in ``$.steps[2].when``; ``hint`` may be empty."""

    file: str
    line: int
    column: int
    path: str
    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {self.path}: {self.message}{hint} [{self.code}]"


class Fault(msgspec.Struct, frozen=True):
    """A finding before it is known where in the file its path stands."""

    code: str
    path: Path
    message: str
    hint: str = ""


def path_text(path: Path) -> str:
    """``("steps", 2, "when")`` as ``$.steps[2].when``."""
    return "$" + "".join(_step_text(step) for step in path)


def _step_text(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _PLAIN.fullmatch(step) else f"[{clip(repr(step))}]"


def clip(text: str) -> str:
    """The text, cut where it would fill a screen."""
    return text if len(text) <= _TEXT_LIMIT_CHARS else f"{text[:_TEXT_LIMIT_CHARS]}…"


def did_you_mean(word: object, known: Iterable[str], otherwise: str = "") -> str:
    """The nearest of the known words, or else all of them if they are few, or else ``otherwise``."""
    names = sorted(set(known))
    if near := difflib.get_close_matches(str(word)[:100], names, n=1):
        return f"did you mean {near[0]!r}?"
    return f"there is {', '.join(names)}" if 0 < len(names) <= 12 else otherwise
