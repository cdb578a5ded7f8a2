"""A model: something that is given a conversation and says what comes next.

A provider does one call and nothing else. It does not retry, since the agent's durable step does; it says what kind of
failure it was:

- RetryableError (with ``retry_after_s`` if the provider said so) for what passes: 429, 529, 5xx, time-outs, a cut
  stream. Code ``overloaded``, ``rate_limited``, ``timeout`` or ``unreachable``.
- TerminalError for what does not: a wrong key (``unauthorized``), no credit (``quota_exhausted``), a request that the
  provider refuses (``bad_request``), a conversation too long (``context_too_long``), a model that is not there
  (``unknown_model``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

from actors.model.message import Message

StopReason = Literal["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause_turn"]


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as a model is told of it. ``input_schema`` is a JSON Schema of an object."""

    name: str
    description: str
    input_schema: dict[str, Any]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of one or several calls. ``input_tokens`` are those that were neither read from a cache nor put there."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is asked. ``model`` is the provider's name of it.

    ``output_schema``: the answer has to be JSON that fits. ``tool_choice``: "auto", "any" (some tool), "none", or a
    tool's name. ``thinking_tokens``: how much it may think, 0 for not at all. ``cache``: mark what will come again, if
    the provider caches prompts on request. ``stream``: have the answer in pieces even if nobody listens to them.
    """

    model: str
    messages: tuple[Message, ...]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    max_tokens: int = 4096
    temperature: float | None = None
    thinking_tokens: int = 0
    stop_sequences: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None
    cache: bool = True
    stream: bool = True
    timeout_s: float = 600.0


class ModelReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What it said, why it stopped, and what that took. ``model`` answered, ``id`` is the provider's."""

    message: Message
    stop: StopReason
    usage: Usage = Usage()
    model: str = ""
    id: str = ""


class Delta(msgspec.Struct, frozen=True):
    """A piece of an answer while it is made: of its words, or of its thoughts."""

    text: str
    kind: Literal["text", "thinking"] = "text"


Listen = Callable[[Delta], None]


class Model(Protocol):
    """One provider's way to models. An object serves many calls at once, all on one event loop."""

    @property
    def provider(self) -> str:
        """Whose it is, such as ``anthropic``: limits and circuits are shared by this name."""
        ...

    @property
    def name(self) -> str:
        """The provider's name of the model that is asked."""
        ...

    async def reply(self, request: ModelRequest, listen: Listen | None = None) -> ModelReply:
        """One call. ``listen`` hears the pieces as they come. Raises: RetryableError, TerminalError."""
        ...

    def count_tokens(self, request: ModelRequest) -> int:
        """About how many tokens the request is, without asking anybody: what budgets and limits reserve."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
