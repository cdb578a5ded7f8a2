"""How often something may begin: so many times within any window, whoever begins it. Pure.

A reservation is made for the first instant at which one more keeps the rate, which may lie ahead: who gets it waits for
its instant, so nobody has to ask twice and the order is the order of asking. The state is the last ``limit``
reservations. Those that are near each other are kept as one, at the later instant, so that it stays small: that may
delay by a hundredth of the window, and never lets one too many through.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from bus.errors import UsageError
from supervisor.at_once import check_key
from supervisor.number import is_count, is_number

LIMIT_MOST = 1_000_000
WINDOW_MOST_S = 366 * 86_400.0
_GRAINS = 100


class BadRate(UsageError, ValueError):
    """A rate that cannot be. Also a ValueError, so that msgspec turns it into a ValidationError on decoding."""


class Rate(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most ``limit`` begin within any ``per_s`` seconds. For a tool: calls, of all workspaces and replicas together.
    For a job: runs of a workspace.

    ``key`` is a field of the input, such as ``"customer"``: then each of its values has a rate of its own.
    Raises: BadRate (a UsageError) with the path of the wrong field.
    """

    limit: int
    per_s: float = 1.0
    key: str = ""

    def __post_init__(self) -> None:
        if not is_count(self.limit) or self.limit > LIMIT_MOST:
            raise _bad("limit", self.limit, f"a whole number from 1 to {LIMIT_MOST:,}")
        if not (is_number(self.per_s) and 0 < self.per_s <= WINDOW_MOST_S):
            raise _bad("per_s", self.per_s, "seconds above 0, a year at most")
        check_key(self.key, _bad)


def _bad(field: str, value: object, right: str) -> BadRate:
    return BadRate(f"{field} of Rate cannot be {value!r}", code="bad_rate", path=field, hint=right)


class Reserved(msgspec.Struct, frozen=True, array_like=True):
    """So many reservations, from ``first_s`` to ``at_s`` (seconds since the epoch)."""

    first_s: float
    at_s: float
    times: int


class Reservations(msgspec.Struct, frozen=True):
    """The last reservations, the oldest first."""

    last: tuple[Reserved, ...] = ()

    @property
    def until_s(self) -> float:
        """The instant of the last one, 0 if there is none."""
        return self.last[-1].at_s if self.last else 0.0


def reserve(
    rate: Rate, before: Reservations, times: int, now_s: float, *, until_s: float = math.inf
) -> tuple[Reservations, list[float]]:
    """``times`` reservations more, and their instants in order.

    What would come after ``until_s`` is not reserved; its instant says when it might have been.
    """
    last = list(before.last)
    instants: list[float] = []
    reserved = before
    while len(instants) < times:
        at_s, room = _next(rate, last, now_s)
        take = min(room, times - len(instants))
        instants += [at_s] * take
        _add(last, at_s, take, rate.per_s / _GRAINS)
        if at_s <= until_s:
            reserved = Reservations(tuple(_needed(rate, last)))
    return reserved, instants


def _next(rate: Rate, last: list[Reserved], now_s: float) -> tuple[float, int]:
    """The first instant that has room, and for how many: each later one is at least a window after its forerunner."""
    at_s = max(now_s, last[-1].at_s if last else now_s)
    used = 0
    for reserved in reversed(last):
        if used + reserved.times >= rate.limit:
            free_s = reserved.at_s + rate.per_s
            at_s = max(at_s, free_s)
            break
        used += reserved.times
    used = sum(reserved.times for reserved in last if reserved.at_s + rate.per_s > at_s)
    return at_s, max(1, rate.limit - used)


def _add(last: list[Reserved], at_s: float, times: int, grain_s: float) -> None:
    """Add it to the newest group if that began less than a grain before it."""
    if last and at_s - last[-1].first_s < grain_s:
        newest = last[-1]
        last[-1] = Reserved(newest.first_s, at_s, newest.times + times)
    else:
        last.append(Reserved(at_s, at_s, times))


def _needed(rate: Rate, last: list[Reserved]) -> Iterator[Reserved]:
    """Of the newest as many groups as hold ``limit`` reservations."""
    kept: list[Reserved] = []
    count = 0
    for reserved in reversed(last):
        if count >= rate.limit:
            break
        kept.append(reserved)
        count += reserved.times
    yield from reversed(kept)
