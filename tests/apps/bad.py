"""An app whose tools do what a tool must not do; the job ``ask`` calls one of them, and ``order`` is strict."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from typing import Any

import msgspec

from actors import App, Job, Retry, RetryableError, TerminalError, ToolContext
from tests.apps.five import note

app = App("bad", version="1.0.0")
FEW = Retry(attempts=3, backoff_s=0.01)


class Odd(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unusual(BaseException):
    """Neither an Exception nor anything that Python knows."""


def misbehave(mode: str, attempt: int) -> Any:  # noqa: C901 - a list
    """Do what ``mode`` says, at once."""
    match mode:
        case "retryable":
            raise RetryableError("come again", retry_after_s=0.2)
        case "flaky":
            if attempt < 3:
                raise RetryableError(f"attempt {attempt}")
            return attempt
        case "terminal":
            raise TerminalError("never", code="sold_out", details={"left": 0})
        case "unknown":
            raise ValueError("a word")
        case "reset":
            raise ConnectionResetError("by peer")
        case "odd":
            raise Odd
        case "odd_details":
            raise TerminalError("look inside", code="odd", details={"held": object()})
        case "odd_wait":
            raise RetryableError("soon", retry_after_s="a minute")  # type: ignore[arg-type]
        case "surrogate":
            raise ValueError("half a \ud800 character")
        case "exit":
            sys.exit("enough")
        case "interrupt":
            raise KeyboardInterrupt
        case "unusual":
            raise Unusual("hello")
        case "stop_iteration":
            raise StopIteration(5)
        case "cancelled_error":
            raise asyncio.CancelledError
        case "wrong_type":
            return "five"
        case "object":
            return object()
        case "segfault":
            ctypes.string_at(0)
        case "os_exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "print":
            print("a line on stdout")
            print("one on stderr", file=sys.stderr)
            sys.stdout.write("no end of line")
    return 1


@app.tool(retry=FEW, timeout_s=20, breaker=None)
async def act(ctx: ToolContext, mode: str, n: int = 0) -> int:
    """An async tool; counts its attempts on the record."""
    note(f"{ctx.idempotency_key} {ctx.attempt}")
    return misbehave(mode, ctx.attempt)  # type: ignore[no-any-return]


@app.tool(retry=FEW, timeout_s=20, breaker=None)
def act_sync(ctx: ToolContext, mode: str, n: int = 0) -> int:
    """The same in a thread."""
    note(f"{ctx.idempotency_key} {ctx.attempt}")
    return misbehave(mode, ctx.attempt)  # type: ignore[no-any-return]


@app.tool(retry=FEW, breaker=None)
async def plain(ctx: ToolContext, mode: str, n: int = 0) -> Any:
    """Says nothing of what it returns."""
    note(f"{ctx.idempotency_key} {ctx.attempt}")
    return misbehave(mode, ctx.attempt)


@app.tool(retry=Retry(attempts=3, backoff_s=0.01, on=(ConnectionError,)))
async def picky(ctx: ToolContext, mode: str, n: int = 0) -> int:
    """Worth another attempt only where the connection failed."""
    note(f"{ctx.idempotency_key} {ctx.attempt}")
    return misbehave(mode, ctx.attempt)  # type: ignore[no-any-return]


@app.tool(retry=Retry(attempts=2, backoff_s=0.01), timeout_s=0.3)
async def slow(ctx: ToolContext, mode: str, n: int = 0) -> int:
    """Never returns, in one way or another."""
    note(f"{ctx.idempotency_key} {ctx.attempt}")
    while mode == "block":
        time.sleep(0.01)  # noqa: ASYNC251 - on purpose
    while mode != "ok":
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if mode != "swallow":
                raise
    return 1


@app.tool(retry=Retry(attempts=2, backoff_s=0.01), timeout_s=0.3)
def slow_sync(ctx: ToolContext, mode: str, n: int = 0) -> int:
    """Never returns, in a thread."""
    note(f"{ctx.idempotency_key} {ctx.attempt}")
    while mode == "loop" or (mode == "obedient" and not ctx.cancelled):
        time.sleep(0.01)
    return 1


@app.tool(timeout_s=60)
def patient(ctx: ToolContext, mode: str, n: int = 0) -> int:
    """Works in a thread until the job is cancelled, and reports on the way."""
    note(f"{ctx.idempotency_key} began")
    while mode == "wait":
        ctx.check_cancelled()
        ctx.progress(n := n + 1, 1000, "working")
        time.sleep(0.002)
    note(f"{ctx.idempotency_key} ended")
    return 1


@app.tool(timeout_s=60)
async def waiting(ctx: ToolContext, mode: str, n: int = 0) -> int:
    """The same on the loop."""
    note(f"{ctx.idempotency_key} began")
    try:
        if mode == "wait":
            await asyncio.sleep(3600)
    finally:
        note(f"{ctx.idempotency_key} ended")
    return 1


@app.tool(retry=Retry(attempts=1))
async def big(ctx: ToolContext, mode: str, n: int = 0) -> str:
    """Returns a text of ``n`` characters; has one attempt only."""
    note(f"{ctx.idempotency_key} {ctx.attempt}")
    return "x" * n


TOOLS = {tool.name: tool for tool in (act, act_sync, plain, picky, slow, slow_sync, patient, waiting, big)}


@app.job
async def ask(job: Job, tool: str, mode: str, n: int = 0) -> Any:
    """Call one tool."""
    return await job.call(TOOLS[tool], mode=mode, n=n)


@app.job
async def wild(job: Job, mode: str) -> int:
    """A job that itself does what it must not do."""
    return misbehave(mode, 1)  # type: ignore[no-any-return]


class Item(msgspec.Struct):
    sku: str
    qty: int = 1


@app.job
async def order(job: Job, items: list[Item], note: str | None = None) -> int:
    """Takes its input seriously."""
    return sum(item.qty for item in items)
