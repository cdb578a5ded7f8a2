"""The bench measures what it says it measures: its floor runs jobs that end right."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest

from bench import load
from bench.floor.contender import Floor
from bench.floor.contract import expected_total
from bus.embedded import EmbeddedServer

if shutil.which("nats-server") is None:
    pytest.skip("nats-server is not on PATH", allow_module_level=True)


@pytest.fixture(params=["plain", "tuned"])
async def floor(request: pytest.FixtureRequest) -> AsyncIterator[Floor]:
    """A floor with its processes on a server of its own."""
    async with await EmbeddedServer.start() as server:
        contender = Floor(request.param)
        try:
            await contender.start(server.url)
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
