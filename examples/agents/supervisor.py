"""Supervisor and workers: one agent has others as its tools, asks them side by side, and answers from what they say.

    callboard up examples.agents.supervisor:app
    callboard submit foreman question='What does a new roof cost?' --wait

The workers draw on the budget of the one who asks them.
"""

from __future__ import annotations

import os

from actors import Agent, App, Budget
from actors.model.message import ToolResult
from actors.model.model import ModelRequest
from actors.model.scripted import Say
from actors.testing import ScriptedModel, say, use

PRICES = {"tiles": 38.5, "timber": 21.0}


def play(request: ModelRequest) -> Say:
    """The foreman asks both workers at once; each looks one thing up."""
    results = [part.content for part in request.messages[-1].parts if isinstance(part, ToolResult)]
    if request.system.startswith("You lead"):
        if not results:
            return use("roofer", {"task": "Price of tiles?"}, "carpenter", {"task": "Price of timber?"})
        return say(f"Roofer: {results[0]} Carpenter: {results[1]}")
    if not results:
        return use("price", {"article": "tiles" if "tiles" in request.messages[0].text else "timber"})
    return say(f"It is {results[0]} for a square metre.")


MODEL = os.environ.get("TEAM_MODEL") or ScriptedModel(play)
app = App("building", version="1.0.0")


@app.tool(read_only=True)
def price(article: str) -> float:
    """The price of a square metre of an article (tiles, timber), in euros."""
    return PRICES[article]


@app.agent(model=MODEL, tools=[price])
async def roofer(agent: Agent, task: str) -> str:
    """You know roofs. Look prices up."""
    return await agent.run(task, output=str)


@app.agent(model=MODEL, tools=[price])
async def carpenter(agent: Agent, task: str) -> str:
    """You know timber. Look prices up."""
    return await agent.run(task, output=str)


@app.agent(model=MODEL, tools=[roofer, carpenter], budget=Budget(usd=1.0, turns=20))
async def foreman(agent: Agent, question: str) -> str:
    """You lead a building site. Ask those who know, several at once if you can, then answer."""
    return await agent.run(question, output=str)
