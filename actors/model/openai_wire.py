"""Requests and answers in the words of the chat completions API, as OpenAI, vLLM, Ollama and others speak it. Pure.

What this API cannot say is left out: seals of thoughts, marks for the cache. What servers say in different ways is read
in each of them, so an answer is read from plain mappings and not from one SDK's types.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from actors.model.message import Message, Part, Text, Thinking, ToolResult, ToolUse
from actors.model.model import Delta, ModelReply, ModelRequest, StopReason, ToolSpec, Usage

# Up to how many tokens of thinking each effort stands for; the API knows no number.
_EFFORTS = ((2_048, "low"), (8_192, "medium"))
_STOPS: dict[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


class Dialect(NamedTuple):
    """Where servers differ: the name of the limit, and whether they want the model's thoughts sent back."""

    limit_field: str = "max_tokens"
    sends_thoughts: bool = False


# ---- what is asked


def body_of(request: ModelRequest, model: str, dialect: Dialect) -> dict[str, Any]:
    """The body of a request, with nothing in it that is the server's default."""
    system = [{"role": "system", "content": request.system}] if request.system else []
    body: dict[str, Any] = {
        "model": request.model or model,
        "messages": [*system, *(said for each in request.messages for said in _said(each, dialect))],
        dialect.limit_field: request.max_tokens,
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _choice(request.tool_choice)
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.thinking_tokens:
        body["reasoning_effort"] = next((name for most, name in _EFFORTS if request.thinking_tokens <= most), "high")
    if request.stop_sequences:
        body["stop"] = list(request.stop_sequences)
    if request.output_schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": _format(request.output_schema)}
    return body


def _said(message: Message, dialect: Dialect) -> Iterable[dict[str, Any]]:
    if message.role == "assistant":
        yield _assistant(message, dialect)
        return
    # Results come first: the API wants them right behind the message that asked for them.
    for part in message.parts:
        if isinstance(part, ToolResult):
            content = f"error: {part.content}" if part.is_error else part.content
            yield {"role": "tool", "tool_call_id": part.tool_use_id, "content": content}
    if message.text or not any(isinstance(part, ToolResult) for part in message.parts):
        yield {"role": "user", "content": message.text}


def _assistant(message: Message, dialect: Dialect) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": message.text or None}
    if uses := message.tool_uses:
        said["tool_calls"] = [_call(use) for use in uses]
    elif not message.text:
        said["content"] = ""
    thoughts = "".join(part.thinking for part in message.parts if isinstance(part, Thinking))
    if thoughts and dialect.sends_thoughts:
        said["reasoning_content"] = thoughts
    return said


def _call(use: ToolUse) -> dict[str, Any]:
    # vLLM reads the arguments of past calls and answers 400 if they are no JSON object.
    arguments = {"malformed_arguments": use.malformed} if use.malformed else use.input
    return {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": json.dumps(arguments)}}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": with_root(tool.input_schema)}
    return {"type": "function", "function": function}


def _choice(choice: str) -> Any:
    if choice in ("auto", "none"):
        return choice
    return "required" if choice == "any" else {"type": "function", "function": {"name": choice}}


# ---- schemas


def _format(schema: Mapping[str, Any]) -> dict[str, Any]:
    rooted = with_root(schema)
    return {"name": "output", "schema": rooted, "strict": can_be_strict(rooted)}


def with_root(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema with its root in place: the API takes no ``$ref`` there, which is how Structs are described."""
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    target = schema.get("$defs", {}).get(name) if name else None
    if target is None:
        return dict(schema)
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def can_be_strict(schema: Any) -> bool:
    """Whether the API can promise this schema: each object in it is closed, and all its properties are required."""
    if isinstance(schema, list):
        return all(can_be_strict(each) for each in schema)
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False or names != set(schema.get("required", [])):
            return False
    inner = [value for key, value in schema.items() if key not in ("properties", "$defs", "enum", "const", "default")]
    named = [each for key in ("properties", "$defs") for each in schema.get(key, {}).values()]
    return can_be_strict([*inner, *named])


# ---- what is answered


class Gathered:
    """An answer as its pieces add up to it. ``is_ended`` once the server has said why it stopped."""

    def __init__(self) -> None:
        self._id = ""
        self._model = ""
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._refusal: list[str] = []
        self._calls: list[_Call] = []
        self._open: dict[int, _Call] = {}
        self._finish: str | None = None
        self._stop_sequence = False
        self._usage = Usage()

    @property
    def is_ended(self) -> bool:
        """False while more has to come."""
        return self._finish is not None

    def add(self, chunk: Mapping[str, Any]) -> list[Delta]:
        """Take in a piece of a stream, or a whole completion; what of it is to be heard."""
        self._id = chunk.get("id") or self._id
        self._model = chunk.get("model") or self._model
        if usage := chunk.get("usage"):
            self._usage = usage_of(usage)
        # Other choices are not asked for; the piece with the usage has none.
        choices = [each for each in chunk.get("choices") or () if each.get("index", 0) == 0]
        return [delta for choice in choices for delta in self._choose(choice)]

    def _choose(self, choice: Mapping[str, Any]) -> list[Delta]:
        self._finish = choice.get("finish_reason") or self._finish
        # vLLM says which text it stopped at; OpenAI does not tell that from an end.
        self._stop_sequence |= isinstance(choice.get("stop_reason"), str)
        said = choice.get("delta") or choice.get("message") or {}
        # DeepSeek and vLLM have called it reasoning_content, later vLLM and Ollama call it reasoning.
        thoughts = said.get("reasoning_content") or said.get("reasoning") or ""
        text, refusal = said.get("content") or "", said.get("refusal") or ""
        self._thoughts.append(thoughts)
        self._text.append(text)
        self._refusal.append(refusal)
        for place, call in enumerate(said.get("tool_calls") or ()):
            self._add_call(call, place)
        heard = (Delta(thoughts, "thinking"), Delta(text), Delta(refusal))
        return [delta for delta in heard if delta.text]

    def _add_call(self, piece: Mapping[str, Any], place: int) -> None:
        call = self._call_of(piece, place)
        function = piece.get("function") or {}
        call.id = piece.get("id") or call.id
        call.name = function.get("name") or call.name
        arguments = function.get("arguments")
        call.arguments.append(arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else "")

    def _call_of(self, piece: Mapping[str, Any], place: int) -> _Call:
        """The call that a piece belongs to. Ollama gives each call index 0, or none, so another id is another call."""
        index = piece.get("index")
        index = place if index is None else index
        call, call_id = self._open.get(index), piece.get("id")
        if call is None or (call_id and call.id and call_id != call.id):
            call = self._open[index] = _Call()
            self._calls.append(call)
        return call

    def reply(self) -> ModelReply:
        """The whole answer."""
        thoughts, refusal = "".join(self._thoughts), "".join(self._refusal)
        text = "".join(self._text) + refusal
        uses = [call.use(f"{self._id or 'call'}-{number}") for number, call in enumerate(self._calls)]
        parts: list[Part] = [Thinking(thoughts)] if thoughts else []
        parts += [Text(text)] if text else []
        stop = "refusal" if refusal else self._stop(bool(uses))
        return ModelReply(message=Message("assistant", (*parts, *uses)), stop=stop, usage=self._usage,
                          model=self._model, id=self._id)  # fmt: skip

    def _stop(self, uses_tools: bool) -> StopReason:
        stop = _STOPS.get(self._finish or "", "end_turn")
        if stop not in ("end_turn", "tool_use"):
            return stop
        # The calls themselves say it: servers stop at "stop" after a tool that was demanded, and vLLM at "tool_calls"
        # where it was demanded and none came.
        if uses_tools:
            return "tool_use"
        return "stop_sequence" if self._stop_sequence else "end_turn"


class _Call:
    """A call of a tool whose arguments may come in pieces."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def use(self, otherwise: str) -> ToolUse:
        """Read it; ``otherwise`` is its id if the server gave none."""
        return tool_use(self.id or otherwise, self.name, "".join(self.arguments))


def tool_use(use_id: str, name: str, arguments: str) -> ToolUse:
    """What a model wrote as arguments, as the object that it is to be, or as malformed. Nothing stands for none."""
    try:
        read = msgspec.json.decode(arguments) if arguments.strip() else {}
    except (msgspec.DecodeError, ValueError):
        read = None
    if isinstance(read, dict):
        return ToolUse(use_id, name, read)
    return ToolUse(use_id, name, {}, malformed=arguments)


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Tokens as the server counted them. It counts those from its cache as input too."""
    prompt = int(usage.get("prompt_tokens") or 0)
    cached = min(int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0), prompt)
    output = int(usage.get("completion_tokens") or 0)
    return Usage(input_tokens=prompt - cached, output_tokens=output, cache_read_tokens=cached)


def answer_of(completion: Mapping[str, Any]) -> tuple[ModelReply, Sequence[Delta]]:
    """A completion that came as a whole, and what of it is to be heard."""
    gathered = Gathered()
    heard = gathered.add(completion)
    return gathered.reply(), heard
