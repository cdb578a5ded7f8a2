"""An agent that asks Claude, at the address in the environment, with crash points armed as for ``crossed``."""

from __future__ import annotations

from actors import Agent, App, ToolContext
from tests.apps.crossed import arm_for
from tests.apps.five import note

app = App("claude", version="1.0.0")


@app.tool
async def step(ctx: ToolContext, n: int) -> int:
    """Add one, on the record."""
    note(f"{ctx.job}:{n}")
    return n + 1


@app.agent(model="anthropic:claude-haiku-4-5", tools=[step], instructions="Work.", thinking_tokens=1024)
async def think(agent: Agent) -> str:
    """Two steps side by side, one more, and an answer."""
    arm_for(agent.id, "host.")
    return await agent.run(agent.id)
