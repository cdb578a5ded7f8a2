"""Claude through the real SDK, against a local server that speaks the Messages API."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from actors.model import (
    AnthropicModel,
    Message,
    ModelRequest,
    RedactedThinking,
    Text,
    Thinking,
    ToolResult,
    ToolSpec,
    Usage,
    open_model,
)
from actors.model.message import user
from actors.model.model import Delta, ModelReply
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError, failure_of
from tests.fake_anthropic import Cut, FakeAnthropic, Fault, Hang, Raw, Refuse, Say, Slow, Spent, Turn, Use
from tests.waiting import wait_until

KEY = "sk-ant-test-0123456789"
HAIKU = "claude-haiku-4-5"
ADD = ToolSpec("add", "Add two numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}})
ASKED = ModelRequest(model=HAIKU, messages=(user("hello"),), tools=(ADD,), timeout_s=30.0)
BOTH = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])


class Total(msgspec.Struct):
    """An answer that the API can hold a model to."""

    total: int
    note: str = ""


@dataclass
class Asking:
    """A model and the endpoint that it asks; ``heard`` is what it told its listener."""

    fake: FakeAnthropic
    model: AnthropicModel
    heard: list[Delta] = field(default_factory=list)

    async def ask(self, request: ModelRequest = ASKED, **changes: Any) -> ModelReply:
        """One call."""
        return await self.model.reply(msgspec.structs.replace(request, **changes), self.heard.append)

    def told(self, kind: str) -> str:
        """The pieces of this kind that were told, put together."""
        return "".join(delta.text for delta in self.heard if delta.kind == kind)


@asynccontextmanager
async def _asking(
    *turns: Turn, script: Callable[[dict[str, Any], int], Turn] | None = None, **settings: Any
) -> AsyncIterator[Asking]:
    async with FakeAnthropic(script or turns, key=KEY) as fake:
        model = AnthropicModel(HAIKU, **{"base_url": fake.url, "api_key": KEY, **settings})
        try:
            yield Asking(fake, model)
        finally:
            await model.close()


async def _fails(asking: Asking, kind: type[Exception], code: str, **changes: Any) -> Any:
    with pytest.raises(kind) as raised:
        await asking.ask(**changes)
    assert getattr(raised.value, "code", "") == code
    assert KEY not in str(failure_of(raised.value))
    return raised.value


# ---- answers


@BOTH
async def test_text(stream: bool) -> None:
    """Words, why they ended, what they took and who said them; a listener hears each piece of a stream."""
    spent = Spent(input_tokens=12, output_tokens=7, cache_read_input_tokens=100, cache_creation_input_tokens=30)
    async with _asking(Say("Good morning to all of you.", usage=spent)) as asking:
        reply = await asking.ask(stream=stream)
        assert reply.message == Message("assistant", (Text("Good morning to all of you."),))
        assert reply.usage == Usage(12, 7, 100, 30)
        assert (reply.stop, reply.model, reply.id) == ("end_turn", HAIKU, "msg_0001")
        assert (asking.told("text"), len(asking.heard) > 1) == ((reply.message.text, True) if stream else ("", False))
        assert asking.fake.requests[0].get("stream", False) == stream


@BOTH
async def test_parallel_tools(stream: bool) -> None:
    """Several tools at once, with text before them, and arguments of every shape."""
    uses = (Use("add", {"a": 1}), Use("add"), Use("sql", {"q": 'sélect "x"', "deep": [{"n": None}] * 5}))
    async with _asking(Say("Let me see.", tools=uses)) as asking:
        reply = await asking.ask(stream=stream)
        assert reply.stop == "tool_use" and reply.message.text == "Let me see."
        assert [(use.name, use.input, use.malformed) for use in reply.message.tool_uses] == [
            (use.name, use.input, "") for use in uses
        ]
        assert len({use.id for use in reply.message.tool_uses}) == 3


@BOTH
@pytest.mark.parametrize("written", ['{"a": 1', "[1, 2]", "a=1", '{"a": NaN}'])
async def test_malformed_arguments(stream: bool, written: str) -> None:
    """Arguments that are no JSON object are kept as written, for the model to mend; its other use is whole."""
    async with _asking(Say(tools=(Use("add", malformed=written), Use("add", {"a": 2}))), Say("ok")) as asking:
        reply = await asking.ask(stream=stream)
        first, second = reply.message.tool_uses
        assert (first.input, first.malformed) == ({}, written)
        assert (second.input, second.malformed) == ({"a": 2}, "")
        results = Message("user", (ToolResult(first.id, "no JSON", is_error=True), ToolResult(second.id, "2")))
        await asking.ask(messages=(*ASKED.messages, reply.message, results))
        sent = asking.fake.requests[1]["messages"]
        assert sent[1]["content"][0]["input"] == {"INVALID_JSON": written}
        assert sent[2]["content"][0]["is_error"] is True and "is_error" not in sent[2]["content"][1]


@BOTH
async def test_thoughts_go_back_as_they_came(stream: bool) -> None:
    """Thoughts, sealed and redacted ones, are kept in their order and sent back unchanged."""
    turn = Say(
        "Adding.", thinking="They want a sum of it.", redacted="c2VjcmV0", signature="c2VhbA==", tools=(Use("add"),)
    )
    async with _asking(turn, Say("Done.", thinking="more")) as asking:
        thoughtful = msgspec.structs.replace(ASKED, thinking_tokens=2000, temperature=0.5, stream=stream)
        reply = await asking.ask(thoughtful)
        assert reply.message.parts[:2] == (Thinking("They want a sum of it.", "c2VhbA=="), RedactedThinking("c2VjcmV0"))
        assert asking.told("thinking") == ("They want a sum of it." if stream else "")
        result = Message("user", (ToolResult(reply.message.tool_uses[0].id, "3"),))
        await asking.ask(thoughtful, messages=(*ASKED.messages, reply.message, result))
        first, second = asking.fake.requests
        assert first["thinking"] == {"type": "enabled", "budget_tokens": 2000} and "temperature" not in first
        assert [block["type"] for block in second["messages"][1]["content"]] == [
            "thinking", "redacted_thinking", "text", "tool_use"]  # fmt: skip
        assert second["messages"][1]["content"][0]["signature"] == "c2VhbA=="


@BOTH
@pytest.mark.parametrize(
    "stop", ["max_tokens", "stop_sequence", "refusal", "pause_turn", "model_context_window_exceeded"]
)
async def test_reasons_to_stop(stream: bool, stop: str) -> None:
    """Each reason arrives; a full window of context is as good as too few tokens."""
    async with _asking(Say("Well", stop=stop)) as asking:
        wanted = "max_tokens" if stop == "model_context_window_exceeded" else stop
        assert (await asking.ask(stream=stream)).stop == wanted


@BOTH
async def test_nothing_said(stream: bool) -> None:
    """A model may end its turn, or refuse, without a word."""
    async with _asking(Say(stop="refusal")) as asking:
        assert (await asking.ask(stream=stream)).message.parts == ()


async def test_arguments_that_max_tokens_cut_off() -> None:
    """A use that was cut off is a malformed one."""
    async with _asking(Say(tools=(Use("add", malformed='{"a": 12'),), stop="max_tokens")) as asking:
        reply = await asking.ask()
        assert reply.stop == "max_tokens" and reply.message.tool_uses[0].malformed == '{"a": 12'


# ---- what is asked


@pytest.mark.parametrize(
    ("choice", "sent"),
    [("auto", {"type": "auto"}), ("any", {"type": "any"}), ("none", {"type": "none"}),
     ("add", {"type": "tool", "name": "add"})],
)  # fmt: skip
async def test_tool_choice(choice: str, sent: dict[str, str]) -> None:
    """Which tool has to be used is told; a model that is made to use one does not think, as the API wants it."""
    async with _asking(Say("ok")) as asking:
        await asking.ask(tool_choice=choice, thinking_tokens=2000)
        assert asking.fake.requests[0]["tool_choice"] == sent
        assert ("thinking" in asking.fake.requests[0]) == (choice in ("auto", "none"))


async def test_a_temperature_is_sent_with_the_version_that_knows_it() -> None:
    """Older models are asked by the API's older version; newer ones are not told of a temperature."""
    async with _asking(Say("ok"), Say("ok"), Say("ok")) as asking:
        await asking.ask(temperature=0.5, stop_sequences=("END",), system="Be brief.")
        await asking.ask(temperature=0.5, model="claude-opus-4-8")
        await asking.ask()
        assert [request.get("temperature") for request in asking.fake.requests] == [0.5, None, None]
        versions = [headers["anthropic-version"] for headers in asking.fake.headers]
        assert versions[0] == "2023-06-01" < versions[1] == versions[2]
        assert asking.fake.requests[0]["stop_sequences"] == ["END"]


async def test_newer_models_choose_how_much_they_think() -> None:
    """Where the API knows no budget for thoughts, the model is told to think as it likes, and to show it."""
    async with _asking(script=lambda _, __: Say("ok")) as asking:
        for tokens in (0, 500, 8192, 20000):
            await asking.ask(model="claude-opus-5", thinking_tokens=tokens, output_schema=msgspec.json.schema(Total))
        requests = asking.fake.requests
        assert [request["output_config"].get("effort") for request in requests] == [None, "low", "medium", "high"]
        assert "thinking" not in requests[0]
        assert all(request["thinking"] == {"type": "adaptive", "display": "summarized"} for request in requests[1:])


async def test_thoughts_that_no_longer_fit_are_left_out_by_the_api() -> None:
    """The newest models seal thoughts with all that was before them; a change of that fails no request."""
    talk = (user("hello"), Message("assistant", (Thinking("hm", "seal"), Text("hello"))), user("again"))
    async with _asking(script=lambda _, __: Say("ok")) as asking:
        for model in ("claude-opus-5-5", "claude-opus-5", HAIKU):
            await asking.ask(model=model, messages=talk)
        binding = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
        assert [request.get("thinking") for request in asking.fake.requests] == [binding, None, None]


@pytest.mark.parametrize(
    ("choice", "words"), [("any", "Use one of the tools now."), ("add", "Use the tool add now."), ("none", "hello")]
)
async def test_models_that_nobody_may_force_are_asked(choice: str, words: str) -> None:
    """Where the API refuses to make a model use a tool, it is told so at the end of the conversation, and may think."""
    async with _asking(Say("ok")) as asking:
        await asking.ask(tool_choice=choice, thinking_tokens=2000, model="claude-opus-5-5")
        sent = asking.fake.requests[0]
        assert sent["tool_choice"] == {"type": "none" if choice == "none" else "auto"} and "thinking" in sent
        assert sent["messages"][-1]["content"][-1]["text"] == words


@pytest.mark.parametrize("thinking_tokens", [100, 4096, 9000])
async def test_thoughts_that_do_not_fit_are_refused(thinking_tokens: int) -> None:
    """A budget that the API would refuse is refused before it is asked, with what would be right."""
    async with _asking() as asking:
        error = await _fails(asking, TerminalError, "bad_request", thinking_tokens=thinking_tokens)
        assert "1024" in str(error) and "max_tokens=4096" in str(error) and asking.fake.count == 0


async def test_what_comes_again_is_marked_for_the_cache() -> None:
    """The last tool, the system prompt and the ends of the user's last messages are marked: four places at most."""
    talk = [user(f"question {at // 2}") if at % 2 == 0 else Message("assistant", (Text("answer"),)) for at in range(7)]
    async with _asking(Say("ok"), Say("ok")) as asking:
        other = ToolSpec("sub", "", ADD.input_schema)
        for cache in (True, False):
            await asking.ask(messages=tuple(talk), system="Be brief.", tools=(ADD, other), cache=cache)
        marked, plain = asking.fake.requests
        assert "cache_control" not in str(plain)
        assert ["cache_control" in tool for tool in marked["tools"]] == [False, True]
        assert marked["system"][0]["cache_control"] == {"type": "ephemeral"}
        assert [at for at, message in enumerate(marked["messages"]) if "cache_control" in message["content"][-1]] == [
            4,
            6,
        ]


# ---- structured output


@BOTH
async def test_structured_output_by_the_api(stream: bool) -> None:
    """A schema that says all is given to the API, and the text of the reply is the JSON."""
    async with _asking(Say(answer={"total": 3, "note": "ok"})) as asking:
        reply = await asking.ask(output_schema=msgspec.json.schema(Total), stream=stream)
        assert msgspec.json.decode(reply.message.text, type=Total) == Total(3, "ok")
        sent = asking.fake.requests[0]["output_config"]["format"]
        assert sent["type"] == "json_schema" and sent["schema"]["additionalProperties"] is False
        assert [tool["name"] for tool in asking.fake.requests[0]["tools"]] == ["add"]


@BOTH
@pytest.mark.parametrize("value", [{"a": 1, "b": 2}, [1, 2, 3]], ids=["a map", "a list"])
async def test_structured_output_by_a_tool(stream: bool, value: Any) -> None:
    """What the API cannot hold a model to is asked for by a tool; the text of the reply is the JSON all the same."""
    schema = msgspec.json.schema(dict[str, int] if isinstance(value, dict) else list[int])
    wrapped = value if isinstance(value, dict) else {"value": value}
    async with _asking(Say("Here it is:", answer=wrapped, thinking="so")) as asking:
        reply = await asking.ask(output_schema=schema, tools=(), stream=stream, thinking_tokens=2000)
        assert msgspec.json.decode(reply.message.text) == value
        assert reply.stop == "end_turn" and reply.message.tool_uses == ()
        sent = asking.fake.requests[0]
        assert sent["tool_choice"] == {"type": "tool", "name": "give_answer"} and "thinking" not in sent
        if stream and isinstance(value, dict):
            assert asking.told("text").endswith(reply.message.text.replace(":", ": ").replace(",", ", "))


async def test_tools_come_before_an_answer_by_a_tool() -> None:
    """Beside other tools the model chooses; an answer that comes with a use of another tool is too early."""
    early = Say(tools=(Use("add", {"a": 1}), Use("give_answer", {"total": 0})))
    async with _asking(early, Say(answer={"total": 2}), structured="tool") as asking:
        first = await asking.ask(output_schema=msgspec.json.schema(Total))
        assert [use.name for use in first.message.tool_uses] == ["add"] and first.stop == "tool_use"
        result = Message("user", (ToolResult(first.message.tool_uses[0].id, "2"),))
        messages = (*ASKED.messages, first.message, result)
        last = await asking.ask(output_schema=msgspec.json.schema(Total), messages=messages)
        assert last.message.text == '{"total":2}' and asking.fake.requests[1]["tool_choice"] == {"type": "any"}


async def test_a_schema_that_the_api_takes_not_is_refused() -> None:
    """Who insists on the API's own way is told why a schema does not go."""
    async with _asking(structured="native") as asking:
        error = await _fails(asking, TerminalError, "bad_request", output_schema={"properties": {}})
        assert 'structured="tool"' in str(error)


# ---- failures


@pytest.mark.parametrize(
    ("turn", "code", "wait_s"),
    [
        (Refuse(529, retry_after="7"), "overloaded", 7.0),
        (Refuse(529), "overloaded", None),
        (Refuse(429, retry_after="1.5"), "rate_limited", 1.5),
        (Refuse(500), "overloaded", None),
        (Refuse(503, body={"no": "error"}), "overloaded", None),
        (Refuse(504), "timeout", None),
        (Fault(0), "overloaded", None),
        (Fault(4), "overloaded", None),
        (Fault(5, "rate_limit_error"), "rate_limited", None),
        (Fault(5, "api_error"), "overloaded", None),
        (Cut(0), "unreachable", None),
        (Cut(4), "unreachable", None),
        (Cut(4, politely=True), "unreachable", None),
        (Cut(0, politely=True), "unreachable", None),
        (Raw("<html>moment, please</html>"), "unreachable", None),
        (Raw("event: content_block_stop\ndata: {no\n\n", content_type="text/event-stream"), "unreachable", None),
        (Raw('event: message_stop\ndata: {"type": "content_block_stop", "index": 0}\n\n'), "unreachable", None),
        (Raw("event: x\ndata: \xff\n\n".encode("latin-1").decode("latin-1")), "unreachable", None),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
async def test_what_passes_may_be_tried_again(turn: Turn, code: str, wait_s: float | None) -> None:
    """Each failure that passes is retryable, with the wait that the server asked for; the SDK itself asks once."""
    async with _asking(turn, Say("Hello again.")) as asking:
        error = await _fails(asking, RetryableError, code)
        assert error.retry_after_s == wait_s and asking.fake.count == 1
        assert (await asking.ask()).message.text == "Hello again."


@pytest.mark.parametrize("turn", [Cut(), Raw("<html>"), Raw("{}"), Raw('{"content": [{}]}'), Raw("[1")], ids=repr)
async def test_an_unstreamed_answer_that_is_none(turn: Turn) -> None:
    """Half a body, or a body of somebody else's, passes as well."""
    body = msgspec.structs.replace(turn, content_type="application/json") if isinstance(turn, Raw) else turn
    async with _asking(body) as asking:
        await _fails(asking, RetryableError, "unreachable", stream=False)


@pytest.mark.parametrize(
    ("turn", "code"),
    [
        (Refuse(400, message="prompt is too long: 210000 tokens > 200000 maximum"), "context_too_long"),
        (Refuse(400, message="tools.0: no"), "bad_request"),
        (Refuse(401), "unauthorized"),
        (Refuse(402), "quota_exhausted"),
        (Refuse(400, message="Your credit balance is too low to access the API."), "quota_exhausted"),
        (Refuse(403), "unauthorized"),
        (Refuse(404, message="model: claude-none"), "unknown_model"),
        (Refuse(413), "context_too_long"),
        (Refuse(422, message="no"), "bad_request"),
        (Fault(3, "invalid_request_error", "no"), "bad_request"),
    ],
    ids=lambda value: str(getattr(value, "status", value)),
)
async def test_what_does_not_pass_is_terminal(turn: Turn, code: str) -> None:
    """A wrong key, model or request is no better the next time."""
    async with _asking(turn) as asking:
        error = await _fails(asking, TerminalError, code)
        told = getattr(turn, "message", "")
        assert told in str(error)


async def test_a_slow_first_byte_is_waited_for_and_a_hanging_answer_is_not() -> None:
    """The time limit is one for the whole call, so pings or a slow trickle do not stretch it; the call is hung up."""
    async with _asking(Slow(0.2, Say("slow")), Slow(20.0), Hang(), Hang(4)) as asking:
        assert (await asking.ask()).message.text == "slow"
        for gone in (1, 2, 3):
            error = await _fails(asking, RetryableError, "timeout", timeout_s=0.3)
            assert "0.3 s" in str(error)
            await wait_until(lambda gone=gone: asking.fake.gone == gone, 30.0)  # type: ignore[misc]


async def test_a_cancelled_call_hangs_up() -> None:
    """Who stops waiting ends the call at the provider too."""
    async with _asking(Hang(4)) as asking:
        call = asyncio.create_task(asking.ask())
        await wait_until(lambda: asking.heard, 30.0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await wait_until(lambda: asking.fake.gone == 1, 30.0)


async def test_nobody_there() -> None:
    """A server that does not answer may do so later; a URL that is none never will."""
    async with _asking(base_url="http://127.0.0.1:9") as asking:
        await _fails(asking, RetryableError, "unreachable")
    for url in ("http://[::1", "ftp://127.0.0.1"):
        async with _asking(base_url=url) as asking:
            await _fails(asking, TerminalError, "bad_request")


async def test_a_listener_that_fails_is_not_the_providers_fault() -> None:
    """An error of the caller's own comes out as it is."""
    async with _asking(Say("hello")) as asking:
        with pytest.raises(KeyError):
            await asking.model.reply(ASKED, lambda delta: {}[delta.text])


# ---- the key


async def test_the_key_and_the_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are read when a call is made; without a key nobody is asked."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    async with FakeAnthropic([Say("hello")], key=KEY) as fake:
        with pytest.raises(UsageError, match="ANTHROPIC_API_KEY") as unkeyed:
            open_model(f"anthropic:{HAIKU}")
        assert unkeyed.value.code == "no_api_key"
        model = AnthropicModel(HAIKU)
        with pytest.raises(TerminalError, match="ANTHROPIC_API_KEY") as raised:
            await model.reply(ASKED)
        assert raised.value.code == "unauthorized"
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY + "\n")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url)
        assert (await model.reply(ASKED)).message.text == "hello"
        assert (model.provider, model.name, KEY in repr(model)) == ("anthropic", HAIKU, False)
        await model.close()


async def test_a_server_in_a_ref_is_not_given_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ref may come from somebody else: its server sees the key that was set for such servers, or none."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    async with FakeAnthropic([Say("hello"), Say("hello")]) as fake:
        for key in ("none", "another"):
            model = open_model(f"anthropic:{HAIKU}@{fake.url}")
            await model.reply(ASKED)
            await model.close()
            assert model.provider == f"anthropic-127-0-0-1-{fake.url.rpartition(':')[2]}"
            assert KEY not in str(fake.headers) and key in str(fake.headers[-1])
            monkeypatch.setenv("ANTHROPIC_COMPATIBLE_API_KEY", "another")


@pytest.mark.parametrize("key", [KEY, "sk\nant\nx"], ids=["plain", "broken"])
async def test_the_key_is_in_no_error(key: str) -> None:
    """Neither a server that repeats the key nor a key that no header may have puts it into a message."""
    async with _asking(Refuse(401, message=f"invalid key {key}"), api_key=key) as asking:
        with pytest.raises(TerminalError) as raised:
            await asking.ask()
        said = str(failure_of(raised.value))
        assert key not in said and repr(key)[1:-1] not in said


# ---- counting, loading


def test_tokens_are_estimated() -> None:
    """The estimate needs no key, and grows with all that is sent."""
    model = AnthropicModel(HAIKU)
    bare = model.count_tokens(msgspec.structs.replace(ASKED, tools=()))
    assert bare < 20 < 346 < model.count_tokens(ASKED)
    long = msgspec.structs.replace(ASKED, tools=(), messages=(user("word " * 700),))
    assert 900 < model.count_tokens(long) < 1100
    assert model.count_tokens(msgspec.structs.replace(long, output_schema=msgspec.json.schema(list[int]))) > 1300


def test_the_sdk_is_loaded_by_the_first_call_only() -> None:
    """A process that names a model, or counts, does not pay for the SDK."""
    script = (
        "import sys\nfrom actors.model import AnthropicModel, ModelRequest\n"
        "AnthropicModel('m').count_tokens(ModelRequest(model='m', messages=()))\n"
        "print([name for name in ('anthropic', 'httpx2', 'pydantic') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
