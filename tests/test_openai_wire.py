"""The words of the chat completions protocol, its failures and its servers' addresses: pure parts, many cases."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from actors.model import Delta, Message, ModelRef, ModelRequest, Text, Thinking, ToolResult, ToolUse
from actors.model.openai_failure import error_kind, shown, status_failure, stream_failure
from actors.model.openai_server import ollama_url, server_of
from actors.model.openai_wire import Dialect, Gathered, answer_of, body_of, can_be_strict, tool_use, usage_of, with_root
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
USE = st.builds(ToolUse, st.text("abc1", min_size=1), st.sampled_from(["sql", "now"]),
                st.dictionaries(st.text(max_size=4), JSON, max_size=3))  # fmt: skip
PART = st.builds(Text, st.text(max_size=9)) | st.builds(Thinking, st.text(max_size=9)) | USE
RESULT = st.builds(ToolResult, st.text("abc1", min_size=1), st.text(max_size=9), st.booleans())
MESSAGE = st.builds(Message, st.just("assistant"), st.lists(PART, max_size=4).map(tuple)) | st.builds(
    Message, st.just("user"), st.lists(RESULT | st.builds(Text, st.text(max_size=9)), max_size=4).map(tuple)
)


@given(st.lists(MESSAGE, max_size=5), st.booleans())
def test_every_conversation_becomes_a_body(messages: list[Message], sends_thoughts: bool) -> None:
    """Each word, each call and each result is sent once and in order, and no thought unless it is wanted."""
    request = ModelRequest(model="m", messages=tuple(messages))
    said = json.loads(json.dumps(body_of(request, "other", Dialect(sends_thoughts=sends_thoughts))))["messages"]
    calls = [call for each in said for call in each.get("tool_calls", ())]
    assert [call["id"] for call in calls] == [use.id for each in messages for use in each.tool_uses]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [
        use.input for each in messages for use in each.tool_uses
    ]
    results = [part for each in messages for part in each.parts if isinstance(part, ToolResult)]
    assert [each["tool_call_id"] for each in said if each["role"] == "tool"] == [each.tool_use_id for each in results]
    words = [each["content"] or "" for each in said if each["role"] != "tool"]
    assert "".join(words) == "".join(each.text for each in messages)
    assert sends_thoughts or not any("reasoning_content" in each for each in said)
    assert {each["role"] for each in said} <= {"user", "assistant", "tool"}


@given(st.text(max_size=12), st.text(max_size=12), st.lists(st.tuples(USE, st.integers(1, 5)), max_size=3), st.data())
def test_pieces_add_up_to_the_whole(text: str, thoughts: str, uses: list[tuple[ToolUse, int]], data: Any) -> None:
    """However a server cuts its answer, and however the calls' pieces are mixed, the reply is that of the whole."""
    calls = [{"id": use.id, "function": {"name": use.name, "arguments": json.dumps(use.input)}} for use, _ in uses]
    message = {"content": text, "reasoning_content": thoughts, "tool_calls": calls}
    whole, heard_at_once = answer_of({"id": "x", "choices": [{"message": message, "finish_reason": "stop"}]})
    deltas = [{"content": each} for each in _cut(text, 3)] + [{"reasoning_content": each} for each in _cut(thoughts, 2)]
    deltas += [{"tool_calls": [{"index": index, "id": use.id, "function": {"name": use.name}}]}
               for index, (use, _) in enumerate(uses)]  # fmt: skip
    pieces = [[{"tool_calls": [{"index": index, "function": {"arguments": each}}]}
               for each in _cut(json.dumps(use.input), size)] for index, (use, size) in enumerate(uses)]  # fmt: skip
    while rest := [each for each in pieces if each]:
        deltas.append(rest[data.draw(st.integers(0, len(rest) - 1))].pop(0))
    gathered, heard = Gathered(), list[Delta]()
    for delta in deltas:
        heard += gathered.add({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        assert not gathered.is_ended
    gathered.add({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    assert gathered.is_ended and gathered.reply() == whole
    assert whole.message.tool_uses == tuple(use for use, _ in uses)
    for kind in ("text", "thinking"):
        assert "".join(d.text for d in heard if d.kind == kind) == "".join(
            d.text for d in heard_at_once if d.kind == kind
        )


def _cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@given(st.text())
def test_any_arguments_are_read_or_malformed(arguments: str) -> None:
    """What a model writes as arguments is an object, nothing, or kept as it is."""
    use = tool_use("c", "sql", arguments)
    if use.malformed:
        assert use.malformed == arguments and use.input == {}
    else:
        assert not arguments.strip() or json.loads(arguments) == use.input


def test_a_call_without_an_id_gets_one() -> None:
    """Results are told by the id, so servers that give none are helped out, with a different one for each call."""
    calls = [{"function": {"name": "a", "arguments": {"n": 1}}}, {"function": {"name": "b"}}]
    reply, _ = answer_of({"id": "cmpl-7", "choices": [{"message": {"tool_calls": calls}, "finish_reason": "stop"}]})
    assert reply.message.parts == (ToolUse("cmpl-7-0", "a", {"n": 1}), ToolUse("cmpl-7-1", "b", {}))


@pytest.mark.parametrize("index", [{"index": 0}, {}])
def test_calls_of_one_index_are_told_apart_by_their_ids(index: dict[str, int]) -> None:
    """Ollama streams every call with index 0, or with none; their arguments do not run into each other."""
    gathered = Gathered()
    for call_id, name, arguments in (
        ("c1", "a", '{"n": 1}'),
        ("c2", "b", '{"n'),
        ("c2", "b", '": 2}'),
        ("c3", "a", ""),
    ):
        call = {**index, "id": call_id, "function": {"name": name, "arguments": arguments}}
        gathered.add({"choices": [{"delta": {"tool_calls": [call]}}]})
    uses = gathered.reply().message.tool_uses
    assert uses == (ToolUse("c1", "a", {"n": 1}), ToolUse("c2", "b", {"n": 2}), ToolUse("c3", "a", {}))


def test_usage_is_never_negative() -> None:
    """Servers leave figures out, or count what is cached in their own way."""
    assert usage_of({}).tokens == 0
    usage = usage_of({"prompt_tokens": 5, "completion_tokens": None, "prompt_tokens_details": {"cached_tokens": 9}})
    assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == (0, 5, 0)


# ---- schemas


class Row(msgspec.Struct):
    name: str
    note: str = ""


class Table(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[Row]


def test_schemas_have_their_root_in_place() -> None:
    """A Struct's schema begins with a reference, which the protocol refuses; both mean the same."""
    schema = msgspec.json.schema(Table)
    rooted = with_root(schema)
    assert "$ref" in schema and "$ref" not in rooted and rooted["type"] == "object"
    for value in ({"rows": [{"name": "a"}]}, {"rows": [{}]}, {}, {"rows": [], "more": 1}):
        assert Draft202012Validator(schema).is_valid(value) == Draft202012Validator(rooted).is_valid(value)
    assert with_root({"type": "object"}) == {"type": "object"}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"],
          "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}, False),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, False),
        ({"type": "array", "items": {"type": "object"}}, False),
        ({"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": False}]}, True),
        ({"type": "string", "enum": ["object"]}, True),
        (with_root(msgspec.json.schema(Table)), False),
    ],
)  # fmt: skip
def test_only_what_the_server_can_promise_is_strict(schema: dict[str, Any], strict: bool) -> None:
    """A strict schema with an optional field would be refused; every other one is checked by us anyway."""
    assert can_be_strict(schema) == strict


# ---- failures


@given(st.integers(300, 599), JSON, st.text(max_size=20))
def test_any_answer_is_a_failure_with_a_known_code(status: int, body: Any, said: str) -> None:
    """Nothing that a server sends breaks the mapping; 5xx passes, and what it is comes out as one of our codes."""
    error = status_failure("openai:m", status, {}, body, said)
    if isinstance(error, RetryableError):
        assert error.code in {"overloaded", "rate_limited", "timeout"}
    else:
        assert status < 500 and error.code in {
            "unauthorized",
            "bad_request",
            "context_too_long",
            "quota_exhausted",
            "unknown_model",
        }
    assert isinstance(stream_failure("openai:m", body, said), RetryableError | TerminalError)


def test_where_an_error_says_what_it_is() -> None:
    """Servers put the code of an error in different places."""
    assert error_kind({"code": "a", "type": "b"}) == "a"
    assert error_kind({"error": {"code": 400, "type": "b"}}) == "b"
    assert error_kind("text") == error_kind({"error": "text"}) == error_kind(None) == ""
    assert shown("Incorrect API key: sk-proj-abcdef123") == "Incorrect API key: sk-..."


# ---- addresses


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434/v1"),
        ("gpu1", "http://gpu1:11434/v1"),
        ("gpu1:8080", "http://gpu1:8080/v1"),
        (":8080", "http://127.0.0.1:8080/v1"),
        ("0.0.0.0:11434", "http://127.0.0.1:11434/v1"),
        ("[::1]:7", "http://[::1]:7/v1"),
        ("https://models.example", "https://models.example:443/v1"),
        ("http://gpu1:1/ollama/", "http://gpu1:1/ollama/v1"),
        ("http://gpu1:1/v1", "http://gpu1:1/v1"),
    ],
)
def test_ollamas_own_variable_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    """OLLAMA_HOST may lack the scheme, the host or the port, and may be what a server listens at."""
    assert ollama_url(host) == url


def test_servers_by_ref_and_environment() -> None:
    """A server that a ref names is never given the key of OpenAI, and shares no limits with it."""
    assert server_of(ModelRef("openai", "m"), {}).base_url is None
    own = server_of(ModelRef("openai", "m"), {"OPENAI_BASE_URL": "http://proxy/v1/"})
    assert (own.base_url, own.key_variable, own.needs_key) == ("http://proxy/v1", "OPENAI_API_KEY", True)
    named = server_of(ModelRef("openai", "m", "http://Gpu.example:8000/v1"), {"OPENAI_API_KEY": "k"})
    assert (named.provider, named.key({"OPENAI_API_KEY": "k"})) == ("openai-gpu-example-8000", "none")
    assert server_of(ModelRef("vllm", "m"), {"VLLM_BASE_URL": "http://h/v1"}).base_url == "http://h/v1"
    assert server_of(ModelRef("vllm", "m"), {}).base_url == "http://127.0.0.1:8000/v1"
    with pytest.raises(UsageError, match="VLLM_BASE_URL"):
        server_of(ModelRef("vllm", "m"), {"VLLM_BASE_URL": "h:8000"})
    with pytest.raises(UsageError, match="OLLAMA_HOST"):
        ollama_url("a b")
