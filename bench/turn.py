"""One turn of one contender: a fresh server, fresh processes, the three measures, everything away again."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench import load
from bench.contender import Contender
from bench.process_tree import cpu_s
from bus.embedded import EmbeddedServer

TEN_STEPS = 10


@dataclass(frozen=True)
class Effort:
    """How long to measure, and with how many jobs in flight."""

    jobs: int
    seconds: float
    in_flight: int


@dataclass(frozen=True)
class Turn:
    """What one turn found."""

    one_step: load.Throughput
    ten_step: load.Throughput
    latency: load.Latency


async def take_turn(contender: Contender, effort: Effort) -> Turn:
    """Measure ``contender`` once. Raises: load.WrongEnd when a job ends wrong."""
    async with await EmbeddedServer.start() as server:
        try:
            await contender.start(server.url)
            await load.warm_up(contender)
            pids = {**contender.pids(), "server": server.pid, "submitter": os.getpid()}
            one_step = await _throughput(contender, effort, 1, pids)
            ten_step = await _throughput(contender, effort, TEN_STEPS, pids)
            return Turn(one_step, ten_step, await load.latency(contender, load.Budget(effort.jobs, effort.seconds)))
        finally:
            await contender.stop()


async def _throughput(contender: Contender, effort: Effort, steps: int, pids: dict[str, int]) -> load.Throughput:
    """Throughput together with the CPU seconds per process."""
    before = {role: cpu_s(pid) for role, pid in pids.items()}
    budget = load.Budget(max(1, effort.jobs // steps), effort.seconds)
    measured = await load.throughput(contender, budget, in_flight=effort.in_flight, steps=steps)
    spent = {role: cpu_s(pid) - before[role] for role, pid in pids.items()}
    return load.Throughput(measured.jobs, measured.steps, measured.wall_s, spent)
