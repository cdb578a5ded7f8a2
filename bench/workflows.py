"""``python -m bench.workflows``: 1,000 workflows of ten steps at once, as documents and as functions, in one run.

Real processes as a node starts them: one job host, one tool actor. Both kinds take turns on the same server, so that
what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass

import uvloop

from actors.clients.client import Client
from bench.floor.contract import expected_total
from bench.process_tree import cpu_s, rss_mib
from bench.supervised import supervised
from bench.workflow_app import STEPS, app
from bus.embedded import EmbeddedServer
from bus.streams import ensure_streams

TARGET = 0.8
KINDS = ("by_code", "by_document")
LIMIT_S = 120.0


@dataclass(frozen=True)
class Figures:
    """One batch: jobs/s, milliseconds from submit to result, the host's CPU per job and its memory at the end."""

    jobs_per_s: float
    p50_ms: float
    p99_ms: float
    host_us: float
    host_mib: float


async def batch(client: Client, kind: str, jobs: int, host: int) -> Figures:
    """Submit ``jobs`` at once and wait for all. Raises: WrongEnd by assertion, TimeoutError."""
    workflow = app.find("job", kind)
    assert workflow is not None
    spent_s, began_s = cpu_s(host), time.perf_counter()

    async def one(number: int) -> float:
        since_s = time.perf_counter()
        handle = await client.submit(workflow, sku="A1", qty=number % 7)
        result = await handle.result()
        assert result["total"] == expected_total(number % 7, STEPS), f"a wrong result of {kind}: {result}"
        return (time.perf_counter() - since_s) * 1e3

    async with asyncio.timeout(LIMIT_S):
        took = sorted(await asyncio.gather(*(one(number) for number in range(jobs))))
    wall_s = time.perf_counter() - began_s
    return Figures(
        jobs / wall_s, statistics.median(took), took[int(len(took) * 0.99)], (cpu_s(host) - spent_s) / jobs * 1e6,
        rss_mib(host),
    )  # fmt: skip


async def measure(jobs: int, rounds: int) -> dict[str, list[Figures]]:
    """All batches of both kinds, taking turns; the first of each warms up and is left out."""
    found: dict[str, list[Figures]] = {kind: [] for kind in KINDS}
    async with await EmbeddedServer.start() as server, Client.connect(server.url) as client:
        await ensure_streams(client.bus)
        async with supervised(server.url, "bench.workflow_app:app", app) as supervisor:
            host = next(s.pid or 0 for s in supervisor.statuses() if s.name.startswith("host"))
            for number in range(rounds + 1):
                for kind in KINDS:
                    figures = await batch(client, kind, jobs if number else max(1, jobs // 10), host)
                    found[kind] += [figures] if number else []
    return found


def report(found: dict[str, list[Figures]], jobs: int) -> str:
    """The table: medians of the batches, and the ratio of documents to functions."""
    lines = [f"{jobs:,} workflows of {STEPS} steps at once", f"{'':24}{'code':>10}{'document':>10}{'ratio':>8}"]
    for name, label in (
        ("jobs_per_s", "jobs/s"), ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms"), ("host_us", "host CPU us/job"),
        ("host_mib", "host MiB"),
    ):  # fmt: skip
        code, document = (statistics.median(getattr(f, name) for f in found[kind]) for kind in KINDS)
        lines.append(f"{label:24}{code:10,.1f}{document:10,.1f}{document / code:8.2f}")
    code, document = (statistics.median(f.jobs_per_s for f in found[kind]) for kind in KINDS)
    verdict = "met" if document / code >= TARGET else "MISSED"
    lines.append(f"target: documents at {TARGET:g}x of functions or better: {verdict}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000, help="workflows at once (default: 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="batches of each kind (default: 5)")
    given = parser.parse_args()
    print(report(uvloop.run(measure(given.jobs, given.rounds)), given.jobs))


if __name__ == "__main__":
    main()
