"""An agent whose model needs a key."""

from __future__ import annotations

from actors import Agent, App

app = App("keyless", version="1.0.0")


@app.agent(model="anthropic:claude-haiku-4-5")
async def mute(agent: Agent) -> str:
    """Has nothing to say without a key."""
    return str(await agent.run("hello"))
