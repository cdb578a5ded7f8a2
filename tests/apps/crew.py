"""An app for tests of supervision: groups with strategies, a tool that can be made to fail at its start, slow calls.

Files beside the ledger are the switches: ``<ledger>.exit`` ends the process of ``moody`` as it starts,
``<ledger>.wrong`` makes its configuration wrong, ``<ledger>.open`` opens the gate.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from actors import App, Group, Job, Retry, ToolContext
from bus.errors import UsageError
from tests.apps.five import LEDGER, note

app = App(
    "crew",
    version="1.0.0",
    groups={
        "line": Group("rest_for_one"),
        "ring": Group("one_for_all"),
        "moods": Group(max_restarts=1, period_s=600),
    },
)


def switch(name: str) -> bool:
    """Whether the test has put this file there."""
    return Path(f"{os.environ.get(LEDGER, '/nonexistent')}.{name}").exists()


if "tool" in sys.argv and "moody" in sys.argv:
    if switch("exit"):
        os._exit(3)  # any exception would be reported as a wrong configuration
    if switch("wrong"):
        raise UsageError("moody has no key", code="no_key", hint="set KEY")


@app.tool(group="line")
async def first(n: int) -> int:
    """The first of the line."""
    return n


@app.tool(group="line")
async def second(n: int) -> int:
    """The second of the line."""
    return n


@app.tool(group="line")
async def third(n: int) -> int:
    """The third of the line."""
    return n


@app.tool(group="ring", replicas=2)
async def round_(n: int) -> int:
    """One of a ring."""
    return n


@app.tool(group="moods")
async def moody(n: int) -> int:
    """Starts or not."""
    return n


@app.tool(retry=Retry(attempts=4, backoff_s=0.05), concurrency=4)
async def quick(ctx: ToolContext, n: int) -> int:
    """Add one, on the record."""
    note(f"{ctx.idempotency_key} quick")
    return n + 1


@app.tool(retry=Retry(attempts=4, backoff_s=0.05), concurrency=20, timeout_s=120)
async def slow(ctx: ToolContext, n: int, seconds: float = 0.5) -> int:
    """Add one, on the record, after a while."""
    await asyncio.sleep(seconds)
    note(f"{ctx.idempotency_key} slow")
    return n + 1


@app.tool(concurrency=20, timeout_s=120)
async def gate(ctx: ToolContext) -> str:
    """Wait until the test opens the gate; says in which process."""
    note(f"{ctx.idempotency_key} begun")
    while not switch("open"):  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.02)
    note(f"{ctx.idempotency_key} ended")
    return str(os.getpid())


@app.job
async def ride(job: Job, n: int) -> int:
    """Quick and slow steps, in a row and side by side."""
    value = await job.call(quick, n=n)
    left, right = await job.gather(job.call(slow, n=value, seconds=0.3), job.call(slow, n=value, seconds=0.6))
    value = await job.call(quick, n=left + right)
    return await job.call(slow, n=value, seconds=0.4)


@app.job
async def wait_at_gate(job: Job) -> str:
    """One call that ends when the gate is opened."""
    return await job.call(gate)
