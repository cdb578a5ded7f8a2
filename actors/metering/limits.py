"""Requests and tokens per minute of each provider, kept by all processes of all nodes together.

A call reserves before it begins and is told how long to wait, so that a job can sleep until then without holding
anything. Nothing is sent for a provider without a limit. The state lies in bucket ``locks`` beside other rates, and
goes when nobody asks any more. A reservation whose call is never made is lost, and made up for within the minute.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from actors.locks.claim import LockName
from actors.metering import pace
from actors.metering.pace import ModelRate, Pace
from actors.metering.table_file import read_table
from bus.cells import Cells
from bus.connection import Bus
from bus.errors import UsageError
from bus.subjects import SYSTEM_WORKSPACE

VARIABLE = "CALLBOARD_MODEL_LIMITS"
_KEPT_LONGER_S = 120
_PART = re.compile(r"([A-Za-z0-9_.-]+)=(.+)")
_NUMBER = re.compile(r"([0-9][0-9_]*)(rpm|tpm)")
_HINT = "anthropic=50rpm,40000tpm;openai=500rpm, or the path of a TOML or JSON file with rpm and tpm by provider"


class ModelLimits:
    """One process's way to reserve. ``rates`` by provider; a provider that is not there has no limit."""

    def __init__(self, bus: Bus, rates: Mapping[str, ModelRate]) -> None:
        self._rates = dict(rates)
        self._cells = Cells(bus, "locks", Pace, ttl_s=_ttl_s)

    def __contains__(self, provider: str) -> bool:
        """Whether calls of that provider have to be counted."""
        return provider in self._rates

    async def reserve(self, provider: str, tokens: int) -> float:
        """Reserve one request of about so many tokens; in how many seconds it may begin. Raises: BusError."""
        rate = self._rates.get(provider)
        if rate is None:
            return 0.0

        def step(there: Pace | None) -> tuple[Pace, float]:
            return pace.reserve(rate, there or Pace(), tokens, time.time())

        at_s = await self._cells.change(_key(provider), step)
        return max(0.0, at_s - time.time())

    async def settle(self, provider: str, reserved: int, actual: int) -> None:
        """The call took ``actual`` tokens and had reserved ``reserved``. Raises: BusError."""
        rate = self._rates.get(provider)
        if rate is None or rate.tpm is None or reserved == actual:
            return

        def step(there: Pace | None) -> tuple[Pace | None, None]:
            return there and pace.settle(rate, there, reserved, actual), None

        await self._cells.change(_key(provider), step)


def _key(provider: str) -> str:
    return LockName(SYSTEM_WORKSPACE, "rate", f"model-{provider}").key


def _ttl_s(value: Pace) -> int:
    return int(max(0.0, max(value.requests_s, value.tokens_s) - time.time())) + _KEPT_LONGER_S


def rates_of(env: Mapping[str, str] = os.environ) -> dict[str, ModelRate]:
    """What CALLBOARD_MODEL_LIMITS says, by provider; nothing without it. Raises: UsageError."""
    text = env.get(VARIABLE, "").strip()
    if text.endswith((".toml", ".json")):
        return read_table(
            Path(text), ModelRate, what="limits of models", code="bad_model_limits", variable=VARIABLE, hint=_HINT
        )
    return dict(_parsed(part.strip()) for part in text.split(";") if part.strip())


def _parsed(part: str) -> tuple[str, ModelRate]:
    found = _PART.fullmatch(part)
    numbers = [_NUMBER.fullmatch(each.strip()) for each in found[2].split(",")] if found else []
    limits = {each[2]: int(each[1]) for each in numbers if each}
    if found is None or len(limits) != len(numbers):
        raise UsageError(
            f"{VARIABLE} has {part!r}, which cannot be read", code="bad_model_limits", path=VARIABLE, hint=_HINT
        )
    return found[1], ModelRate(**limits)
