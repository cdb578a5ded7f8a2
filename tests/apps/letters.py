"""An app whose tool takes its process down until a marker file says that it was mended; steps go to the ledger."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from actors import App, Job, Retry, TerminalError, ToolContext
from bus.failure import CallFailed
from tests.apps.five import LEDGER, note

app = App("letters", version="1.0.0")


def mended(what: str) -> bool:
    """Whether the test has mended it."""
    return Path(f"{os.environ[LEDGER]}.{what}").exists()


@app.tool(retry=Retry(attempts=4, backoff_s=0.05))
async def step(ctx: ToolContext, n: int) -> int:
    """Add one, on the record."""
    note(ctx.idempotency_key)
    return n + 1


@app.tool(retry=Retry(attempts=2, backoff_s=0.01), timeout_s=30)
async def deadly(ctx: ToolContext, n: int) -> int:
    """Kill the process that serves it, until it is mended."""
    if n >= 0 and not mended("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    note(ctx.idempotency_key)
    return n + 1


@app.tool(retry=Retry(attempts=9, backoff_s=0.01), timeout_s=60, concurrency=4)
async def gate(ctx: ToolContext, n: int) -> int:
    """Wait until the test opens the gate."""
    note(f"{ctx.idempotency_key} began")
    while not mended("gate"):  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.02)
    note(ctx.idempotency_key)
    return n + 1


@app.tool(retry=Retry(attempts=1))
async def broken(ctx: ToolContext, n: int) -> int:
    """Fail for good, until it is mended; 77 waits for a word from the test first."""
    while n == 77 and not mended("go"):  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.02)
    if not mended("broken"):
        raise TerminalError(f"broken at {n}", code="broken")
    note(ctx.idempotency_key)
    return n + 1


@app.job
async def fragile(job: Job, start: int) -> int:
    """A step, the deadly tool, a step."""
    value = await job.call(step, n=start)
    value = await job.call(deadly, n=value)
    return await job.call(step, n=value)


@app.job
async def brittle(job: Job, start: int) -> int:
    """A step, a local value, the broken tool, a step."""
    value = await job.call(step, n=start)
    value += await job.local(lambda: 10)
    value = await job.call(broken, n=value)
    return await job.call(step, n=value)


@app.job
async def beside(job: Job, n: int) -> list[int]:
    """Branches that fail beside ones that do not."""
    return list(await job.gather(job.call(step, n=n), job.call(broken, n=n), job.call(broken, n=n + 1)))


@app.job
async def with_gate(job: Job, n: int) -> list[int]:
    """A branch that fails while another one is still at work."""
    return list(await job.gather(job.call(gate, n=n), job.call(broken, n=n)))


def fragile_thing() -> int:
    """A local function that raises until it is mended."""
    if not mended("local"):
        raise ValueError("not mended")
    return 5


@app.job
async def locally(job: Job, n: int) -> int:
    """A step, and a local function that fails."""
    value = await job.call(step, n=n)
    return value + await job.local(fragile_thing)


@app.job
async def caught(job: Job, n: int) -> Any:
    """The first failure is caught, the second is not."""
    try:
        await job.call(broken, n=n)
    except CallFailed:
        await job.call(step, n=n)
    return await job.call(broken, n=n + 1)


@app.job
async def parent(job: Job, start: int) -> int:
    """A step, a child that fails, a step."""
    value = await job.call(step, n=start)
    value = await job.call(brittle, start=value)
    return await job.call(step, n=value)


@app.job(timeout_s=2.0)
async def hurried(job: Job, name: str) -> Any:
    """Wait for a signal, but not for long."""
    value = await job.call(step, n=1)
    return [value, await job.wait_for(name)]


@app.job
async def wild(job: Job, n: int) -> int:
    """A job that takes its host down, until it is mended."""
    value = await job.call(step, n=n)
    if not mended("wild"):
        os.kill(os.getpid(), signal.SIGKILL)
    return await job.call(step, n=value)
