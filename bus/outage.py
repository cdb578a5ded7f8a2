"""Asking the server until there is an answer, through whatever keeps it from giving one for a while."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bus.connection import ApiError, Bus, NoResponder
from bus.errors import Ambiguous

T = TypeVar("T")

UNAVAILABLE = 503
_WAIT_FIRST_S = 0.05
_WAIT_MOST_S = 2.0


async def through_outage(bus: Bus, ask: Callable[[], Awaitable[T]]) -> T:
    """What ``ask`` gives: it is asked again while the server is away, or its cluster chooses a leader.

    So it must do no harm if it is done twice. Raises: BusError.
    """
    wait_s = _WAIT_FIRST_S
    while True:
        try:
            return await ask()
        except (Ambiguous, NoResponder):
            await bus.settle()
        except ApiError as error:
            if error.code != UNAVAILABLE:
                raise
        await asyncio.sleep(random.random() * wait_s)
        wait_s = min(_WAIT_MOST_S, wait_s * 2)
