"""The app under chaos. Its tools put every effect on the ledger; its jobs are one of each kind that there is."""

from __future__ import annotations

import asyncio
import os
import signal

from actors import App, Group, Job, Retry, ToolContext
from bench.chaos.ledger import entered
from bus.failure import RetryableError, TerminalError

# A process may be killed under a call any number of times: that must not fail the call. And no group is given up for
# what is done to it here.
STUBBORN = Retry(attempts=50, backoff_s=0.1, max_wait_s=1.0)
# A tool that fails on purpose has no circuit, which would open and hold its jobs back for minutes: rightly.
app = App("chaos", version="1.0.0", groups={"tools": Group(max_restarts=10_000), "hosts": Group(max_restarts=10_000)})

FAILS = 2


@app.tool(retry=STUBBORN, group="tools", replicas=2)
async def add(ctx: ToolContext, n: int) -> int:
    """Add one."""
    with entered(ctx):
        await asyncio.sleep(0.01)
        return n + 1


@app.tool(retry=STUBBORN, group="tools")
async def slow(ctx: ToolContext, n: int, seconds: float) -> int:
    """Take some seconds over it."""
    with entered(ctx):
        await asyncio.sleep(seconds)
        return n + 1


@app.tool(retry=STUBBORN, group="tools", breaker=None)
def flaky(ctx: ToolContext, n: int) -> int:
    """Fail twice, then work."""
    with entered(ctx):
        if ctx.attempt <= FAILS:
            raise RetryableError(f"attempt {ctx.attempt} of {n} fails on purpose")
        return n * 2


@app.tool(retry=STUBBORN, group="tools", breaker=None)
async def doomed(ctx: ToolContext, n: int) -> int:
    """Fail for good."""
    with entered(ctx):
        raise TerminalError(f"{n} fails for good on purpose", code="doomed")


@app.tool(retry=STUBBORN, group="tools", breaker=None)
async def deadly(ctx: ToolContext, n: int) -> int:
    """Kill its own process at the first attempt, as a bug in a C extension would."""
    with entered(ctx) as entry:
        if ctx.attempt == 1:
            entry.end("died")
            os.kill(os.getpid(), signal.SIGKILL)
        return n + 3


# ---- jobs


@app.job(group="hosts")
async def one(job: Job, n: int) -> int:
    """One step."""
    return await job.call(add, n=n)


@app.job(group="hosts")
async def fan(job: Job, n: int, width: int) -> int:
    """Several calls side by side."""
    return sum(await job.gather(*(job.call(add, n=n + i) for i in range(width))))


@app.job(group="hosts")
async def long(job: Job, n: int, seconds: float) -> int:
    """A few slow calls, with sleeps between them."""
    for _ in range(2):
        n = await job.call(slow, n=n, seconds=seconds)
        await job.sleep(seconds / 2)
    return await job.call(add, n=n)


@app.job(group="hosts")
async def stumbling(job: Job, n: int) -> int:
    """A call that fails twice and then works."""
    return await job.call(flaky, n=n)


@app.job(group="hosts")
async def failing(job: Job, n: int) -> int:
    """A call that fails for good, and the job with it."""
    return await job.call(doomed, n=n)


@app.job(group="hosts")
async def waiting(job: Job, n: int) -> int:
    """A step, a wait for somebody's word, for which the job may park, and another step."""
    n = await job.call(add, n=n)
    given = int(await job.wait_for("go"))
    return await job.call(add, n=n + given)


@app.job(group="hosts")
async def family(job: Job, n: int) -> int:
    """Two child jobs side by side."""
    children = await job.gather(job.start(one, n=n), job.start(fan, n=n, width=3))
    results = await job.gather(*(child.result() for child in children))
    return sum(results)


@app.job(group="hosts")
async def killing(job: Job, n: int) -> int:
    """A call that takes its process down, and a value that is no call."""
    base = await job.local(lambda: n)
    return await job.call(deadly, n=base)
