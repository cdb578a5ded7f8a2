"""``python -m bench.chaos.matrix``: the host is killed between any two events of a workflow that uses every step.

Once without a crash: that log says where the host can die. Then one run for each place, several at a time; another
host takes over, and what came of it is judged by the log, the tools' own record and a replay.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable

from bench.chaos.everything import EVERYTHING
from bench.chaos.house import House, house
from bench.chaos.rehearsal import Run, dooms, named_dooms, play, rehearse
from bus.embedded import EmbeddedServer


async def crash_everywhere(
    at: House, *, step: int = 1, at_once: int = 6, tell: Callable[[Run], None] | None = None
) -> list[Run]:
    """One run without a crash, then one for each ``step``-th place to die."""
    plain = Run(EVERYTHING, "0")
    await play(at, plain)
    places = [] if plain.wrong else [*dooms(plain), *named_dooms()]
    runs = [Run(EVERYTHING, str(number), doom) for number, doom in enumerate(places[::step], 1)]
    await rehearse(at, runs, at_once=at_once, tell=tell)
    return [plain, *runs]


async def _all(options: argparse.Namespace) -> list[Run]:
    async with await EmbeddedServer.start() as server, house(server.url) as at:
        return await crash_everywhere(at, step=options.step, at_once=options.at_once, tell=_tell)


def _tell(run: Run) -> None:
    sys.stderr.write(f"{run}\n")


def main() -> int:
    """Run, print, and return 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos.matrix", description=__doc__)
    parser.add_argument("--step", type=int, default=1, help="only every so manieth place")
    parser.add_argument("--at-once", type=int, default=6, help="how many runs at a time")
    options = parser.parse_args()
    began_s = time.monotonic()
    runs = asyncio.run(_all(options))
    wrong = [run for run in runs if run.wrong]
    for run in wrong:
        sys.stdout.write(f"{run}\n")
    died = sum(run.died for run in runs)
    sys.stdout.write(f"{len(runs)} runs, {died} crashes, {len(wrong)} wrong, {time.monotonic() - began_s:.0f} s\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
