"""What the floor's host and tool have in common as OS processes: arguments, connection, ready line, end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

import nats
import uvloop
from nats.aio.client import Client

READY = "ready"


def main(serve: Callable[[Client, str], Awaitable[object]]) -> None:
    """Run ``serve`` until SIGTERM, or until the parent goes away (its end of our stdin closes)."""
    url, style = sys.argv[1:3]
    uvloop.run(_run(url, style, serve))


async def _run(url: str, style: str, serve: Callable[[Client, str], Awaitable[object]]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin, stop.set)
    nc = await nats.connect(url, skip_subject_validation=style == "tuned")
    keep_alive = await serve(nc, style)
    await nc.flush()
    print(READY, flush=True)
    await stop.wait()
    del keep_alive
    await nc.close()
