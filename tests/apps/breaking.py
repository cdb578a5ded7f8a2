"""Tools that work or fail as the test says, by a file; each attempt is on the record with what became of it.

A line of the ledger is ``<job>/<call> <pid> began|broken|ok``. While ``<ledger>.broken`` exists the tools raise; two of
them wait until ``<ledger>.open`` exists.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from actors import App, Breaker, CallFailed, CircuitOpen, Job, Retry, ToolContext
from tests.apps.five import LEDGER, note

app = App("breaking", version="1.0.0")
QUICK = Breaker(min_calls=4, open_s=1.0, max_open_s=2.0)
TOGETHER = Breaker(min_calls=6, open_s=1.0)
BILLING = Breaker(min_calls=4, open_s=1.0)
ONCE = Retry(attempts=1)
OFTEN = Retry(attempts=500, backoff_s=0.05, max_wait_s=0.5)


def is_there(what: str) -> bool:
    """Whether the test has made that file beside the ledger."""
    return Path(f"{os.environ[LEDGER]}.{what}").exists()


def work(ctx: ToolContext) -> int:
    """On the record; raises while it is broken."""
    broken = is_there("broken")
    note(f"{ctx.idempotency_key} {os.getpid()} {'broken' if broken else 'ok'}")
    if broken:
        raise ConnectionError("the far side is broken")
    return ctx.attempt


async def held(what: str) -> None:
    """Wait for the test."""
    while not is_there(what):  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.02)


@app.tool(retry=OFTEN, breaker=QUICK)
async def shaky(ctx: ToolContext) -> int:
    """Its calls wait while it is broken."""
    return work(ctx)


@app.tool(retry=ONCE, breaker=TOGETHER, concurrency=3)
async def pair(ctx: ToolContext) -> int:
    """Six calls at once, three in each of two processes."""
    note(f"{ctx.idempotency_key} {os.getpid()} began")
    await held("open")
    return work(ctx)


@app.tool(retry=OFTEN, breaker=QUICK)
async def slow_probe(ctx: ToolContext) -> int:
    """Its call takes as long as the test wants."""
    note(f"{ctx.idempotency_key} {os.getpid()} began")
    await held("open")
    return work(ctx)


@app.tool(retry=OFTEN, breaker=None)
def bill(ctx: ToolContext) -> int:
    """Uses the dependency in a thread."""
    with ctx.dependency("billing-api", BILLING):
        return work(ctx)


@app.tool(retry=OFTEN, breaker=None)
async def refund(ctx: ToolContext) -> int:
    """Uses it on the loop, and waits for its leave."""
    async with ctx.dependency("billing-api", BILLING):
        return work(ctx)


@app.tool(retry=OFTEN, breaker=None)
async def invoice(ctx: ToolContext) -> int:
    """Uses it on the loop, and does not wait."""
    try:
        with ctx.dependency("billing-api", BILLING):
            return work(ctx)
    except CircuitOpen as error:
        note(f"{ctx.idempotency_key} {os.getpid()} refused {error.breaker}")
        raise


TOOLS = {tool.name: tool for tool in (shaky, pair, slow_probe, bill, refund, invoice)}


@app.job
async def ask(job: Job, tool: str) -> int:
    """One call that waits."""
    return await job.call(TOOLS[tool])


@app.job
async def hurry(job: Job, tool: str) -> list[str]:
    """A call that does not wait, a signal, and one more."""
    said = [await impatient(job, tool)]
    await job.wait_for("go")
    return [*said, await impatient(job, tool)]


async def impatient(job: Job, tool: str) -> str:
    """What becomes of a call that does not wait."""
    try:
        return f"got {await job.options(on_open='fail').call(TOOLS[tool])}"
    except CallFailed as error:
        failure, details = error.failure, error.failure.details or {}
        return f"{failure.code} {failure.retryable} {(failure.retry_after_s or 0) > 0} {details['breaker']}"


@app.job
async def strict(job: Job, tool: str) -> int:
    """A call that does not wait, and nothing to catch what that brings."""
    return await job.options(on_open="fail").call(TOOLS[tool])
