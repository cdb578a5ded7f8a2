"""What calls of models cost: the list prices of this version, and those that a user gives instead.

A price is found by the name of the model, with ``provider/`` before it or not. Of the list it has to be that very
model, in whichever release: what is only similar, such as ``gpt-5.5-pro`` for ``gpt-5.5``, has no price rather than a
wrong one. A user's own name is the beginning of all the names that it stands for; the longest one counts. What runs on
one's own machines costs nothing, unless a price is given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from actors.metering.price import FREE, Price
from actors.metering.price_table import PRICES
from actors.metering.table_file import read_table
from actors.model.model import Usage

VARIABLE = "CALLBOARD_MODEL_PRICES"
NANO = 1_000_000_000
FREE_PROVIDERS = frozenset({"scripted", "cassette", "ollama", "vllm"})
_RELEASE = re.compile(r"(-latest|[-@]\d{8}|-\d{4}-\d{2}-\d{2})?(\[1m\])?")
_HINT = "a table for each model, such as [gpt-x] input = 1.0 output = 4.0, or the same as JSON"


class Prices:
    """Prices by model; ``own`` ones outweigh the list. Made once for each process by :func:`prices`."""

    def __init__(self, own: Mapping[str, Price] | None = None) -> None:
        self._own = dict(own or {})

    def of(self, model: str, provider: str = "") -> Price | None:
        """The price of a model, None if nobody knows it."""
        bare = model.rpartition("/")[2]
        own = [name for name in self._own if model.startswith(name) or bare.startswith(name)]
        if own:
            return self._own[max(own, key=len)]
        listed = [name for name in PRICES if bare.startswith(name) and _RELEASE.fullmatch(bare[len(name) :])]
        if listed:
            return PRICES[max(listed, key=len)]
        return FREE if provider in FREE_PROVIDERS else None

    def cost_of(self, model: str, usage: Usage, provider: str = "") -> float | None:
        """What one call cost, in dollars; None if nobody knows the model's price."""
        price = self.of(model, provider)
        return None if price is None else price.nano_usd(usage) / NANO

    def estimate(self, model: str, input_tokens: int, output_tokens: int, provider: str = "") -> float | None:
        """What a call of so many tokens may cost at most, in dollars; None if nobody knows the model's price."""
        price = self.of(model, provider)
        return None if price is None else price.most_nano_usd(input_tokens, output_tokens) / NANO


def cost_of(model: str, usage: Usage, provider: str = "") -> float | None:
    """What one call cost by the prices of this process, in dollars; None for a model without a price.

    Raises: UsageError if the file of CALLBOARD_MODEL_PRICES cannot be used.
    """
    return prices().cost_of(model, usage, provider)


def estimate(model: str, input_tokens: int, output_tokens: int, provider: str = "") -> float | None:
    """What a call may cost at most, likewise."""
    return prices().estimate(model, input_tokens, output_tokens, provider)


def prices() -> Prices:
    """The prices of this process: the list, and the file that CALLBOARD_MODEL_PRICES names. Raises: UsageError."""
    return _prices(os.environ.get(VARIABLE, ""))


@cache
def _prices(file: str) -> Prices:
    return Prices(read_prices(Path(file)) if file else None)


def read_prices(file: Path) -> dict[str, Price]:
    """Prices by model from a TOML or JSON file. Raises: UsageError that says where it is wrong."""
    return read_table(file, Price, what="prices", code="bad_prices", variable=VARIABLE, hint=_HINT)
