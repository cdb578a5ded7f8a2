"""What tokens of a model cost. Pure."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from actors.model.model import Usage
from bus.errors import UsageError
from supervisor.number import is_count, is_number

# A dollar per million tokens is so many billionths of a dollar per token.
_NANO = 1_000


class BadPrice(UsageError, ValueError):
    """A price that cannot be. Also a ValueError, so that msgspec turns it into a ValidationError on decoding."""


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Dollars per million tokens. A cache costs as much as ``input`` unless it is said.

    A request whose input has more than ``long_tokens`` tokens, cached ones too, costs ``long`` in all its parts.
    Raises: BadPrice (a UsageError) with the path of the wrong field.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    long_tokens: int | None = None
    long: Price | None = None

    def __post_init__(self) -> None:
        for field in ("input", "output", "cache_read", "cache_write"):
            value = getattr(self, field)
            is_missing = value is None and field.startswith("cache")
            if not is_missing and not (is_number(value) and value >= 0):
                raise _bad(field, value, "dollars per million tokens, 0 or more")
        if (self.long_tokens is None) != (self.long is None):
            raise _bad("long", self.long, "given together with long_tokens")
        if self.long_tokens is not None and not is_count(self.long_tokens):
            raise _bad("long_tokens", self.long_tokens, "a whole number from 1")

    def with_long(self, tokens: int, *, input_times: float, output_times: float) -> Price:
        """This price, and that much more for requests with more than ``tokens`` tokens of input."""
        long = Price(
            input=self.input * input_times, output=self.output * output_times,
            cache_read=self._read * input_times, cache_write=self._write * input_times,
        )  # fmt: skip
        return msgspec.structs.replace(self, long_tokens=tokens, long=long)

    @property
    def _read(self) -> float:
        return self.input if self.cache_read is None else self.cache_read

    @property
    def _write(self) -> float:
        return self.input if self.cache_write is None else self.cache_write

    def nano_usd(self, usage: Usage) -> int:
        """What one call cost, in billionths of a dollar, rounded up."""
        read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        price = self._at(read)
        parts = (
            usage.input_tokens * price.input, usage.output_tokens * price.output,
            usage.cache_read_tokens * price._read, usage.cache_write_tokens * price._write,
        )  # fmt: skip
        return math.ceil(round(math.fsum(parts) * _NANO, 3))

    def most_nano_usd(self, input_tokens: int, output_tokens: int) -> int:
        """What a call may cost at most: all of its input is put into the cache, if that is dearer."""
        price = self._at(input_tokens)
        dearest = max(price.input, price._write, price._read)
        return math.ceil(round((input_tokens * dearest + output_tokens * price.output) * _NANO, 3))

    def _at(self, input_tokens: int) -> Price:
        if self.long is not None and self.long_tokens is not None and input_tokens > self.long_tokens:
            return self.long
        return self


FREE = Price(input=0, output=0)


def _bad(field: str, value: Any, right: str) -> BadPrice:
    return BadPrice(f"Price.{field} is {value!r}", code="bad_price", path=field, hint=f"it has to be {right}")
