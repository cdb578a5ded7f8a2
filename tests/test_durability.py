"""The bench of durability measures the modes that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import durability
from bench.cluster import servers
from bus.connection import Bus
from bus.options import ConnectOptions
from bus.streams import EVENTS, JOBS, stream_info


@pytest.mark.parametrize("mode", durability.MODES, ids=lambda mode: mode.name)
async def test_mode_is_what_it_says(mode: durability.Mode) -> None:
    """So many servers keep the streams, and each has been told when to sync."""
    async with (
        servers(mode.replicas, always=mode.always) as running,
        await Bus.connect(ConnectOptions(servers=[running[-1].url])) as bus,
    ):
        assert len(running) == mode.replicas
        for stream in (JOBS, EVENTS):
            info = await stream_info(bus, stream)
            assert info is not None and info["config"]["num_replicas"] == mode.replicas
        assert all(("sync_interval: always" in _config(server.store_dir)) == mode.always for server in running)


def _config(store_dir: Path) -> str:
    return (store_dir / "nats-server.conf").read_text()


async def test_jobs_are_measured() -> None:
    """A turn ends with figures above zero, of jobs whose results were right."""
    found = await durability.measure(durability.MODES[1], seconds=20, in_flight=5, jobs=20)
    assert found.jobs_per_s > 0
    assert 0 < found.p50_ms <= found.p99_ms


def test_best_of_each_measure_counts() -> None:
    """Noise only ever makes a turn slower."""
    turns = [durability.Found(100, 3.0, 9.0), durability.Found(90, 2.0, 10.0)]
    assert durability.best_of(turns) == durability.Found(100, 2.0, 9.0)
    assert "R3 always" in durability.render({"R3 always": turns[0]})
