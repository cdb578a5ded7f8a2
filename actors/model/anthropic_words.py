"""A request in the words of Anthropic's Messages API, and its answer in ours. Pure: plain dicts, no SDK.

The API asks more of a conversation than ours does, so some is said otherwise: empty texts are left out, messages of one
role that follow each other are one, and results of tools come first in theirs. Thoughts without a seal are left out,
since nobody but the API can have sealed them; all others go back exactly as they came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, assert_never, cast, get_args

import msgspec

from actors.model.anthropic_answer import AnswerForm, form_params, object_schema, told_answer
from actors.model.message import Message, Part, RedactedThinking, Text, Thinking, ToolResult, ToolUse
from actors.model.model import ModelReply, ModelRequest, StopReason, ToolSpec, Usage
from bus.failure import TerminalError

# Under this name the API's guide has a model's broken arguments sent back to it, since they have to be an object.
MALFORMED = "INVALID_JSON"
LEAST_THINKING_TOKENS = 1024
# Models up to 4.5 think within a budget of tokens only; from 4.6 on they choose for themselves how much they think.
_BUDGETED = re.compile(r"claude-(3|instant|2)|claude-(opus|sonnet|haiku)-4(-[0-5])?(-\d{8}|-latest)?$")
# Models up to 4.6 take a temperature, from the older version of the API. Newer ones take none from any version.
_TEMPERATE = re.compile(_BUDGETED.pattern + r"|claude-(opus|sonnet|haiku)-4-6")
_MARK = {"cache_control": {"type": "ephemeral"}}
_UNMARKED = ("thinking", "redacted_thinking")
_STOPS = {"model_context_window_exceeded": "max_tokens"}

Block = dict[str, Any]


def params_of(request: ModelRequest, form: AnswerForm | None = None) -> dict[str, Any]:
    """The body of the request; ``form`` is how a structured answer is asked for.

    Raises: TerminalError with code ``bad_request`` for thoughts that do not fit into the answer.
    """
    forced = request.tool_choice not in ("auto", "none") or (form is not None and form.kind == "tool")
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": messages_of(request.messages),
    }
    if request.system.strip():
        body["system"] = [{"type": "text", "text": request.system}]
    body.update(_tools(request))
    if request.stop_sequences:
        body["stop_sequences"] = list(request.stop_sequences)
    # A model that has to use a tool may not think: the API refuses both at once.
    if request.thinking_tokens and not forced and _may_think(request):
        body["thinking"] = _thinking(request)
    elif request.temperature is not None and takes_temperature(request.model):
        body["temperature"] = request.temperature
    body.update(form_params(form, body) if form is not None else {})
    return _marked(body) if request.cache else body


def takes_temperature(model: str) -> bool:
    """Whether the model knows a temperature. A name that is none of Claude's is a server's that does as the API did."""
    return not model.startswith("claude") or bool(_TEMPERATE.match(model))


def _tools(request: ModelRequest) -> dict[str, Any]:
    if request.tools:
        return {"tools": [_tool(tool) for tool in request.tools], "tool_choice": _choice(request.tool_choice)}
    # The API takes no conversation with uses of tools that it is not told of.
    used = dict.fromkeys(use.name for message in request.messages for use in message.tool_uses)
    bare = [{"name": name, "input_schema": {"type": "object"}} for name in used]
    return {"tools": bare, "tool_choice": {"type": "none"}} if bare else {}


def _tool(tool: ToolSpec) -> Block:
    said = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **said, "input_schema": object_schema(tool.input_schema)}


def _choice(choice: str) -> dict[str, str]:
    return {"type": choice} if choice in ("auto", "any", "none") else {"type": "tool", "name": choice}


def _is_adaptive(model: str) -> bool:
    return model.startswith("claude") and not _BUDGETED.match(model)


def _may_think(request: ModelRequest) -> bool:
    """A model with a budget that began to use tools without a thought goes on so until it has ended its turn."""
    said = next((message for message in reversed(request.messages) if message.role == "assistant"), None)
    if said is None or not said.tool_uses or _is_adaptive(request.model):
        return True
    if not any(isinstance(part, ToolResult) for part in request.messages[-1].parts):
        return True
    first = next((block for part in said.parts if (block := block_of(part))), {"type": ""})
    return first["type"] in _UNMARKED


def _thinking(request: ModelRequest) -> dict[str, Any]:
    if _is_adaptive(request.model):
        # Else newer models seal their thoughts and show nothing of them.
        return {"type": "adaptive", "display": "summarized"}
    if not LEAST_THINKING_TOKENS <= request.thinking_tokens < request.max_tokens:
        raise TerminalError(
            f"{request.model}: thinking_tokens={request.thinking_tokens} has to be {LEAST_THINKING_TOKENS} at least, "
            f"and less than max_tokens={request.max_tokens}, which is for thoughts and answer together",
            code="bad_request",
        )
    return {"type": "enabled", "budget_tokens": request.thinking_tokens}


# ---- messages


def messages_of(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The conversation as the API takes it."""
    said: list[dict[str, Any]] = []
    for message in messages:
        blocks = [block for part in message.parts if (block := block_of(part)) is not None]
        if said and said[-1]["role"] == message.role:
            said[-1]["content"] += blocks
        elif blocks:
            said.append({"role": message.role, "content": blocks})
    for one in said:
        one["content"].sort(key=lambda block: block["type"] != "tool_result")
    return said


def block_of(part: Part) -> Block | None:
    """The part as a block of content; None for one that the API would not take."""
    match part:
        case Text(text):
            return {"type": "text", "text": text} if text.strip() else None
        case Thinking(thinking, signature):
            return {"type": "thinking", "thinking": thinking, "signature": signature} if signature else None
        case RedactedThinking(data):
            return {"type": "redacted_thinking", "data": data}
        case ToolUse():
            given = {MALFORMED: part.malformed} if part.malformed else part.input
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": given}
        case ToolResult():
            said = {"content": part.content} if part.content else {}
            failed = {"is_error": True} if part.is_error else {}
            return {"type": "tool_result", "tool_use_id": part.tool_use_id, **said, **failed}
        case _:
            assert_never(part)


def part_of(block: Block) -> Part | None:
    """A block of an answer as a part; None for what only tools of the provider's own make, which we declare none of.

    ``input`` that is no object is a model's broken arguments, as it wrote them.
    """
    match block["type"]:
        case "text":
            return Text(block["text"])
        case "thinking":
            return Thinking(block["thinking"], block.get("signature") or "")
        case "redacted_thinking":
            return RedactedThinking(block["data"])
        case "tool_use":
            given = block["input"]
            if isinstance(given, dict):
                return ToolUse(block["id"], block["name"], given)
            return ToolUse(block["id"], block["name"], {}, given if isinstance(given, str) else _json(given))
        case "tool_result":
            return ToolResult(block["tool_use_id"], block.get("content", ""), block.get("is_error", False))
        case _:
            return None


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# ---- prompt caching


def _marked(body: dict[str, Any]) -> dict[str, Any]:
    """The same with breakpoints: all before one is read from the cache next time. The API takes four at most.

    They are the last tool, the system prompt, and the ends of the last two messages of the user's: the later one for
    the next turn, the earlier one to find what the turn before has put there.
    """
    users = [message for message in body["messages"] if message["role"] == "user"][-2:]
    lists = [body.get("tools") or [], body.get("system") or [], *(message["content"] for message in users)]
    for blocks in lists:
        _mark_last(blocks)
    return body


def _mark_last(blocks: list[Block]) -> None:
    for at in reversed(range(len(blocks))):
        if blocks[at].get("type") not in _UNMARKED:
            blocks[at] = {**blocks[at], **_MARK}
            return


# ---- the answer


def reply_of(answer: dict[str, Any], form: AnswerForm | None = None) -> ModelReply:
    """The API's message as a reply. Raises: KeyError, TypeError, msgspec.ValidationError if it is no message."""
    content = [part for block in answer["content"] if (part := part_of(block)) is not None]
    stop = _stop_of(answer["stop_reason"])
    parts, stop = told_answer(content, stop, form) if form is not None else (tuple(content), stop)
    return ModelReply(message=Message("assistant", parts), stop=stop, usage=usage_of(answer["usage"]),
                      model=answer.get("model", ""), id=answer.get("id", ""))  # fmt: skip


def _stop_of(reason: Any) -> StopReason:
    """A full window of context cuts an answer off as ``max_tokens`` does. A reason not known yet ends the turn."""
    known = _STOPS.get(reason, reason)
    return cast("StopReason", known) if known in get_args(StopReason) else "end_turn"


def usage_of(usage: dict[str, Any]) -> Usage:
    """Tokens as the API counts them: what was read from the cache and put there is not in ``input_tokens``."""
    return Usage(
        input_tokens=usage.get("input_tokens") or 0,
        output_tokens=usage.get("output_tokens") or 0,
        cache_read_tokens=usage.get("cache_read_input_tokens") or 0,
        cache_write_tokens=usage.get("cache_creation_input_tokens") or 0,
    )
