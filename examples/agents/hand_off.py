"""Hand-off: an agent passes the conversation to the one who knows more, and that one answers the customer.

callboard up examples.agents.hand_off:app
callboard submit service question='I was charged twice.' --wait
"""

from __future__ import annotations

import os
from typing import Literal

from msgspec import Struct

from actors import Agent, App, CallFailed, Failure, Job
from actors.model.model import ModelRequest
from actors.model.scripted import Say
from actors.testing import ScriptedModel, say

Who = Literal["reception", "billing", "repairs"]
MOST_HANDS = 4


class Turn(Struct):
    """What somebody says, and to whom the conversation goes: None if it is answered."""

    words: str
    hand_to: Who | None = None


def play(request: ModelRequest) -> Say:
    """Reception passes everything about money to billing, the rest to repairs."""
    told = request.messages[0].text
    if request.system.startswith("You are at the reception"):
        to = "billing" if "charged" in told else "repairs"
        return say({"words": f"One moment, {to} will help you.", "hand_to": to})
    if request.system.startswith("You know bills"):
        return say({"words": "You get one of the two charges back today."})
    return say({"words": "Switch it off and on again. Does it still hum?"})


MODEL = os.environ.get("TEAM_MODEL") or ScriptedModel(play)
app = App("service", version="1.0.0")


@app.agent(model=MODEL)
async def reception(agent: Agent, conversation: list[str]) -> Turn:
    """You are at the reception. Pass questions about money to billing, about devices to repairs; answer the rest."""
    return await agent.run("\n".join(conversation), output=Turn)


@app.agent(model=MODEL)
async def billing(agent: Agent, conversation: list[str]) -> Turn:
    """You know bills and payments. Answer the customer; what is about devices goes to repairs."""
    return await agent.run("\n".join(conversation), output=Turn)


@app.agent(model=MODEL)
async def repairs(agent: Agent, conversation: list[str]) -> Turn:
    """You know the devices. Answer the customer; what is about money goes to billing."""
    return await agent.run("\n".join(conversation), output=Turn)


@app.job
async def service(job: Job, question: str) -> list[str]:
    """The conversation until somebody answers; it does not go round for ever."""
    agents = {"reception": reception, "billing": billing, "repairs": repairs}
    who: Who = "reception"
    conversation = [f"customer: {question}"]
    for _ in range(MOST_HANDS):
        turn = await job.call(agents[who], conversation=conversation)
        conversation.append(f"{who}: {turn.words}")
        if turn.hand_to is None:
            return conversation
        who = turn.hand_to
    message = f"passed on {MOST_HANDS} times, and nobody has answered"
    raise CallFailed(Failure(code="no_answer", message=message, retryable=False))
