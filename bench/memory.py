"""Peak resident memory of a process tree: ``python -m bench.memory PID --seconds 10``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench.process_tree import rss_mib

INTERVAL_S = 0.1


@dataclass
class PeakMemory:
    """The most that was seen, and how often was looked; a peak shorter than the interval can be missed."""

    peak_mib: float = 0.0
    samples: int = 0

    def sample(self, pid: int) -> None:
        """Look once."""
        self.peak_mib = max(self.peak_mib, rss_mib(pid))
        self.samples += 1


@contextlib.asynccontextmanager
async def watched(pid: int) -> AsyncIterator[PeakMemory]:
    """Sample the tree of ``pid`` while the block runs, at its begin and its end too."""
    peak = PeakMemory()
    peak.sample(pid)
    watching = asyncio.create_task(_watch(peak, pid))
    try:
        yield peak
    finally:
        watching.cancel()
        peak.sample(pid)


async def _watch(peak: PeakMemory, pid: int) -> None:
    while True:
        await asyncio.sleep(INTERVAL_S)
        peak.sample(pid)


async def _main(pid: int, seconds: float) -> None:
    async with watched(pid) as peak:
        await asyncio.sleep(seconds)
    print(f"peak {peak.peak_mib:,.1f} MiB RSS over {seconds:g} s ({peak.samples} samples)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("pid", type=int)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    asyncio.run(_main(options.pid, options.seconds))
