"""The model that plays a script: its turns, their choice by the conversation alone, its failures and its end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.model import Delta, Message, ModelReply, ModelRequest, Text, Thinking, ToolResult, ToolUse
from actors.model.message import user
from actors.model.pieces import pieces_of
from actors.model.scripted import Turn
from actors.model.token_estimate import estimate_request, estimate_text
from actors.testing import ScriptedModel, fail, say, use
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError


def asked(*more: Message) -> ModelRequest:
    return ModelRequest(model="scripted", messages=(user("How many orders?"), *more))


def after(turns: int) -> ModelRequest:
    """A conversation in which the model has spoken ``turns`` times."""
    spoken = (Message("assistant", (Text("..."),)), user("and then?"))
    return asked(*spoken * turns)


async def played(model: ScriptedModel, turns: int) -> list[ModelReply]:
    """A conversation of so many turns, each reply put into it."""
    request, replies = asked(), []
    for _ in range(turns):
        reply = await model.reply(request)
        replies.append(reply)
        results = tuple(ToolResult(each.id, "12") for each in reply.message.tool_uses)
        request = asked(*request.messages[1:], reply.message, Message("user", results or (Text("go on"),)))
    return replies


async def test_turns_are_played_in_order_with_text_thinking_and_tools() -> None:
    """A script's turns become replies as a provider gives them: parts in their order, stop reasons, ids."""
    model = ScriptedModel([
        use("sql", {"query": "select 1"}, "chart", {"kind": "bar"}, text="Let me look.", thinking="Hm."),
        use("sql", "{no json"),
        say({"total": 12}),
        say("cut", stop="max_tokens"),
    ])  # fmt: skip
    first, second, third, fourth = await played(model, 4)
    assert first.message == Message("assistant", (
        Thinking("Hm."), Text("Let me look."),
        ToolUse("use-1-1", "sql", {"query": "select 1"}), ToolUse("use-1-2", "chart", {"kind": "bar"}),
    ))  # fmt: skip
    assert first.stop == "tool_use" and first.usage.output_tokens > 0 and first.model == "scripted"
    assert second.message.tool_uses == (ToolUse("use-2-1", "sql", {}, malformed="{no json"),)
    assert (third.message.text, third.stop) == ('{"total":12}', "end_turn")
    assert fourth.stop == "max_tokens"
    assert [len(request.messages) for request in model.requests] == [1, 3, 5, 7]


@given(st.integers(0, 6))
def test_the_turn_is_chosen_by_the_conversation(turns: int) -> None:
    """A fresh object, as in another process after a crash, plays the turn that is due, and says the same twice."""
    script: list[Turn] = [say(f"turn {number}") for number in range(7)]
    coroutine = ScriptedModel(script).reply(after(turns))
    again = ScriptedModel(script).reply(after(turns))
    assert _result(coroutine).message.text == f"turn {turns}"
    assert _result(again) == _result(ScriptedModel(script).reply(after(turns)))


def _result(coroutine: Any) -> ModelReply:
    """What a coroutine gives that waits for nothing."""
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    reply = ended.value.value
    assert isinstance(reply, ModelReply)
    return reply


async def test_functions_look_at_the_conversation() -> None:
    """A function among the turns, or in place of them, is given the request; it may answer with a whole reply."""
    whole = ModelReply(message=Message("assistant", (Text("No."),)), stop="refusal")

    def echo(request: ModelRequest) -> Any:
        said = request.messages[-1].text
        return whole if said == "refuse" else say(said.upper())

    assert (await ScriptedModel([echo, whole]).reply(asked())).message.text == "HOW MANY ORDERS?"
    assert await ScriptedModel([echo, whole]).reply(after(1)) == whole
    everywhere = ScriptedModel(echo, name="echo")
    assert (await everywhere.reply(after(9))).message.text == "AND THEN?"
    assert (await everywhere.reply(asked(user("refuse")))) is whole
    with pytest.raises(TerminalError, match="'echo' answered with a int"):
        await ScriptedModel(lambda _: 5, name="echo").reply(asked())  # type: ignore[arg-type,return-value]


async def test_failures_come_before_a_turn_and_then_it_is_played() -> None:
    """A failed call leaves nothing in the conversation, so the next one gets the next failure or the turn itself."""
    model = ScriptedModel([
        fail(RetryableError("overloaded", retry_after_s=2.0, code="overloaded"), times=2),
        fail(TerminalError("wrong key", code="unauthorized")),
        say("there"),
        fail(RetryableError("gone")),
    ])  # fmt: skip
    for _ in range(2):
        with pytest.raises(RetryableError) as caught:
            await model.reply(asked())
        assert (caught.value.code, caught.value.retry_after_s) == ("overloaded", 2.0)
    with pytest.raises(TerminalError, match="wrong key"):
        await model.reply(asked())
    assert (await model.reply(asked())).message.text == "there"
    for _ in range(3):
        with pytest.raises(RetryableError, match="gone"):
            await model.reply(after(1))
    assert len(model.requests) == 7


async def test_the_end_of_a_script_says_what_was_asked() -> None:
    """Who reads the error of a demo knows which turn is missing, and after what."""
    model = ScriptedModel([say("one")], name="shop")
    result = Message("user", (ToolResult("use-1-1", "12 orders"),))
    with pytest.raises(TerminalError) as caught:
        await model.reply(asked(Message("assistant", ()), result))
    assert caught.value.code == "script_ended"
    assert caught.value.details == {"turn": 2, "turns": 1, "said_last": "12 orders"}
    assert "'shop' was asked for turn 2, and its script has 1" in str(caught.value)


async def test_pieces_are_heard_as_they_come() -> None:
    """Who listens hears thoughts and words in small pieces that add up to the reply."""
    heard: list[Delta] = []
    model = ScriptedModel([use("sql", {}, text="Let me  look\n", thinking="Hm, orders.")])
    reply = await model.reply(asked(), heard.append)
    assert "".join(each.text for each in heard if each.kind == "text") == reply.message.text
    assert [each.text for each in heard if each.kind == "thinking"] == ["Hm,", " orders."]
    assert len(heard) == 5


@given(st.text())
def test_pieces_are_the_text(text: str) -> None:
    """No character is lost or changed by cutting, and no piece is empty."""
    assert "".join(pieces_of(text)) == text
    assert all(pieces_of(text))


@pytest.mark.parametrize("wrong", [("a", {}, "b"), ("a", {}, 3, {}), ("a", {}, "b", 5)])
def test_a_wrong_script_is_refused_when_it_is_written(wrong: tuple[Any, ...]) -> None:
    """Mistakes are told where the script is made, not in the middle of a run."""
    with pytest.raises(UsageError, match="takes a tool's name"):
        use(*wrong)
    with pytest.raises(UsageError, match="turn 2 of a script is a str"):
        ScriptedModel([say("a"), "b"])  # type: ignore[list-item]


@given(st.text(), st.text())
def test_estimates_grow_with_what_is_said(one: str, more: str) -> None:
    """Nothing is free, and more words are never fewer tokens."""
    assert estimate_text(one) <= estimate_text(one + more) <= estimate_text(one) + estimate_text(more)
    assert (estimate_text(one) == 0) == (one == "")
    request = ModelRequest(model="m", messages=(user(one),))
    assert estimate_request(request) < estimate_request(ModelRequest(model="m", messages=(user(one), user(more))))
