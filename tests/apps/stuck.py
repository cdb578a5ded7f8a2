"""Tools that stop making progress in every way there is, and one whose process is deaf; short times, for tests."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from actors import App, Job, Limits, Retry, ToolContext
from bus.mailbox import Mailbox
from tests.apps.five import LEDGER, note

app = App("stuck", version="1.0.0")
TWICE = Retry(attempts=2, backoff_s=0.01)
OFTEN = Retry(attempts=9, backoff_s=0.01)
STALL_S = 4.0
MIB = 1024 * 1024


def gate(word: str) -> Path:
    """A file that a test makes to say something to the processes."""
    return Path(f"{os.environ[LEDGER]}.{word}")


async def neighbour(ctx: ToolContext) -> int:
    """A call that shares the process: its first attempt never ends by itself, the next one does at once."""
    while ctx.attempt == 1 and not gate("open").exists():  # noqa: ASYNC110 - a file of the test's
        await asyncio.sleep(0.05)
    return ctx.attempt


@app.tool(retry=OFTEN, timeout_s=0.5)
def spin(ctx: ToolContext, n: int = 0) -> int:
    """An endless loop in a thread."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    while ctx.attempt < 3:
        pass
    return ctx.attempt


@app.tool(retry=TWICE, timeout_s=0.5)
def nap(ctx: ToolContext) -> int:
    """A thread that sleeps for an hour."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    time.sleep(3600)
    return 1


@app.tool(retry=OFTEN, timeout_s=0.5)
async def block(ctx: ToolContext, mode: str = "block") -> int:
    """Blocks the event loop for an hour."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    if mode == "wait":
        return await neighbour(ctx)
    if ctx.attempt < 3:
        time.sleep(3600)  # noqa: ASYNC251 - on purpose
    return ctx.attempt


@app.tool(retry=TWICE, timeout_s=0.5)
async def swallow(ctx: ToolContext) -> int:
    """Takes no cancellation for an answer."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


@app.tool(retry=TWICE, timeout_s=0.5, stall_s=STALL_S)
def hold_gil(ctx: ToolContext, n: int = 64) -> int:
    """C code that keeps the GIL: no thread of this process ever runs again."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    re.match(r"(a|a)+$", "a" * n + "b")
    return 1


@app.tool(retry=TWICE, timeout_s=None, stall_s=STALL_S)
async def freeze(ctx: ToolContext) -> int:
    """Blocks the event loop for an hour, and may take as long as it likes."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    time.sleep(3600)  # noqa: ASYNC251 - on purpose
    return 1


@app.tool(retry=OFTEN, timeout_s=60, stall_s=STALL_S)
async def beside(ctx: ToolContext, mode: str) -> int:
    """Keeps the GIL, or waits beside a call that does."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    if mode == "wait":
        return await neighbour(ctx)
    if ctx.attempt < 2:
        re.match(r"(a|a)+$", "a" * 64 + "b")
    return ctx.attempt


@app.tool(retry=OFTEN, timeout_s=None, stall_s=STALL_S)
async def patient(ctx: ToolContext) -> int:
    """Takes its time, awaiting."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    while not gate("open").exists():  # noqa: ASYNC110 - a file of the test's
        await asyncio.sleep(0.05)
    return ctx.attempt


@app.tool(retry=OFTEN, timeout_s=None, stall_s=STALL_S)
def patient_sync(ctx: ToolContext) -> int:
    """Takes its time in a thread."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    while not gate("open").exists():
        time.sleep(0.05)
    return ctx.attempt


# ---- limits


@app.tool(retry=TWICE, limits=Limits(memory_bytes=250 * MIB))
async def greedy(ctx: ToolContext, where: str, mib: int) -> int:
    """Takes memory, here or in a process that it starts, and keeps it for a minute."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    if where == "here":
        held = [bytearray(b"x" * MIB) for _ in range(mib)]
        await asyncio.sleep(60 if mib > 100 else 0)
        return len(held)
    code = f"x = bytearray(b'x' * {mib * MIB}); import time; time.sleep({60 if mib > 100 else 0})"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=subprocess.DEVNULL, start_new_session=where == "in a session of its own"
    )
    gate("pids").open("a").write(f"{process.pid}\n")
    return await process.wait()


@app.tool(retry=TWICE, timeout_s=60, limits=Limits(cpu_s=2.5, cpu_window_s=30))
def burn(ctx: ToolContext, n: int = 1) -> int:
    """Uses CPU time without an end."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    while n:
        n += 1
    return n


# ---- deafness

_pull = Mailbox._pull


async def _deaf_pull(self: Mailbox, batch: int) -> None:
    """Believe to have asked, in the one process that is named on the marker."""
    marker = gate("deaf")
    if self.consumer == "tool-listen-v1" and marker.exists() and marker.read_text() in ("", str(os.getpid())):
        marker.write_text(str(os.getpid()))
        publish, self.bus.publish = self.bus.publish, _nothing  # type: ignore[method-assign]
        try:
            await _pull(self, batch)
        finally:
            self.bus.publish = publish  # type: ignore[method-assign]
    else:
        await _pull(self, batch)


async def _nothing(*args: Any, **kwargs: Any) -> None:
    """Publish nothing."""


if LEDGER in os.environ:  # in an actor's process, and not in one that only looks at the app
    Mailbox._pull = _deaf_pull  # type: ignore[method-assign]


@app.tool(retry=OFTEN, stall_s=STALL_S)
async def listen(ctx: ToolContext) -> int:
    """Answers, where its process is not deaf."""
    note(f"{ctx.idempotency_key} {ctx.attempt} {os.getpid()}")
    return ctx.attempt


TOOLS = {tool.name: tool for tool in app.components}


@app.job
async def ask(job: Job, tool: str, arguments: dict[str, Any]) -> Any:
    """Call one tool."""
    return await job.call(TOOLS[tool], **arguments)


@app.job
async def hog(job: Job, n: int) -> int:
    """A job whose own code blocks its host, the first time that it comes to that."""
    value = await job.call(listen)
    marker = gate("hogged")
    if n == 0 and not marker.exists():
        marker.touch()
        while True:
            pass
    await job.wait_for("go")
    return value + n
