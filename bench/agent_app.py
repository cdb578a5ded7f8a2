"""Ten calls of a tool twice: by a function, and by an agent whose model asks for them one by one."""

from __future__ import annotations

import msgspec

from actors import Agent, App, Job
from actors.model.message import ToolResult
from actors.model.model import ModelRequest
from actors.model.scripted import Say, ScriptedModel, say, turns_played, use
from bench.floor.contract import price

TURNS = 10

app = App("bench", version="1.0.0")


@app.tool(concurrency=256)
async def quote(sku: str, qty: int) -> int:
    """Price one line."""
    return price(sku, qty).total


def _script(request: ModelRequest) -> Say:
    """What to ask for next is told by what was said so far."""
    turn = turns_played(request)
    given = msgspec.json.decode(request.messages[0].text)
    if turn < TURNS:
        return use("quote", {"sku": given["sku"], "qty": given["qty"] + turn})
    results = [part for message in request.messages for part in message.parts if isinstance(part, ToolResult)]
    return say(sum(int(result.content) for result in results))


@app.job
async def by_code(job: Job, sku: str, qty: int) -> int:
    """Ten quotes, one after the other."""
    return sum([await job.call(quote, sku=sku, qty=qty + turn) for turn in range(TURNS)])


@app.agent(model=ScriptedModel(_script), tools=[quote], instructions="Add up the quotes.")
async def by_agent(agent: Agent, sku: str, qty: int) -> int:
    """Ten turns with a quote each, and an answer."""
    return int(await agent.run(msgspec.json.encode({"sku": sku, "qty": qty}).decode(), output=str))
