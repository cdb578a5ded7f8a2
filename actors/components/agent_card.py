"""What others are told of an agent: a part of its row in the registry."""

from __future__ import annotations

import msgspec


class AgentCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which model it asks, the references of the tools that it has, and whether it may only read."""

    model: str
    tools: tuple[str, ...] = ()
    read_only: bool = False
