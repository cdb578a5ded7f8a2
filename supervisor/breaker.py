"""A circuit breaker: whether what keeps failing is left alone for a while, and when it is tried again. Pure.

After "Release It!" (Nygard) and the names of resilience4j: closed, open, half-open.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from bus.errors import UsageError
from supervisor.number import is_count, is_number

OnOpen = Literal["wait", "fail"]
ON_OPEN: tuple[OnOpen, ...] = get_args(OnOpen)


class BadBreaker(UsageError, ValueError):
    """A policy that cannot be. Also a ValueError, so that msgspec turns it into a ValidationError on decoding."""


class Breaker(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a circuit opens, and for how long.

    It opens when at least ``min_calls`` calls ended within ``window_s`` seconds and the share ``failure_share`` of them
    failed, or the share ``slow_share`` took longer than ``slow_s`` (None: slowness does not count). It stays open for
    ``open_s`` seconds, twice as long after each probe that failed, ``max_open_s`` at most. ``on_open`` is what callers
    do meanwhile unless they say otherwise. A failure that says that it is not retryable does not count: the input was
    wrong, not the component. Raises: BadBreaker (a UsageError) with the path of the wrong field.
    """

    failure_share: float = 0.5
    min_calls: int = 20
    window_s: float = 30.0
    slow_s: float | None = None
    slow_share: float = 1.0
    open_s: float = 5.0
    max_open_s: float = 30.0
    on_open: OnOpen = "wait"

    def __post_init__(self) -> None:
        for field in ("failure_share", "slow_share"):
            if not (is_number(getattr(self, field)) and 0 < getattr(self, field) <= 1):
                raise _bad(field, getattr(self, field), "a share above 0, up to 1")
        if not is_count(self.min_calls):
            raise _bad("min_calls", self.min_calls, "a whole number from 1")
        for field in ("window_s", "open_s", "max_open_s"):
            if not (is_number(getattr(self, field)) and getattr(self, field) > 0):
                raise _bad(field, getattr(self, field), "seconds above 0")
        if self.slow_s is not None and not (is_number(self.slow_s) and self.slow_s > 0):
            raise _bad("slow_s", self.slow_s, "seconds above 0, or None")
        if self.on_open not in ON_OPEN:
            raise _bad("on_open", self.on_open, f"one of {', '.join(ON_OPEN)}")


def _bad(field: str, value: Any, right: str) -> BadBreaker:
    return BadBreaker(f"Breaker.{field} is {value!r}", code="bad_breaker", path=field, hint=f"it has to be {right}")
