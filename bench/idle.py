"""CPU of a process tree that has nothing to do: ``python -m bench.idle PID --seconds 20``."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from bench.process_tree import tree, tree_cpu_s


@dataclass(frozen=True)
class IdleCpu:
    """CPU seconds of ``processes`` processes within ``wall_s`` seconds."""

    cpu_s: float
    wall_s: float
    processes: int

    @property
    def percent_of_one_core(self) -> float:
        return 100 * self.cpu_s / self.wall_s


def measure(pid: int, seconds: float) -> IdleCpu:
    """Watch the tree of ``pid``. The kernel counts in ticks of 10 ms per process, so take ten seconds or more.

    Raises: RuntimeError if the tree lost a process meanwhile: its CPU time would be missing.
    """
    before, begin, members = tree_cpu_s(pid), time.perf_counter(), {process.pid for process in tree(pid)}
    time.sleep(seconds)
    if gone := members - {process.pid for process in tree(pid)}:
        raise RuntimeError(f"processes {sorted(gone)} of the tree of {pid} ended while it was measured")
    return IdleCpu(tree_cpu_s(pid) - before, time.perf_counter() - begin, len(members))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("pid", type=int)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    found = measure(options.pid, options.seconds)
    print(f"{found.percent_of_one_core:.2f} % of one core, {found.processes} processes, over {found.wall_s:.1f} s")
