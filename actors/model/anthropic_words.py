"""A request in the words of Anthropic's Messages API, and its answer in ours. Pure: plain dicts, no SDK.

The API asks more of a conversation than ours does, so some is said otherwise: empty texts are left out, messages of one
role that follow each other are one, and results of tools come first in theirs. Thoughts without a seal are left out,
since nobody but the API can have sealed them; all others go back exactly as they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, assert_never, cast, get_args

import msgspec

from actors.model.anthropic_answer import AnswerForm, form_params, object_schema, told_answer
from actors.model.anthropic_thinking import may_be_forced, takes_temperature, thinking_params
from actors.model.message import Message, Part, RedactedThinking, Text, Thinking, ToolResult, ToolUse
from actors.model.model import ModelReply, ModelRequest, StopReason, ToolSpec, Usage

# Under this name the API's guide has a model's broken arguments sent back to it, since they have to be an object.
MALFORMED = "INVALID_JSON"
_MARK = {"cache_control": {"type": "ephemeral"}}
_UNMARKED = ("thinking", "redacted_thinking")
_STOPS = {"model_context_window_exceeded": "max_tokens"}

Block = dict[str, Any]


def params_of(request: ModelRequest, form: AnswerForm | None = None) -> dict[str, Any]:
    """The body of the request; ``form`` is how a structured answer is asked for.

    Raises: TerminalError with code ``bad_request`` for thoughts that do not fit into the answer.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": messages_of(request.messages),
    }
    if request.system.strip():
        body["system"] = [_text(request.system)]
    body.update(_tools(request))
    if request.stop_sequences:
        body["stop_sequences"] = list(request.stop_sequences)
    body.update(thinking_params(request, body["messages"], asks_tool=form is not None and form.kind == "tool"))
    if request.temperature is not None and "thinking" not in body and takes_temperature(request.model):
        body["temperature"] = request.temperature
    body.update(form_params(form, body) if form is not None else {})
    body = body if may_be_forced(request.model) else _asked_nicely(body)
    return _marked(body) if request.cache else body


def _asked_nicely(body: dict[str, Any]) -> dict[str, Any]:
    """The same for a model that the API refuses to force: it is told at the end which tool is wanted.

    Not in the system prompt: thoughts and the cache of all that was said hold only while that stays as it is.
    """
    choice = body.get("tool_choice", {})
    if choice.get("type") not in ("any", "tool"):
        return body
    wanted = f"Use the tool {choice['name']} now." if "name" in choice else "Use one of the tools now."
    *before, last = body["messages"]
    said = {"role": "user", "content": [*(last["content"] if last["role"] == "user" else []), _text(wanted)]}
    messages = [*before, said] if last["role"] == "user" else [*before, last, said]
    return {**body, "messages": messages, "tool_choice": {"type": "auto"}}


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


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
            return _text(text) if text.strip() else None
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
