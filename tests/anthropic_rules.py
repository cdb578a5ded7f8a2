"""What the Messages API refuses with 400, as far as a client can get it wrong: the fake refuses it too (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
BREAKPOINTS = 4
LEAST_THINKING_TOKENS = 1024
Request = dict[str, Any]


# No rule can be made of the names, so these are listed: what thinks as it likes, and what may not be forced.
ADAPTIVE = ("claude-opus-4-7", "claude-opus-4-8", "claude-sonnet-5", "claude-opus-5", "claude-fable-5")
UNFORCED = ("claude-fable-5-1", "claude-fable-5-2", "claude-opus-5-5", "claude-sonnet-5-5")
BINDING = "thinking-binding-controls-2026-08-01"


def complaint(request: Request, version: str = "", betas: str = BINDING) -> str:
    """The first thing that the API of that version, with these betas, would refuse in the request, or nothing."""
    if "block_binding" in request.get("thinking", {}) and BINDING not in betas:
        return "thinking.adaptive.block_binding: Extra inputs are not permitted"
    if "temperature" in request and version > "2023-06-01":
        return "temperature: Extra inputs are not permitted"
    rules: tuple[Callable[[Request], Iterator[str]], ...] = (
        _fields, _turns, _contents, _results, _tools, _thinking, _breakpoints)  # fmt: skip
    return next((wrong for rule in rules for wrong in rule(request)), "")


def _fields(request: Request) -> Iterator[str]:
    for field, kind in (("model", str), ("max_tokens", int), ("messages", list)):
        if not isinstance(request.get(field), kind):
            yield f"{field}: Field required"
    if not request["messages"]:
        yield "messages: at least one message is required"


def _turns(request: Request) -> Iterator[str]:
    if request["messages"][0]["role"] != "user":
        yield 'messages: first message must use the "user" role'
    if any(message["role"] not in ("user", "assistant") for message in request["messages"]):
        yield "messages: role must be user or assistant"


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _contents(request: Request) -> Iterator[str]:
    for at, message in enumerate(request["messages"]):
        blocks = _blocks(message)
        if not blocks:
            yield f"messages.{at}: all messages must have non-empty content"
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            yield f"messages.{at}: text content blocks must contain non-whitespace text"
        if any(block["type"] == "thinking" and not block.get("signature") for block in blocks):
            yield f"messages.{at}: thinking.signature: Field required"
    if request["messages"][-1]["role"] == "assistant" and _blocks(request["messages"][-1])[-1]["type"] == "tool_use":
        yield "messages: the last message has tool_use without tool_result"


def _results(request: Request) -> Iterator[str]:
    asked: list[str] = []
    for at, message in enumerate(request["messages"]):
        kinds = [block["type"] for block in _blocks(message)]
        answered = [block["tool_use_id"] for block in _blocks(message) if block["type"] == "tool_result"]
        if sorted(answered) != sorted(asked):
            yield f"messages.{at}: `tool_use` ids {asked} need `tool_result` blocks right after, found {answered}"
        if answered and kinds[: len(answered)] != ["tool_result"] * len(answered):
            yield f"messages.{at}: tool_result blocks come first"
        asked = [block["id"] for block in _blocks(message) if block["type"] == "tool_use"]


def _tools(request: Request) -> Iterator[str]:
    names = [tool["name"] for tool in request.get("tools", ())]
    for at, tool in enumerate(request.get("tools", ())):
        if not _NAME.fullmatch(tool["name"]):
            yield f"tools.{at}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
        if tool["input_schema"].get("type") != "object":
            yield f"tools.{at}.input_schema.type: Field required"
    if len(set(names)) < len(names):
        yield "tools: Tool names must be unique."
    choice = request.get("tool_choice")
    if choice and not names:
        yield "tool_choice may only be specified while providing tools"
    if choice and choice["type"] == "tool" and choice["name"] not in names:
        yield f"tool_choice: Tool '{choice['name']}' not found in provided tools"
    used = any(block["type"] == "tool_use" for message in request["messages"] for block in _blocks(message))
    if used and not names:
        yield "Requests which include `tool_use` or `tool_result` blocks must define tools"


def _thinking(request: Request) -> Iterator[str]:
    thinking = request.get("thinking") or {"type": "disabled"}
    is_forced = request.get("tool_choice", {}).get("type") in ("any", "tool")
    if is_forced and request["model"].startswith(UNFORCED):
        yield 'tool_choice: type "tool" and "any" are not supported for this model.'
    if thinking["type"] == "disabled":
        return
    if thinking["type"] == "enabled" and request["model"].startswith(ADAPTIVE):
        yield '"thinking.type.enabled" is not supported for this model.'
    if thinking["type"] == "enabled" and thinking["budget_tokens"] < LEAST_THINKING_TOKENS:
        yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
    if thinking["type"] == "enabled" and request["max_tokens"] <= thinking["budget_tokens"]:
        yield "`max_tokens` must be greater than `thinking.budget_tokens`"
    if request.get("temperature", 1) != 1:
        yield "`temperature` may only be set to 1 when thinking is enabled"
    if thinking["type"] == "enabled" and _blocks(request["messages"][-1])[0]["type"] == "tool_result":
        first = _blocks(request["messages"][-2])[0]["type"]
        if first not in ("thinking", "redacted_thinking"):
            yield f"Expected `thinking` or `redacted_thinking`, but found `{first}`."
    if is_forced:
        yield "Thinking may not be enabled when tool_choice forces tool use."


def _breakpoints(request: Request) -> Iterator[str]:
    system = request.get("system") or []
    blocks = [*request.get("tools", ()), *(system if isinstance(system, list) else [])]
    blocks += [block for message in request["messages"] for block in _blocks(message)]
    marked = [block for block in blocks if block.get("cache_control")]
    if len(marked) > BREAKPOINTS:
        yield f"A maximum of 4 blocks with cache_control may be provided. Found {len(marked)}."
    if any(block.get("type") in ("thinking", "redacted_thinking") for block in marked):
        yield "cache_control cannot be set on thinking blocks"
