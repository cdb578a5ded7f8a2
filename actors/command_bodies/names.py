"""Names for shell completion: asked of the bus with little patience, since a shell waits for the answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from bus.errors import CallboardError
from bus.subjects import CallKind

if TYPE_CHECKING:
    from supervisor.status import NodeStatus

PATIENCE_S = 0.6


def component_names(kinds: tuple[CallKind, ...], nats: str | None = None, context: str | None = None) -> list[str]:
    """The registered names of these kinds; none if the bus does not answer at once."""
    with contextlib.suppress(CallboardError, TimeoutError, OSError):
        return asyncio.run(_ask(kinds, nats, context))
    return []


def actor_names(nats: str | None = None, context: str | None = None) -> list[str]:
    """Every name that an order to actors can be given; none if the bus does not answer at once."""
    from supervisor.status import known_names

    return known_names([actor for node in _nodes(nats, context) for actor in node.actors])


def node_names(nats: str | None = None, context: str | None = None) -> list[str]:
    """The nodes that answer; none if the bus does not answer at once."""
    return [node.node for node in _nodes(nats, context)]


def _nodes(nats: str | None, context: str | None) -> list[NodeStatus]:
    with contextlib.suppress(CallboardError, TimeoutError, OSError):
        return asyncio.run(_ask_nodes(nats, context))
    return []


def workflow_names(nats: str | None = None, context: str | None = None, *, with_versions: bool = False) -> list[str]:
    """The published workflows, or their versions; none if the bus does not answer at once."""
    with contextlib.suppress(CallboardError, TimeoutError, OSError):
        return asyncio.run(_ask_workflows(nats, context, with_versions=with_versions))
    return []


async def _ask_workflows(nats: str | None, context: str | None, *, with_versions: bool) -> list[str]:
    from actors.clients.workflows import Workflows
    from bus.connection import Bus
    from bus.options import resolve_options

    async with asyncio.timeout(PATIENCE_S * 2):
        async with await Bus.connect(resolve_options(nats, context), timeout_s=PATIENCE_S) as bus:
            workflows = Workflows(bus)
            definitions = await workflows.definitions()
            await workflows.close()
            if not with_versions:
                return definitions.names()
            return [f"{each.name}@{each.version}" for each in definitions.all()]


async def _ask_nodes(nats: str | None, context: str | None) -> list[NodeStatus]:
    from bus.connection import Bus
    from bus.options import resolve_options
    from supervisor.status import node_statuses

    async with asyncio.timeout(PATIENCE_S * 2):
        async with await Bus.connect(resolve_options(nats, context), timeout_s=PATIENCE_S) as bus:
            return await node_statuses(bus, wait_s=PATIENCE_S / 2)


async def _ask(kinds: tuple[CallKind, ...], nats: str | None, context: str | None) -> list[str]:
    from actors.components.registry import Registry
    from bus.connection import Bus
    from bus.options import resolve_options

    async with asyncio.timeout(PATIENCE_S * 2):
        async with await Bus.connect(resolve_options(nats, context), timeout_s=PATIENCE_S) as bus:
            registry = Registry(bus)
            await registry.start()
            names = registry.names(kinds)
            await registry.stop()
            return names
