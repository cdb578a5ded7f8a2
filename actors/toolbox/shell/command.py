"""Which commands are allowed. Pure: a command is a list of words, and no shell ever sees it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bus.errors import UsageError
from bus.failure import TerminalError

_END = "$"
_OPERATORS = set("();<>|&")


@dataclass(frozen=True)
class Allowed:
    """One entry of the list: a program and how its arguments begin; ``is_whole`` if nothing may follow."""

    words: tuple[str, ...]
    is_whole: bool

    @property
    def text(self) -> str:
        """As it was written."""
        return shlex.join(self.words) + (f" {_END}" if self.is_whole else "")

    def fits(self, words: list[str]) -> bool:
        """Whether the command is one of these. The program is compared as it stands, arguments may be patterns."""
        if len(words) < len(self.words) or (self.is_whole and len(words) > len(self.words)):
            return False
        return words[0] == self.words[0] and all(map(fnmatchcase, words[1:], self.words[1:]))


def read_allowed(entry: str) -> Allowed:
    """``git status`` allows what begins so, ``git push $`` allows that alone, ``make test-*`` is a pattern.

    Raises: UsageError for an entry that names no program, or has an operator of a shell in it.
    """
    try:
        words = shlex.split(entry)
    except ValueError as error:
        raise UsageError(f"allow: {entry!r} cannot be read: {error}", code="bad_kit", path="allow") from error
    is_whole = len(words) > 1 and words[-1] == _END
    words = words[:-1] if is_whole else words
    if not words or set(words[0]) & set("*?[") or any(set(word) <= _OPERATORS for word in words):
        raise UsageError(f"allow: {entry!r} names no program", code="bad_kit", path="allow",
                         hint="a program, and how its arguments begin: git status")  # fmt: skip
    return Allowed(tuple(words), is_whole)


def read_command(command: str, allowed: list[Allowed], *, outside: bool = False) -> list[str]:
    """The words of a command that is allowed.

    ``outside``: whether arguments beyond those of its entry may name paths outside of the folder.
    Raises: TerminalError that says what would be right.
    """
    words = _words(command)
    entry = next((each for each in allowed if each.fits(words)), None)
    if entry is None:
        raise TerminalError(f"{shlex.join(words)!r} is not allowed; allowed is what begins with "
                            + ", or ".join(each.text for each in allowed), code="command_refused")  # fmt: skip
    for word in words[len(entry.words) :]:
        if not outside and leads_out(word):
            raise TerminalError(f"{word!r} leads out of the folder; give paths below it", code="command_refused")
    return words


def _words(command: str) -> list[str]:
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise TerminalError(f"the command cannot be read: {error}", code="command_refused") from error
    if not words or "\0" in command:
        raise TerminalError("give a command, such as: git status --short", code="command_refused")
    if operator := next((word for word in words if set(word) <= _OPERATORS), None):
        raise TerminalError(f"{operator} does nothing here: there is no shell, so no pipes, redirections or lists; "
                            "give one command, and quote what is meant as text", code="command_refused")  # fmt: skip
    return words


def leads_out(word: str) -> bool:
    """Whether an argument looks like a path out of the folder: absolute, of a home, or by ``..``, also after ``=``."""
    for text in (word, word.partition("=")[2], word[2:] if word.startswith("-") else ""):
        if text.startswith(("/", "~", "file:")) or ".." in text.split("/"):
            return True
    return False
