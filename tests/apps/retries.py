"""Tools that fail in each of the ways a retry policy knows; each attempt notes when it began."""

from __future__ import annotations

import time

from actors import App, Job, Retry, RetryableError, TerminalError, ToolContext
from tests.apps.five import note

app = App("retries", version="1.0.0")
STEADY = Retry(attempts=4, backoff_s=1.5, factor=1.5, jitter=False)
QUICK = Retry(attempts=4, backoff_s=0.05, jitter=False)
ASKED_S = 1.2


def begin(ctx: ToolContext) -> None:
    """Note the attempt and the instant at which it began."""
    note(f"{ctx.job} {ctx.attempt} {time.time()}")


@app.tool(retry=STEADY)
async def flaky(ctx: ToolContext, fails: int) -> int:
    """Succeed after ``fails`` attempts."""
    begin(ctx)
    if ctx.attempt <= fails:
        raise RetryableError(f"attempt {ctx.attempt} fails")
    return ctx.attempt


@app.tool(retry=Retry(attempts=2, backoff_s=4.0, jitter=False))
async def patient(ctx: ToolContext) -> int:
    """The second attempt comes so late that a process which is started meanwhile is there before."""
    begin(ctx)
    if ctx.attempt == 1:
        raise RetryableError("not yet")
    return ctx.attempt


@app.tool(retry=QUICK)
async def throttled(ctx: ToolContext) -> int:
    """The other side says when to come again."""
    begin(ctx)
    if ctx.attempt == 1:
        raise RetryableError("too many requests", retry_after_s=ASKED_S)
    return ctx.attempt


@app.tool(retry=QUICK)
async def hopeless(ctx: ToolContext) -> int:
    """No attempt can help."""
    begin(ctx)
    raise TerminalError("sold out", code="sold_out")


@app.tool
async def unknown(ctx: ToolContext) -> int:
    """An error of which nobody said whether to try again."""
    begin(ctx)
    raise ValueError("no such thing")


@app.job
async def ask(job: Job, tool: str, fails: int = 0, attempts: int = 0) -> int:
    """One call, with a policy of the caller's own if ``attempts`` says so."""
    caller = job.options(retry=Retry(attempts=attempts, backoff_s=0.1, jitter=False)) if attempts else job
    arguments = {"fails": fails} if tool == "flaky" else {}
    return int(await caller.call(tool, **arguments))
