"""The files in the working directory: put there before the program, found there after it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

Mark = tuple[int, int, int]
"""How a file looked when it was put there: inode, size, time of change."""

_LEFT_OUT_LIMIT = 20
_DEPTH_LIMIT = 8
_FOUND_LIMIT = 2000


def put_files(files: list[tuple[str, bytes]]) -> dict[str, Mark]:
    """Write the inputs; the names are checked by whoever asks."""
    return {name: _put(name, data) for name, data in files}


def _put(name: str, data: bytes) -> Mark:
    with open(name, "xb") as file:
        file.write(data)
    return _mark(os.stat(name))


def _mark(state: os.stat_result) -> Mark:
    return state.st_ino, state.st_size, state.st_mtime_ns


def changed_files(marks: dict[str, Mark], limit: int, limit_bytes: int) -> tuple[list[tuple[str, bytes]], list[str]]:
    """New and changed files with their paths, and what is left out, with the reason.

    Nothing of the program's runs any more. Links are not followed, and only plain files are opened.
    """
    kept: list[tuple[str, bytes]] = []
    left_out: list[str] = []
    for path in _paths(".", 0):
        name = path.removeprefix("./")
        if marks.get(name) == _mark(os.lstat(path)):
            continue
        reason = _why_not(path, len(kept) < limit, limit_bytes - sum(len(data) for _, data in kept))
        if reason:
            left_out.append(f"{_text(name)}: {reason}")
        else:
            kept.append((_text(name), _content(path)))
    more = len(left_out) - _LEFT_OUT_LIMIT
    return kept, left_out[:_LEFT_OUT_LIMIT] + ([f"{more} more"] if more > 0 else [])


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")


def _paths(folder: str, depth: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered[:_FOUND_LIMIT]:
        if entry.is_dir(follow_symlinks=False):
            if depth < _DEPTH_LIMIT and not entry.name.startswith((".", "__pycache__")):
                yield from _readable_paths(entry.path, depth + 1)
        else:
            yield entry.path


def _readable_paths(folder: str, depth: int) -> Iterator[str]:
    try:
        yield from _paths(folder, depth)
    except OSError:  # the program took its own right to read it away
        return


def _why_not(path: str, room: bool, room_bytes: int) -> str:
    state = os.lstat(path)
    if stat.S_ISLNK(state.st_mode):
        return "a symbolic link"
    if not stat.S_ISREG(state.st_mode):
        return "not a plain file"
    if not room:
        return "too many files"
    if state.st_size > room_bytes:
        return f"too large: {state.st_size:,} bytes, {room_bytes:,} are left"
    return "" if os.access(path, os.R_OK) else "not readable"


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        return file.read()
