"""One child as an OS process: its own session, its output as lines, its tether, and an end that leaves nothing behind.

The process leads a process group. When it ends, however it ends, what is left of the group is killed: a helper of a
tool that crashed serves nobody, and it would hold our pipes open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from io import FileIO
from typing import cast

import msgspec

from supervisor.child import ChildSpec
from supervisor.heartbeat import STALL_VARIABLE
from supervisor.lines import LineSplitter
from supervisor.tether import TETHER_FD_VARIABLE

OnLine = Callable[[str, str, str], None]

LAST_EXIT_VARIABLE = "CALLBOARD_LAST_EXIT"
NOT_FOUND_CODE = 127  # what a shell says when it cannot start a program
DRAIN_S = 0.2
KILL_WAIT_S = 5.0
STREAMS = {1: "stdout", 2: "stderr"}


class Exit(msgspec.Struct, frozen=True):
    """How a process ended: ``code`` is negative for a signal; ``description`` is for people: "exit 3", "SIGKILL"."""

    code: int
    description: str


def describe_exit(code: int) -> Exit:
    """The exit that a return code of ``subprocess`` stands for."""
    if code >= 0:
        return Exit(code, f"exit {code}")
    try:
        return Exit(code, signal.Signals(-code).name)
    except ValueError:
        return Exit(code, f"signal {-code}")  # real-time signals have no name of their own


def failed_start(spec: ChildSpec, error: Exception) -> Exit:
    """The exit of a process that could not even be started."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Exit(NOT_FOUND_CODE, f"did not start: {spec.argv[0]}: {reason}")


def write_line(name: str, stream: str, text: str) -> None:
    """Pass a child's line on to our own stderr; the default for ``on_line``."""
    del stream  # both go to stderr: our stdout belongs to the command that runs the supervisor
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more: no reason to die
        sys.stderr.write(f"[{name}] {text}\n")
        sys.stderr.flush()


class ChildProcess:
    """A running child, made by :meth:`start`. ``exited`` resolves with its Exit once its last line was delivered."""

    def __init__(self, spec: ChildSpec, wire: _Wire) -> None:
        self.spec = spec
        self.pid = wire.pid
        self.exited = wire.exited
        self._wire = wire

    @classmethod
    async def start(cls, spec: ChildSpec, on_line: OnLine = write_line, *, last_exit: str = "") -> ChildProcess:
        """Execute ``spec.argv``; ``last_exit`` tells it how its predecessor failed (``CALLBOARD_LAST_EXIT``).

        Raises: OSError or ValueError if the system refuses to (see ``failed_start``).
        """
        # Both ends are close-on-exec. The child gets the read end by name; the write end stays with us alone, since
        # a sibling that held a copy would keep the pipe from ending when we die.
        read_fd, write_fd = os.pipe()
        wire = _Wire(spec.name, on_line, FileIO(write_fd, "w"))
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: wire,
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(spec, read_fd, last_exit),
                pass_fds=(read_fd,),
                start_new_session=True,
            )
        except BaseException:
            wire.tether.close()
            raise
        finally:
            os.close(read_fd)
        return cls(spec, wire)

    async def wait(self) -> Exit:
        """How the process ended, as soon as it has."""
        return await asyncio.shield(self.exited)

    async def stop(self, grace_s: float) -> Exit:
        """SIGTERM to the process, then SIGKILL to its whole group after ``grace_s``; takes KILL_WAIT_S more at most."""
        self.signal(signal.SIGTERM)
        await asyncio.wait({self.exited}, timeout=grace_s)
        if not self.exited.done():
            self.kill()
            await asyncio.wait({self.exited}, timeout=KILL_WAIT_S)
        if not self.exited.done():  # stuck inside the kernel, such as on a dead network disk
            return Exit(-signal.SIGKILL, "SIGKILL was sent, but the process is still there")
        return self.exited.result()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; nothing happens if it has ended."""
        self._wire.send(number)

    def kill(self) -> None:
        """SIGKILL to the whole process group, at once; nothing happens if it has ended."""
        if not self.exited.done():
            self._wire.kill_group()


class _Wire(asyncio.SubprocessProtocol):
    """What the event loop tells about one process, turned into lines and one Exit."""

    def __init__(self, name: str, on_line: OnLine, tether: FileIO) -> None:
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.tether = tether
        self.pid = 0
        self._name = name
        self._on_line = on_line
        self._splitters = {fd: LineSplitter() for fd in STREAMS}
        self._transport: asyncio.SubprocessTransport | None = None
        self._drain: asyncio.TimerHandle | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since uvloop's transport is no subclass of the one that asyncio declares.
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._deliver(fd, self._splitters[fd].feed(data))

    def process_exited(self) -> None:
        self._ended = True
        self.kill_group()
        # A daemon that left the group may hold our pipes for ever; what was written so far is read within DRAIN_S.
        self._drain = asyncio.get_running_loop().call_later(DRAIN_S, self._finish)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._finish()

    def send(self, number: signal.Signals) -> None:
        # Not transport.send_signal: in Python 3.11 it polls the process, and so may take the exit code away from
        # asyncio's own waiter, which then reports 255 (python/cpython#87744).
        if not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        # The process may be reaped already, but no new group can get its number within this moment: Linux and
        # macOS hand numbers out in a circle. macOS answers EPERM for a group of which only zombies are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _finish(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
        for fd, splitter in self._splitters.items():
            self._deliver(fd, splitter.close())
        self.tether.close()
        if self._transport is not None:
            self._transport.close()
            if not self.exited.done():
                self.exited.set_result(describe_exit(self._transport.get_returncode() or 0))

    def _deliver(self, fd: int, lines: Iterator[str]) -> None:
        for text in lines:
            try:
                self._on_line(self._name, STREAMS[fd], text)
            except Exception as error:  # noqa: BLE001 - a broken hook must not take the supervisor down
                context = {"message": f"on_line failed for {self._name}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


def _environment(spec: ChildSpec, tether_fd: int, last_exit: str) -> dict[str, str]:
    """Ours, the spec's, and what we set ourselves; unbuffered, so that a line shows when it is printed."""
    told = {
        LAST_EXIT_VARIABLE: last_exit.replace("\0", ""),
        STALL_VARIABLE: f"{spec.stall_s:g}",
        TETHER_FD_VARIABLE: str(tether_fd),
    }
    return {"PYTHONUNBUFFERED": "1", **os.environ, **spec.env, **told}
