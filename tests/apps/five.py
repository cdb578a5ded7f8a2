"""A job of five steps whose tool writes each effect to a ledger outside, so that a test can count what really ran."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from actors import App, Job, Retry, ToolContext

app = App("five", version="1.0.0")
LEDGER = "CALLBOARD_TEST_LEDGER"


def note(line: str) -> None:
    """One atomic append."""
    fd = os.open(Path(os.environ[LEDGER]), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


@app.tool(retry=Retry(attempts=4, backoff_s=0.05))
async def step(ctx: ToolContext, n: int) -> int:
    """Add one, on the record. While there is a file ``<ledger>.closed`` a job's last step waits."""
    note(ctx.idempotency_key)
    while ctx.idempotency_key.endswith("/step:5") and Path(f"{os.environ[LEDGER]}.closed").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return n + 1


@app.job
async def five(job: Job, start: int) -> int:
    """Five steps: two in a row, a local value, two side by side, and a last one."""
    value = await job.call(step, n=start)
    value = await job.call(step, n=value)
    base = await job.local(lambda: 100)
    left, right = await job.gather(job.call(step, n=base), job.call(step, n=base + 10))
    return await job.call(step, n=value + left + right)


@app.job
async def waiter(job: Job, name: str) -> str:
    """Wait for a signal and say what came."""
    first = await job.call(step, n=1)
    data = await job.wait_for(name)
    return f"{first} {data}"


@app.job
async def sleeper(job: Job, seconds: float) -> int:
    """Sleep between two steps."""
    value = await job.call(step, n=1)
    await job.sleep(seconds)
    return await job.call(step, n=value)


@app.job
async def family(job: Job, start: int) -> int:
    """A parent with a child job."""
    child = await job.start(five, start=start)
    value = await job.call(step, n=0)
    return value + await child.result()
