"""One run of a program in a sandbox, from the outside: started, fed, listened to within limits, ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from actors.toolbox.output import Output, drain
from actors.toolbox.python import jail
from actors.toolbox.python.isolation import Isolation
from actors.toolbox.python.jail.order import WORK, Ceilings, Order, pack_input
from actors.toolbox.python.jail.tasks import tasks_of
from actors.toolbox.python.result import Answer
from actors.toolbox.python.visible import packages, python, readable

_JAIL = str(Path(jail.__file__).parent)
# Packages of ours are named and nothing of them is loaded: inside there is only what this folder holds.
BOOT = """
import sys, types
for name, path in (("actors", []), ("actors.toolbox", []), ("actors.toolbox.python", []),
                   ("actors.toolbox.python.jail", [sys.argv[1]])):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = path
from actors.toolbox.python.jail.launcher import main
main(sys.argv[2])
"""
_BOOT_ARGV = ["-I", "-S", "-c", BOOT, _JAIL]
_GRACE_S = 30.0  # on a machine that much else runs on
_LAST_WORD_S = 2.0
HEAD_LIMIT_BYTES = 1024 * 1024


@dataclass
class Run:
    """What a run gave. ``answer`` is None if the sandbox was killed before it could say anything.

    ``notice`` is what people should know of the sandbox itself; mostly nothing.
    """

    answer: Answer | None
    files: list[tuple[str, bytes]]
    stdout: Output
    stderr: Output
    duration_s: float
    notice: str = ""


async def run(isolation: Isolation, ceilings: Ceilings, code: str, files: list[tuple[str, bytes]],
              output_limit_bytes: int) -> Run:  # fmt: skip
    """Run ``code`` in a new sandbox with ``files`` in its working directory.

    No process of it is left when this returns or raises. Raises: OSError if no process can be started.
    """
    began_s = time.monotonic()
    stdout, stderr = Output(output_limit_bytes), Output(output_limit_bytes)
    answer, made = None, list[tuple[str, bytes]]()
    with _work_folder(isolation) as work:
        process, answers = await _start(_order(isolation, ceilings, work))
        try:
            async with asyncio.timeout(ceilings.timeout_s + _GRACE_S):
                (answer, made), *_ = await asyncio.gather(
                    _read_answer(answers, ceilings.file_bytes), _feed(process, pack_input(code, files)),
                    drain(process.stdout, stdout), drain(process.stderr, stderr),
                )  # fmt: skip
        except (TimeoutError, asyncio.IncompleteReadError, msgspec.DecodeError):
            pass  # it was killed in the middle, and that is what the run says
        finally:
            await _end(process, isolation, answer is not None)
            os.close(answers)
    return Run(answer, made, stdout, stderr, time.monotonic() - began_s)


@contextlib.contextmanager
def _work_folder(isolation: Isolation) -> Iterator[str]:
    """Where the program runs: in memory of its own, or in a folder of this machine that is gone afterwards."""
    if isolation.level in ("bubblewrap", "namespaces"):
        yield WORK
        return
    folder = tempfile.mkdtemp(prefix="callboard-python-")
    try:
        if isolation.uid:
            os.chown(folder, isolation.uid, isolation.uid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _order(isolation: Isolation, ceilings: Ceilings, work: str) -> Order:
    shown = [*readable(), _JAIL] if isolation.level == "bubblewrap" else [*readable()]
    own = isolation.level in ("bubblewrap", "namespaces")
    before = 0 if own and _counts_apart() else tasks_of(isolation.uid or os.geteuid())
    devices = [] if own else ["/dev/urandom", "/dev/random", "/dev/zero"]
    return Order(
        level=isolation.level, ceilings=ceilings, readable=[*shown, *devices], packages=[*packages()], work=work,
        parent=os.getpid(), answer_fd=-1, uid=isolation.uid, seccomp=isolation.seccomp, python=python(),
        tasks_before=before, bubblewrap=isolation.bubblewrap,
        boot=_BOOT_ARGV,
    )  # fmt: skip


def _counts_apart() -> bool:
    """Whether the kernel counts the processes of a user namespace by themselves: Linux 5.14 was the first."""
    numbers = re.findall(r"\d+", platform.release())[:2]
    return [int(number) for number in numbers] >= [5, 14]


def environment() -> dict[str, str]:
    """All that a program finds in its environment. Nothing of the node's is handed on but where libraries lie."""
    own = {"LD_LIBRARY_PATH": os.environ["LD_LIBRARY_PATH"]} if "LD_LIBRARY_PATH" in os.environ else {}
    return own | plain_environment()


def plain_environment() -> dict[str, str]:
    """What every program finds in its environment, wherever it runs."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    home = "/tmp"  # noqa: S108 - of the sandbox
    return {**one_thread, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": home, "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": home, "MALLOC_ARENA_MAX": "2"}  # fmt: skip


async def _start(order: Order) -> tuple[asyncio.subprocess.Process, int]:
    answers, answer_fd = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            order.python, *order.boot, replace(order, answer_fd=answer_fd).text(), cwd="/", env=environment(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            pass_fds=(answer_fd,), start_new_session=True,
        )  # fmt: skip
    except BaseException:
        os.close(answers)
        raise
    finally:
        os.close(answer_fd)
    return process, answers


async def _read_answer(answers: int, limit_bytes: int) -> tuple[Answer, list[tuple[str, bytes]]]:
    """Raises: IncompleteReadError or DecodeError if the warden was killed while it wrote, or is not what it was."""
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.dup(answers), "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        size_bytes = int.from_bytes(await reader.readexactly(8), "big")
        answer = msgspec.json.decode(await reader.readexactly(min(size_bytes, HEAD_LIMIT_BYTES)), type=Answer)
        if sum(size for _, size in answer.files) > limit_bytes:
            raise msgspec.DecodeError("more files than were asked for")
        return answer, [(name, await reader.readexactly(size)) for name, size in answer.files]
    finally:
        transport.close()


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


async def _end(process: asyncio.subprocess.Process, isolation: Isolation, is_done: bool) -> None:
    """Nothing of the sandbox is left: with namespaces the kernel sees to it, else the warden is asked to and killed."""
    if not is_done:
        _signal(process, signal.SIGTERM if isolation.level in ("landlock", "rlimits") else signal.SIGKILL)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _LAST_WORD_S)
    finally:
        _signal(process, signal.SIGKILL)
        await asyncio.shield(process.wait())


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Not process.send_signal: it takes the exit status away from the event loop, which waits for it.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
