"""Steps of kind ``agent``: a document has agents work, each in a child job, and gives up whom it needs no more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from actors import Agent, App
from actors.clients.client import Client
from actors.components.registry import Registry
from actors.model.model import Listen, ModelReply, ModelRequest
from actors.testing import ScriptedModel, replay, say, use
from actors.workflow_rules.component_rules import Catalogue
from actors.workflow_rules.validation import validate
from bus.embedded import EmbeddedServer
from bus.messages import CallAgent, JobCancelled, JobCompleted
from tests.play import document
from tests.test_workflow_publishing import Shell
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 60
app = App("office", version="1.0.0")
HEARD: list[str] = []


class Count(msgspec.Struct):
    """What the counter found."""

    pieces: int
    article: str


class Mute(ScriptedModel):
    """Never answers, and notes when it is given up."""

    async def reply(self, request: ModelRequest, listen: Listen | None = None) -> ModelReply:
        """Nothing."""
        HEARD.append("asked")
        try:
            await asyncio.Event().wait()
        finally:
            HEARD.append("given up")
        raise AssertionError


@app.tool
def stock(sku: str) -> int:
    """How many pieces there are."""
    return len(sku)


COUNTING = ScriptedModel([use("stock", {"sku": "A12"}), say({"pieces": 3, "article": "A12"})])
TELLING = ScriptedModel([say("There are three.")])


@app.agent(model=COUNTING, tools=[stock])
async def counter(agent: Agent, question: str) -> Count:
    """Counts."""
    return await agent.run(question, output=Count)


@app.agent(model=TELLING)
async def teller(agent: Agent, pieces: int) -> str:
    """Tells a number."""
    return await agent.run(f"Say {pieces}.")


@app.agent(model=Mute([]))
async def dawdler(agent: Agent) -> str:
    """Never ends."""
    return await agent.run("go")


STEPS = """
input: {type: object, required: [sku], properties: {sku: {type: string}}}
steps:
  - {id: count, kind: agent, run: counter, with: {question: "${ 'How many ' + input.sku + '?' }"}}
  - {id: tell, kind: agent, run: teller, with: {pieces: "${ steps.count.output.pieces }"}, needs: [count]}
result: {pieces: "${ steps.count.output.pieces }", words: "${ steps.tell.output }"}
"""
RACE = """
steps:
  - {id: quick, kind: wait, signal: go}
  - {id: slow, kind: agent, run: dawdler}
  - {id: first, kind: set, join: {of: [quick, slow], n: 1, cancel_rest: true}, values: {n: 1}}
"""
LONE = """
steps:
  - {id: slow, kind: agent, run: dawdler}
"""
for name, text in {"told": STEPS, "race": RACE, "lone": LONE}.items():
    app.workflow(msgspec.structs.replace(document(text), name=name))


async def test_a_document_has_agents_work(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What one agent gives is the next one's input, each is a child job; ``workflow try`` asks the same agents."""
    async with troupe(nats_server.url, app) as on:
        await on.submit("told", "t1", {"sku": "A12"})
        wanted = {"pieces": 3, "words": "There are three."}
        assert await Client(on.bus).result("t1", timeout_s=DEADLINE_S) == wanted
        assert COUNTING.requests[-2].messages[0].text == "How many A12?"
        assert TELLING.requests[-1].messages[0].text == "Say 3."
        events = await on.events("t1")
        assert [r.event.call for r in events if isinstance(r.event, CallAgent)] == ["count/counter:1", "tell/teller:1"]
        told = app.find("job", "told", None)
        assert told is not None
        (await replay(told, events)).check()

        for component in app.components:
            await Registry(on.bus).register(component.info())
        shell = Shell(nats_server, tmp_path)
        file = shell.write("told.yaml", f"name: told\nversion: 1.0.0\n{STEPS}")
        code, out, err = await asyncio.to_thread(shell, "try", file, "sku=A12", "--json")
        assert code == 0, err
        assert msgspec.json.decode(out) == wanted


async def test_agents_that_are_given_up_are_cancelled(nats_server: EmbeddedServer) -> None:
    """By a join that has enough, and by the cancellation of the workflow: the call of the model ends there and then."""
    HEARD.clear()
    async with troupe(nats_server.url, app) as on:
        await on.submit("race", "r1", {})
        await wait_until(lambda: HEARD == ["asked"], DEADLINE_S)
        await on.signal("race", "r1", "go")
        assert isinstance(await on.end("r1", deadline_s=DEADLINE_S), JobCompleted)
        await check_child(on, "r1")
        await wait_until(lambda: HEARD == ["asked", "given up"], DEADLINE_S)
        await on.submit("lone", "l1", {})
        await wait_until(lambda: HEARD[2:] == ["asked"], DEADLINE_S)
        await Client(on.bus).cancel("l1", "no more")
        assert isinstance(await on.end("l1", deadline_s=DEADLINE_S), JobCancelled)
        await check_child(on, "l1")
        await wait_until(lambda: HEARD[2:] == ["asked", "given up"], DEADLINE_S)


async def check_child(on: Troupe, job: str) -> None:
    """The agent's job ends as cancelled."""
    (child,) = [r.event.child for r in await on.events(job) if isinstance(r.event, CallAgent)]
    assert isinstance(await on.end(child, deadline_s=DEADLINE_S), JobCancelled)


def test_what_does_not_fit_an_agent() -> None:
    """An agent that there is not, an input that it does not take, and a field that it does not give are found."""
    catalogue = Catalogue([component.info() for component in app.components])
    wrong: dict[str, Any] = {
        "run: counter": ("run: counters", "unknown_component"),
        "with: {question:": ("with: {query:", "input"),
        'steps.count.output.pieces }"}, needs': ('steps.count.output.piece }"}, needs', "piece"),
    }  # fmt: skip

    def findings(text: str) -> str:
        return str(validate("told.yaml", f"name: told\nversion: 1.0.0\n{text}".encode(), catalogue=catalogue) or "")

    assert not findings(STEPS)
    for there, (instead, said) in wrong.items():
        assert there in STEPS
        assert said in findings(STEPS.replace(there, instead)), instead
