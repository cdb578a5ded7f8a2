"""``python -m bench.durability``: what it costs to promise more: one-step jobs in each mode of the server.

The modes take turns, each on fresh servers on this machine, so that three replicas here share the disk and the cores
that they would have for themselves; read the ratios with that in mind.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

import uvloop

from bench import load
from bench.__main__ import machine
from bench.cluster import servers
from bench.system import System


@dataclass(frozen=True)
class Mode:
    """How many servers keep each event, and whether each of them syncs it to its disk before it says so."""

    name: str
    replicas: int
    always: bool


MODES = (
    Mode("R1", 1, always=False),
    Mode("R1 always", 1, always=True),
    Mode("R3", 3, always=False),
    Mode("R3 always", 3, always=True),
)


@dataclass(frozen=True)
class Found:
    """One mode, measured once, or the best of several turns."""

    jobs_per_s: float
    p50_ms: float
    p99_ms: float


def main() -> int:
    """Measure, print, return 0."""
    options = _options()
    modes = [mode for mode in MODES if not options.only or mode.name == options.only]
    turns: dict[str, list[Found]] = {mode.name: [] for mode in modes}
    for _ in range(options.rounds):
        for mode in modes:
            turns[mode.name].append(uvloop.run(measure(mode, options.seconds, options.in_flight)))
    best = {name: best_of(found) for name, found in turns.items()}
    if options.json:
        print(json.dumps({"machine": machine(), "best": {name: asdict(row) for name, row in best.items()}}, indent=2))
    else:
        print(f"{machine()}; best of {options.rounds} turns each, in flight {options.in_flight}\n\n{render(best)}")
    return 0


async def measure(mode: Mode, seconds: float, in_flight: int, jobs: int = 1_000_000) -> Found:
    """One turn of one mode. Raises: load.WrongEnd when a job ends wrong."""
    async with servers(mode.replicas, always=mode.always) as running:
        system = System()
        try:
            await system.start(running[0].url)
            await load.warm_up(system)
            many = await load.throughput(system, load.Budget(jobs, seconds), in_flight=in_flight, steps=1)
            one = await load.latency(system, load.Budget(jobs, seconds))
        finally:
            await system.stop()
    return Found(many.jobs_per_s, one.percentile(50), one.percentile(99))


def best_of(turns: list[Found]) -> Found:
    """The best of each measure: noise only ever makes a turn slower."""
    return Found(
        max(turn.jobs_per_s for turn in turns),
        min(turn.p50_ms for turn in turns),
        min(turn.p99_ms for turn in turns),
    )


def render(best: dict[str, Found]) -> str:
    """The table, as text for a terminal."""
    lines = [f"{'mode':<12}{'jobs/s':>10}{'p50 ms':>10}{'p99 ms':>10}"]
    lines += [f"{name:<12}{row.jobs_per_s:>10,.0f}{row.p50_ms:>10.2f}{row.p99_ms:>10.2f}" for name, row in best.items()]
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.durability", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="start no job later than that, per measure")
    parser.add_argument("--in-flight", type=int, default=200, help="jobs at a time for throughput")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each mode")
    parser.add_argument("--only", choices=[mode.name for mode in MODES], help="measure this one alone")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
