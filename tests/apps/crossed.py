"""The jobs of ``five``, each of which arms the crash point that the test has put into a file of the job's name.

So one server and one set of processes go through many crash points, one job after the other.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from actors import App, Job, Retry, ToolContext
from bus.crash import arm
from tests.apps.five import note

app = App("crossed", version="1.0.0")
POINTS = "CALLBOARD_TEST_POINTS"

_armed: set[str] = set()


def arm_for(job: str, side: str | tuple[str, ...]) -> None:
    """Arm what is meant for this job, if it is a point of this process, and once in its life."""
    spec = Path(os.environ.get(POINTS, "/nonexistent")) / job
    if job not in _armed and spec.exists() and spec.read_text().startswith(side):
        _armed.add(job)
        arm(spec.read_text())


@app.tool
async def step(ctx: ToolContext, n: int) -> int:
    """Add one, on the record."""
    arm_for(ctx.job, "tool.")
    note(ctx.idempotency_key)
    return n + 1


@app.tool(retry=Retry(attempts=2))
async def anvil(ctx: ToolContext) -> str:
    """Takes its process down until it is repaired."""
    note(ctx.idempotency_key)
    if not (Path(os.environ[POINTS]) / "repaired").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "repaired"


@app.job
async def deadly(job: Job, start: int) -> str:
    """A step, and a call that is a poison one."""
    await job.call(step, n=start)
    return await job.call(anvil)


@app.job
async def five(job: Job, start: int) -> int:
    """Five steps: two in a row, a local value, two side by side, and a last one."""
    arm_for(job.id, "host.")
    value = await job.call(step, n=start)
    value = await job.call(step, n=value)
    base = await job.local(lambda: 100)
    left, right = await job.gather(job.call(step, n=base), job.call(step, n=base + 10))
    return await job.call(step, n=value + left + right)


@app.job
async def parent(job: Job, start: int) -> int:
    """A step beside a child job of one step."""
    arm_for(job.id, "host.")
    started = await job.start(child, start=start)
    value = await job.call(step, n=0)
    return value + await started.result()


@app.job
async def child(job: Job, start: int) -> int:
    """One step."""
    return await job.call(step, n=start)


@app.job
async def waiter(job: Job, start: int) -> int:
    """A step, a wait that is long enough to be parked, and another step."""
    arm_for(job.id, "host.")
    value = await job.call(step, n=start)
    await job.sleep(0.6)
    return await job.call(step, n=value)


# A point that is passed without any of the above: the process that is started after a death arms it.
arm_for("at-start", "dead.")
