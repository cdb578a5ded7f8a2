"""Ten actors with nothing to do: eight tools, a job host and the gateway."""

from __future__ import annotations

from actors import App, Job

app = App("idle", version="1.0.0")


async def _echo(n: int) -> int:
    """Give back what came."""
    return n


for _number in range(8):
    app.tool(name=f"echo{_number}")(_echo)


@app.job
async def nothing(job: Job) -> str:
    """Do nothing."""
    return job.id
