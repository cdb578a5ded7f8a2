"""Jobs of agents in flight: paused, cancelled, retried and forked, and what that costs at the model's endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors import Agent, App
from actors.agents.trace import trace_of
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.components.codec import InvalidInput
from actors.components.registry import Registry
from actors.model import AnthropicModel
from bus.embedded import EmbeddedServer
from bus.messages import JobCancelled, JobPaused, JobWaiting, ReplyCompleted
from supervisor.retry import Retry
from tests.anthropic_turns import Hang, Refuse, Say, Turn, Use
from tests.endpoint import Endpoint
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 60
ADD = Say("I add.", tools=(Use("add", {"a": 1, "b": 2}),))
RAN: list[str] = []


def make_app(model: AnthropicModel, gate: asyncio.Event) -> App:
    """One agent, whose tool waits for the gate."""
    app = App("control_of_agents", version="1.0.0")

    @app.tool
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        RAN.append(f"{a}+{b}")
        await gate.wait()
        return a + b

    @app.agent(model=model, tools=[add], retry=Retry(attempts=2, backoff_s=0.01))
    async def adder(agent: Agent) -> str:
        """You add."""
        return await agent.run(agent.id)

    return app


class Play:
    """The troupe, its endpoint, and the gate of its tool."""

    def __init__(self, on: Troupe, endpoint: Endpoint, gate: asyncio.Event) -> None:
        self.on, self.endpoint, self.gate = on, endpoint, gate
        self.client = Client(on.bus)

    async def submit(self, job: str, *turns: Turn) -> None:
        """A job that is told these turns."""
        self.endpoint.turns[job] = list(turns)
        await self.on.submit("adder", job, {})

    async def result(self, job: str) -> Any:
        """What it gives."""
        return await self.client.result(job, timeout_s=DEADLINE_S)

    async def grown(self, job: str, kind: type[Any], **fields: Any) -> None:
        """Wait for an event in the job's log."""

        async def has() -> bool:
            events = [r.event for r in await self.on.events(job) if isinstance(r.event, kind)]
            return any(all(getattr(event, name) == value for name, value in fields.items()) for event in events)

        await wait_until(has, DEADLINE_S, what=f"{kind.__name__} of {job}")


@pytest.fixture
async def play(nats_server: EmbeddedServer) -> AsyncIterator[Play]:
    """A troupe whose agent asks the endpoint."""
    endpoint, gate = Endpoint(), asyncio.Event()
    async with endpoint.claude:
        model = AnthropicModel("claude-haiku-4-5", base_url=endpoint.claude.url, api_key="a key")
        async with troupe(nats_server.url, make_app(model, gate), park_after_s=0.2) as on:
            RAN.clear()
            yield Play(on, endpoint, gate)
        await model.close()


async def test_paused_between_two_turns_and_cancelled_amid_one(play: Play) -> None:
    """A paused agent does not ask its model; one that is cancelled drops the call that hangs and ends at once."""
    await play.submit("paused", ADD, Say("3"))
    await wait_until(lambda: RAN, DEADLINE_S)
    await play.client.pause("paused")
    await play.grown("paused", JobPaused)
    play.gate.set()
    await play.grown("paused", ReplyCompleted, call="gather:1.0/add:1")
    assert len(play.endpoint.asked("paused")) == 1
    await play.client.resume("paused")
    assert await play.result("paused") == "3" and len(play.endpoint.asked("paused")) == 2

    for job, turn in (("mute", Hang()), ("stuck", Hang(4))):
        gone = play.endpoint.claude.gone
        await play.submit(job, turn)
        await wait_until(lambda job=job: play.endpoint.asked(job), DEADLINE_S)  # type: ignore[misc]
        await play.client.cancel(job, "no more")
        assert (
            isinstance(end := await play.on.end(job, deadline_s=DEADLINE_S), JobCancelled) and end.reason == "no more"
        )
        await wait_until(lambda gone=gone: play.endpoint.claude.gone > gone, DEADLINE_S)  # type: ignore[misc]
        assert len(play.endpoint.asked(job)) == 1


async def test_a_long_wait_for_a_model_costs_no_memory(play: Play) -> None:
    """An agent that is told to come back later is parked, and goes on where it was, with a fresh memory."""
    play.gate.set()
    await play.submit("late", ADD, Refuse(529, retry_after="1.5"), Say("3"))
    await play.grown("late", JobWaiting, on=("sleep:1",))
    assert await play.result("late") == "3" and RAN == ["1+2"]
    bodies = play.endpoint.asked("late")
    assert len(bodies) == 3 and bodies[1] == bodies[2]


async def test_retried_and_forked_with_what_is_on_record(play: Play) -> None:
    """After a wrong key or a long overload a retry goes on at the call that failed; a fork asks from its step on."""
    play.gate.set()
    await play.submit("locked", ADD, Refuse(401, message="invalid x-api-key"))
    await play.submit("busy", ADD, Refuse(529), Refuse(529))
    for job, code, asked in (("locked", "unauthorized", 3), ("busy", "overloaded", 4)):
        with pytest.raises(JobFailedError) as caught:
            await play.result(job)
        assert caught.value.failure.code == code
        play.endpoint.turns[job] = [Say("3")]
        again = await play.client.retry(job)
        assert await again.result(DEADLINE_S) == "3"
        bodies = play.endpoint.asked(job)
        assert len(bodies) == asked and bodies[-1] == bodies[1]
    assert RAN == ["1+2", "1+2"]

    play.endpoint.turns["locked"] = [Say("three")]
    forked = await play.client.fork("locked", from_="model:2", new_id="other")
    assert await forked.result(DEADLINE_S) == "three" and RAN == ["1+2", "1+2"]
    bodies = play.endpoint.asked("locked")
    assert len(bodies) == 4 and bodies[3] == bodies[1]
    assert not play.endpoint.turns["locked"] and await play.result("locked") == "3"
    for component in play.on.app.components:
        await Registry(play.on.bus).register(component.info())
    with pytest.raises(InvalidInput, match="unknown field"):
        await play.client.fork("locked", from_="model:2", input={"sku": 1})
    trace = trace_of(await play.client.get("other"))
    assert [turn.reused for turn in trace.runs[0].turns] == [True, False]
    assert trace.usage == trace.runs[0].turns[1].usage and trace.usage.tokens
