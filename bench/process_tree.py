"""A process and its descendants, seen from outside: CPU seconds and resident memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil

MIB = 1024 * 1024


def tree(pid: int) -> Iterator[psutil.Process]:
    """The process and all its descendants that are alive."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)


def cpu_s(pid: int) -> float:
    """User and system seconds of one process, without its children; 0 once it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


def tree_cpu_s(pid: int) -> float:
    """User and system seconds of the tree as it is now; a child that has ended counts no longer."""
    return sum(cpu_s(process.pid) for process in tree(pid))


def rss_mib(pid: int) -> float:
    """Resident memory of the tree in MiB; pages that several processes share count for each of them."""
    total_bytes = 0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total_bytes += process.memory_info().rss
    return total_bytes / MIB
