"""Jobs for the tests of the job core; the tools write to the ledger, and some wait for a gate that the test opens."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from actors import App, Job, Retry, ToolContext
from tests.apps.five import LEDGER, note

app = App("core", version="1.0.0")


@app.tool(retry=Retry(attempts=4, backoff_s=0.05))
async def step(ctx: ToolContext, n: int) -> int:
    """Add one, on the record."""
    note(ctx.idempotency_key)
    return n + 1


@app.tool(timeout_s=60, concurrency=100)
async def gate(ctx: ToolContext) -> int:
    """Wait until the test opens the gate."""
    note(ctx.idempotency_key)
    while not Path(os.environ[LEDGER] + ".open").exists():  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.02)
    return 1


@app.job
async def held(job: Job, start: int) -> int:
    """A step, a slow tool, a step."""
    value = await job.call(step, n=start)
    value += await job.call(gate)
    return await job.call(step, n=value)


@app.job
async def waiter(job: Job, name: str) -> str:
    """Wait for a signal between two steps."""
    value = await job.call(step, n=0)
    data = await job.wait_for(name)
    value = await job.call(step, n=value)
    return f"{value} {data}"


@app.job
async def pair(job: Job, start: int) -> int:
    """A parent of one child with steps of its own."""
    value = await job.call(step, n=start)
    return value + await job.call(single, n=value)


@app.job
async def single(job: Job, n: int) -> int:
    """One step."""
    return await job.call(step, n=n)
