"""The load: many jobs in flight for throughput, one for latency; every job's result is checked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from bench.contender import Contender
from bench.floor.contract import expected_total

WARM_UP_JOBS = 300
# How long jobs that were started within the budget may take to end; a job that was lost must not hang the bench.
GRACE_S = 60.0


class WrongEnd(Exception):
    """A job ended with another total than its input asks for, so no number of this run means anything."""


@dataclass(frozen=True)
class Throughput:
    """Jobs done in ``wall_s`` seconds, and the CPU seconds that each process spent meanwhile."""

    jobs: int
    steps: int
    wall_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def jobs_per_s(self) -> float:
        return self.jobs / self.wall_s

    @property
    def steps_per_s(self) -> float:
        return self.jobs * self.steps / self.wall_s


@dataclass(frozen=True)
class Latency:
    """Milliseconds from before the request is sent until its end is known, one job at a time."""

    samples_ms: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """The nearest-rank percentile in ms."""
        ordered = sorted(self.samples_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass
class Budget:
    """How many jobs may still be started: at most ``jobs``, none after ``seconds``."""

    jobs: int
    seconds: float

    def __post_init__(self) -> None:
        self._ends_at = time.perf_counter() + self.seconds
        self._begun = 0

    def next(self) -> int | None:
        """The number of the next job, or None when no more may start."""
        if self._begun >= self.jobs or time.perf_counter() >= self._ends_at:
            return None
        self._begun += 1
        return self._begun


async def throughput(contender: Contender, budget: Budget, *, in_flight: int, steps: int) -> Throughput:
    """Keep ``in_flight`` jobs running until the budget is spent and the last of them has ended.

    Raises: WrongEnd; TimeoutError when jobs do not end.
    """
    begin = time.perf_counter()
    async with asyncio.timeout(budget.seconds + GRACE_S):
        done = await asyncio.gather(*(_lane(contender, budget, steps) for _ in range(in_flight)))
    return Throughput(sum(done), steps, time.perf_counter() - begin)


async def latency(contender: Contender, budget: Budget) -> Latency:
    """Run one-step jobs one after the other. Raises: WrongEnd; TimeoutError when a job does not end."""
    samples: list[float] = []
    async with asyncio.timeout(budget.seconds + GRACE_S):
        while (number := budget.next()) is not None:
            begin = time.perf_counter()
            await checked_job(contender, number, 1)
            samples.append((time.perf_counter() - begin) * 1_000)
    return Latency(tuple(samples))


async def warm_up(contender: Contender) -> None:
    """Have imports, caches and connections behind us before anything is timed."""
    await throughput(contender, Budget(WARM_UP_JOBS, 30.0), in_flight=50, steps=1)


async def checked_job(contender: Contender, number: int, steps: int) -> None:
    """Run one job. Raises: WrongEnd."""
    qty = 1 + number % 50
    total = await contender.run_job(qty, steps)
    if total != expected_total(qty, steps):
        raise WrongEnd(f"{contender.name}: qty {qty} in {steps} steps ended with {total}")


async def _lane(contender: Contender, budget: Budget, steps: int) -> int:
    done = 0
    while (number := budget.next()) is not None:
        await checked_job(contender, number, steps)
        done += 1
    return done
