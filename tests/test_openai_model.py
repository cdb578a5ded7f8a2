"""Models that speak the chat completions protocol: the real ``openai`` package against a local server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from actors.model import Delta, Message, ModelReply, ModelRequest, Text, Thinking, ToolResult, ToolSpec, ToolUse, Usage
from actors.model.message import user
from actors.model.open_model import open_model
from actors.model.openai_model import OpenAIModel
from actors.model.openai_server import OpenAIServer
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError
from tests.fake_openai import Answer, FakeOpenAI, Raw, Refusal, Said

SQL = ToolSpec("sql", "Ask the database.", {"type": "object", "properties": {"query": {"type": "string"}}})
KEY = "sk-test-0123456789"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the test's own, and an account that no other server is told of."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OLLAMA_HOST", "VLLM_BASE_URL", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")


@asynccontextmanager
async def served(*answers: Answer) -> AsyncIterator[tuple[OpenAIModel, FakeOpenAI]]:
    """A model, and the server that it asks."""
    async with FakeOpenAI(answers) as server:
        model = open_model(f"openai:gpt-4.1@{server.url}")
        assert isinstance(model, OpenAIModel)
        try:
            yield model, server
        finally:
            await model.close()


def asked(**more: Any) -> ModelRequest:
    return ModelRequest(**{"model": "gpt-4.1", "messages": (user("How many orders?"),), "timeout_s": 30.0, **more})


async def one(answer: Answer, **more: Any) -> tuple[ModelReply, list[Delta]]:
    """The reply to one request, and what was heard of it."""
    heard: list[Delta] = []
    async with served(answer) as (model, server):
        reply = await model.reply(asked(**more), heard.append if more.get("stream", True) else None)
        assert bool(server.bodies[0].get("stream")) == more.get("stream", True)
    return reply, heard


# ---- what is answered


@pytest.mark.parametrize("stream", [True, False])
async def test_words_thoughts_and_usage(stream: bool) -> None:
    """Streamed or whole, an answer is the same: thoughts, words, why it stopped, tokens with the cached ones apart."""
    reply, heard = await one(Said("There are 12 orders.", reasoning="Let me count."), stream=stream)
    assert reply.message == Message("assistant", (Thinking("Let me count."), Text("There are 12 orders.")))
    assert (reply.stop, reply.model, reply.id) == ("end_turn", "gpt-4.1", "chatcmpl-1")
    assert reply.usage == Usage(input_tokens=70, output_tokens=7, cache_read_tokens=30)
    if stream:
        assert "".join(each.text for each in heard if each.kind == "text") == "There are 12 orders."
        assert "".join(each.text for each in heard if each.kind == "thinking") == "Let me count."
        assert len(heard) > 5


@pytest.mark.parametrize("stream", [True, False])
async def test_parallel_tools_and_malformed_arguments(stream: bool) -> None:
    """Several tools at once, their arguments in pieces that come in turns; what is no JSON object is kept as it is."""
    calls = (("c1", "sql", '{"query": "select 1"}'), ("c2", "chart", '{"kind": "bar", "rows": [[1, 2]]}'),
             ("c3", "sql", '{"query": "sel'), ("c4", "now", ""), ("c5", "sql", "[1]"))  # fmt: skip
    reply, _ = await one(Said("Let me look.", calls), stream=stream, tools=(SQL,))
    assert reply.stop == "tool_use"
    assert reply.message.parts == (
        Text("Let me look."),
        ToolUse("c1", "sql", {"query": "select 1"}),
        ToolUse("c2", "chart", {"kind": "bar", "rows": [[1, 2]]}),
        ToolUse("c3", "sql", {}, malformed='{"query": "sel'),
        ToolUse("c4", "now", {}),
        ToolUse("c5", "sql", {}, malformed="[1]"),
    )


@pytest.mark.parametrize(
    ("answer", "stop", "text"),
    [
        (Said("cut", finish="length"), "max_tokens", "cut"),
        (Said("", finish="content_filter"), "refusal", ""),
        (Said(refusal="I cannot help."), "refusal", "I cannot help."),
        (Said("", (("c1", "sql", "{}"),), finish="stop"), "tool_use", ""),
        (Said("none came", finish="tool_calls"), "end_turn", "none came"),
        (Said("a", stop_reason="END"), "stop_sequence", "a"),
        (Said("a", finish="something new"), "end_turn", "a"),
        (Said("a", reasoning="b", reasoning_field="reasoning"), "end_turn", "a"),
    ],
)
async def test_why_it_stopped(answer: Said, stop: str, text: str) -> None:
    """Each reason to stop is told in our words, also those that servers tell in their own way."""
    for stream in (True, False):
        reply, _ = await one(answer, stream=stream)
        assert (reply.stop, reply.message.text) == (stop, text)
        assert bool(answer.reasoning) == any(isinstance(part, Thinking) for part in reply.message.parts)


# ---- what is asked


async def test_a_conversation_is_sent_in_the_protocols_words() -> None:
    """All that a request has reaches the server; what the protocol cannot say stays away; no account is told."""
    uses = (ToolUse("c1", "sql", {"query": "select 1"}), ToolUse("c2", "sql", {}, malformed="{no"))
    results = (ToolResult("c1", "12"), ToolResult("c2", "no JSON", is_error=True), Text("and quickly"))
    request = asked(
        messages=(user("How many?"), Message("assistant", (Thinking("Hm.", "seal"), Text("Look."), *uses)),
                  Message("user", results)),
        system="You count.", tools=(SQL,), tool_choice="any", max_tokens=99, temperature=0.5, thinking_tokens=4000,
        stop_sequences=("END",), output_schema={"type": "object", "properties": {}, "additionalProperties": False},
    )  # fmt: skip
    async with served(Said("ok")) as (model, server):
        await model.reply(request)
        body, headers = server.bodies[0], server.headers[0]
        assert model.count_tokens(request) > 20
    arguments = [call["function"].pop("arguments") for call in body["messages"][2]["tool_calls"]]
    assert [json.loads(each) for each in arguments] == [{"query": "select 1"}, {"malformed_arguments": "{no"}]
    assert body["messages"] == [
        {"role": "system", "content": "You count."},
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": "Look.", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "sql"}},
            {"id": "c2", "type": "function", "function": {"name": "sql"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "12"},
        {"role": "tool", "tool_call_id": "c2", "content": "error: no JSON"},
        {"role": "user", "content": "and quickly"},
    ]  # fmt: skip
    assert body["tools"][0]["function"] == {
        "name": "sql",
        "description": SQL.description,
        "parameters": SQL.input_schema,
    }
    assert body["response_format"]["json_schema"]["strict"] is True
    said = {name: body[name] for name in ("tool_choice", "max_tokens", "temperature", "reasoning_effort", "stop")}
    assert said == {"tool_choice": "required", "max_tokens": 99, "temperature": 0.5, "reasoning_effort": "medium",
                    "stop": ["END"]}  # fmt: skip
    assert headers["authorization"] == f"Bearer {KEY}"
    assert not [name for name, value in headers.items() if "secret" in value]


async def test_thoughts_go_back_where_they_are_wanted() -> None:
    """Some servers refuse a conversation without the reasoning that came with the calls of tools."""
    said = Message("assistant", (Thinking("Hm."), ToolUse("c1", "sql", {})))
    async with FakeOpenAI([Said("ok")]) as server:
        model = OpenAIModel("m", server=OpenAIServer("deepseek", server.url, "VLLM_API_KEY"), sends_thoughts=True)
        await model.reply(asked(messages=(user("?"), said, Message("user", (ToolResult("c1", "1"),)))))
        assert server.bodies[0]["messages"][1]["reasoning_content"] == "Hm."
        assert server.headers[0]["authorization"] == "Bearer none"
        assert model.provider == "deepseek"
        await model.close()


# ---- what goes wrong


@pytest.mark.parametrize(
    ("refusal", "code", "after_s"),
    [
        (Refusal(429, "slow down", {"retry-after": "2.5"}), "rate_limited", 2.5),
        (Refusal(429, "slow down", {"retry-after-ms": "250"}), "rate_limited", 0.25),
        (Refusal(500, "oops"), "overloaded", None),
        (Refusal(503, "busy", {"retry-after": "1"}), "overloaded", 1.0),
        (Refusal(529, "busy"), "overloaded", None),
        (Refusal(504, "late"), "timeout", None),
        (Refusal(429, "pay first", code="insufficient_quota"), "quota_exhausted", "never"),
        (Refusal(401, f"wrong key {KEY}"), "unauthorized", "never"),
        (Refusal(403, "not for you"), "unauthorized", "never"),
        (Refusal(404, "no such model"), "unknown_model", "never"),
        (Refusal(402, "no credits"), "quota_exhausted", "never"),
        (Refusal(400, "tools[0] is wrong"), "bad_request", "never"),
        (Refusal(400, "too many", code="context_length_exceeded"), "context_too_long", "never"),
        (Refusal(400, "This model's maximum context length is 8192 tokens."), "context_too_long", "never"),
    ],
)
async def test_what_a_server_refuses(refusal: Refusal, code: str, after_s: float | str | None) -> None:
    """What passes is retryable, with the time that the server said; the rest is not; no key is in any of it."""
    async with served(refusal) as (model, server):
        with pytest.raises((RetryableError, TerminalError)) as caught:
            await model.reply(asked())
        error = caught.value
        assert error.code == code and len(server.bodies) == 1
        assert isinstance(error, TerminalError) == (after_s == "never")
        assert isinstance(error, TerminalError) or error.retry_after_s == after_s
        assert str(refusal.status) in str(error) and KEY not in str(error)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Said("Hello there", cut_after=3), "unreachable"),
        (Said("Hello there", ends_early=True), "unreachable"),
        (Said("Hello there", cut_after=3, breaks={"message": "out of memory", "type": "server_error"}), "overloaded"),
        (Said("Hello", cut_after=1, breaks={"message": "maximum context length", "code": 400}), "context_too_long"),
        (Raw("data: {no json\n\n", "text/event-stream"), "unreachable"),
        (Raw('data: {"choices": [{"delta": {"tool_calls": [5]}}]}\n\n', "text/event-stream"), "unreachable"),
        (Raw("<html>proxy</html>", "text/html"), "unreachable"),
    ],
)
async def test_a_stream_that_breaks_is_no_answer(answer: Answer, code: str) -> None:
    """Half an answer is never taken for a whole one, whichever way its stream ends."""
    with pytest.raises((RetryableError, TerminalError)) as caught:
        await one(answer)
    assert caught.value.code == code


ODD = [Raw("{}"), Raw("<html>proxy</html>", "text/html"), Raw("{no json"), Raw('{"choices": [5]}'), Raw("[]"),
       Raw('{"choices": [{"message": {"content": 5, "tool_calls": "x"}}]}')]  # fmt: skip


@pytest.mark.parametrize("raw", ODD)
async def test_a_body_that_is_no_completion_passes(raw: Raw) -> None:
    """A proxy's page in place of an answer is not taken for an answer; another attempt may reach the server."""
    with pytest.raises(RetryableError):
        await one(raw, stream=False)


async def test_a_slow_first_byte_and_a_closed_port() -> None:
    """No answer in time, and nobody there, are two things that pass."""
    async with FakeOpenAI([Said(wait=True)]) as server:
        model = open_model(f"vllm:m@{server.url}")
        with pytest.raises(RetryableError) as late:
            async with asyncio.timeout(30):
                await model.reply(asked(timeout_s=0.3))
    with pytest.raises(RetryableError) as gone:
        await model.reply(asked())
    assert (late.value.code, gone.value.code) == ("timeout", "unreachable")
    await model.close()


# ---- how it is opened


def test_the_key_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenAI's key the error names the variable; a server of one's own needs none."""
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set") as caught:
        open_model("openai:gpt-4.1")
    assert caught.value.code == "no_api_key"
    monkeypatch.delenv("OPENAI_COMPATIBLE_API_KEY")
    opened = [open_model(ref) for ref in ("ollama:llama3.2", "vllm:q", "openai:m@http://gpu-1:8000/v1")]
    assert [model.provider for model in opened] == ["ollama", "vllm", "openai-gpu-1-8000"]
    assert [model.name for model in opened] == ["llama3.2", "q", "m"]


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is an extra, and who lacks it is told its name."""
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UsageError, match=r"pip install 'callboard\[openai\]'"):
        open_model("ollama:llama3.2")


async def test_openai_itself_is_told_the_limit_by_its_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its newer models refuse max_tokens, which all other servers know."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model = open_model("openai:gpt-4.1")
    assert isinstance(model, OpenAIModel)
    assert (model.provider, model._dialect.limit_field) == ("openai", "max_completion_tokens")
    await model.close()


def test_a_reply_can_be_kept() -> None:
    """Replies are steps of a log: they are written and read back."""
    reply = ModelReply(
        message=Message("assistant", (Thinking("a"), ToolUse("c", "t", {}, malformed="{"))), stop="refusal"
    )
    assert msgspec.json.decode(msgspec.json.encode(reply), type=ModelReply) == reply
