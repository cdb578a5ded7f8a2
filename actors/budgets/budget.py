"""A budget: how much an agent, and all that it starts, may use up. Pure."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from bus.errors import UsageError
from supervisor.number import is_count, is_number

OnOverrun = Literal["fail", "ask"]
ON_OVERRUN: tuple[OnOverrun, ...] = get_args(OnOverrun)
LimitName = Literal["usd", "tokens", "turns", "seconds"]
LIMITS: tuple[LimitName, ...] = get_args(LimitName)


class BadBudget(UsageError, ValueError):
    """A budget that cannot be. Also a ValueError, so that msgspec turns it into a ValidationError on decoding."""


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """What may be used up; None is no limit.

    ``usd`` is money for models, ``tokens`` counts all tokens that go in and come out, ``turns`` the calls of models,
    ``seconds`` the time since the account was opened, waits included. ``on_overrun`` is what happens to a call that
    does not fit: ``"fail"``, or ``"ask"`` a person for more. Raises: BadBudget (a UsageError) with the wrong field.
    """

    usd: float | None = None
    tokens: int | None = None
    turns: int | None = None
    seconds: float | None = None
    on_overrun: OnOverrun = "fail"

    def __post_init__(self) -> None:
        for field in ("usd", "seconds"):
            value = getattr(self, field)
            if value is not None and not (is_number(value) and value > 0):
                raise _bad(field, value, "a number above 0, or None for no limit")
        for field in ("tokens", "turns"):
            value = getattr(self, field)
            if value is not None and not is_count(value):
                raise _bad(field, value, "a whole number from 1, or None for no limit")
        if self.on_overrun not in ON_OVERRUN:
            raise _bad("on_overrun", self.on_overrun, f"one of {', '.join(ON_OVERRUN)}")


def _bad(field: str, value: Any, right: str) -> BadBudget:
    return BadBudget(f"Budget.{field} is {value!r}", code="bad_budget", path=field, hint=f"it has to be {right}")


def raised(budget: Budget, to: Budget) -> Budget:
    """``budget`` with each limit that ``to`` names at least that high; doing it twice changes nothing.

    A limit that is not there stays away, and ``on_overrun`` stays what it is.
    """
    limits = {name: getattr(budget, name) for name in LIMITS}
    for name, limit in limits.items():
        more = getattr(to, name)
        if limit is not None and more is not None:
            limits[name] = max(limit, more)
    return msgspec.structs.replace(budget, **limits)
