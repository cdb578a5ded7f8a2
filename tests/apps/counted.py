"""The smallest job there is: one call of one tool. Both have every policy that is on by default."""

from __future__ import annotations

from actors import App, Job

app = App("counted", version="1.0.0")


@app.tool
async def plus(n: int) -> int:
    """Add one."""
    return n + 1


@app.job
async def one(job: Job, n: int) -> int:
    """One call."""
    return await job.call(plus, n=n)
