"""A small process between us and a program of ours that must not outlive us: when we are gone, so is the program.

Run by file name, with nothing but the standard library, so that it is up in some 20 ms. It learns in three ways that
the owner has gone: standard input is a pipe that only the owner writes to, so its end of file says so, after kill -9
too; once a second it looks whether it has another parent, which covers a forked copy of the owner that holds the pipe
open; and on Linux the kernel kills the program if this process itself is killed. (On macOS, killing owner and leash at
the same moment leaves the program running: nothing there tells a child of its parent's death.)

PR_SET_PDEATHSIG straight from the owner would not do: it exists on Linux only, and it fires when the *thread* that
started the child ends, which for a server started from a worker thread is too early.

    leash.py GRACE_S LOG LOCK SCRATCH COMMAND...

The leash says ``free`` once it has the lock on LOCK, else ``locked``; at the owner's ``s`` it starts COMMAND and
says ``pid N``; any further byte says that the end of file to come is on purpose. Output of COMMAND is appended to LOG.
COMMAND inherits the lock, so that it is held for exactly as long as COMMAND lives.
SCRATCH (``-`` for none) is a directory that is removed if the owner goes without having said so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable

LOCKED = 75  # EX_TEMPFAIL
CANNOT_RUN = 127
LOCK_WAIT_S = 1.0  # a server that was killed a moment ago lets go of the lock when the kernel gets to it
PARENT_CHECK_S = 1.0
_PR_SET_PDEATHSIG = 1


class Leash:
    """Holds one child process; ``hold`` returns when the child has ended."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._owner = os.getppid()
        self._stop = False
        self._on_purpose = False
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._asked_to_stop)

    @property
    def abandoned(self) -> bool:
        """The owner has gone without a word."""
        return self._stop and not self._on_purpose

    def hold(self, pid: int) -> int:
        """Wait until the child or the owner ends; in the latter case stop the child. Returns the child's exit code."""
        while (code := _exit_code(pid)) is None and not self._stop:
            self._wait(PARENT_CHECK_S, listen=True)
        return self._end(pid) if code is None else code

    def _end(self, pid: int) -> int:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)  # a stopped process would not see it
        deadline = time.monotonic() + self._grace_s
        while (code := _exit_code(pid)) is None and (left_s := deadline - time.monotonic()) > 0:
            self._wait(left_s, listen=False)
        if code is not None:
            return code
        os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _wait(self, limit_s: float, *, listen: bool) -> None:
        ready, _, _ = select.select([self._woken, 0] if listen else [self._woken], [], [], limit_s)
        if self._woken in ready:
            os.read(self._woken, 512)
        if 0 in ready:
            self._hear(os.read(0, 512))
        if os.getppid() != self._owner:
            self._stop = True

    def _hear(self, said: bytes) -> None:
        self._on_purpose |= bool(said)
        self._stop |= not said

    def _asked_to_stop(self, *_: object) -> None:
        self._stop = True


def main(argv: list[str]) -> int:
    """Run the command of ``argv`` on a leash; returns the exit code for this process."""
    grace_s, log, lock, scratch, *command = argv
    leash = Leash(float(grace_s))
    lock_fd = _lock(lock)
    if lock_fd is None:
        os.write(1, b"locked\n")
        return LOCKED
    os.write(1, b"free\n")
    if os.read(0, 1) != b"s":
        return 0
    pid = _spawn(command, log, lock_fd)
    with contextlib.suppress(OSError):  # nobody listens any more: ``hold`` will see that
        os.write(1, b"pid %d\n" % pid)
    code = leash.hold(pid)
    if leash.abandoned and scratch != "-":
        shutil.rmtree(scratch, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _lock(path: str) -> int | None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)
        else:
            return fd


def _spawn(command: list[str], log: str, lock_fd: int) -> int:
    """Start the command and return its pid. ``fork`` by hand: the kernel's promise has to be asked for in the child."""
    die_with_parent, leash = _die_with_parent(), os.getpid()
    log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pid = os.fork()
    if pid:
        os.close(log_fd)
        return pid
    try:
        die_with_parent()
        if os.getppid() == leash:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log_fd, 1)
            os.dup2(log_fd, 2)
            os.set_inheritable(lock_fd, True)
            os.execv(command[0], command)  # noqa: S606 - an argv list from our own code
    except OSError as error:
        os.write(log_fd, f"cannot run {command[0]}: {error}\n".encode())
    finally:
        os._exit(CANNOT_RUN)


def _die_with_parent() -> Callable[[], object]:
    """The system call by which a child asks to be killed with its parent; loaded before the fork."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _exit_code(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
