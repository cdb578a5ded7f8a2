"""A parent and a child whose calls wait until the test lets them through: for what happens to calls in flight."""

from __future__ import annotations

import os
from pathlib import Path

from actors import App, Job, ToolContext
from tests.apps.five import LEDGER, note
from tests.waiting import wait_until

app = App("held", version="1.0.0")
OPEN = "open"


@app.tool
async def gated(ctx: ToolContext, n: int) -> int:
    """Add one, on the record, once the test has made the file ``open`` beside the ledger."""
    note(ctx.idempotency_key)
    await wait_until(Path(os.environ[LEDGER]).with_name(OPEN).exists, 50)
    return n + 1


@app.job
async def pair(job: Job, start: int) -> int:
    """Two calls in a row."""
    return await job.call(gated, n=await job.call(gated, n=start))


@app.job
async def family(job: Job, start: int) -> list[int]:
    """A child, and beside it a branch of two calls."""
    child = await job.start(pair, start=start)

    async def own() -> int:
        return await job.call(gated, n=await job.call(gated, n=start))

    return list(await job.gather(own(), child.result()))
