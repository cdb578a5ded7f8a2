"""``python -m bench.further``: memory with 1,000 jobs in flight, recovery after kill -9, idle CPU, start of the CLI.

Each figure is taken on real processes started as a user starts them (``callboard node``), on a fresh server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import uvloop

from actors.clients.client import Client
from bench import help_time, idle
from bench.app import hold, order
from bench.process_tree import rss_mib
from bench.recovery import first_event_after_kill
from bus.embedded import EmbeddedServer
from bus.paths import DATA_DIR_VARIABLE
from bus.service import discover
from supervisor.node import NodeStatus, node_statuses

START_LIMIT_S = 20.0
IN_FLIGHT = 1_000
IDLE_S = 20.0


@contextlib.asynccontextmanager
async def node(url: str, target: str, name: str, *options: str, services: int) -> AsyncIterator[int]:
    """A node as a process of its own; gives its pid once its components are announced."""
    with tempfile.TemporaryDirectory(prefix="callboard-bench-") as scratch:
        log = Path(scratch, "log").open("wb")  # noqa: ASYNC230, SIM115 - one small file, closed with the process
        env = {**os.environ, DATA_DIR_VARIABLE: scratch, "CALLBOARD_LOG": "WARNING"}
        argv = [sys.executable, "-m", "cli", "node", target, "--name", name, "--nats", url, *options]
        process = await asyncio.create_subprocess_exec(*argv, env=env, stdout=log, stderr=log)
        try:
            async with Client.connect(url) as client:
                await _until(lambda: _announced(client, name, services))
            yield process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await process.wait()
            log.close()


async def _announced(client: Client, name: str, services: int) -> bool:
    found = await discover(client.bus)
    return sum(info.meta("node") == name for info in found if info.name != "supervisor") >= services


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(START_LIMIT_S):
        while not await true():  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.02)


async def _status(client: Client, name: str) -> NodeStatus:
    return next(n for n in await node_statuses(client.bus) if n.node == name)


async def _pid(client: Client, name: str, actor: str) -> int:
    status = await _status(client, name)
    return next(a.pid or 0 for a in status.actors if a.name == actor)


async def _hold_jobs(client: Client, number: int) -> None:
    """So many jobs in flight, each waiting for a call that nobody serves."""
    heard = 0

    def count(_: object) -> None:
        nonlocal heard
        heard += 1

    sub = await client.bus.subscribe("events.*.*.call.tool.never.v1", count)
    for start in range(0, number, 100):
        await asyncio.gather(*(client.submit(hold, n=n) for n in range(start, min(start + 100, number))))
    async with asyncio.timeout(START_LIMIT_S):
        while heard < number:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await sub.unsubscribe()


async def memory(url: str) -> str:
    """RSS of one job host with 1,000 jobs in flight."""
    async with node(url, "bench.app:app", "n1", "--except", "never", services=3) as _, Client.connect(url) as client:
        host = await _pid(client, "n1", "host-1")
        before = rss_mib(host)
        await _hold_jobs(client, IN_FLIGHT)
        after = rss_mib(host)
    return f"{after:.0f} MiB with {IN_FLIGHT:,} jobs in flight ({before:.0f} MiB with none); target < 200"


async def same_node(url: str) -> str:
    """Kill -9 of the host: until its successor owns a job."""
    async with node(url, "bench.app:app", "n1", "--except", "never", services=3) as _, Client.connect(url) as client:
        await _hold_jobs(client, 20)
        host = await _pid(client, "n1", "host-1")
        took_s = await first_event_after_kill(url, "events.default.*.job.owned", host)
    return f"{took_s:.2f} s from kill -9 of a host to the first job that its successor owns; target <= 2"


async def other_node(url: str) -> str:
    """A machine is lost: until another node owns one of its jobs. Nothing is handed back: the host is stopped first."""
    async with (
        node(url, "bench.app:app", "n1", "--except", "never", services=3) as first,
        Client.connect(url) as client,
    ):
        await _hold_jobs(client, 20)
        host = await _pid(client, "n1", "host-1")
        async with node(url, "bench.app:app", "n2", "--except", "never", services=3):
            os.kill(host, signal.SIGSTOP)
            os.kill(first, signal.SIGKILL)
            took_s = await first_event_after_kill(url, "events.default.*.job.owned", host, 30)
    return f"{took_s:.2f} s from the loss of a node to the first of its jobs on another; target <= 10"


async def tool_restart(url: str) -> str:
    """Kill -9 of the only process of a tool: until it answers a call that was made after the kill."""
    async with node(url, "bench.app:app", "n1", "--except", "never", services=3) as _, Client.connect(url) as client:

        async def load() -> None:
            while True:
                handles.append(await client.submit(order, sku="A1", qty=1, steps=1))
                await asyncio.sleep(0.01)

        handles: list[object] = []
        tool = await _pid(client, "n1", "quote-1")
        loading = asyncio.create_task(load())
        took_s = await first_event_after_kill(url, "events.default.*.reply.completed", tool)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    return f"{took_s:.2f} s from kill -9 of a tool to the next call served; target <= 1"


async def idle_cpu(url: str) -> str:
    """A node with ten actors and nothing to do."""
    async with node(url, "bench.idle_app:app", "n1", services=9) as pid:
        measured = await asyncio.to_thread(_settled_idle, pid)
    share = measured.cpu_s / measured.wall_s * 100
    return f"{share:.2f} % of one core for {measured.processes} processes over {measured.wall_s:.0f} s; target < 2"


def _settled_idle(pid: int) -> idle.IdleCpu:
    time.sleep(3)
    return idle.measure(pid, IDLE_S)


async def command_start(_: str) -> str:
    """The command line's help."""
    measured = await asyncio.to_thread(help_time.measure, (sys.executable, "-m", "cli", "--help"), 7)
    return f"{measured.best_s:.2f} s for callboard --help (best of 7); target < 0.3"


MEASURES = (memory, same_node, other_node, tool_restart, idle_cpu, command_start)


async def main() -> None:
    """Take each measure on a server of its own, and print it."""
    for measure in MEASURES:
        async with await EmbeddedServer.start() as server:
            print(f"{measure.__name__:14} {await measure(server.url)}", flush=True)


if __name__ == "__main__":
    uvloop.run(main())
