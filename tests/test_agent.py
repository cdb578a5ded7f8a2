"""Agents in a troupe, with scripted models: what a run does, what is on record, and what people have to allow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from actors import Agent, App, Job, RequireApproval, RetryableError, TerminalError
from actors.agents.conversation import ModelStep
from actors.agents.run import RunRecord
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.model.message import ToolResult
from actors.testing import ScriptedModel, fail, replay, say, use
from bus.approval_events import ApprovalAsked
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import CallAgent, CallTool, ReplyCompleted
from supervisor.retry import Retry
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 40
RAN: list[str] = []

app = App("desk", version="1.0.0")


class Verdict(msgspec.Struct):
    """What the judge says."""

    sum: int
    words: str = ""


@app.tool(read_only=True)
def add(a: int, b: int) -> int:
    """Add two numbers."""
    RAN.append(f"add {a} {b}")
    return a + b


@app.tool
def pay(amount: float, to: str) -> str:
    """Pay money."""
    RAN.append(f"pay {amount} {to}")
    return f"paid {amount} to {to}"


@app.tool
def broken() -> str:
    """Never works."""
    raise TerminalError("the disk is gone", code="no_disk")


MODELS = {
    "adder": ScriptedModel([use("add", {"a": 1, "b": 2}, "add", {"a": 3, "b": 4}, text="Let me add."), say("3 and 7")]),
    "judge": ScriptedModel([
        say("no JSON"), say({"sum": "three"}), use("add", {"a": 1}), use("nothing", {}), use("add", "{"),
        use("add", {"a": 1, "b": 2}), say('```json\n{"sum": 3}\n```'),
    ]),
    "hopeless": ScriptedModel(lambda _: say("never JSON")),
    "endless": ScriptedModel(lambda _: use("add", {"a": 1, "b": 1})),
    "payer": ScriptedModel([
        use("pay", {"amount": 5.0, "to": "a"}), use("pay", {"amount": 500.0, "to": "b"}),
        use("pay", {"amount": 900.0, "to": "c"}), say("done"),
    ]),
    "busy": ScriptedModel([fail(RetryableError("overloaded", retry_after_s=0.05), times=2), say("hi")]),
    "locked": ScriptedModel([fail(TerminalError("no key", code="unauthorized"), times=9)]),
    "unlucky": ScriptedModel([use("broken", {}), say("it is broken")]),
    "chief": ScriptedModel([use("adder", {"question": "what is it?"}), say("my people say: 3 and 7")]),
    "mute": ScriptedModel([say("", stop="refusal")]),
}  # fmt: skip
QUICK = Retry(attempts=3, backoff_s=0.01)


@app.agent(model=MODELS["adder"], tools=[add, pay], instructions="Add well.", read_only=True)
async def adder(agent: Agent, question: str) -> str:
    """Adds numbers."""
    return await agent.run(question)


@app.agent(model=MODELS["judge"], tools=[add], mendings=5)
async def judge(agent: Agent, question: str) -> Verdict:
    """Judges sums."""
    return await agent.run(question, output=Verdict)


@app.agent(model=MODELS["hopeless"], mendings=2)
async def hopeless(agent: Agent, question: str) -> Verdict:
    """Never answers."""
    return await agent.run(question, output=Verdict)


@app.agent(model=MODELS["endless"], tools=[add], turns=3)
async def endless(agent: Agent, question: str) -> str:
    """Adds for ever."""
    return await agent.run(question)


@app.agent(model=MODELS["payer"], tools=[pay], approve=[RequireApproval(tool="pay", when="input.amount > 100.0")])
async def payer(agent: Agent, question: str) -> str:
    """Pays, and asks first where much is at stake."""
    return await agent.run(question)


@app.agent(model=MODELS["busy"], retry=QUICK)
async def busy(agent: Agent, question: str) -> str:
    """Its model is overloaded at first."""
    return await agent.run(question)


@app.agent(model=MODELS["locked"], retry=QUICK)
async def locked(agent: Agent, question: str) -> str:
    """Its model cannot be asked."""
    return await agent.run(question)


@app.agent(model=MODELS["unlucky"], tools=[broken])
async def unlucky(agent: Agent, question: str) -> str:
    """Its tool fails."""
    return await agent.run(question)


@app.agent(model=MODELS["mute"])
async def mute(agent: Agent, question: str) -> str:
    """Its model refuses."""
    return await agent.run(question)


@app.agent(model=MODELS["chief"], tools=[adder])
async def chief(agent: Agent, question: str) -> str:
    """Has another agent do the work."""
    return await agent.run(question)


@app.job
async def office(job: Job, question: str) -> list[str]:
    """A job that has agents work."""
    first = await job.call(adder, question=question)
    child = await job.start(chief, question=question)
    return [first, await child.result()]


@pytest.fixture
async def cast_(nats_server: EmbeddedServer) -> AsyncIterator[Troupe]:
    """The app on a server of the test's own."""
    for model in MODELS.values():
        model.requests.clear()
    RAN.clear()
    async with troupe(nats_server.url, app) as found:
        yield found


async def run(cast_: Troupe, agent: str) -> Any:
    """Submit, and wait for the result."""
    await cast_.submit(agent, f"{agent}-1", {"question": "what?"})
    return await Client(cast_.bus).result(f"{agent}-1", timeout_s=DEADLINE_S)


async def test_a_run_is_on_record_step_by_step(cast_: Troupe) -> None:
    """Tools that were asked for together run side by side, the model hears of both, and each step is in the log."""
    assert await run(cast_, "adder") == "3 and 7"
    asked = MODELS["adder"].requests
    assert [len(request.messages) for request in asked] == [1, 3]
    assert asked[0].system == "Add well."
    assert [tool.name for tool in asked[0].tools] == ["add"]
    assert asked[1].messages[-1].parts == (ToolResult("use-1-1", "3"), ToolResult("use-1-2", "7"))
    events = [r.event for r in await cast_.events("adder-1")]
    assert [e.call for e in events if isinstance(e, CallTool)] == ["gather:1.0/add:1", "gather:1.1/add:1"]
    steps = {e.call: e.output for e in events if isinstance(e, ReplyCompleted)}
    assert msgspec.json.decode(steps["run:1"], type=RunRecord).prompt == "what?"
    assert msgspec.json.decode(steps["model:2"], type=ModelStep).reply.message.text == "3 and 7"


async def test_a_recorded_run_replays(cast_: Troupe) -> None:
    """The log is all that a replay needs: no model and no tool is asked again."""
    await run(cast_, "judge")
    asked = len(MODELS["judge"].requests)
    (await replay(judge, await cast_.events("judge-1"))).check()
    assert len(MODELS["judge"].requests) == asked


async def test_what_is_wrong_is_told_to_the_model(cast_: Troupe) -> None:
    """Answers and arguments that do not fit come back to it as errors that it can mend, until it is right."""
    assert await run(cast_, "judge") == {"sum": 3, "words": ""}
    last = MODELS["judge"].requests[-1]
    told = [part for message in last.messages if message.role == "user" for part in message.parts]
    words = " ".join(getattr(part, "content", "") or getattr(part, "text", "") for part in told)
    for said in ("is not JSON", "Expected `int`", "no tool 'nothing'", "`b`", "no JSON object: {"):
        assert said in words
    assert RAN == ["add 1 2"]


async def test_who_never_gets_it_right_is_stopped(cast_: Troupe) -> None:
    """After so many wrong answers in a row the run fails, and says what was wrong last."""
    with pytest.raises(JobFailedError, match="wrong 3 times in a row") as caught:
        await run(cast_, "hopeless")
    assert caught.value.failure.code == "unmended"
    assert len(MODELS["hopeless"].requests) == 3


async def test_turns_are_bounded(cast_: Troupe) -> None:
    """A model that never answers is asked as often as allowed; what it asks for last is not done."""
    with pytest.raises(JobFailedError, match="no answer after 3 turns"):
        await run(cast_, "endless")
    assert len(MODELS["endless"].requests) == 3
    assert len(RAN) == 2


async def test_people_allow_what_a_rule_names(cast_: Troupe) -> None:
    """Small sums pass; one large one is allowed with other arguments, one is not, and the model hears why."""
    client = Client(cast_.bus)
    await cast_.submit("payer", "payer-1", {"question": "pay"})
    asked = await _asked(cast_, 1)
    assert msgspec.json.decode(asked.details)["input"] == {"amount": 500.0, "to": "b"}
    await client.approve("payer-1", by="ann", edit={"amount": 50.0})
    await _asked(cast_, 2)
    await client.reject("payer-1", by="ann", comment="too much")
    assert await client.result("payer-1", timeout_s=DEADLINE_S) == "done"
    assert RAN == ["pay 5.0 a", "pay 50.0 b"]
    assert MODELS["payer"].requests[-1].messages[-1].parts == (
        ToolResult("use-3-1", "ann did not allow it: too much", is_error=True),
    )


async def _asked(cast_: Troupe, count: int) -> ApprovalAsked:
    async def asked() -> list[ApprovalAsked]:
        found = [r.event for r in await cast_.events("payer-1") if isinstance(r.event, ApprovalAsked)]
        return found if len(found) == count else []

    return (await wait_until(asked, DEADLINE_S))[-1]


async def test_an_overloaded_model_is_asked_again(cast_: Troupe) -> None:
    """Each attempt is on record, and so is the wait before the next."""
    assert await run(cast_, "busy") == "hi"
    kinds = [(r.event.call, r.event.kind) for r in await cast_.events("busy-1") if hasattr(r.event, "call")]
    assert kinds == [
        ("run:1", "reply.completed"), ("model:1", "reply.failed"), ("sleep:1", "reply.completed"),
        ("model:2", "reply.failed"), ("sleep:2", "reply.completed"), ("model:3", "reply.completed"),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "times"), [("locked", "unauthorized", 1), ("mute", "refused", 1)])
async def test_what_no_attempt_can_help_fails_the_run(cast_: Troupe, name: str, code: str, times: int) -> None:
    """A wrong key, or a model that refuses: the job fails with the reason, and nobody asks again."""
    with pytest.raises(JobFailedError) as caught:
        await run(cast_, name)
    assert caught.value.failure.code == code
    assert len(MODELS[name].requests) == times


async def test_a_failing_tool_is_an_observation(cast_: Troupe) -> None:
    """The model is told what went wrong and decides itself what that means."""
    assert await run(cast_, "unlucky") == "it is broken"
    (result,) = MODELS["unlucky"].requests[-1].messages[-1].parts
    assert isinstance(result, ToolResult) and result.is_error and "no_disk: the disk is gone" in result.content


async def test_agents_are_called_by_jobs_and_by_agents(cast_: Troupe) -> None:
    """An agent is a child job: of a job that calls or starts it, and of an agent whose tool it is."""
    assert await run(cast_, "office") == ["3 and 7", "my people say: 3 and 7"]
    events = [r.event for r in await cast_.events("office-1")]
    assert [e.name for e in events if isinstance(e, CallAgent)] == ["adder", "chief"]
    assert len(MODELS["adder"].requests) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": ""}, "model cannot be"),
        ({"turns": 0}, "turns cannot be 0"),
        ({"tools": [7]}, "7 is no tool"),
        ({"tools": [add, "math.add"]}, "different names"),
        ({"approve": ["ad"], "tools": [add]}, "did you mean 'add'"),
        ({"temperature": 3}, "temperature cannot be 3"),
        ({"thinking_tokens": 4096}, "thinking_tokens cannot be 4096"),
    ],
)
def test_wrong_settings_are_refused_where_they_are_said(settings: dict[str, Any], words: str) -> None:
    """The decorator says what is wrong, before anything runs."""

    async def wrong(agent: Agent, question: str) -> str:
        return ""

    with pytest.raises(UsageError) as caught:
        App("wrong").agent(**{"model": "scripted:a:b", **settings})(wrong)
    assert words in str(caught.value)


def test_rules_that_cannot_be() -> None:
    """An expression that is none, or that names what there is not, is refused when it is written."""
    for when in ("input.", "amount > 3"):
        with pytest.raises(UsageError, match="when"):
            RequireApproval(when=when)


def test_a_rule_that_would_take_too_long_asks() -> None:
    """What a model writes decides how far loops go: beyond what can be judged in time people are asked."""
    rule = RequireApproval(when="input.a.exists(x, input.a.exists(y, input.a.exists(z, x + y + z < 0)))")
    facts = {"tool": "pay", "cost_usd": 0.0, "tokens": 0, "turn": 1}
    assert not rule.holds({**facts, "input": {"a": [1, 2]}})
    assert rule.holds({**facts, "input": {"a": list(range(2000))}})
    assert rule.holds({**facts, "input": {}})
