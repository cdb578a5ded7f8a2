"""The tools that documents and functions call while their hosts are killed.

They tell what they did to ``effects``, outside of everything that is killed: one line for each attempt.
"""

from __future__ import annotations

from actors import App, Retry, ToolContext
from bus.failure import TerminalError

effects: list[str] = []
app = App("players", version="1.0.0")


@app.tool
async def work(ctx: ToolContext, n: int) -> int:
    """One more."""
    effects.append(ctx.idempotency_key)
    return n + 1


@app.tool
async def tick(ctx: ToolContext) -> int:
    """How often its step has come by."""
    effects.append(ctx.idempotency_key)
    return int(ctx.call.rpartition(":")[2])


@app.tool(retry=Retry(attempts=1))
async def broken(ctx: ToolContext, n: int = 0) -> int:  # noqa: ARG001
    """Fails for good."""
    effects.append(ctx.idempotency_key)
    raise TerminalError("it is broken", code="broken")


@app.tool(breaker=None)
async def shaky(ctx: ToolContext, n: int) -> int:
    """Fails the first time."""
    effects.append(ctx.idempotency_key)
    if ctx.attempt == 1:
        raise RuntimeError("shaken")
    return n + 1


@app.tool(retry=Retry(attempts=1))
async def mended(ctx: ToolContext) -> str:
    """Fails for good until its job is retried."""
    effects.append(ctx.idempotency_key)
    if effects.count(ctx.idempotency_key) == 1:
        raise TerminalError("not mended", code="broken")
    return "mended"


@app.tool
async def undo(ctx: ToolContext, what: str | int) -> None:  # noqa: ARG001
    """Undoes something."""
    effects.append(ctx.idempotency_key)
