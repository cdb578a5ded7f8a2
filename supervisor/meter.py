"""Reading what a process and all that it has started use of the machine.

psutil knows the figures on every system; whom a process has started it learns by reading every process there is, 15 us
each, so on Linux the kernel's own list of a process's children is read instead.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil

from supervisor.limits import Usage

_HAS_LISTS = sys.platform == "linux" and Path("/proc/thread-self/children").exists()


def usage_of(pid: int) -> Usage | None:
    """Memory and CPU time of ``pid`` with its descendants, None if it has ended.

    Memory that processes share is counted for each of them. CPU time of descendants that have ended is counted on
    Linux, where the kernel keeps it.
    """
    root = _sample(pid)
    if root is None:
        return None
    samples = [root, *(sample for one in _descendants(pid) if (sample := _sample(one)) is not None)]
    return Usage(sum(s.rss_bytes for s in samples), sum(s.cpu_s for s in samples))


def descendants(pid: int) -> list[psutil.Process]:
    """What a process has started and what that has started: handles that never mean another process."""
    found = []
    for one in _descendants(pid):
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(one))
    return found


def _sample(pid: int) -> Usage | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Usage(process.memory_info().rss, sum(times[:4]))  # with what ended children of it have used
    except psutil.Error:
        return None


def _descendants(pid: int) -> list[int]:
    if not _HAS_LISTS:
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        return []
    found, todo = [], [pid]
    while todo:
        children = _children(todo.pop())
        found += children
        todo += children
    return found


def _children(pid: int) -> list[int]:
    """The children of each thread of a process, as the kernel lists them."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has just ended
                children += map(int, (task / "children").read_text().split())
    return children
