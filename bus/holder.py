"""Who holds messages of an outbox: a file with a lock that the kernel lets go however its holder ends.

A process that holds messages has locked the file named after it. Whoever gets that lock knows two things at once: the
holder is gone (kill -9 included; a pid could be somebody else's by now), and nobody else delivers what it has left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path


class HolderLock:
    """A locked file; let go by :meth:`release` or by the end of the process."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        _held.add(self)

    @classmethod
    def take(cls, path: Path) -> HolderLock | None:
        """The lock on ``path``, or None if somebody has it. Raises: OSError."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            if _is_at(path, fd):
                return cls(path, fd)
            os.close(fd)  # its last holder took the file away before we had the lock

    def release(self, *, remove: bool) -> None:
        """Let go; ``remove`` the file if nothing is left that it stands for. Idempotent."""
        if self._fd < 0:
            return
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.forget()

    def forget(self) -> None:
        """Close this process's hold on the lock, and no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        _held.discard(self)


def _is_at(path: Path, fd: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


_held: weakref.WeakSet[HolderLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


# A forked child shares the lock: it would keep it alive after the death of its parent, whose messages would wait.
os.register_at_fork(after_in_child=_forget_all)
