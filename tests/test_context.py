"""A conversation kept under a limit: what goes by each policy (pure), and agents that run with one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Agent, App, Context, TerminalError, UsageError
from actors.agents.conversation import Conversation, Meter, begin
from actors.agents.trace import Trace, trace_of
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.console.page import plain_lines
from actors.console.trace_page import trace_page
from actors.context.policy import window_of
from actors.context.shortening import (
    LEAST_RESULT_CHARS,
    Shortening,
    counted,
    finish,
    plan,
    shorten,
    tokens_of,
)
from actors.context.summary import INSTRUCTIONS, summary_request
from actors.model.anthropic_model import AnthropicModel
from actors.model.message import Message, Part, Text, Thinking, ToolResult, ToolUse, user
from actors.model.model import ModelRequest, Usage
from actors.model.scripted import Fail
from actors.model.scripted import Say as Said
from actors.model.token_estimate import estimate_messages, estimate_request
from actors.testing import ScriptedModel, fail, replay, say, use
from bus.embedded import EmbeddedServer
from bus.messages import ReplyCompleted
from store.job_fold import fold_view
from tests.fake_anthropic import FakeAnthropic, Refuse, Say, Spent, Turn, Use
from tests.troupe import Troupe, troupe

DEADLINE_S = 40
FIXED = 50

# ---- what goes, pure

words = st.text("ab ", min_size=1, max_size=40)
own_turns = st.lists(st.lists(st.integers(0, 3000), max_size=3), max_size=8)
contexts = st.builds(
    Context, limit_tokens=st.integers(20, 4000), policy=st.sampled_from(["drop", "summarise"]),
    keep_turns=st.integers(1, 5),
)  # fmt: skip


def talk(earlier: int, turns: list[list[int]]) -> Conversation:
    """Exchanges before the prompt, then turns whose tools gave results of these sizes; none: words to be mended."""
    before = [message for n in range(earlier) for message in (user(f"q{n}"), Message("assistant", (Text(f"a{n}"),)))]
    found = begin("the prompt", tuple(before))
    for number, sizes in enumerate(turns):
        parts: list[Part] = [Thinking("hm", "seal"), Text(f"turn {number}")]
        parts += [ToolUse(f"{number}.{n}", "find", {"n": n}) for n in range(len(sizes))]
        told: list[Part] = [ToolResult(f"{number}.{n}", "x" * size) for n, size in enumerate(sizes)]
        said = Message("assistant", tuple(parts))
        found = replace(found, messages=(*found.messages, said, Message("user", tuple(told or [Text("mend it")]))))
    return found


def check_whole(messages: tuple[Message, ...]) -> None:
    """As every API wants it: the user begins, roles alternate, results come right after the uses that they answer."""
    assert [message.role for message in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"]
    asked: list[str] = []
    for message in messages:
        assert [part.tool_use_id for part in message.parts if isinstance(part, ToolResult)] == asked
        asked = [part.id for part in message.tool_uses]


@given(st.integers(0, 4), own_turns, contexts, st.floats(0.3, 3), st.booleans())
def test_what_is_left_is_a_conversation(
    earlier: int, turns: list[list[int]], context: Context, scale: float, too_long: bool
) -> None:
    """Shortened by any policy it is well-formed, has the prompt and the last turn, and fits if anything could."""
    whole = replace(talk(earlier, turns), meter=Meter(scale=scale))
    done = plan(whole, FIXED, context, too_long=too_long)
    if done is None:
        is_short = tokens_of(whole, FIXED) <= (context.limit_tokens or 0)
        assert is_short or too_long or len(whole.messages) <= 3
        return
    assert done.tokens_before > done.limit_tokens
    summed_up = context.policy == "summarise" and bool(done.turns)
    if summed_up:
        done = finish(whole, msgspec.structs.replace(done, summary="s" * 50), FIXED)
    left = shorten(whole, done, FIXED)
    check_whole(left.messages)
    prompt = left.messages[left.prompt_at]
    assert prompt.parts[0] == Text("the prompt")
    assert len(prompt.parts) == 1 + bool(done.turns)
    assert left.left_out == (0 if summed_up else done.turns)
    if turns:
        assert [part.id for part in left.messages[-2].tool_uses] == [part.id for part in whole.messages[-2].tool_uses]
    assert done.tokens_after == tokens_of(left, FIXED)
    gone = (len(whole.messages) - len(left.messages)) // 2
    assert gone == done.turns
    if done.tokens_after > done.limit_tokens:
        assert done.turns == earlier + max(0, len(turns) - 1)
        results = [part for message in left.messages for part in message.parts if isinstance(part, ToolResult)]
        assert all(len(part.content) <= LEAST_RESULT_CHARS + 100 for part in results)


@given(st.integers(0, 4), own_turns, contexts)
def test_it_is_shortened_again_and_again(earlier: int, turns: list[list[int]], context: Context) -> None:
    """A conversation that grows on after it was shortened stays well-formed, and counts all that went."""
    found, went = talk(earlier, []), 0
    for number, sizes in enumerate(turns):
        grown = talk(0, [sizes]).messages[1:]
        named = msgspec.json.decode(
            msgspec.json.encode(grown).replace(b'"0.', f'"{number}.'.encode()), type=tuple[Message, ...]
        )
        found = replace(found, messages=(*found.messages, *named))
        if done := plan(found, FIXED, context):
            done = msgspec.structs.replace(done, policy="drop")
            found, went = shorten(found, done, FIXED), went + done.turns
        check_whole(found.messages)
        assert found.left_out == went


def test_the_newest_turns_stay_while_others_make_room() -> None:
    """What goes makes room for some turns; ``keep_turns`` give way only if nothing else is left to go."""
    whole = talk(0, [[300]] * 8)
    tokens = tokens_of(whole, 0)
    done = plan(whole, 0, Context(limit_tokens=tokens - 1, keep_turns=1))
    assert done is not None and 2 < done.turns < 7 and done.tokens_after <= 0.6 * tokens
    kept = plan(whole, 0, Context(limit_tokens=tokens - 1, keep_turns=6))
    assert kept is not None and kept.turns == 2
    assert (tight := plan(whole, 0, Context(limit_tokens=tokens // 4, keep_turns=4))) is not None
    assert tight.turns > 4 and tight.tokens_after <= tokens // 4


def test_a_huge_result_is_cut_before_a_turn_goes() -> None:
    """One document that a tool gave is no reason to forget what was said."""
    whole = talk(0, [[10], [40_000], [10]])
    done = plan(whole, 0, Context(limit_tokens=4000))
    assert done is not None and done.turns == 0 and done.result_chars is not None
    (cut,) = shorten(whole, done, 0).messages[4].parts
    assert isinstance(cut, ToolResult) and "cut: 40,000 characters in all" in cut.content


def test_the_providers_count_is_what_counts() -> None:
    """The estimate is of what was said since the last answer only, and is corrected by what was counted."""
    whole = talk(0, [[100]])
    met = counted(whole, Usage(input_tokens=900, cache_read_tokens=60, output_tokens=40), FIXED, 2)
    assert tokens_of(met, FIXED) == 1000 + 2 * estimate_messages(whole.messages[2:])
    assert counted(whole, Usage(), FIXED, 2) is whole


def test_a_summary_is_asked_for_in_words_alone() -> None:
    """The request has the task, the summary before, uses and results as text, and no more than fits."""
    whole = replace(talk(1, [[50], [90_000], [10]]), summary="once there was more")
    done = Shortening(policy="summarise", turns=3, tokens_before=9000, tokens_after=0, limit_tokens=3000)
    asked = summary_request(whole, done, "m")
    text = asked.messages[0].text
    assert "the prompt" in text and "once there was more" in text and 'used find with {"n":0}' in text
    assert "hm" not in text and not asked.tools and len(asked.messages) == 1
    short = summary_request(whole, msgspec.structs.replace(done, limit_tokens=400), "m")
    assert estimate_request(short) + short.max_tokens <= 500


@pytest.mark.parametrize(
    ("model", "window"), [("anthropic/claude-sonnet-5", 200_000), ("gpt-4.1-mini", 1_000_000), ("llama3.2", None)]
)
def test_windows_of_models(model: str, window: int | None) -> None:
    """Families that are known have a limit of their own, less room for the answer; others have none."""
    assert window_of(model) == window
    limit = Context().for_model(model, 1000).limit_tokens
    assert limit == (None if window is None else window - 1000)
    assert Context(limit_tokens=5).for_model(model, 1000).limit_tokens == 5


@pytest.mark.parametrize("wrong", [{"limit_tokens": 0}, {"policy": "forget"}, {"keep_turns": 0}])
def test_wrong_contexts_are_refused(wrong: dict[str, Any]) -> None:
    """Where they are said, with what would be right."""
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Context(**wrong)
    with pytest.raises(UsageError, match="context cannot be"):
        App("wrong").agent(model="scripted:a:b", context={})(_nothing)  # type: ignore[arg-type]


async def _nothing(agent: Agent, question: str) -> str:
    return ""


# ---- agents

TURNS = 8
app = App("lengthy", version="1.0.0")


@app.tool(read_only=True)
def page(n: int) -> str:
    """A page of a book."""
    return f"page {n} " + "of a long book " * 40


def reader(request: ModelRequest) -> Said:
    """Reads page after page, whatever it still sees of them, then says what it knows."""
    if request.system == INSTRUCTIONS:
        return say("Pages were read; the hero is Ann.")
    told = [part for message in request.messages for part in message.parts if isinstance(part, ToolResult)]
    number = int(told[-1].content.split()[1]) + 1 if told else 1
    return use("page", {"n": number}) if number <= TURNS else say(f"read {TURNS}")


def refusing(request: ModelRequest) -> Said | Fail:
    """A provider that takes less than it says."""
    if estimate_request(request) > 1500:
        return fail(TerminalError("prompt is too long", code="context_too_long"))
    return reader(request)


TOO_LONG = fail(TerminalError("no", code="context_too_long"))
MODELS = {
    "dropper": ScriptedModel(reader), "summer": ScriptedModel(reader), "strict": ScriptedModel(reader),
    "surprised": ScriptedModel(refusing), "stuck": ScriptedModel(lambda _: TOO_LONG),
    "free": ScriptedModel(reader),
}  # fmt: skip
CONTEXTS = {
    "dropper": Context(limit_tokens=1000, keep_turns=2), "summer": Context(limit_tokens=1000, policy="summarise"),
    "strict": Context(limit_tokens=1000, policy="fail"), "surprised": Context(), "stuck": Context(), "free": None,
}  # fmt: skip


async def read(agent: Agent, question: str) -> str:
    """Reads a book."""
    return await agent.run(question)


READERS = {
    name: app.agent(model=model, tools=[page], name=name, instructions="Read.", context=CONTEXTS[name])(read)
    for name, model in MODELS.items()
}


async def read_book(on: Troupe, name: str) -> tuple[list[Shortening], Trace]:
    """What was done about its length, and the trace; a replay of the log asks nobody again."""
    await on.submit(name, f"{name}-1", {"question": "Who is it?"})
    await Client(on.bus).result(f"{name}-1", timeout_s=DEADLINE_S)
    log = await on.events(f"{name}-1")
    asked = len(MODELS[name].requests)
    (await replay(READERS[name], log)).check()
    assert len(MODELS[name].requests) == asked
    steps = [r.event for r in log if isinstance(r.event, ReplyCompleted) and r.event.op == "context"]
    return [msgspec.json.decode(step.output, type=Shortening) for step in steps], trace_of(fold_view(f"{name}-1", log))


async def test_agents_keep_to_their_limit(nats_server: EmbeddedServer) -> None:
    """By dropping, by summing up, or by failing; what was done is on record, in the trace, done again by a replay."""
    async with troupe(nats_server.url, app) as on:
        done, trace = await read_book(on, "dropper")
        assert done and all(step.policy == "drop" and step.turns for step in done)
        for request in MODELS["dropper"].requests:
            check_whole(request.messages)
            assert estimate_request(request) <= 1000
        left_out = sum(step.turns for step in done)
        assert f"({left_out} earlier turns were left out" in MODELS["dropper"].requests[-1].messages[0].text
        page_text = "\n".join(plain_lines(trace_page([(0, trace)], whole=False)))
        assert "left out" in page_text and "limit 1,000" in page_text

        done, trace = await read_book(on, "summer")
        assert done and all(step.summary == "Pages were read; the hero is Ann." for step in done)
        requests = MODELS["summer"].requests
        assert sum(request.system == INSTRUCTIONS for request in requests) == len(done)
        assert all(estimate_request(request) <= 1000 for request in requests)
        assert "the hero is Ann" in requests[-1].messages[0].text
        assert len(trace.runs[0].turns) == TURNS + 1
        shortened = [each for turn in trace.runs[0].turns for each in turn.shortened]
        assert len(shortened) == len(done) and all(each.usage.tokens for each in shortened)
        assert trace.usage.tokens == sum(estimate_request(request) for request in requests) + sum(
            turn.usage.output_tokens for turn in (*trace.runs[0].turns, *shortened)
        )
        with pytest.raises(JobFailedError, match="its limit is 1,000") as caught:
            await read_book(on, "strict")
        assert caught.value.failure.code == "context_too_long"

        done, _ = await read_book(on, "free")
        assert not done


async def test_a_provider_that_refuses_is_asked_again_with_less(nats_server: EmbeddedServer) -> None:
    """Once for each call: half of the conversation goes, on record, and if nothing can go the error stands."""
    async with troupe(nats_server.url, app) as on:
        done, trace = await read_book(on, "surprised")
        assert done and all(step.too_long and step.tokens_after < step.tokens_before for step in done)
        refused = [turn for turn in trace.runs[0].turns if turn.failures]
        assert len(refused) == len(done)
        with pytest.raises(JobFailedError, match="no") as caught:
            await read_book(on, "stuck")
        assert caught.value.failure.code == "context_too_long"
        assert len(MODELS["stuck"].requests) == 1


# ---- over the real SDK


async def test_claude_takes_what_is_left(nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With signed thoughts and parallel tools, dropped and summed up: no request is one that the API would refuse."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a key")

    def script(request: dict[str, Any], _: int) -> Turn:
        if request["system"] and "sum up" in str(request["system"]):
            return Say("Pages were read.")
        said = [
            block for message in request["messages"] for block in message["content"] if block["type"] == "tool_result"
        ]
        number = int(str(said[-1]["content"]).partition("page ")[2].split()[0]) if said else 0
        if number == 4 and len(request["messages"]) >= 5:
            return Refuse(400, message="prompt is too long: 210000 tokens > 200000 maximum")
        uses = (Use("page", {"n": number + 1}), Use("page", {"n": number + 2}))
        spent = Spent(input_tokens=len(str(request["messages"])) // 3, output_tokens=40)
        if number >= 10:
            return Say("read", usage=spent)
        return Say(thinking="hm", signature="seal", tools=uses, usage=spent)

    async with FakeAnthropic(script) as fake:
        models = {
            "drop": AnthropicModel("claude-opus-5-5", base_url=fake.url),
            "summarise": AnthropicModel("claude-sonnet-5", base_url=fake.url),
        }
        claude = App("claude")
        claude.tool(read_only=True)(page.fn)
        tools: Any = {"tools": claude.components[:], "thinking_tokens": 2048, "instructions": "Read."}
        for policy, model in models.items():
            context = Context(limit_tokens=1500, policy=policy)  # type: ignore[arg-type]
            claude.agent(**tools, model=model, name=policy, context=context)(read)
        async with troupe(nats_server.url, claude) as on:
            for policy in models:
                await on.submit(policy, policy, {"question": "Who?"})
                assert await Client(on.bus).result(policy, timeout_s=DEADLINE_S) == "read"
                log = [r.event for r in await on.events(policy) if isinstance(r.event, ReplyCompleted)]
                done = [msgspec.json.decode(e.output, type=Shortening) for e in log if e.op == "context"]
                assert {step.too_long for step in done} == {True, False}
                assert {bool(step.summary) for step in done} == {policy == "summarise"}
        for model in models.values():
            await model.close()
        # Thoughts that are bound to what is gone by now: the API is asked to leave them out, not to refuse them.
        bound = [request["thinking"] for request in fake.requests if request["model"] == "claude-opus-5-5"]
        assert bound[-1]["block_binding"] == {"prefix_mismatch_behavior": "drop_block"}
