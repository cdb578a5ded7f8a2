"""The words of the Messages API and ours: nothing is lost on the way, and nothing is sent that the API refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import groupby
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.model.anthropic_answer import TOOL, answer_form, object_schema, says_all
from actors.model.anthropic_stream import StreamedAnswer
from actors.model.anthropic_words import (
    MALFORMED,
    block_of,
    messages_of,
    params_of,
    part_of,
    reply_of,
    takes_temperature,
)
from actors.model.message import Message, Part, RedactedThinking, Text, Thinking, ToolResult, ToolUse, user
from actors.model.model import ModelRequest, ToolSpec
from actors.model.retry_after import LONGEST_WAIT_S, retry_after_s
from tests.anthropic_rules import complaint
from tests.anthropic_turns import Say, Spent, Use, events_of, message_of

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SAID = WORDS.filter(str.strip)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
INPUT = st.dictionaries(WORDS, JSON, max_size=3)
NAMES = st.sampled_from(["add", "sql", "web_fetch"])
THOUGHTS = st.builds(Thinking, WORDS, SAID) | st.builds(RedactedThinking, SAID)
MODELS = st.sampled_from(
    [
        "claude-3-7-sonnet-20250219",
        "claude-opus-4-1-20250805",
        "claude-haiku-4-5",
        "claude-opus-4-6",
        "claude-opus-4-8",
        "claude-fable-5",
        "claude-fable-5-1",
        "claude-haiku-5-5",
        "claude-sonnet-5-5",
        "some-proxy/claude",
    ]
)
SCHEMAS: list[dict[str, Any]] = [msgspec.json.schema(kind) for kind in (dict[str, int], list[int], int | None)]


class Node(msgspec.Struct):
    """A value that holds values of its own kind."""

    below: list[Node] = []


class Row(msgspec.Struct):
    """A value that a schema says all of."""

    name: str
    size: int | None = None
    tags: list[str] = []


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """A conversation as agents have them: a question, turns of the model with results after them, questions between."""
    said = [user(draw(SAID))]
    for turn in range(draw(st.integers(0, 4))):
        thoughts = draw(st.lists(THOUGHTS, max_size=2))
        texts = [Text(text) for text in draw(st.lists(WORDS, max_size=1))]
        uses = [ToolUse(f"toolu_{turn}_{at}", draw(NAMES), draw(INPUT)) for at in range(draw(st.integers(0, 3)))]
        said.append(Message("assistant", (*thoughts, *texts, *uses)))
        results = [ToolResult(use.id, draw(WORDS), draw(st.booleans())) for use in uses]
        mixed = draw(st.permutations([*results, *([] if uses and draw(st.booleans()) else [Text(draw(SAID))])]))
        said.append(Message("user", tuple(mixed)))
    return tuple(said)


def _sayable(message: Message) -> list[Part]:
    return [part for part in message.parts if not isinstance(part, Text) or part.text.strip()]


@given(conversations())
def test_a_conversation_loses_nothing(conversation: tuple[Message, ...]) -> None:
    """All parts that the API takes arrive as they were, in their order, but that results come first."""
    sent = messages_of(conversation)
    wanted: list[tuple[str, list[Part]]] = []
    for role, same in groupby((one for one in conversation if _sayable(one)), key=lambda message: message.role):
        parts = [part for message in same for part in _sayable(message)]
        wanted.append((role, sorted(parts, key=lambda part: not isinstance(part, ToolResult))))
    assert [(message["role"], [part_of(block) for block in message["content"]]) for message in sent] == wanted


@given(
    conversations(),
    MODELS,
    st.booleans(),
    st.booleans(),
    st.sampled_from(["auto", "any", "none", "add"]),
    st.sampled_from([0, 1024, 4000]),
    st.none() | st.just(0.5),
    st.sampled_from([None, *SCHEMAS, object_schema({})]),
    WORDS,
)
def test_no_request_breaks_the_rules_of_the_api(
    conversation: tuple[Message, ...],
    model: str,
    cache: bool,
    has_tools: bool,
    choice: str,
    thinking_tokens: int,
    temperature: float | None,
    schema: dict[str, Any] | None,
    system: str,
) -> None:
    """Whatever is asked, alone or together, is a request that the API takes, with four breakpoints at most."""
    tools = tuple(ToolSpec(name, "", SCHEMAS[0]) for name in ("add", "sql", "web_fetch")) if has_tools else ()
    request = ModelRequest(
        model=model, messages=conversation, system=system, tools=tools, tool_choice=choice if has_tools else "auto",
        thinking_tokens=thinking_tokens, temperature=temperature, output_schema=schema, cache=cache,
    )  # fmt: skip
    form = answer_form(schema, model, [tool.name for tool in tools]) if schema is not None else None
    body = params_of(request, form)
    assert complaint(body) == ""
    assert ("cache_control" in str(body)) >= cache
    assert "temperature" not in body or ("thinking" not in body and takes_temperature(model))


SUM = ToolUse("toolu_1", "add", {"a": 1})
SEALED = Thinking("hm", "seal")
SUMMED = Message("user", (ToolResult("toolu_1", "1"),))
NOTHING = Message("assistant", ())


@pytest.mark.parametrize(
    ("turns", "thinks"),
    [
        ((Message("assistant", (SEALED, SUM)), SUMMED), True),
        ((Message("assistant", (SUM,)), SUMMED), False),
        ((Message("assistant", (Thinking("hm"), SUM)), SUMMED), False),
        ((Message("assistant", (Text("I add."), SEALED, SUM)), SUMMED), False),
        ((Message("assistant", (SUM,)), SUMMED, NOTHING, user("And?")), False),
        ((Message("assistant", (SUM,)), SUMMED, NOTHING, NOTHING, user("And?")), False),
        ((Message("assistant", (SUM,)), SUMMED, Message("assistant", (Text("1"),)), user("And?")), True),
    ],
)
def test_a_turn_goes_on_as_it_began(turns: tuple[Message, ...], thinks: bool) -> None:
    """A model with a budget thinks on if the turn in hand began with a sealed thought; saying nothing ends no turn."""
    request = ModelRequest(model="claude-3-7-sonnet-20250219", messages=(user("?"), *turns), thinking_tokens=1024)
    body = params_of(request)
    assert ("thinking" in body) == thinks and complaint(body) == ""


USES = st.builds(Use, NAMES, INPUT)
TURNS = st.builds(
    Say,
    text=WORDS,
    tools=st.lists(USES, max_size=3).map(tuple),
    thinking=WORDS,
    redacted=WORDS,
    stop=st.sampled_from(["", "max_tokens"]),
    usage=st.builds(Spent, st.integers(0, 99), st.integers(0, 99)),
)


@given(TURNS)
def test_a_stream_becomes_the_message_that_would_have_come_at_once(turn: Say) -> None:
    """Streamed and unstreamed, an answer is the same; what is told meanwhile is all of its text and thoughts."""
    request = {"model": "m"}
    answer = StreamedAnswer()
    told = [delta for event in events_of(turn, request, 1) if (delta := answer.hear(event))]
    assert answer.is_whole
    assert reply_of(answer.message) == reply_of(message_of(turn, request, 1))
    assert "".join(delta.text for delta in told if delta.kind == "text") == turn.text
    assert "".join(delta.text for delta in told if delta.kind == "thinking") == turn.thinking


@given(TURNS, st.integers(0, 60))
def test_a_cut_stream_is_never_whole(turn: Say, at: int) -> None:
    """However much of a stream came, without its last event it is no answer."""
    answer = StreamedAnswer()
    for event in list(events_of(turn, {}, 1))[:-1][:at]:
        answer.hear(event)
    assert not answer.is_whole


def test_what_the_api_would_not_take_is_left_out() -> None:
    """Blank text and thoughts that nobody sealed are not sent; broken arguments go back in an object."""
    assert [block_of(part) for part in (Text(" \n"), Text(""), Thinking("hm"))] == [None] * 3
    sent = block_of(ToolUse("t", "add", {}, "{"))
    assert sent is not None and sent["input"] == {MALFORMED: "{"}
    assert messages_of([user("a"), Message("assistant", (Thinking("hm"),)), user("b")]) == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]


def test_blocks_of_the_providers_own_tools_are_left_out() -> None:
    """A kind of block or of stop that is not known yet breaks nothing."""
    reply = reply_of(
        {"content": [{"type": "server_tool_use"}, {"type": "text", "text": "hi"}], "stop_reason": "new", "usage": {}}
    )
    assert (reply.message.parts, reply.stop) == ((Text("hi"),), "end_turn")


@pytest.mark.parametrize(
    ("schema", "model", "kind"),
    [
        (msgspec.json.schema(Row), "claude-sonnet-5", "native"),
        (msgspec.json.schema(Row), "claude-haiku-4-5", "native"),
        (msgspec.json.schema(Row), "claude-3-7-sonnet-20250219", "tool"),
        (msgspec.json.schema(Row), "claude-sonnet-4-20250514", "tool"),
        (msgspec.json.schema(Row), "claude-opus-4-1-20250805", "tool"),
        (msgspec.json.schema(Row), "a-proxy's-name", "tool"),
        (msgspec.json.schema(Node), "claude-sonnet-5", "tool"),
        (msgspec.json.schema(dict[str, int]), "claude-sonnet-5", "tool"),
        (msgspec.json.schema(list[Row]), "claude-sonnet-5", "tool"),
        ({"type": "object"}, "claude-sonnet-5", "tool"),
    ],
)
def test_who_holds_a_model_to_a_schema(schema: dict[str, Any], model: str, kind: str) -> None:
    """The API does if model and schema allow it, else a tool does."""
    form = answer_form(schema, model, [TOOL])
    assert form.kind == kind
    assert form.schema["type"] == "object" and (kind == "native" or form.tool == TOOL + "_")


def test_a_schema_that_leaves_something_open() -> None:
    """Tuples, values of any kind and several kinds at once are not what the API can hold a model to."""
    for kind in (tuple[int, str], list[Any], dict, Any, int | list[Any]):
        assert not says_all(msgspec.json.schema(kind)), kind
    assert not says_all({"type": ["string", "null"]}) and not says_all({"$ref": "#/$defs/Nobody"})
    assert says_all(msgspec.json.schema(int | str | None)) and says_all({"const": 1})


@given(st.integers(-(10**6), 10**6))
def test_a_date_to_try_again(seconds: int) -> None:
    """A date is turned into the seconds until then, within reason."""
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_s({"retry-after": date}, NOW) == min(max(0, seconds), LONGEST_WAIT_S)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [({}, None), ({"retry-after": "0"}, 0.0), ({"retry-after": "2.5"}, 2.5), ({"retry-after": "soon"}, None),
     ({"retry-after": "-1"}, None), ({"retry-after": "nan"}, None), ({"retry-after": "999999"}, LONGEST_WAIT_S),
     ({"retry-after": "9", "retry-after-ms": "250"}, 0.25)],
)  # fmt: skip
def test_seconds_to_try_again(headers: dict[str, str], wait_s: float | None) -> None:
    """Seconds are taken as they are, what is no time is none, and nobody is put off for days."""
    assert retry_after_s(headers, NOW) == wait_s
