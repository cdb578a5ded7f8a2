"""What a child may use of its machine before it is ended: memory at any moment, CPU time within a window.

Pure. The ceilings are for the machine's sake: one runaway process must not take its neighbours with it.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from bus.errors import UsageError


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
        if self.memory_bytes is not None and not (_is_number(self.memory_bytes) and self.memory_bytes >= 1):
            raise _bad("memory_bytes", self.memory_bytes, "a number of bytes such as 512 * 1024**2, or None")
        if self.cpu_s is not None and not (_is_number(self.cpu_s) and self.cpu_s > 0):
            raise _bad("cpu_s", self.cpu_s, "seconds above 0, or None")
        if not (_is_number(self.cpu_window_s) and self.cpu_window_s > 0):
            raise _bad("cpu_window_s", self.cpu_window_s, "seconds above 0")

    def __bool__(self) -> bool:
        """Whether there is any ceiling."""
        return self.memory_bytes is not None or self.cpu_s is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _bad(field: str, value: Any, right: str) -> BadLimits:
    return BadLimits(f"Limits.{field} is {value!r}", code="bad_limits", path=field, hint=f"it has to be {right}")
