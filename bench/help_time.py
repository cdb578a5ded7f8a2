"""Wall time of a short command: ``python -m bench.help_time [-- COMMAND ...]``, by default ``callboard --help``."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

CALLBOARD_HELP = (sys.executable, "-m", "cli", "--help")


@dataclass(frozen=True)
class CommandTime:
    """Seconds of each run, in the order they were made; the first one is the coldest."""

    runs_s: tuple[float, ...]

    @property
    def best_s(self) -> float:
        return min(self.runs_s)

    @property
    def median_s(self) -> float:
        return statistics.median(self.runs_s)


def measure(command: tuple[str, ...], runs: int) -> CommandTime:
    """Run ``command`` so many times, one after the other. Raises: CalledProcessError when it fails."""
    return CommandTime(tuple(_once(command) for _ in range(runs)))


def _once(command: tuple[str, ...]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.help_time", description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("command", nargs="*", default=CALLBOARD_HELP)
    options = parser.parse_args()
    found = measure(tuple(options.command), options.runs)
    print(f"best {found.best_s:.3f} s, median {found.median_s:.3f} s of {options.runs}: {' '.join(options.command)}")
