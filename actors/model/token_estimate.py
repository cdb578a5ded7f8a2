"""About how many tokens something is, with nobody asked: what budgets and limits reserve before a call. Pure.

A provider's own count is known after the call only. English is some four bytes a token with all of them, code and
other languages less; three and a half errs to the side of reserving too much.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from actors.model.message import Message, Part, RedactedThinking, Text, Thinking, ToolResult, ToolUse
from actors.model.model import ModelRequest

# What a provider puts around each message and each tool.
FRAME_TOKENS = 4


def estimate_text(text: str | bytes) -> int:
    """Tokens of a text: none for none, else at least one."""
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return (size * 2 + 6) // 7


def estimate_parts(parts: Iterable[Part]) -> int:
    """Tokens of what was said in a message."""
    return sum(estimate_text(_words(part)) for part in parts)


def estimate_messages(messages: Iterable[Message]) -> int:
    """Tokens of a conversation."""
    return sum(FRAME_TOKENS + estimate_parts(message.parts) for message in messages)


def estimate_request(request: ModelRequest) -> int:
    """Tokens of all that a model is given to read."""
    tools = sum(FRAME_TOKENS + estimate_text(msgspec.json.encode(tool)) for tool in request.tools)
    schema = estimate_text(msgspec.json.encode(request.output_schema)) if request.output_schema else 0
    return estimate_text(request.system) + estimate_messages(request.messages) + tools + schema


def _words(part: Part) -> str | bytes:
    match part:
        case Text(text):
            return text
        case Thinking(thinking):
            return thinking
        case RedactedThinking(data):
            return data
        case ToolUse():
            return part.name.encode() + (part.malformed.encode() or msgspec.json.encode(part.input))
        case ToolResult():
            return part.content
        case _:
            assert_never(part)
