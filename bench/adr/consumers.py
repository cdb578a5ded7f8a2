"""ADR 001: one consumer for all workflows against one for each, with two hosts that each run one of two workflows.

    python -m bench.adr.consumers

A host that is given a request that it cannot run hands it back (a bounce). Each host works on 10 requests at a time and
needs 2 ms for one. Printed: deliveries for each request, bounces, and the time until all requests are done.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import uvloop

from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.mailbox import Delivery, Mailbox
from bus.options import resolve_options
from bus.streams import JOBS, ensure_consumer, ensure_streams

REQUESTS = 2_000
WORKFLOWS = ("a", "b")
CAPACITY = 10
WORK_S = 0.002
BOUNCE_DELAY_S = 0.05


@dataclass
class Count:
    """What the hosts did together."""

    done: int = 0
    deliveries: int = 0
    bounces: int = 0


class Host:
    """Runs ``workflow`` from consumer ``name`` and hands everything else back."""

    def __init__(self, bus: Bus, workflow: str, name: str, filters: list[str], count: Count) -> None:
        self._workflow = workflow
        self._count = count
        self._tasks: set[asyncio.Task[None]] = set()
        self.mailbox = Mailbox(
            bus, JOBS, name, self._take, capacity=CAPACITY,
            rebuild=lambda: ensure_consumer(bus, JOBS, name, filters, ack_wait_s=30),
        )  # fmt: skip

    def _take(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._serve(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, delivery: Delivery) -> None:
        self._count.deliveries += 1
        if delivery.subject != f"jobs.default.{self._workflow}":
            self._count.bounces += 1
            await delivery.nak(BOUNCE_DELAY_S)
            return
        await asyncio.sleep(WORK_S)
        await delivery.ack()
        self._count.done += 1


async def measure(*, shared: bool) -> tuple[Count, float]:
    """Fill the queue in blocks of 500 requests for each workflow in turn, then let both hosts empty it."""
    count = Count()
    async with await EmbeddedServer.start() as server, await Bus.connect(resolve_options(server.url)) as bus:
        await ensure_streams(bus)
        for i in range(REQUESTS):
            await bus.append(f"jobs.default.{WORKFLOWS[i // 500 % 2]}", b"{}")
        hosts = [
            Host(bus, w, "all" if shared else w, ["jobs.>"] if shared else [f"jobs.*.{w}"], count) for w in WORKFLOWS
        ]
        began_s = time.perf_counter()
        for host in hosts:
            await host.mailbox.start()
        while count.done < REQUESTS:  # noqa: ASYNC110 - a look now and then costs less than an event for each request
            await asyncio.sleep(0.005)
        took_s = time.perf_counter() - began_s
        for host in hosts:
            await host.mailbox.stop_taking()
    return count, took_s


async def main() -> None:
    """Measure both and print."""
    for label, shared in (("one consumer for all", True), ("one for each workflow", False)):
        count, took_s = await measure(shared=shared)
        each = count.deliveries / REQUESTS
        print(f"{label:<22} {each:5.2f} deliveries a request, {count.bounces:6,} bounces, done in {took_s:5.2f} s")


if __name__ == "__main__":
    uvloop.run(main())
