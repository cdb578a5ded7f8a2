"""What is said between an agent and a model: messages of parts, in no provider's own words. Pure data.

The parts are those of Anthropic's Messages API, which tells apart all that the others do; a provider that knows less
of them leaves out what it cannot say. They are kept in the log, so their tags are a contract.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Words."""

    text: str


class Thinking(msgspec.Struct, frozen=True, tag="thinking", omit_defaults=True):
    """What the model thought before it spoke. It goes back as it came: ``signature`` is the provider's seal on it."""

    thinking: str
    signature: str = ""


class RedactedThinking(msgspec.Struct, frozen=True, tag="redacted_thinking"):
    """Thoughts that the provider shows to nobody; they go back as they came."""

    data: str


class ToolUse(msgspec.Struct, frozen=True, tag="tool_use", omit_defaults=True):
    """The model asks for a tool. ``id`` is the provider's, and the result is told by it.

    ``malformed`` is what the model wrote in place of arguments if that was no JSON object; then ``input`` is empty.
    """

    id: str
    name: str
    input: dict[str, Any]
    malformed: str = ""


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result", omit_defaults=True):
    """What came of a ToolUse, as text; ``is_error`` if the model is to mend something."""

    tool_use_id: str
    content: str
    is_error: bool = False


Part = Text | Thinking | RedactedThinking | ToolUse | ToolResult


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation. Results of tools are said by the user."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The words in it."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_uses(self) -> tuple[ToolUse, ...]:
        """The tools that it asks for, in their order."""
        return tuple(part for part in self.parts if isinstance(part, ToolUse))


def user(text: str) -> Message:
    """A message of the user's that is nothing but words."""
    return Message("user", (Text(text),))
