"""Paths below a root, opened so that nothing leads out of it, also while somebody changes the folders.

Each component is opened by itself, below the one before it, and never through a link. A link is read and its target
walked in the same way; ``..`` goes back to the folder that was opened before. So what was checked is what is open, with
no moment between a check and its use: as openat2 does it with RESOLVE_BENEATH, on any Unix.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bus.failure import TerminalError

_LINKS_LIMIT = 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def refused(path: str, reason: str) -> TerminalError:
    """The error for a path that cannot be had; the reason says what would be right."""
    return TerminalError(f"{path or '(empty)'}: {reason}", code="path_refused")


@contextmanager
def open_file(root: Path, path: str) -> Iterator[int]:
    """A plain file below ``root``, as a descriptor. Raises: TerminalError."""
    with _walk(root, path) as (folder, name), _errors(path):
        if name == ".":
            raise refused(path, "is a folder; list_files shows what is in it")
        descriptor = os.open(name, _FILE, dir_fd=folder)
        try:
            if stat.S_ISDIR(mode := os.fstat(descriptor).st_mode):
                raise refused(path, "is a folder; list_files shows what is in it")
            if not stat.S_ISREG(mode):
                raise refused(path, "is not a plain file")
            yield descriptor
        finally:
            os.close(descriptor)


@contextmanager
def open_folder(root: Path, path: str) -> Iterator[int]:
    """A folder below ``root`` or itself, as a descriptor. Raises: TerminalError."""
    with _walk(root, path) as (folder, name), _errors(path):
        descriptor = os.open(name, _FOLDER, dir_fd=folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@contextmanager
def open_place(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """Where a file may be written: the folder as a descriptor, made if it is missing, and the name in it.

    Raises: TerminalError.
    """
    with _walk(root, path, make=True) as (folder, name), _errors(path):
        if name == "." or path.endswith("/"):
            raise refused(path, "is a folder; give the path of a file")
        yield folder, name


@contextmanager
def _errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _explained(path, error) from error


def _explained(path: str, error: OSError) -> TerminalError:
    match error.errno:
        case errno.ENOENT:
            return refused(path, "does not exist; list_files shows what does")
        case errno.ENOTDIR:
            return refused(path, "a part of it that should be a folder is a file")
        case errno.EISDIR:
            return refused(path, "is a folder; give the path of a file")
        case errno.ELOOP:
            return refused(path, "changed while it was opened; try again")
        case errno.ENAMETOOLONG | errno.EINVAL:
            return refused(path, "is not a path that can be")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return refused(path, "this node's user may not do that")
        case _:
            raise error


@contextmanager
def _walk(root: Path, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """The folder that the last component lies in, and that component: never a link, ``.`` for the root itself."""
    if path.startswith(("/", "\\")) or "\0" in path:
        raise refused(path, "give a path below the root, such as notes/plan.md")
    with ExitStack() as stack, _errors(path):
        folders = [_open(stack, str(root), None)]
        names: list[str] = []  # of the folders after the first
        rest = _parts(path)
        links = 0
        while rest:
            part = rest.pop(0)
            if part == "..":
                if not names:
                    raise refused(path, "leads out of the root")
                folders.pop()
                names.pop()
                continue
            if (target := _link(part, folders[-1])) is not None:
                links += 1
                if links > _LINKS_LIMIT or target.startswith("/"):
                    raise refused(path, f"the link {part} leads out of the root, or in a circle")
                rest = _parts(target) + rest
                continue
            if not rest:
                yield folders[-1], part
                return
            if make:
                _make(part, folders[-1])
            folders.append(_open(stack, part, folders[-1]))
            names.append(part)
        yield folders[-1], "."


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _open(stack: ExitStack, name: str, folder: int | None) -> int:
    flags = _FOLDER if folder is not None else os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    stack.callback(os.close, descriptor)
    return descriptor


def _link(name: str, folder: int) -> str | None:
    """Where the link leads, None for what is none or is not there."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _make(name: str, folder: int) -> None:
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        return
