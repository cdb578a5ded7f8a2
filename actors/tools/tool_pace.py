"""Holds the calls of a tool with a rate back until their turn, which is reserved with all replicas together.

A call that waits here is one that this process has taken: with one rate for all calls that is right, since none could
go before it, and the others wait in the log. With a rate for each value of a field the calls of another value must not
wait behind it: then what would wait for long goes back, to come again at about its time.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from actors.components.component import Component
from actors.components.limit_key import limit_name
from actors.locks.claim import LockName
from actors.locks.rate_desk import RateDesk
from actors.tools.serving import Serving
from bus.connection import Bus
from bus.subjects import SYSTEM_WORKSPACE
from supervisor.rate import Rate

HELD_MOST_S = 3.0
_LOOK_S = 0.5
_KEYS_MOST = 10_000


class ToolPace:
    """For one process of a tool whose rate is ``rate``."""

    def __init__(self, bus: Bus, component: Component[..., Any], rate: Rate) -> None:
        self._component = component
        self._rate = rate
        self._desk = RateDesk(bus)
        self._promised_s: dict[str, float] = {}

    async def turn(self, serving: Serving) -> float:
        """0 once the call may run, or is not wanted any more; else after how many seconds it is to come again.

        Raises: BusError.
        """
        key = self._rate.key
        arguments = self._component.decode_raw_input(bytes(serving.event.input)) if key else {}
        name = LockName(SYSTEM_WORKSPACE, "rate", limit_name(f"tool {self._component.name}", key, arguments))
        at_s = await self._desk.reserve(name, self._rate, within_s=HELD_MOST_S if key else None)
        if key and at_s - time.time() > HELD_MOST_S:
            return self._promise(name.name, at_s) - time.time()
        while not serving.cancelled and (left_s := at_s - time.time()) > 0:  # noqa: ASYNC110 - a cancel is a flag
            await asyncio.sleep(min(left_s, _LOOK_S))
        return 0.0

    def _promise(self, name: str, at_s: float) -> float:
        """The instant for a call that goes back: one after the other, as far as this process knows of them."""
        promised_s = max(at_s, self._promised_s.pop(name, 0.0) + self._rate.per_s / self._rate.limit)
        self._promised_s[name] = promised_s
        if len(self._promised_s) > _KEYS_MOST:
            del self._promised_s[next(iter(self._promised_s))]
        return promised_s
