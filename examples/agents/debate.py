"""Debate: several voices answer the same question side by side, the first two answers are enough, a judge decides.

    callboard up examples.agents.debate:app
    callboard submit debate question='Shall we build it ourselves?' --wait

The workflow is a document (``debate.yaml``): ``join: {n: 2, cancel_rest: true}`` gives up who is slow.
"""

from __future__ import annotations

import os

from msgspec import Struct

from actors import Agent, App
from actors.model.model import ModelRequest
from actors.model.scripted import Say
from actors.testing import ScriptedModel, say


class Opinion(Struct):
    """What a model gives."""

    vote: bool
    reason: str


class Answer(Struct):
    """One voice."""

    view: str
    vote: bool
    reason: str


class Verdict(Struct):
    """What follows from the votes."""

    decision: bool
    votes: dict[str, bool]
    reason: str


def play(request: ModelRequest) -> Say:
    """Who is hopeful says yes, the others no; the judge sides with the careful if votes are even."""
    told = request.messages[0].text
    if request.system.startswith("You judge"):
        return say("If in doubt, start with what can be undone.")
    is_hopeful = "hopeful" in told
    return say({"vote": is_hopeful, "reason": "We learn from it." if is_hopeful else "It costs more than we think."})


MODEL = os.environ.get("TEAM_MODEL") or ScriptedModel(play)
app = App("debate", version="1.0.0")


@app.agent(model=MODEL)
async def voice(agent: Agent, question: str, view: str) -> Answer:
    """You take part in a debate. Take the view that you are given, vote, and give your strongest reason."""
    opinion = await agent.run(f"Your view: {view}.\n\n{question}", output=Opinion)
    return Answer(view, opinion.vote, opinion.reason)


@app.agent(model=MODEL)
async def judge(agent: Agent, question: str, answers: list[Answer]) -> Verdict:
    """You judge a debate. The votes are counted for you; say in one sentence what weighs most."""
    said = "\n".join(f"- {each.view}: {'yes' if each.vote else 'no'}. {each.reason}" for each in answers)
    reason = await agent.run(f"{question}\n\n{said}", output=str)
    votes = {each.view: each.vote for each in answers}
    return Verdict(2 * sum(votes.values()) > len(votes), votes, reason)


debate = app.workflow("debate.yaml")
