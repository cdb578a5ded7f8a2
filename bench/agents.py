"""``python -m bench.agents``: what an agent's loop costs beside its model: runs of ten turns with a tool each, at once.

The model is a script that answers at once, so what is left is the loop: each turn is a record of its answer and a call.
Beside it a function makes the same ten calls without a model. Real processes; both take turns on one server.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass

import uvloop

from actors.clients.client import Client
from bench.agent_app import TURNS, app
from bench.floor.contract import expected_total
from bench.process_tree import cpu_s, rss_mib
from bench.supervised import supervised
from bus.embedded import EmbeddedServer
from bus.streams import ensure_streams

KINDS = ("by_code", "by_agent")
LIMIT_S = 120.0


@dataclass(frozen=True)
class Figures:
    """One batch: turns/s of all runs, milliseconds of one run alone, the host's CPU per turn and its memory."""

    turns_per_s: float
    alone_ms: float
    host_us: float
    host_mib: float


async def batch(client: Client, kind: str, runs: int, host: int) -> Figures:
    """Runs at once, then some one by one. Raises: AssertionError for a wrong result, TimeoutError."""
    component = app.find("job", kind) or app.find("agent", kind)
    assert component is not None

    async def one(number: int) -> float:
        since_s = time.perf_counter()
        result = await (await client.submit(component, sku="A1", qty=number % 7)).result()
        assert result == expected_total(number % 7, TURNS), f"a wrong result of {kind}: {result}"
        return (time.perf_counter() - since_s) * 1e3

    async with asyncio.timeout(LIMIT_S):
        spent_s, began_s = cpu_s(host), time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(runs)))
        wall_s, host_s = time.perf_counter() - began_s, cpu_s(host) - spent_s
        alone = [await one(number) for number in range(20)]
    return Figures(runs * TURNS / wall_s, statistics.median(alone), host_s / (runs * TURNS) * 1e6, rss_mib(host))


async def measure(runs: int, rounds: int) -> dict[str, list[Figures]]:
    """All batches of both kinds, taking turns; the first of each warms up and is left out."""
    found: dict[str, list[Figures]] = {kind: [] for kind in KINDS}
    async with await EmbeddedServer.start() as server, Client.connect(server.url) as client:
        await ensure_streams(client.bus)
        async with supervised(server.url, "bench.agent_app:app", app) as supervisor:
            pids = {s.name.rpartition("-")[0]: s.pid or 0 for s in supervisor.statuses()}
            hosts = {"by_code": pids["host"], "by_agent": pids["by_agent"]}
            for number in range(rounds + 1):
                for kind in KINDS:
                    figures = await batch(client, kind, runs if number else max(1, runs // 10), hosts[kind])
                    found[kind] += [figures] if number else []
    return found


def report(found: dict[str, list[Figures]], runs: int) -> str:
    """The table: medians of the batches, and the ratio of agents to functions."""
    lines = [f"{runs:,} runs of {TURNS} turns at once", f"{'':24}{'function':>10}{'agent':>10}{'ratio':>8}"]
    for name, label in (
        ("turns_per_s", "calls of the tool/s"), ("alone_ms", "one run alone, ms"), ("host_us", "host CPU us/call"),
        ("host_mib", "host MiB"),
    ):  # fmt: skip
        code, agent = (statistics.median(getattr(f, name) for f in found[kind]) for kind in KINDS)
        lines.append(f"{label:24}{code:10,.1f}{agent:10,.1f}{agent / code:8.2f}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="runs at once (default: 200)")
    parser.add_argument("--rounds", type=int, default=5, help="batches of each kind (default: 5)")
    given = parser.parse_args()
    print(report(uvloop.run(measure(given.runs, given.rounds)), given.runs))


if __name__ == "__main__":
    main()
