"""``python -m bench``: run the contenders in turn and print how they compare."""

from __future__ import annotations

import argparse
import json
import os
import platform

import uvloop

from bench import roster, table
from bench.turn import Effort, Turn, take_turn


def main() -> int:
    """Measure, print, and return 0; 1 if a target is missed."""
    options = _options()
    names = [options.only] if options.only else list(roster.IN_TURN)
    effort = Effort(options.jobs, options.seconds, options.in_flight)
    turns = uvloop.run(_take_turns(names, effort, options.rounds))
    best = {name: table.best_of(name, taken) for name, taken in turns.items()}
    if options.json:
        print(json.dumps({"machine": machine(), "best": [row.as_dict() for row in best.values()]}, indent=2))
    else:
        print(f"{machine()}; best of {options.rounds} turns each, in flight {options.in_flight}\n")
        print(table.render(best.get(roster.FLOOR), list(best.values())))
    return 1 if table.misses(best.get(roster.FLOOR), best.get(roster.SYSTEM)) else 0


def machine() -> str:
    """What the numbers were measured on."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


async def _take_turns(names: list[str], effort: Effort, rounds: int) -> dict[str, list[Turn]]:
    """Floor, system, floor, system: a machine that gets slower meanwhile is unfair to neither."""
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            turns[name].append(await take_turn(roster.contender(name), effort))
    return turns


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="at most so many jobs per measure")
    parser.add_argument("--seconds", type=float, default=5.0, help="start no job later than that, per measure")
    parser.add_argument("--in-flight", type=int, default=500, help="jobs at a time for throughput")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contender")
    parser.add_argument("--only", choices=roster.NAMES, help="measure this one alone")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
