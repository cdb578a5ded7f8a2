"""A reply that is there as a whole, heard in pieces as if it were made now."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

from actors.model.message import Text, Thinking
from actors.model.model import Delta, Listen, ModelReply


def pieces_of(text: str) -> list[str]:
    """A text in pieces of a word each, which are the text when joined."""
    return re.findall(r"\s*\S+(?:\s+$)?|^\s+$", text)


def deltas_of(reply: ModelReply) -> Iterator[Delta]:
    """All that is heard of a reply: its thoughts and words, in their order."""
    for part in reply.message.parts:
        if isinstance(part, Text):
            yield from (Delta(piece) for piece in pieces_of(part.text))
        elif isinstance(part, Thinking):
            yield from (Delta(piece, "thinking") for piece in pieces_of(part.thinking))


async def heard(reply: ModelReply, listen: Listen | None, pause_s: float = 0.0) -> ModelReply:
    """The reply, once ``listen`` has heard it, with ``pause_s`` behind each piece."""
    if listen is not None:
        for delta in deltas_of(reply):
            listen(delta)
            await asyncio.sleep(pause_s)
    return reply
