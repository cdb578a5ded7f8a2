"""What a child may use of its machine before it is ended: memory at any moment, CPU time within a window.

Pure. The ceilings are for the machine's sake: one runaway process must not take its neighbours with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from bus.errors import UsageError
from bus.system_events import KillCause
from supervisor.number import is_number

# How many samples a window keeps: an hour's window is not sampled every quarter of a second.
WINDOW_SAMPLES = 240
_MIB = 1024 * 1024


class BadLimits(UsageError, ValueError):
    """Limits that cannot be. Also a ValueError, so that msgspec turns it into a ValidationError on decoding."""


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Ceilings of one process with all that it has started; None: no ceiling.

    ``memory_bytes`` is resident memory (RSS). ``cpu_s`` is CPU time within any ``cpu_window_s`` seconds, all cores
    together.
    Raises: BadLimits (a UsageError) with the path of the wrong field.
    """

    memory_bytes: int | None = None
    cpu_s: float | None = None
    cpu_window_s: float = 60.0

    def __post_init__(self) -> None:
        if self.memory_bytes is not None and not (is_number(self.memory_bytes) and self.memory_bytes >= 1):
            raise _bad("memory_bytes", self.memory_bytes, "a number of bytes such as 512 * 1024**2, or None")
        if self.cpu_s is not None and not (is_number(self.cpu_s) and self.cpu_s > 0):
            raise _bad("cpu_s", self.cpu_s, "seconds above 0, or None")
        if not (is_number(self.cpu_window_s) and self.cpu_window_s > 0):
            raise _bad("cpu_window_s", self.cpu_window_s, "seconds above 0")

    def __bool__(self) -> bool:
        """Whether there is any ceiling."""
        return self.memory_bytes is not None or self.cpu_s is not None


class Usage(msgspec.Struct, frozen=True):
    """What a process and all that it has started use: resident memory now, CPU seconds since they began."""

    rss_bytes: int
    cpu_s: float


class Excess(msgspec.Struct, frozen=True):
    """A ceiling was crossed: which, and by how much in words."""

    cause: KillCause
    reason: str


class LimitWatch:
    """Holds one process's samples against its limits. ``at`` is any monotonic time in seconds; it reads no clock.

    What was used within a window is told from samples inside it only, so a process is never charged for more than it
    has used; it may use one sampling interval's worth more than its ceiling before that is seen.
    """

    def __init__(self, limits: Limits, started_at: float) -> None:
        self._limits = limits
        self._samples: deque[tuple[float, float]] = deque([(started_at, 0.0)])

    def note(self, usage: Usage, at: float) -> Excess | None:
        """Take a sample; the ceiling that it crosses, if any."""
        limits = self._limits
        if limits.memory_bytes is not None and usage.rss_bytes > limits.memory_bytes:
            reason = f"{_mib(usage.rss_bytes)} of memory, at most {_mib(limits.memory_bytes)} are allowed"
            return Excess("memory", reason)
        if limits.cpu_s is None:
            return None
        used_s = self._used_s(usage.cpu_s, at)
        if used_s <= limits.cpu_s:
            return None
        window = f"within {limits.cpu_window_s:g} s"
        return Excess("cpu", f"{used_s:.1f} s of CPU time {window}, at most {limits.cpu_s:g} s are allowed")

    def _used_s(self, cpu_s: float, at: float) -> float:
        samples, window_s = self._samples, self._limits.cpu_window_s
        if at - samples[-1][0] >= window_s / WINDOW_SAMPLES:
            samples.append((at, cpu_s))
        while samples[0][0] < at - window_s and len(samples) > 1:
            samples.popleft()
        return max(0.0, cpu_s - samples[0][1])


def _mib(number_bytes: int) -> str:
    return f"{number_bytes / _MIB:,.0f} MiB"


def strictest(several: Iterable[Limits]) -> Limits:
    """What a process may use that is shared by components with these limits: the lowest ceiling of each kind.

    Those that set none are left out: they are guests in a process that is limited.
    """
    chosen = list(several)
    memory = min((one.memory_bytes for one in chosen if one.memory_bytes is not None), default=None)
    cpu = min((one for one in chosen if one.cpu_s is not None), key=_cores, default=NO_LIMITS)
    return Limits(memory, cpu.cpu_s, cpu.cpu_window_s)


def _cores(limits: Limits) -> float:
    return (limits.cpu_s or 0.0) / limits.cpu_window_s


def _bad(field: str, value: Any, right: str) -> BadLimits:
    return BadLimits(f"Limits.{field} is {value!r}", code="bad_limits", path=field, hint=f"it has to be {right}")


NO_LIMITS = Limits()
