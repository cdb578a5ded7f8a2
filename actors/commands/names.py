"""Names for shell completion: asked of the bus with little patience, since a shell waits for the answer."""

from __future__ import annotations

import asyncio
import contextlib

from bus.errors import CallboardError
from bus.subjects import CallKind

PATIENCE_S = 0.6


def component_names(kinds: tuple[CallKind, ...], nats: str | None = None, context: str | None = None) -> list[str]:
    """The registered names of these kinds; none if the bus does not answer at once."""
    with contextlib.suppress(CallboardError, TimeoutError, OSError):
        return asyncio.run(_ask(kinds, nats, context))
    return []


async def _ask(kinds: tuple[CallKind, ...], nats: str | None, context: str | None) -> list[str]:
    from actors.registry import Registry
    from bus.connection import Bus
    from bus.options import resolve_options

    async with asyncio.timeout(PATIENCE_S * 2):
        async with await Bus.connect(resolve_options(nats, context), timeout_s=PATIENCE_S) as bus:
            registry = Registry(bus)
            await registry.start()
            names = registry.names(kinds)
            await registry.stop()
            return names
