"""Callboard as a contender: one job host and one tool actor as a node starts them, the client in this process."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec

from actors.clients.client import Client
from actors.node.process import CONNECT_VARIABLE, NODE_VARIABLE
from actors.node.roster import Choice, roster
from bench.app import app, order
from bus.options import ConnectOptions
from bus.paths import DATA_DIR_VARIABLE
from bus.streams import EVENTS, JOBS, ensure_streams, stream_info
from supervisor.tree import Supervisor

START_LIMIT_S = 10.0


class System:
    """The same job as the floor's, through the public API."""

    name = "system"

    def __init__(self) -> None:
        self._client: Client | None = None
        self._supervisor: Supervisor | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="callboard-bench-")

    async def start(self, server_url: str) -> None:
        client = self._client = await Client.connect(server_url)
        await ensure_streams(client.bus)
        env = {
            CONNECT_VARIABLE: msgspec.json.encode(ConnectOptions(servers=[server_url])).decode(),
            NODE_VARIABLE: "bench",
            DATA_DIR_VARIABLE: str(Path(self._scratch.name)),
            "CALLBOARD_LOG": "WARNING",
        }
        specs = roster("bench.app:app", [c.info() for c in app.components], Choice(without=("never",), gateway=False))
        self._supervisor = Supervisor([msgspec.structs.replace(s, env={**s.env, **env}) for s in specs])
        await self._supervisor.start()
        async with asyncio.timeout(START_LIMIT_S):
            while not await _both_serve(client):  # noqa: ASYNC110 - the server tells nobody that a consumer was made
                await asyncio.sleep(0.02)

    async def run_job(self, qty: int, steps: int) -> int:
        assert self._client is not None, "start() comes first"
        handle = await self._client.submit(order, sku="A1", qty=qty, steps=steps)
        return (await handle.result()).total

    def pids(self) -> dict[str, int]:
        assert self._supervisor is not None, "start() comes first"
        return {s.name.partition("-")[0].replace("quote", "tool"): s.pid or 0 for s in self._supervisor.statuses()}

    async def stop(self) -> None:
        if self._supervisor is not None:
            await self._supervisor.stop(limit_s=5)
        if self._client is not None:
            await self._client.close()
        self._scratch.cleanup()


async def _both_serve(client: Client) -> bool:
    """Both have made their consumers."""
    infos = [await stream_info(client.bus, name) for name in (JOBS, EVENTS)]
    return all(info is not None and info["state"]["consumer_count"] > 0 for info in infos)
