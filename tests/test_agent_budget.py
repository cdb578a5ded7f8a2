"""What agents may use up: reserved before each call, settled after, shared with all that they start."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors import Agent, App, Budget, Job, TerminalError
from actors.budgets.accounts import Accounts
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.model.message import Message, Text, ToolUse
from actors.model.model import ModelReply, ModelRequest, Usage
from actors.testing import ScriptedModel, replay, say, use
from bus.approval_events import ApprovalAsked
from bus.embedded import EmbeddedServer
from bus.messages import CallAgent, CallJob
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 40
app = App("spenders", version="1.0.0")


@app.tool
def look() -> str:
    """Look."""
    return "seen"


def hungry(turns: int, pause_s: float = 0.0) -> ScriptedModel:
    """A model whose every answer takes 1,000 tokens, and that asks for a tool until its last turn."""

    def answer(request: ModelRequest) -> ModelReply:
        turn = sum(message.role == "assistant" for message in request.messages) + 1
        part = Text("done") if turn == turns else ToolUse(f"u{turn}", "look", {})
        stop: Any = "end_turn" if turn == turns else "tool_use"
        return ModelReply(message=Message("assistant", (part,)), stop=stop, usage=Usage(output_tokens=1000))

    return ScriptedModel(answer, pause_s=pause_s)


@app.agent(model=hungry(3), tools=[look], budget=Budget(tokens=5000), max_tokens=1500)
async def modest(agent: Agent) -> str:
    """Three turns, and room for them."""
    return await agent.run("go")


@app.agent(model=hungry(9), tools=[look], budget=Budget(tokens=4000), max_tokens=1500)
async def greedy(agent: Agent) -> str:
    """Nine turns, and room for three."""
    return await agent.run("go")


@app.agent(model=hungry(3), tools=[look], budget=Budget(turns=2, on_overrun="ask"), max_tokens=100)
async def asking(agent: Agent) -> str:
    """Three turns, room for two, and somebody to ask."""
    return await agent.run("go")


@app.agent(model=hungry(2), tools=[look], max_tokens=1500)
async def worker(agent: Agent) -> str:
    """Two turns, with no budget of its own."""
    return await agent.run("go")


@app.job
async def team(job: Job) -> list[str]:
    """A plain job in between: two workers at once."""
    return list(await job.gather(job.call(worker), job.call(worker)))


@app.agent(model=ScriptedModel([use("team", {}), say("led")]), tools=[team], budget=Budget(tokens=6000), max_tokens=100)
async def leader(agent: Agent) -> str:
    """Its workers draw on its budget."""
    return await agent.run("lead")


@app.agent(model=ScriptedModel([use("team", {}), say("led")]), tools=[team], budget=Budget(tokens=2500), max_tokens=100)
async def poor(agent: Agent) -> str:
    """Has room for one worker's first turn only."""
    return await agent.run("lead")


@app.agent(model=hungry(1, pause_s=0.4), max_tokens=1200)
async def brief(agent: Agent) -> str:
    """One turn that may take 1,200 tokens, takes 1,000, and some time."""
    return await agent.run("go")


@app.job
async def pair(job: Job) -> list[str]:
    """Two at once."""
    return list(await job.gather(job.call(brief), job.call(brief)))


@app.agent(model=ScriptedModel([use("pair", {}), say("led")]), tools=[pair], budget=Budget(tokens=2450), max_tokens=100)
async def tight(agent: Agent) -> str:
    """Has room for two that come one after the other, and not for what two may take at once."""
    return await agent.run("lead")


async def run(on: Troupe, name: str) -> Any:
    await on.submit(name, f"{name}-1", {})
    return await Client(on.bus).result(f"{name}-1", timeout_s=DEADLINE_S)


async def spent(on: Troupe, job: str) -> tuple[int, int, int]:
    """Tokens and turns that are spent, and how much is still set aside."""
    account = await Accounts(on.bus).read(f"default.{job}")
    assert account is not None
    return account.spent.tokens, account.spent.turns, len(account.reserved)


async def test_a_run_pays_for_what_it_uses(nats_server: EmbeddedServer) -> None:
    """Within its budget a run ends, all is settled, a replay pays nothing; without room it fails before the call."""
    async with troupe(nats_server.url, app) as on:
        assert await run(on, "modest") == "done"
        assert await spent(on, "modest-1") == (3000, 3, 0)
        (replayed := await replay(modest, await on.events("modest-1"))).check()
        assert "budget-settled:1" in replayed.asked
        with pytest.raises(JobFailedError, match="too small: the next call may take") as caught:
            await run(on, "greedy")
        assert caught.value.failure.code == "budget_exceeded"
        tokens, turns, left = await spent(on, "greedy-1")
        assert (tokens, turns, left) == (3000, 3, 0)


async def test_people_may_allow_more(nats_server: EmbeddedServer) -> None:
    """Where the budget says so the run waits for somebody, who names the new limit, and goes on."""
    async with troupe(nats_server.url, app, park_after_s=0.05) as on:
        await on.submit("asking", "a1", {})
        asked: list[ApprovalAsked] = []

        async def is_asked() -> bool:
            asked[:] = [r.event for r in await on.events("a1") if isinstance(r.event, ApprovalAsked)]
            return bool(asked)

        await wait_until(is_asked, DEADLINE_S)
        assert msgspec.json.decode(asked[0].details)["limit"] == "turns"
        client = Client(on.bus)
        await client.approve("a1", by="ann", edit={"turns": 3})
        assert await client.result("a1", timeout_s=DEADLINE_S) == "done"
        assert await spent(on, "a1") == (3000, 3, 0)
        await on.submit("asking", "a2", {})

        async def is_asked_again() -> bool:
            return any(isinstance(r.event, ApprovalAsked) for r in await on.events("a2"))

        await wait_until(is_asked_again, DEADLINE_S)
        await client.reject("a2", by="ann")
        with pytest.raises(JobFailedError, match="nobody allowed more"):
            await client.result("a2", timeout_s=DEADLINE_S)


async def test_all_that_an_agent_starts_draws_on_its_budget(nats_server: EmbeddedServer) -> None:
    """Also through a plain job in between, and side by side: never more than the budget, whoever asks first."""
    async with troupe(nats_server.url, app) as on:
        assert await run(on, "leader") == "led"
        tokens, turns, left = await spent(on, "leader-1")
        assert tokens > 4000 and turns == 6 and left == 0
        assert await run(on, "poor") == "led"  # it is told that its team failed, and says so
        tokens, turns, left = await spent(on, "poor-1")
        assert tokens <= 2500 and left == 0
        failed = [r.event for r in await on.events("poor-1") if r.event.kind == "reply.failed"]
        assert failed


@app.agent(model=hungry(1), budget=Budget(tokens=9000), max_tokens=100)
async def early(agent: Agent) -> list[str]:
    """Has a worker begin before it asks its own model."""
    return [await agent.call(worker), await agent.run("go", output=str)]


async def test_a_budget_is_there_from_the_first_step_on(nats_server: EmbeddedServer) -> None:
    """Whoever works for an agent before its own first call draws on its budget; a fork has a budget of its own."""
    async with troupe(nats_server.url, app) as on:
        assert await run(on, "early") == ["done", "done"]
        assert await spent(on, "early-1") == (3000, 3, 0)
        await run(on, "modest")
        client = Client(on.bus)
        for source, fork in (("modest-1", "modest-2"), ("modest-2", "modest-3")):
            forked = await client.fork(source, from_="model:3", new_id=fork)
            assert await forked.result(DEADLINE_S) == "done"
            assert await spent(on, fork) == (1000, 1, 0)
            (await replay(modest, await on.events(fork))).check()
        assert await spent(on, "modest-1") == (3000, 3, 0)


LOCKED = [True]


def unlocking(request: ModelRequest) -> ModelReply:
    """A model whose key is wrong until somebody mends it."""
    if LOCKED[0]:
        raise TerminalError("no key", code="unauthorized")
    return ModelReply(message=Message("assistant", (Text("done"),)), stop="end_turn", usage=Usage(output_tokens=1000))


@app.agent(model=ScriptedModel(unlocking), budget=Budget(tokens=2000), max_tokens=1500)
async def locked(agent: Agent) -> str:
    """One turn, and room for one."""
    return await agent.run("go")


async def test_a_retry_pays_once(nats_server: EmbeddedServer) -> None:
    """A call that was refused costs its turn alone; the retry has the room that it had, and all is settled."""
    async with troupe(nats_server.url, app) as on:
        LOCKED[0] = True
        with pytest.raises(JobFailedError, match="no key"):
            await run(on, "locked")
        assert await spent(on, "locked-1") == (0, 1, 0)
        LOCKED[0] = False
        assert await (await Client(on.bus).retry("locked-1")).result(DEADLINE_S) == "done"
        assert await spent(on, "locked-1") == (1000, 2, 0)
        (await replay(locked, await on.events("locked-1"))).check()


async def test_room_that_others_hold_for_the_moment_is_waited_for(nats_server: EmbeddedServer) -> None:
    """Of two at once the second waits, on record, until the first has settled; nobody fails."""
    async with troupe(nats_server.url, app) as on:
        assert await run(on, "tight") == "led"
        assert (await spent(on, "tight-1"))[1:] == (4, 0)
        (commanded,) = [r.event for r in await on.events("tight-1") if isinstance(r.event, CallJob)]
        children = [r.event.child for r in await on.events(commanded.child) if isinstance(r.event, CallAgent)]
        waits = [r.event for child in children for r in await on.events(child) if getattr(r.event, "op", "") == "sleep"]
        assert len(children) == 2 and waits
        (answer,) = [r.event for r in await on.events("tight-1") if getattr(r.event, "call", "") == commanded.call][1:]
        assert answer.kind == "reply.completed"
