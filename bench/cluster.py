"""Servers in a cluster on this machine, for measures that need replicas."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from bus.connection import ApiError, Bus
from bus.embedded import LOCALHOST, EmbeddedServer
from bus.errors import BusError
from bus.options import ConnectOptions
from bus.streams import Limits, ensure_streams

READY_LIMIT_S = 60.0


@contextlib.asynccontextmanager
async def servers(count: int, *, always: bool = False) -> AsyncIterator[list[EmbeddedServer]]:
    """``count`` servers, a cluster if there is more than one, with our streams at as many replicas.

    ``always``: every write is put on the disk before it is acknowledged.
    """
    ports = _free_ports(count)
    async with contextlib.AsyncExitStack() as stack:
        starting = [EmbeddedServer.start(config=_config(number, ports, always=always)) for number in range(count)]
        started = await asyncio.gather(*starting, return_exceptions=True)
        running = [await stack.enter_async_context(s) for s in started if isinstance(s, EmbeddedServer)]
        for failed in started:
            if isinstance(failed, BaseException):
                raise failed
        await _make_streams(running[0].url, count)
        yield running


def _config(number: int, ports: list[int], *, always: bool) -> str:
    sync = "jetstream { sync_interval: always }\n" if always else ""
    if len(ports) == 1:
        return sync
    routes = ", ".join(f"nats://{LOCALHOST}:{port}" for port in ports)
    listen = f"{LOCALHOST}:{ports[number]}"
    return f"{sync}server_name: s{number}\ncluster {{ name: bench, listen: {listen}, routes: [{routes}] }}\n"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((LOCALHOST, 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


async def _make_streams(url: str, replicas: int) -> None:
    """A cluster takes a moment to elect the leader that makes streams."""
    async with asyncio.timeout(READY_LIMIT_S), await Bus.connect(ConnectOptions(servers=[url])) as bus:
        while True:
            try:
                await ensure_streams(bus, Limits(replicas=replicas))
                return
            except (ApiError, BusError):
                await asyncio.sleep(0.2)
