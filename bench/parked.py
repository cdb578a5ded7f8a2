"""``python -m bench.parked [--jobs 10000]``: what jobs cost that only wait, and how fast one of them wakes.

One node as a user starts it, with one host; the jobs wait for a signal that a person would give. Memory is taken with
none of them, with a tenth and with all: what it costs to have run any job at all is in the first step, what each parked
job costs would be in the second.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil
import uvloop

from actors.clients.client import Client
from bench.further import node
from bench.load import Latency
from bench.parked_app import approval
from bench.process_tree import MIB, cpu_s, rss_mib
from bus.connection import Message
from bus.embedded import EmbeddedServer
from bus.streams import JOBS, stream_info
from bus.subjects import DEFAULT_WORKSPACE, live
from supervisor.node import node_statuses

NODE = "n1"
AT_ONCE = 64
PARK_LIMIT_S = 600.0
WAKE_LIMIT_S = 30.0
IDLE_S = 60.0  # two sweeps of the leader


@dataclass(frozen=True)
class Pids:
    """The processes that are looked at."""

    host: int
    gateway: int
    server: int
    node: int

    def memory(self) -> str:
        """What each of them holds."""
        parts = (("host", self.host), ("gateway", self.gateway), ("server", self.server))
        return ", ".join(f"{name} {_rss_mib(pid):.1f} MiB" for name, pid in parts)


def _rss_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / MIB


class Bell:
    """Hears events of one kind, and when each job's came."""

    def __init__(self, client: Client, kind: str) -> None:
        self.heard_s: dict[str, float] = {}
        self._client = client
        self._kind = kind
        self._rung = asyncio.Event()

    async def open(self) -> None:
        """Listen from here on."""
        await self._client.bus.subscribe(live(DEFAULT_WORKSPACE, "*", self._kind), self._ring)

    def _ring(self, msg: Message) -> None:
        self.heard_s.setdefault(msg.subject.split(".")[2], time.perf_counter())
        self._rung.set()

    async def until(self, true: Callable[[], bool], limit_s: float) -> None:
        """Return once it is so. Raises: TimeoutError."""
        async with asyncio.timeout(limit_s):
            while not true():
                self._rung.clear()
                await self._rung.wait()


class Parked:
    """The jobs of one run of the bench."""

    def __init__(self, client: Client, pids: Pids) -> None:
        self._client = client
        self._pids = pids
        self._waiting = Bell(client, "job.waiting")
        self._ended = Bell(client, "job.completed")
        self._jobs: list[str] = []

    async def open(self) -> None:
        """Listen before there is anything to hear."""
        await self._waiting.open()
        await self._ended.open()

    async def park(self, number: int) -> float:
        """Have ``number`` more jobs, and return how long it took until all were parked."""
        began_s = time.perf_counter()
        first = len(self._jobs)
        self._jobs += [f"p{n}" for n in range(first, first + number)]
        for start in range(first, len(self._jobs), AT_ONCE):
            jobs = self._jobs[start : start + AT_ONCE]
            await asyncio.gather(*(self._client.submit(approval, n=int(job[1:]), job_id=job) for job in jobs))
        await self._waiting.until(lambda: len(self._waiting.heard_s) >= len(self._jobs), PARK_LIMIT_S)
        await _until(self._queue_is_empty)
        return time.perf_counter() - began_s

    async def _queue_is_empty(self) -> bool:
        info = await stream_info(self._client.bus, JOBS)
        return info is not None and info["state"]["messages"] == 0

    async def wake(self, number: int) -> list[float]:
        """Wake so many of them, one after the other; milliseconds from the call of ``signal`` to the end of the job."""
        chosen = random.Random(1).sample(self._jobs, number)
        samples_ms: list[float] = []
        for job in chosen:
            began_s = time.perf_counter()
            await self._client.signal(job, "approve")
            await self._ended.until(lambda job=job: job in self._ended.heard_s, WAKE_LIMIT_S)  # type: ignore[misc]
            samples_ms.append((self._ended.heard_s[job] - began_s) * 1000)
        return samples_ms

    async def idle(self, seconds: float) -> str:
        """What the processes use while nothing happens."""
        pids = {"host": self._pids.host, "gateway": self._pids.gateway, "server": self._pids.server}
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        await asyncio.sleep(seconds)
        shares = {name: (cpu_s(pid) - before[name]) / seconds * 100 for name, pid in pids.items()}
        return ", ".join(f"{name} {share:.2f} %" for name, share in shares.items())


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PARK_LIMIT_S):
        while not await true():  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.05)


async def _pids(client: Client, supervisor: int, server: EmbeddedServer) -> Pids:
    (status,) = [status for status in await node_statuses(client.bus) if status.node == NODE]
    actors = {actor.name: actor.pid or 0 for actor in status.actors}
    return Pids(actors["host-1"], actors["gateway"], server.pid, supervisor)


async def measure(server: EmbeddedServer, jobs: int, wakes: int, idle_s: float) -> None:
    """Park, look, wake, and print each figure as it is there."""
    async with (
        node(server.url, "bench.parked_app:app", NODE, services=1) as supervisor,
        Client.connect(server.url) as client,
    ):
        pids = await _pids(client, supervisor, server)
        parked = Parked(client, pids)
        await parked.open()
        print(f"none parked    {pids.memory()}", flush=True)
        print(f"idle CPU       {await parked.idle(idle_s)} of one core", flush=True)
        first = jobs // 10
        for number in (first, jobs - first):
            took_s = await parked.park(number)
            total = first if number == first else jobs
            print(f"{total:,} parked".ljust(15) + f"{pids.memory()}; {number / took_s:.0f} jobs/s", flush=True)
        print(f"idle CPU       {await parked.idle(idle_s)} of one core", flush=True)
        print(f"wake           {_told(Latency(tuple(await parked.wake(wakes))))}; target < 50", flush=True)
        print(f"at the end     {pids.memory()}; node {rss_mib(pids.node):.0f} MiB in all", flush=True)


def _told(woken: Latency) -> str:
    # The first one comes after the quiet: what the server had in memory of its log is gone by then.
    p50, p99 = woken.percentile(50), woken.percentile(99)
    first, number = woken.samples_ms[0], len(woken.samples_ms)
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, the first {first:.1f} ms, from signal to the job's end, {number} wakes"


async def main() -> None:
    """Read the options, and measure on a server of its own."""
    parser = argparse.ArgumentParser(prog="python -m bench.parked", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--wakes", type=int, default=200)
    parser.add_argument("--idle-s", type=float, default=IDLE_S)
    options = parser.parse_args()
    async with await EmbeddedServer.start() as server:
        await measure(server, options.jobs, options.wakes, options.idle_s)


if __name__ == "__main__":
    uvloop.run(main())
