"""Keeps an embedded server running: one that ends by itself is started again, on the same store and port.

Clients wait for it and lose nothing meanwhile; but nobody else would start it, and they would wait for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from bus.embedded import EmbeddedServer
from bus.errors import CallboardError

# One that ends again and again is given time: its disk may be full, or its port taken.
STEADY_S = 60.0
LONGEST_WAIT_S = 30.0


@contextlib.asynccontextmanager
async def kept(server: EmbeddedServer, tell: Callable[[str], None]) -> AsyncIterator[None]:
    """While inside, the server is started again whenever it ends; at the end it is stopped. ``tell`` hears of both."""
    keeping = asyncio.create_task(_keep(server, tell))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        await server.stop()


async def _keep(server: EmbeddedServer, tell: Callable[[str], None]) -> None:
    wait_s = 0.0
    while True:
        began_s = time.monotonic()
        code = await server.wait()
        wait_s = next_wait_s(wait_s, time.monotonic() - began_s)
        tell(f"nats-server has ended (exit code {code}); it is started again{f' in {wait_s:g} s' if wait_s else ''}")
        await asyncio.sleep(wait_s)
        try:
            await server.restart()
        except CallboardError as error:
            tell(str(error))
            await server.stop()
        else:
            tell(f"nats-server at {server.url} (started again)")


def next_wait_s(last_s: float, ran_s: float) -> float:
    """Seconds before the next start of a server that ran for ``ran_s``, after ``last_s`` before the last one."""
    return 0.0 if ran_s >= STEADY_S else min(LONGEST_WAIT_S, 2 * last_s + 0.5)
