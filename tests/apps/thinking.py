"""An agent whose host's crash point is armed as for ``crossed``; calls of its model and of its tool are counted."""

from __future__ import annotations

from actors import Agent, App, Budget, Job, ToolContext
from actors.agents.declaring import AgentComponent
from actors.model.model import ModelRequest
from actors.model.scripted import Say, turns_played
from actors.testing import ScriptedModel, say, use
from tests.apps.crossed import arm_for
from tests.apps.five import note

app = App("thinking", version="1.0.0")


@app.tool
async def step(ctx: ToolContext, n: int) -> int:
    """Add one, on the record."""
    note(ctx.idempotency_key)
    return n + 1


def _script(request: ModelRequest) -> Say:
    turn = turns_played(request)
    note(f"{request.messages[0].text}/model:{turn + 1}")
    return [use("step", {"n": 1}, "step", {"n": 10}), use("step", {"n": 100}), say("done")][turn]


@app.agent(model=ScriptedModel(_script), tools=[step], instructions="Work.", budget=Budget(tokens=10**6))
async def think(agent: Agent) -> str:
    """Two steps side by side, one more, and an answer."""
    return await agent.run(agent.id)


class Armed(AgentComponent):
    """The agent, armed before its first step: the budget is opened before its function begins."""

    def context(self, job: Job) -> Job:
        """Its Agent."""
        arm_for(job.id, ("host.", "agent."))
        return super().context(job)


app.components[-1] = Armed(**{name: getattr(think, name) for name in AgentComponent.__dataclass_fields__})


def _recall(request: ModelRequest) -> Say:
    note(f"{request.messages[-1].text}/model")
    return say(f"told {len(request.messages)}")


@app.agent(model=ScriptedModel(_recall), instructions="Recall.")
async def recall(agent: Agent, thread: str) -> str:
    """Goes on with a thread."""
    arm_for(agent.id, "host.")
    return await agent.run(agent.id, thread=thread)
