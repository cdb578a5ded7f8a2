"""Agents that ask a local endpoint through the providers' real SDKs: what each kind of answer makes of a job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from actors import Agent, App
from actors.agents.trace import trace_of
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.model import AnthropicModel, Model, ModelReply, ModelRequest, OpenAIModel, OpenAIServer
from actors.model.model import Listen
from bus import subjects
from bus.connection import Message
from bus.embedded import EmbeddedServer
from bus.messages import CallTool, ReplyFailed
from bus.stream_piece import Piece
from store.job_fold import fold_view
from supervisor.retry import Retry
from tests import fake_openai
from tests.anthropic_turns import Cut, Fault, Hang, Raw, Refuse, Say, Slow, Turn, Use
from tests.endpoint import Endpoint
from tests.fake_openai import Refusal, Said
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE_S = 60
CLAUDE = "claude-haiku-4-5"
QUICK = Retry(attempts=3, backoff_s=0.01)
# A first call that gets no answer is given up after this.
PATIENCE_S = 3.0
WORDS = "Twelve pieces of A1 are in the store, and no more than three of B2."
RAN: list[str] = []


class Verdict(msgspec.Struct):
    """What an agent says of a sum."""

    sum: int


class Asking:
    """A model that changes each request before it is sent: a choice that an agent has no setting for."""

    def __init__(self, model: Model, **changes: Any) -> None:
        self._model, self._changes = model, changes
        self.provider, self.name = model.provider, model.name

    async def reply(self, request: ModelRequest, listen: Listen | None = None) -> ModelReply:
        """The call, otherwise."""
        return await self._model.reply(msgspec.structs.replace(request, **self._changes), listen)

    def count_tokens(self, request: ModelRequest) -> int:
        """The same number."""
        return self._model.count_tokens(request)

    async def close(self) -> None:
        """Nothing of its own."""


class Hasty(Asking):
    """Has no patience with its first call."""

    async def reply(self, request: ModelRequest, listen: Listen | None = None) -> ModelReply:
        """The call, soon given up if it is the first one."""
        timeout_s, self._changes = self._changes.get("timeout_s", request.timeout_s), {}
        return await self._model.reply(msgspec.structs.replace(request, timeout_s=timeout_s), listen)


def make_app(endpoint: Endpoint, folder: Path, closing: Callable[[Model], None]) -> App:
    """Agents that differ in how they ask; each has a provider of its own, and so a circuit."""
    app = App("asking", version="1.0.0")

    @app.tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        RAN.append(f"{a}+{b}")
        return a + b

    def claude(name: str) -> AnthropicModel:
        model = AnthropicModel(CLAUDE, base_url=endpoint.claude.url, api_key="a key", provider=f"claude-{name}")
        closing(model)
        return model

    def open_ai(name: str) -> OpenAIModel:
        model = OpenAIModel("gpt-toy", server=OpenAIServer(f"toy-{name}", endpoint.openai.url, "NO_SUCH_KEY"))
        closing(model)
        return model

    def declare(name: str, model: Model | str, output: Any = str, prompt: str = "", **settings: Any) -> None:
        @app.agent(model=model, tools=[add], output=output, name=name, retry=QUICK, **settings)
        async def agent(agent: Agent) -> Any:
            """You add."""
            return await agent.run(prompt or agent.id)

    for name in ("plain", "busy", "faulty", "cut", "short", "mute", "locked", "wrong"):
        declare(name, claude(name))
    declare("whole", Asking(claude("whole"), stream=False))
    declare("hasty", Hasty(claude("hasty"), timeout_s=PATIENCE_S))
    declare("thinker", claude("thinker"), thinking_tokens=1024)
    declare("judge", claude("judge"), output=Verdict)
    for name in ("toy", "toy-busy", "toy-short", "toy-mute"):
        declare(name, open_ai(name))
    tape, asking = f"cassette:{folder}/tape.jsonl", f"anthropic:{CLAUDE}@{endpoint.claude.url}"
    declare("taped", f"{tape}+{asking}", prompt="taped")
    declare("played", tape, prompt="taped")
    return app


class Play:
    """The troupe with the endpoint."""

    def __init__(self, on: Troupe, endpoint: Endpoint) -> None:
        self.on, self.endpoint = on, endpoint

    async def run(self, agent: str, *turns: Turn) -> Any:
        """The result of a job of the agent that is told these turns. The job has the agent's name."""
        self.endpoint.turns[agent] = list(turns)
        RAN.clear()
        await self.on.submit(agent, agent, {})
        result = await Client(self.on.bus).result(agent, timeout_s=DEADLINE_S)
        assert not self.endpoint.turns[agent], "it was told less than it should have heard"
        return result

    async def run_toy(self, agent: str, *answers: fake_openai.Answer) -> Any:
        """The same for OpenAI's protocol."""
        self.endpoint.openai.then(*answers)
        return await self.run(agent)

    async def steps(self, job: str) -> list[tuple[str, str]]:
        """The calls of the log, and how they ended."""
        view = fold_view(job, await self.on.events(job))
        return [(call.call, call.state) for call in view.calls]

    async def failures(self, job: str) -> list[tuple[str, float | None]]:
        """Why calls failed, and when they might be made again."""
        events = [r.event for r in await self.on.events(job)]
        return [(e.failure.code, e.failure.retry_after_s) for e in events if isinstance(e, ReplyFailed)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    """One server, one endpoint and one troupe for all tests: each has a job of its own."""
    endpoint, models = Endpoint(), list[Model]()
    async with (
        await EmbeddedServer.start() as server,
        endpoint.claude,
        endpoint.openai,
        troupe(server.url, make_app(endpoint, tmp_path_factory.mktemp("tapes"), models.append)) as on,
    ):
        yield Play(on, endpoint)
        for model in models:
            await model.close()


# ---- answers


async def test_a_streamed_answer(play: Play) -> None:
    """It is asked for as a stream, said live piece by piece, and on record as one step."""
    heard: list[Piece] = []

    def hear(message: Message) -> None:
        heard.append(msgspec.json.decode(message.data, type=Piece))

    subscription = await play.on.bus.subscribe(subjects.stream("default", "plain"), hear)
    assert await play.run("plain", Say(WORDS)) == WORDS
    await wait_until(lambda: heard and heard[-1].end, DEADLINE_S)
    await subscription.unsubscribe()
    (request,) = play.endpoint.asked("plain")
    assert request["stream"] is True and request["system"][0]["text"] == "You add."
    assert [tool["name"] for tool in request["tools"]] == ["add"]
    assert "".join(piece.text for piece in heard) == WORDS
    assert await play.steps("plain") == [("run:1", "completed"), ("model:1", "completed")]


async def test_an_answer_that_is_not_streamed(play: Play) -> None:
    """It means the same, tools and broken arguments included."""
    assert (
        await play.run("whole", Say(tools=(Use("add", {"a": 1, "b": 2}), Use("add", malformed="{"))), Say("3")) == "3"
    )
    first, second = play.endpoint.asked("whole")
    assert "stream" not in first and RAN == ["1+2"]
    assert [result.get("is_error", False) for result in second["messages"][-1]["content"]] == [False, True]


async def test_thoughts_tools_side_by_side_and_one_more(play: Play) -> None:
    """Tools of one turn run as branches of their own; the seals of all thoughts go back with each request."""
    both, last = (Use("add", {"a": 1, "b": 2}), Use("add", {"a": 3, "b": 4})), (Use("add", {"a": 3, "b": 7}),)
    turns = (
        Say(thinking="Two first.", signature="one", tools=both),
        Say("Now both.", thinking="Then one.", signature="two", redacted="hidden", tools=last),
        Say("10", thinking="Done.", signature="three"),
    )
    assert await play.run("thinker", *turns) == "10" and sorted(RAN) == ["1+2", "3+4", "3+7"]
    asked = play.endpoint.asked("thinker")
    assert all(request["thinking"] == {"type": "enabled", "budget_tokens": 1024} for request in asked)
    assert [_seals(request) for request in asked] == [[], ["one"], ["one", "two", "hidden"]]
    assert [result["content"] for result in asked[1]["messages"][-1]["content"]] == ["3", "7"]
    view = fold_view("thinker", await play.on.events("thinker"))
    assert {call.call for call in view.calls if call.kind == "tool"} == {
        "gather:1.0/add:1", "gather:1.1/add:1", "gather:2.0/add:1",
    }  # fmt: skip
    (run,) = trace_of(view).runs
    assert [turn.thoughts.split("\n")[0] for turn in run.turns] == ["Two first.", "Then one.", "Done."]


def _seals(request: dict[str, Any]) -> list[str]:
    blocks = [block for message in request["messages"] for block in message["content"]]
    return [block.get("signature") or block["data"] for block in blocks if "thinking" in block["type"]]


async def test_arguments_that_are_no_json(play: Play) -> None:
    """They run nothing, and are on record; the model is shown what it wrote, told what is wrong, and mends it."""
    turns = (
        Say(tools=(Use("add", malformed='{"a": 1, "b"'),)),
        Say(tools=(Use("add", {"a": "one", "b": 2}), Use("subtract", {"a": 1}))),
        Say(tools=(Use("add", {"a": 1, "b": 2}),)),
        Say("3"),
    )
    assert await play.run("wrong", *turns) == "3" and RAN == ["1+2"]
    asked = play.endpoint.asked("wrong")
    assert asked[1]["messages"][1]["content"][0]["input"] == {"INVALID_JSON": '{"a": 1, "b"'}
    told = [result for request in asked[1:3] for result in request["messages"][-1]["content"]]
    assert all(result["is_error"] for result in told)
    for result, words in zip(told, ("no JSON object", "expected integer", "no tool 'subtract'"), strict=True):
        assert words in result["content"]
    steps = dict(await play.steps("wrong"))
    assert {"gather:1.0/refused:1", "gather:2.0/refused:1", "gather:2.1/refused:1", "gather:3.0/add:1"} < set(steps)
    calls = [r.event.call for r in await play.on.events("wrong") if isinstance(r.event, CallTool)]
    assert calls == ["gather:3.0/add:1"]


async def test_an_answer_in_a_form(play: Play) -> None:
    """The API is given the schema; what does not fit is told to the model."""
    assert await play.run("judge", Say(answer={"sum": "three"}), Say(answer={"sum": 3})) == {"sum": 3}
    first, second = play.endpoint.asked("judge")
    assert first["output_config"]["format"]["schema"]["required"] == ["sum"]
    assert "Expected `int`" in second["messages"][-1]["content"][0]["text"]


async def test_an_answer_that_was_cut_off_at_its_limit(play: Play) -> None:
    """The model is told so, for words and for arguments alike, and answers more briefly."""
    turns = (
        Say("It is a long st", stop="max_tokens"),
        Say(tools=(Use("add", malformed='{"a": 1'),), stop="max_tokens"),
        Say("3"),
    )
    assert await play.run("short", *turns) == "3" and RAN == []
    _, second, third = play.endpoint.asked("short")
    assert "cut off at the limit of tokens" in second["messages"][-1]["content"][0]["text"]
    assert third["messages"][-1]["content"][0]["is_error"]


async def test_a_refusal(play: Play) -> None:
    """The job fails with the model's words, and nobody asks again."""
    with pytest.raises(JobFailedError, match="I will not add that") as caught:
        await play.run("mute", Say("I will not add that.", stop="refusal"))
    assert caught.value.failure.code == "refused" and len(play.endpoint.asked("mute")) == 1


async def test_a_wrong_key(play: Play) -> None:
    """No attempt can help: the job fails at once, and no message has the key."""
    with pytest.raises(JobFailedError) as caught:
        await play.run("locked", Refuse(401, message="invalid x-api-key: a key"))
    assert caught.value.failure.code == "unauthorized" and "a key" not in str(caught.value)
    assert len(play.endpoint.asked("locked")) == 1


# ---- endpoints that do not answer


async def test_overload(play: Play) -> None:
    """Asked again not before the time that the endpoint names; each attempt and each wait is a step."""
    assert await play.run("busy", Refuse(529, retry_after="0.3"), Refuse(429, retry_after="0.2"), Say("3")) == "3"
    assert await play.failures("busy") == [("overloaded", 0.3), ("rate_limited", 0.2)]
    assert await play.steps("busy") == [
        ("run:1", "completed"), ("model:1", "failed"), ("sleep:1", "completed"),
        ("model:2", "failed"), ("sleep:2", "completed"), ("model:3", "completed"),
    ]  # fmt: skip
    bodies = play.endpoint.asked("busy")
    assert len(bodies) == 3 and bodies[0] == bodies[1] == bodies[2]


async def test_overload_in_the_middle_of_a_stream(play: Play) -> None:
    """What was heard of it counts for nothing."""
    half = Say("This is not", tools=(Use("add", {"a": 1, "b": 1}),))
    assert await play.run("faulty", Fault(8, turn=half), Raw("<html>busy</html>", 503), Say("3")) == "3"
    assert [code for code, _ in await play.failures("faulty")] == ["overloaded", "overloaded"] and RAN == []


async def test_streams_that_are_cut(play: Play) -> None:
    """With or without a sound: half an answer is none."""
    whole = Say("Let me add.", tools=(Use("add", {"a": 1, "b": 1}),))
    assert await play.run("cut", Cut(7, whole), Cut(7, whole, politely=True), Say("2")) == "2"
    assert [code for code, _ in await play.failures("cut")] == ["unreachable"] * 2
    assert len(play.endpoint.asked("cut")) == 3 and RAN == []


async def test_a_slow_first_byte_and_none_at_all(play: Play) -> None:
    """Slowness is no failure until the time of the call is over; then the connection is closed and it is made anew."""
    gone = play.endpoint.claude.gone
    slow = Slow(0.2, Say("slowly", tools=(Use("add", {"a": 1, "b": 1}),)))
    assert await play.run("hasty", Hang(), slow, Say("2")) == "2"
    assert [code for code, _ in await play.failures("hasty")] == ["timeout"]
    assert len(play.endpoint.asked("hasty")) == 3 and play.endpoint.claude.gone > gone


# ---- without a key


async def test_a_run_that_is_played_from_a_tape(play: Play) -> None:
    """What was recorded once is played without the endpoint: the same answers, and the tools in earnest."""
    turns = (Say("I add.", thinking="Two.", tools=(Use("add", {"a": 1, "b": 2}),)), Refuse(529), Say("3"))
    assert await play.run("taped", *turns) == "3"
    assert await play.run("played") == "3" and RAN == ["1+2"]
    assert len(play.endpoint.asked("taped")) == 3 and not play.endpoint.asked("played")
    assert await play.failures("played") == []


# ---- the protocol of OpenAI


async def test_tools_over_openai(play: Play) -> None:
    """Side by side, broken once, thoughts on record and not sent back."""
    calls = (("c1", "add", '{"a": 1, "b": 2}'), ("c2", "add", '{"a": 3, "b"'))
    mended = (("c3", "add", '{"a": 3, "b": 4}'),)
    result = await play.run_toy(
        "toy", Said("Both.", calls=calls, reasoning="Two at once."), Said(calls=mended), Said("3 and 7")
    )
    assert result == "3 and 7" and RAN == ["1+2", "3+4"]
    first, second, third = play.endpoint.openai.bodies[-3:]
    assert first["stream"] is True and first["tools"][0]["function"]["name"] == "add"
    answers = [message for message in second["messages"] if message["role"] == "tool"]
    assert [answer["tool_call_id"] for answer in answers] == ["c1", "c2"]
    assert answers[0]["content"] == "3" and "no JSON object" in answers[1]["content"]
    assert "reasoning_content" not in str(third)
    (run,) = trace_of(fold_view("toy", await play.on.events("toy"))).runs
    assert run.turns[0].thoughts == "Two at once." and run.model == "gpt-toy"


async def test_overload_and_a_cut_stream_over_openai(play: Play) -> None:
    """The same codes, and the same patience."""
    refusal = Refusal(429, "slow down", {"retry-after": "0.2"})
    assert await play.run_toy("toy-busy", refusal, Said(WORDS, cut_after=4), Said("3")) == "3"
    assert await play.failures("toy-busy") == [("rate_limited", 0.2), ("unreachable", None)]


async def test_a_limit_and_a_refusal_over_openai(play: Play) -> None:
    """The reasons to stop mean what Claude's mean."""
    assert await play.run_toy("toy-short", Said("It is a lo", finish="length"), Said("3")) == "3"
    assert "cut off" in str(play.endpoint.openai.bodies[-1]["messages"][-1]["content"])
    with pytest.raises(JobFailedError) as caught:
        await play.run_toy("toy-mute", Said(refusal="I will not."))
    assert caught.value.failure.code == "refused"
