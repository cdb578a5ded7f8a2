"""Assets of agents: lent to each run of the function, recorded by what a model is told, stood for in a replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from actors import INJECTED, Agent, App
from actors.agents.run import RunRecord
from actors.assets.shelf import Shelf, loaded
from actors.assets.supply import Supply
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.testing import ScriptedModel, replay, say, use
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import ReplyCompleted
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 40
FIRST = [use("pay", {"amount": 1}), say("paid")]
MODEL = ScriptedModel(lambda r: say("and again") if "once more" in r.messages[0].text else FIRST[len(r.messages) // 2])
LOADED: list[str] = []

app = App("desk", version="1.0.0")


class Voice(msgspec.Struct):
    """What an agent speaks with; each load makes another one."""

    name: str
    is_loud: bool = False
    words: tuple[str, ...] = ("hello",)


@app.asset(version="3.0.0")
def voice() -> Iterator[Voice]:
    """Numbered by its loads."""
    name = f"v{sum('unloaded' not in line for line in LOADED) + 1}"
    LOADED.append(name)
    yield Voice(name, is_loud=True)
    LOADED.append(f"{name} unloaded")


@app.tool
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


@app.agent(model=MODEL, tools=[pay], approve=["pay"], instructions="You are nobody.")
async def cashier(agent: Agent, question: str, *, voice: Voice = INJECTED) -> list[str]:
    """Its model is told what the asset says."""
    first = await agent.run(f"{question} ({voice.words[0]})", output=str, instructions=f"You are {voice.name}.")
    second = await agent.run("once more, " + voice.name.upper(), output=str, instructions="You are " + voice.name)
    return [first, second]


@app.agent(model=ScriptedModel(lambda _: say("hm")))
async def picky(agent: Agent, question: str, *, voice: Voice = INJECTED) -> str:
    """Branches on the asset, which it must not."""
    if voice.is_loud:
        await agent.emit("loud")
    return await agent.run(question)


@app.agent(model=ScriptedModel(lambda _: say("hm")))
async def careful(agent: Agent, question: str, *, voice: Voice = INJECTED) -> str:
    """Decides by what it has put on record."""
    if await agent.local(lambda: voice.is_loud):
        await agent.emit("loud")
    return await agent.run(question)


@app.agent(model=ScriptedModel(lambda _: say("hm")))
async def spending(agent: Agent, question: str, *, voice: Voice = INJECTED) -> str:
    """Hands on what it read."""
    return await agent.call(pay, amount=len(question)) + voice.name


async def result(on: Troupe, job: str) -> Any:
    """What the job returned."""
    return await Client(on.bus).result(job, timeout_s=DEADLINE_S)


def test_an_agent_may_name_assets() -> None:
    """They are no part of its input, and its record in the registry has their versions."""
    assert list(cashier.input_schema["properties"]) == ["question"]
    assert app.assets_of(cashier) == {"voice": "voice"}
    assert app.info_of(cashier).assets == {"voice": "3.0.0"}


async def test_agents_are_lent_assets_and_replay_without_them(nats_server: EmbeddedServer) -> None:
    """What the model was told is on record, also after a refresh; a parked job holds nothing; what is lent is what is
    there when the function begins anew. A replay needs the asset only where something is decided by it.
    """
    agents = [cashier, picky, careful, spending]
    async with loaded(Shelf(app.assets, ["voice"])) as shelf:
        supplies = {agent: Supply(shelf, app.assets_of(agent)) for agent in agents}
        async with troupe(nats_server.url, app, park_after_s=0.1, supplies=supplies) as on:
            await on.submit("cashier", "c1", {"question": "pay?"})
            await on.parked("c1")
            await shelf.refresh("voice")
            await wait_until(lambda: LOADED == ["v1", "v2", "v1 unloaded"])
            await Client(on.bus).approve("c1", by="ann")
            assert await result(on, "c1") == ["paid", "and again"]
            assert [request.system for request in MODEL.requests] == ["You are v1.", "You are v1.", "You are v2"]
            cashed = await on.events("c1")
            steps = {r.event.call: r.event.output for r in cashed if isinstance(r.event, ReplyCompleted)}
            begun = [msgspec.json.decode(steps[call], type=RunRecord) for call in ("run:1", "run:2")]
            assert [(one.prompt, one.instructions) for one in begun] == [
                ("pay? (hello)", "You are v1."), ("once more, V2", "You are v2"),
            ]  # fmt: skip
            for name in ("picky", "careful", "spending"):
                await on.submit(name, f"{name}-1", {"question": "so?"})
                await result(on, f"{name}-1")
            histories = {name: await on.events(f"{name}-1") for name in ("picky", "careful", "spending")}
    for agent in (cashier, careful):
        (await replay(agent, histories.get(agent.name, cashed))).check()
    with pytest.raises(
        UsageError, match=r"agent picky decides by voice\.is_loud; the replay was not given voice"
    ) as no:
        await replay(picky, histories["picky"])
    assert no.value.code == "no_asset" and "'voice': ..." in no.value.hint
    (await replay(picky, histories["picky"], assets={"voice": Voice("any", is_loud=True)})).check()
    quiet = await replay(picky, histories["picky"], assets={"voice": Voice("any", is_loud=False)})
    assert quiet.difference is not None and quiet.difference.kind == "unasked"
    with pytest.raises(UsageError, match=r"agent spending differs: the job ends differently.*<asset voice\.name>"):
        await replay(spending, histories["spending"])
    (await replay(spending, histories["spending"], assets={"voice": Voice("v2")})).check()
    with pytest.raises(UsageError, match="names no asset 'voices'"):
        await replay(picky, histories["picky"], assets={"voices": 1})


async def test_without_a_shelf_the_asset_says_so(nats_server: EmbeddedServer) -> None:
    """A host that has loaded nothing fails the job with what was not passed."""
    async with troupe(nats_server.url, app, tools=False) as on:
        await on.submit("picky", "p1", {"question": "so?"})
        with pytest.raises(JobFailedError, match="an asset was not passed"):
            await result(on, "p1")
