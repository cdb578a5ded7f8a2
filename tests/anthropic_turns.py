"""What the fake endpoint says in one turn, as data, and how that is told in the words of the Messages API (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

CHUNK_CHARS = 12
ANSWER_TOOLS = ("tool", "any")


class Use(msgspec.Struct, frozen=True, tag="use", omit_defaults=True):
    """One use of a tool. ``malformed`` is written in place of the arguments, piece by piece, and is no JSON."""

    name: str
    input: dict[str, Any] = {}
    malformed: str = ""
    id: str = ""


class Spent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as the API counts them."""

    input_tokens: int = 10
    output_tokens: int = 5
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class Say(msgspec.Struct, frozen=True, tag="say", omit_defaults=True):
    """An answer. ``stop`` is worked out if it is not given: ``tool_use`` if there are tools, else ``end_turn``.

    ``thinking`` (sealed with ``signature``) and ``redacted`` (what nobody may read) come first, then the text, then the
    tools. ``answer`` is a value for a request that wants structured output: told as text, or by the tool that the
    request forces.
    """

    text: str = ""
    tools: tuple[Use, ...] = ()
    thinking: str = ""
    signature: str = "sealed"
    redacted: str = ""
    stop: str = ""
    stop_sequence: str | None = None
    usage: Spent = Spent()
    answer: Any = None


class Refuse(msgspec.Struct, frozen=True, tag="refuse", omit_defaults=True):
    """An error instead of an answer. ``retry_after`` is the header as it is sent; ``body`` replaces the usual one."""

    status: int = 529
    retry_after: str | None = None
    message: str = ""
    body: dict[str, Any] | None = None


class Cut(msgspec.Struct, frozen=True, tag="cut", omit_defaults=True):
    """The connection ends after so many events of a stream (unstreamed: in the middle of the body).

    ``politely``: the body ends as if nothing were missing.
    """

    after: int = 3
    turn: Say = Say("This will be cut somewhere in the middle.")
    politely: bool = False


class Fault(msgspec.Struct, frozen=True, tag="fault", omit_defaults=True):
    """An ``error`` event in the middle of a stream, after so many events."""

    after: int = 3
    kind: str = "overloaded_error"
    message: str = "Overloaded"
    turn: Say = Say("This will break off somewhere in the middle.")


class Raw(msgspec.Struct, frozen=True, tag="raw", omit_defaults=True):
    """A body that is not the API's, such as a proxy's page."""

    body: str
    status: int = 200
    content_type: str = "text/html"


class Hang(msgspec.Struct, frozen=True, tag="hang", omit_defaults=True):
    """No end: after so many events of a stream nothing more comes. 0: not even the first byte."""

    after: int = 0
    turn: Say = Say("This never comes to its end.")


class Slow(msgspec.Struct, frozen=True, tag="slow", omit_defaults=True):
    """The first byte comes after so many seconds, then the turn."""

    delay_s: float
    turn: Say | Refuse | Cut | Fault | Raw | Hang = Say("slow")


Turn = Say | Refuse | Cut | Fault | Raw | Hang | Slow

_KINDS = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
          404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
          529: "overloaded_error"}  # fmt: skip


def error_body(status: int, message: str = "") -> dict[str, Any]:
    """The body of an error."""
    kind = _KINDS.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message or kind}, "request_id": "req_fake"}


def message_of(turn: Say, request: dict[str, Any], count: int) -> dict[str, Any]:
    """An unstreamed answer: a Message of the API. A malformed use has its text where an object belongs."""
    uses = [(block, use) for block, use in _blocks(turn, request, count)]
    content = [
        block if use is None else {**block, "input": use.malformed or use.input} for block, use in uses
    ]  # fmt: skip
    return {**_head(turn, request, count), "content": content, "stop_reason": _stop(turn, request),
            "stop_sequence": turn.stop_sequence, "usage": _usage(turn)}  # fmt: skip


def events_of(turn: Say, request: dict[str, Any], count: int) -> Iterator[dict[str, Any]]:
    """A streamed answer: the API's events in their order."""
    begun = {**_usage(turn), "output_tokens": 1}
    yield {"type": "message_start", "message": {**_head(turn, request, count), "content": [], "stop_reason": None,
                                                "stop_sequence": None, "usage": begun}}  # fmt: skip
    yield {"type": "ping"}
    for index, (block, use) in enumerate(_blocks(turn, request, count)):
        yield from _block_events(index, block, use)
    yield {"type": "message_delta", "usage": {"output_tokens": turn.usage.output_tokens},
           "delta": {"stop_reason": _stop(turn, request), "stop_sequence": turn.stop_sequence}}  # fmt: skip
    yield {"type": "message_stop"}


def _head(turn: Say, request: dict[str, Any], count: int) -> dict[str, Any]:
    return {"id": f"msg_{count:04}", "type": "message", "role": "assistant", "model": request.get("model", "")}


def _usage(turn: Say) -> dict[str, Any]:
    return msgspec.structs.asdict(turn.usage)


def _forced(turn: Say, request: dict[str, Any]) -> str:
    """The tool by which ``turn.answer`` is told, or nothing if that is done by text."""
    if (
        turn.answer is None
        or "format" in request.get("output_config", {})
        or request.get("tool_choice", {}).get("type") not in ANSWER_TOOLS
    ):
        return ""
    return str(request["tool_choice"].get("name") or request["tools"][-1]["name"])


def _stop(turn: Say, request: dict[str, Any]) -> str:
    return turn.stop or ("tool_use" if turn.tools or _forced(turn, request) else "end_turn")


def _blocks(turn: Say, request: dict[str, Any], count: int) -> Iterator[tuple[dict[str, Any], Use | None]]:
    if turn.thinking:
        yield {"type": "thinking", "thinking": turn.thinking, "signature": turn.signature}, None
    if turn.redacted:
        yield {"type": "redacted_thinking", "data": turn.redacted}, None
    forced = _forced(turn, request)
    text = turn.text or ("" if turn.answer is None or forced else json.dumps(turn.answer))
    if text:
        yield {"type": "text", "text": text}, None
    for place, use in enumerate((*turn.tools, *([Use(forced, turn.answer)] if forced else []))):
        yield {"type": "tool_use", "id": use.id or f"toolu_{count:04}_{place}", "name": use.name, "input": {}}, use


def _block_events(index: int, block: dict[str, Any], use: Use | None) -> Iterator[dict[str, Any]]:
    empty = {"text": "", "thinking": "", "signature": ""}
    start = {key: empty.get(key, value) if key != "type" else value for key, value in block.items()}
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in _deltas(block, use):
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _deltas(block: dict[str, Any], use: Use | None) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        yield from ({"type": "text_delta", "text": piece} for piece in _pieces(block["text"]))
    if block["type"] == "thinking":
        yield from ({"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"]))
        yield {"type": "signature_delta", "signature": block["signature"]}
    if use is not None:
        written = use.malformed or (json.dumps(use.input) if use.input else "")
        yield {"type": "input_json_delta", "partial_json": ""}
        yield from ({"type": "input_json_delta", "partial_json": piece} for piece in _pieces(written))


def _pieces(text: str) -> list[str]:
    return [text[at : at + CHUNK_CHARS] for at in range(0, len(text), CHUNK_CHARS)]
