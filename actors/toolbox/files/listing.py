"""What lies below a folder: found with open folders, so that nothing leads out, and without following links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from actors.toolbox.files.confined import open_file, open_folder
from bus.failure import TerminalError

_DEPTH_LIMIT = 40
_LINE_LIMIT_CHARS = 300


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something in a folder, by its path below the root."""

    path: str
    kind: Literal["file", "folder", "link"]
    size_bytes: int = 0


class Match(msgspec.Struct, frozen=True):
    """A line that holds what was looked for."""

    path: str
    line: int
    text: str


class Page(NamedTuple):
    """The first of what was found, and whether there is more."""

    found: list[Entry]
    more: bool


def entries(root: Path, folder: str, pattern: str) -> Iterator[Entry]:
    """All below ``folder`` whose path below it, or name, fits the pattern, in order of name."""
    base = "/".join(part for part in folder.split("/") if part not in ("", "."))
    with open_folder(root, folder) as descriptor:
        for path, entry in _below(descriptor, "", 0):
            if fnmatchcase(path, pattern) or fnmatchcase(entry.name, pattern):
                yield _described(f"{base}/{path}" if base else path, entry)


def matches(root: Path, found: Iterator[Entry], text: str, size_limit_bytes: int) -> Iterator[Match]:
    """The lines of text files among ``found`` that hold ``text``, whatever its case."""
    wanted = text.casefold()
    for entry in found:
        if entry.kind == "file" and entry.size_bytes <= size_limit_bytes:
            for number, line in enumerate(_lines(root, entry.path, size_limit_bytes), start=1):
                if wanted in line.casefold():
                    yield Match(entry.path, number, line.strip()[:_LINE_LIMIT_CHARS])


def as_text(data: bytes) -> str | None:
    """UTF-8 without NUL bytes as text; None for anything else."""
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def content(root: Path, path: str, limit_bytes: int) -> tuple[bytes, int]:
    """The beginning of a file, at most ``limit_bytes``, and its size. Raises: TerminalError."""
    with open_file(root, path) as descriptor:
        size_bytes = os.fstat(descriptor).st_size
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit_bytes), size_bytes


def _lines(root: Path, path: str, limit_bytes: int) -> list[str]:
    try:
        data, _ = content(root, path, limit_bytes)
    except TerminalError:  # it went away, or is not ours to read
        return []
    return (as_text(data) or "").splitlines()


def _below(folder: int, prefix: str, depth: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as found:
        ordered = sorted(found, key=lambda entry: entry.name)
    for entry in ordered:
        path = f"{prefix}{entry.name}"
        yield path, entry
        if entry.is_dir(follow_symlinks=False) and depth < _DEPTH_LIMIT:
            yield from _inside(folder, entry.name, f"{path}/", depth + 1)


def _inside(folder: int, name: str, prefix: str, depth: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:  # it went away, became a link, or is not ours to read
        return
    try:
        yield from _below(inner, prefix, depth)
    finally:
        os.close(inner)


def _described(path: str, entry: os.DirEntry[str]) -> Entry:
    shown = os.fsencode(path).decode("utf-8", "replace")
    if entry.is_symlink():
        return Entry(shown, "link")
    if entry.is_dir(follow_symlinks=False):
        return Entry(shown, "folder")
    return Entry(shown, "file", entry.stat(follow_symlinks=False).st_size)
