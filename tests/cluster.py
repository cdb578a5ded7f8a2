"""Three NATS servers in one cluster on this machine, each with a store of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bus.connection import Bus
from bus.embedded import LOCALHOST, EmbeddedServer
from bus.errors import BusError
from bus.options import ConnectOptions
from bus.streams import stream_info
from tests.waiting import wait_until

SIZE = 3


@dataclass(frozen=True)
class Cluster:
    """The servers by name."""

    servers: dict[str, EmbeddedServer]

    @property
    def options(self) -> ConnectOptions:
        """How to connect to any of them."""
        return ConnectOptions(servers=[server.url for server in self.servers.values()])

    async def leader_of(self, bus: Bus, stream: str) -> str:
        """The name of the server that leads a stream."""

        async def leader() -> str:
            with contextlib.suppress(BusError):
                info = await stream_info(bus, stream)
                return str(((info or {}).get("cluster") or {}).get("leader") or "")
            return ""

        return await wait_until(leader, 30, what=f"{stream} has a leader")

    async def all_current(self, bus: Bus, stream: str) -> None:
        """Wait until every server holds all of a stream."""

        async def current() -> bool:
            with contextlib.suppress(BusError):
                cluster = ((await stream_info(bus, stream)) or {}).get("cluster") or {}
                replicas = cluster.get("replicas") or []
                return len(replicas) == SIZE - 1 and all(r.get("current") and not r.get("offline") for r in replicas)
            return False

        await wait_until(current, 60, what=f"every replica of {stream} is current")


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Start the servers, and wait until they have chosen who leads them; all are gone afterwards."""
    ports = _free_ports(SIZE)
    routes = ", ".join(f"nats-route://{LOCALHOST}:{port}" for port in ports)
    async with contextlib.AsyncExitStack() as stack:
        starting = [
            EmbeddedServer.start(store_dir=folder / f"s{number}", config=_config(f"s{number}", port, routes))
            for number, port in enumerate(ports, 1)
        ]
        servers = await asyncio.gather(*starting)
        for server in servers:
            stack.push_async_callback(server.stop)
        three = Cluster({f"s{number}": server for number, server in enumerate(servers, 1)})
        await _wait_for_meta_leader(three)
        yield three


def _config(name: str, port: int, routes: str) -> str:
    return f"""
        server_name: {name}
        cluster {{ name: test, listen: "{LOCALHOST}:{port}", routes: [{routes}] }}
    """


def _free_ports(count: int) -> list[int]:
    """Ports that are free now: the servers of a cluster have to know each other's before they start."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOCALHOST, 0))
        return [one.getsockname()[1] for one in sockets]


async def _wait_for_meta_leader(three: Cluster) -> None:
    async with await Bus.connect(three.options, timeout_s=30) as bus:

        async def answers() -> bool:
            with contextlib.suppress(BusError):
                return bool(await bus.api("INFO", timeout_s=1))
            return False

        await wait_until(answers, 30, what="JetStream of the cluster answers")
