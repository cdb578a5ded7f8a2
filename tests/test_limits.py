"""Ceilings of a child: memory at any moment, CPU time within a window; and reading what processes use."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.limits import BadLimits, Excess, Limits, LimitWatch, Usage
from supervisor.meter import usage_of
from tests.waiting import wait_until

MIB = 1024 * 1024


def test_memory_over_its_ceiling() -> None:
    """At the ceiling is within it; one byte more is not, and the reason has both figures."""
    watch = LimitWatch(Limits(memory_bytes=512 * MIB), 0.0)
    assert watch.note(Usage(512 * MIB, 0.0), 1.0) is None
    assert watch.note(Usage(1612 * MIB, 0.0), 2.0) == Excess(
        "memory", "1,612 MiB of memory, at most 512 MiB are allowed"
    )


def test_cpu_time_over_its_ceiling() -> None:
    """The first window counts from the start of the process."""
    watch = LimitWatch(Limits(cpu_s=5, cpu_window_s=10), 0.0)
    assert watch.note(Usage(1, 5.0), 5.0) is None
    assert watch.note(Usage(1, 5.5), 5.5) == Excess("cpu", "5.5 s of CPU time within 10 s, at most 5 s are allowed")


def test_a_ceiling_that_is_not_set_is_none() -> None:
    """Limits of one kind do not limit the other."""
    assert LimitWatch(Limits(memory_bytes=10), 0.0).note(Usage(1, 1e9), 1.0) is None
    assert LimitWatch(Limits(cpu_s=1), 0.0).note(Usage(10**15, 0.5), 1.0) is None


# Steps of time and of the CPU time used in each, by up to four cores.
steps = st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(0.0, 4.0)), min_size=1, max_size=120)


def moments(story: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """(at, CPU seconds so far) for each step."""
    at = itertools.accumulate(step_s for step_s, _ in story)
    used = itertools.accumulate(step_s * cores for step_s, cores in story)
    return zip(at, used, strict=True)


def used_at(at: float, story: list[tuple[float, float]]) -> float:
    """CPU time used until ``at``, if it was used evenly within each step."""
    so_far = 0.0
    for step_s, cores in story:
        if at <= step_s:
            return so_far + max(0.0, at) * cores
        at -= step_s
        so_far += step_s * cores
    return so_far


@given(steps, st.floats(0.5, 20.0), st.floats(0.5, 20.0))
def test_nobody_is_charged_for_more_than_was_used(
    story: list[tuple[float, float]], cpu_s: float, window_s: float
) -> None:
    """Who is found has used more than allowed within the window that ends now."""
    watch = LimitWatch(Limits(cpu_s=cpu_s, cpu_window_s=window_s), 0.0)
    for at, used in moments(story):
        if watch.note(Usage(0, used), at):
            assert used - used_at(at - window_s, story) > cpu_s - 1e-6
            return


@given(steps, st.floats(0.5, 20.0), st.floats(0.5, 20.0))
def test_who_uses_too_much_is_found(story: list[tuple[float, float]], cpu_s: float, window_s: float) -> None:
    """Who is let go has used no more than allowed, but for what fell between two samples."""
    watch = LimitWatch(Limits(cpu_s=cpu_s, cpu_window_s=window_s), 0.0)
    longest_s = max(step_s for step_s, _ in story) + window_s / 240
    for at, used in moments(story):
        if watch.note(Usage(0, used), at):
            return
        assert used - used_at(at - window_s, story) <= cpu_s + 4.0 * longest_s + 1e-6


def test_an_hour_is_kept_in_few_samples() -> None:
    """A long window costs no more memory than a short one."""
    watch = LimitWatch(Limits(cpu_s=1e9, cpu_window_s=3600), 0.0)
    for tick in range(20_000):
        watch.note(Usage(0, tick * 0.2), tick * 0.25)
    assert len(watch._samples) < 300


@pytest.mark.parametrize(
    ("field", "value"), [("memory_bytes", 0), ("memory_bytes", "1G"), ("cpu_s", 0), ("cpu_s", float("nan")),
                         ("cpu_window_s", 0), ("cpu_window_s", True)]
)  # fmt: skip
def test_limits_that_cannot_be(field: str, value: object) -> None:
    """They are refused where they are written, with the path of the field."""
    with pytest.raises(BadLimits) as raised:
        Limits(**{field: value})  # type: ignore[arg-type]
    assert raised.value.path == field


# ---- reading

FAMILY = """
import subprocess, sys, threading
def work():
    held = subprocess.Popen([sys.executable, "-c", "x = bytearray(60 * 2**20); print('up', flush=True); input()"],
                            stdin=subprocess.PIPE)
    held.wait()
threading.Thread(target=work).start()
"""


async def test_usage_includes_what_a_process_has_started() -> None:
    """A child that a thread of the process has started counts, memory and CPU time; a process that is gone is None."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        usage = usage_of(process.pid)
        assert usage is not None
        assert usage.rss_bytes > 70 * MIB
        assert usage.cpu_s > 0
        process.kill()
    assert await wait_until(lambda: usage_of(process.pid) is None)
