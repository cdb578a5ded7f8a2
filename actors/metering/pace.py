"""How fast a provider may be asked: requests and tokens per minute, as buckets that fill again all the time. Pure.

That is how the providers count themselves: a full bucket may be emptied at once, then it fills at the rate. Kept is the
instant at which each bucket is full again, so the state is two numbers however many ask. A reservation is made in both
at once, for the first instant at which both have room, in the order of asking.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bus.errors import UsageError
from supervisor.number import is_count

MINUTE_S = 60.0


class BadModelRate(UsageError, ValueError):
    """A rate that cannot be. Also a ValueError, so that msgspec turns it into a ValidationError on decoding."""


class ModelRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``rpm`` requests and ``tpm`` tokens per minute; None is no limit. Raises: BadModelRate (a UsageError)."""

    rpm: int | None = None
    tpm: int | None = None

    def __post_init__(self) -> None:
        for field in ("rpm", "tpm"):
            value = getattr(self, field)
            if value is not None and not is_count(value):
                raise _bad(field, value)


def _bad(field: str, value: Any) -> BadModelRate:
    return BadModelRate(
        f"{field} of a model's rate is {value!r}",
        code="bad_rate",
        path=field,
        hint="it has to be a whole number from 1",
    )


class Pace(msgspec.Struct, frozen=True):
    """When the bucket of requests and that of tokens are full again, in seconds since the epoch."""

    requests_s: float = 0.0
    tokens_s: float = 0.0


def reserve(rate: ModelRate, pace: Pace, tokens: int, now_s: float) -> tuple[Pace, float]:
    """One request of so many tokens, and the instant at which it may begin.

    One that is bigger than the bucket begins when the bucket is full, and those after it wait the longer.
    """
    requests_take_s, tokens_take_s = _takes_s(rate.rpm, 1), _takes_s(rate.tpm, tokens)
    at_s = max(_free_s(pace.requests_s, requests_take_s), _free_s(pace.tokens_s, tokens_take_s), now_s)
    after = Pace(max(pace.requests_s, at_s) + requests_take_s, max(pace.tokens_s, at_s) + tokens_take_s)
    return after, at_s


def settle(rate: ModelRate, pace: Pace, reserved: int, actual: int) -> Pace:
    """The call took other tokens than it had reserved; who waits already waits no less."""
    return Pace(pace.requests_s, pace.tokens_s + _takes_s(rate.tpm, actual - reserved))


def _takes_s(per_minute: int | None, number: int) -> float:
    """How long a bucket needs to make up for so many."""
    return 0.0 if per_minute is None else number * MINUTE_S / per_minute


def _free_s(full_s: float, takes_s: float) -> float:
    """The first instant at which that much is in the bucket."""
    return full_s + min(takes_s, MINUTE_S) - MINUTE_S
