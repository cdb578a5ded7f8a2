"""A file that is written whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from actors.toolbox.files.confined import open_place, refused
from actors.toolbox.files.listing import content

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_whole(root: Path, path: str, data: bytes, *, overwrite: bool) -> bool:
    """Write ``data`` under another name, then give it its own. Whether it was new is returned.

    What is there already and is the same counts as written: a call may run twice.
    Raises: TerminalError for a path outside of the root, a folder, or a file that is there.
    """
    with open_place(root, path) as (folder, name):
        draft = f".{name[:100]}.{secrets.token_hex(6)}"
        try:
            _draft(draft, folder, data)
            if overwrite:
                is_new = not _exists(name, folder)
                os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                is_new = _link(draft, name, folder)
            os.fsync(folder)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=folder)
    if not is_new and not overwrite and content(root, path, len(data) + 1)[0] != data:
        raise refused(path, "is there already; say overwrite to replace it")
    return is_new


def _draft(name: str, folder: int, data: bytes) -> None:
    with os.fdopen(os.open(name, _NEW, 0o644, dir_fd=folder), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link(draft: str, name: str, folder: int) -> bool:
    """Give the draft its name unless something has it: a link never replaces anything."""
    try:
        os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        return False
    return True


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
