"""The bench measures what it says it measures: its floor runs jobs that end right."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import nats
import pytest

from bench import help_time, load, memory, process_tree, recovery, table
from bench.floor import contract
from bench.floor.contender import Floor
from bench.floor.contract import expected_total
from bench.turn import Turn
from bus.embedded import EmbeddedServer
from tests.waiting import wait_until


@pytest.fixture(params=["plain", "tuned"])
async def floor(request: pytest.FixtureRequest, nats_server: EmbeddedServer) -> AsyncIterator[Floor]:
    """A floor with its processes on a server of its own."""
    contender = Floor(request.param)
    try:
        await contender.start(nats_server.url)
        yield contender
    finally:
        await contender.stop()


async def test_every_job_of_the_floor_ends_with_the_right_total(floor: Floor) -> None:
    """Jobs of one and of ten steps, many at a time, give the total that their input asks for."""
    assert await floor.run_job(3, 1) == expected_total(3, 1)
    done = await load.throughput(floor, load.Budget(jobs=40, seconds=60.0), in_flight=20, steps=10)
    assert done.jobs == 40


async def test_a_wrong_total_stops_the_bench() -> None:
    """A contender that ends jobs wrongly is no contender: there are no numbers from it."""

    class Liar(Floor):
        async def run_job(self, qty: int, steps: int) -> int:
            return expected_total(qty, steps) + 1

    with pytest.raises(load.WrongEnd):
        await load.latency(Liar("plain"), load.Budget(jobs=1, seconds=60.0))


async def test_recovery_counts_only_events_made_after_the_kill(nats_server: EmbeddedServer) -> None:
    """An event of the dead that arrives late is no sign of life."""
    async with await nats.connect(nats_server.url) as nc:
        victim = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
        measuring = asyncio.create_task(recovery.first_event_after_kill(nats_server.url, "events.>", victim.pid, 30.0))
        assert await victim.wait() == -signal.SIGKILL
        await nc.publish("events.default.j1.job.owned", b'{"type":"job.owned","at":"2001-01-01T00:00:00Z"}')
        await nc.flush()
        assert not measuring.done()
        while not measuring.done():
            await nc.publish("events.default.j1.job.owned", contract.encode(contract.Owned("j1", contract.now(), "h")))
            await asyncio.wait([measuring], timeout=0.05)
        assert await measuring > 0


async def test_memory_and_cpu_of_a_tree_include_its_children() -> None:
    """A child's memory counts for its parent."""
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytes(1) * 40_000_000; input()'])"
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE)
    try:
        async with memory.watched(parent.pid) as peak:
            await wait_until(lambda: peak.peak_mib >= 40_000_000 / process_tree.MIB)
        assert process_tree.tree_cpu_s(parent.pid) > 0
    finally:
        assert parent.stdin is not None
        parent.stdin.close()
        await parent.wait()


def test_help_time_runs_the_command_and_reports_its_failure() -> None:
    """A command that fails has no time."""
    assert len(help_time.measure((sys.executable, "-c", ""), 2).runs_s) == 2
    with pytest.raises(subprocess.CalledProcessError):
        help_time.measure((sys.executable, "-c", "raise SystemExit(3)"), 1)


def test_the_best_turn_counts_and_targets_compare_with_the_floor() -> None:
    """Each measure takes its best turn; a system at half the floor's speed misses the target."""
    slow, fast = _turn(seconds=2.0), _turn(seconds=1.0)
    floor, system = table.best_of("floor", [slow, fast]), table.best_of("system", [slow])
    assert floor.jobs_per_s == 100
    assert [target.measure for target in table.misses(floor, system)] == ["jobs_per_s", "steps_per_s", "p50_ms"]
    assert "MISSED" in table.render(floor, [floor, system])
    assert table.misses(floor, floor) == []


def _turn(seconds: float) -> Turn:
    samples_ms = tuple(seconds * n for n in range(1, 101))
    return Turn(load.Throughput(100, 1, seconds), load.Throughput(100, 10, seconds), load.Latency(samples_ms))
