"""How long a few jobs wait behind many: of another workspace, and of another priority. ``python -m bench.fairness``.

One host and one tool process, as a node starts them. A flood of one-step jobs lies in the queue; then ten jobs come,
and each is timed from its request to its end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import uvloop

from actors.clients.client import Client
from bench.app import order
from bench.system import System
from bus.embedded import EmbeddedServer
from bus.subjects import Priority, job_request

FEW = 10
LIMIT_S = 300.0
_BODY = msgspec.json.encode({"sku": "A1", "qty": 1, "steps": 1})


@dataclass(frozen=True)
class Waits:
    """Seconds from request to end of the few, and until the last of the many had ended."""

    few_s: list[float]
    flood_s: float

    def row(self, name: str) -> str:
        return (
            f"{name:<44} median {statistics.median(self.few_s):6.2f} s   worst {max(self.few_s):6.2f} s   "
            f"flood over after {self.flood_s:6.2f} s"
        )


@contextlib.asynccontextmanager
async def system(server: EmbeddedServer) -> AsyncIterator[System]:
    """Host and tool, warm."""
    running = System()
    await running.start(server.url)
    try:
        await running.run_job(1, 1)
        yield running
    finally:
        await running.stop()


async def measure(flood: int, many: tuple[str, Priority], few: tuple[str, Priority]) -> Waits:
    """``flood`` requests of one kind (workspace, priority), then ten of another."""
    async with (
        await EmbeddedServer.start() as server,
        system(server),
        await Client.connect(server.url, workspace=many[0]) as first,
        await Client.connect(server.url, workspace=few[0]) as second,
    ):
        begin_s = time.perf_counter()
        subject = job_request(many[0], order.name, many[1])
        for start in range(0, flood, 500):
            appends = [first.bus.append(subject, _BODY) for _ in range(min(500, flood - start))]
            await asyncio.gather(*appends)
        few_s = await asyncio.gather(*(_timed(second, few[1]) for _ in range(FEW)))
        async with asyncio.timeout(LIMIT_S):
            while await _left(first):  # noqa: ASYNC110 - the server tells nobody that a queue is empty
                await asyncio.sleep(0.05)
        return Waits(list(few_s), time.perf_counter() - begin_s)


async def _timed(client: Client, priority: Priority) -> float:
    begin_s = time.perf_counter()
    handle = await client.submit(order, sku="A1", qty=1, steps=1, priority=priority)
    await handle.result(LIMIT_S)
    return time.perf_counter() - begin_s


async def _left(client: Client) -> int:
    info = await client.bus.api("STREAM.INFO.JOBS")
    messages: int = info["state"]["messages"]
    return messages


async def main(flood: int) -> None:
    print(f"{flood:,} jobs of one step lie in the queue, then {FEW} come; {os.cpu_count()} cores")
    alone = await measure(0, ("a", "normal"), ("b", "normal"))
    print(alone.row("nobody else"))
    print((await measure(flood, ("a", "normal"), ("b", "normal"))).row("another workspace floods"))
    print((await measure(flood, ("a", "low"), ("a", "high"))).row("high, behind low"))
    print((await measure(flood, ("a", "normal"), ("a", "low"))).row("low, beside normal"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--flood", type=int, default=10_000)
    uvloop.run(main(parser.parse_args().flood))
