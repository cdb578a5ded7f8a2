"""Jobs that share one lock. A job arms the crash point that the test has put into a file of the job's name."""

from __future__ import annotations

from actors import App, Job, ToolContext
from tests.apps.crossed import arm_for
from tests.apps.five import note

app = App("locked", version="1.0.0")


@app.tool
async def step(ctx: ToolContext, what: str) -> str:
    """One line in the ledger."""
    note(f"{ctx.job} {what}")
    return what


@app.job
async def section(job: Job, lock: str) -> int:
    """In and out, one job at a time."""
    arm_for(job.id, "lock.")
    async with job.lock(lock) as lease:
        await job.call(step, what="in")
        await job.sleep(0.2)
        await job.call(step, what="out")
    return lease.token


@app.job
async def stuck(job: Job, lock: str) -> None:
    """In, and never out."""
    arm_for(job.id, "host.")
    async with job.lock(lock):
        await job.call(step, what="in")
        await job.wait_for("never")
