"""Tools that are called from the shell and by MCP clients: typed input, files, failures."""

from __future__ import annotations

import asyncio

import msgspec

from actors import Agent, App, Artifact, Job, RetryableError, TerminalError, ToolContext
from actors.testing import ScriptedModel, say, use

app = App("calls", version="2.1.0")


class Table(msgspec.Struct):
    """Rows under columns."""

    columns: list[str]
    rows: list[list[int]]


class Report(msgspec.Struct):
    """A text and the file that belongs to it."""

    text: str
    files: list[Artifact] = []


@app.tool(read_only=True)
async def squares(count: int) -> Table:
    """The first square numbers.

    count: how many.
    """
    if count > 100:
        raise TerminalError("100 at most", code="too_many")
    return Table(["n", "square"], [[n, n * n] for n in range(count)])


@app.tool
async def report(ctx: ToolContext, title: str) -> Report:
    """Write a report."""
    ctx.progress(1, 2, "writing")
    return Report(f"# {title}\nready", [await ctx.artifact("report.md", title.encode())])


@app.tool(timeout_s=30)
async def dawdle(seconds: float) -> str:
    """Take long."""
    await asyncio.sleep(seconds)
    return "done"


@app.tool
async def busy() -> str:
    """Never has time."""
    raise RetryableError("come back later", code="busy")


@app.job
async def sum_up(job: Job, count: int) -> int:
    """Add up the first square numbers."""
    return sum(row[1] for row in (await job.call(squares, count=count)).rows)


@app.agent(model=ScriptedModel([use("squares", {"count": 3}), say("The last is 4.")]), tools=[squares])
async def reckoner(agent: Agent, question: str) -> str:
    """Answer questions about square numbers."""
    return await agent.run(question)


@app.job
async def wait_long(job: Job) -> str:
    """Wait for what never comes."""
    await job.sleep(3600)
    return "never"
