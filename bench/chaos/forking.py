"""Hosts that are forked off one process which has imported everything: each costs milliseconds, and can be killed.

``python -m bench.chaos.forking`` is that process. It is told on stdin, a line each, what to start (JSON) or whom to
kill (a number), and tells on stdout who has started and who has gone. It ends, with all of them, when stdin is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.chaos.doomed import Cast, be_host

ROOT = Path(__file__).parents[2]


class Forked:
    """A process that was forked. ``code`` is its exit code once it has gone."""

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self.pid = 0
        self.code: int | None = None
        self._tell = tell
        self._gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def gone(self) -> int:
        """Wait until it has gone; its exit code, negative for a signal."""
        return await asyncio.shield(self._gone)

    async def kill(self) -> None:
        """Kill it, if it has not gone yet, and wait until it has."""
        if self.code is None and self.pid:
            self._tell(b"%d\n" % self.pid)
        await self.gone()

    def has_gone(self, code: int) -> None:
        """It was heard that it has gone."""
        self.code = code
        self._gone.set_result(code)


class Forks:
    """The process that forks, as seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._starting: list[tuple[Forked, asyncio.Future[None]]] = []
        self._alive: dict[int, Forked] = {}
        self._hearing = asyncio.create_task(self._hear())

    async def start(self, cast: Cast) -> Forked:
        """Start a host."""
        made, started = Forked(self._tell), asyncio.get_running_loop().create_future()
        self._starting.append((made, started))
        self._tell(msgspec.json.encode(cast) + b"\n")
        await started
        return made

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            word, pid, code = line.split()
            if word == b"started":
                made, started = self._starting.pop(0)
                made.pid = int(pid)
                self._alive[made.pid] = made
                started.set_result(None)
            else:
                self._alive.pop(int(pid)).has_gone(int(code))

    async def stop(self) -> None:
        """End all of it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        self._hearing.cancel()


@contextlib.asynccontextmanager
async def forks() -> AsyncIterator[Forks]:
    """Start the process that forks."""
    pipe = asyncio.subprocess.PIPE
    argv = (sys.executable, "-m", "bench.chaos.forking")
    made = Forks(await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, cwd=ROOT))
    try:
        yield made
    finally:
        await made.stop()


# ---- in the process that forks


def _serve() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write)
    alive: set[int] = set()
    gc.collect()
    gc.freeze()  # else each collection of a child would copy all that is shared
    while True:
        ready, _, _ = select.select([0, read], [], [])
        if read in ready:
            os.read(read, 4096)
            _reap(alive)
        if 0 in ready:
            line = _line()
            if not line:
                break
            _obey(line, alive)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


def _line() -> bytes:
    """One line, read by the byte: what is buffered here would be read again by who is forked."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line


def _obey(line: bytes, alive: set[int]) -> None:
    if line.isdigit():
        if int(line) in alive:
            os.kill(int(line), signal.SIGKILL)
        return
    pid = os.fork()
    if pid == 0:
        _be(msgspec.json.decode(line, type=Cast))
    alive.add(pid)
    os.write(1, b"started %d 0\n" % pid)


def _be(cast: Cast) -> Any:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        be_host(cast)
        code = 0
    finally:
        os._exit(code)


def _reap(alive: set[int]) -> None:
    for pid in list(alive):
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            alive.discard(pid)
            os.write(1, b"gone %d %d\n" % (pid, os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    _serve()
