"""The job that ``bench.parked`` parks by the thousand."""

from __future__ import annotations

from actors import App, Job

app = App("parked", version="1.0.0")


@app.job
async def approval(job: Job, n: int) -> int:
    """Wait for a yes for as long as it takes."""
    await job.wait_for("approve")
    return n
