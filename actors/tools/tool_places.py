"""Before a call of a tool with ``at_once`` runs: a place, of which all replicas together have so many for each key.

A call that waits for one stays in this process, kept alive like one that runs, and takes no room from others: the
mailbox is widened by one for each that waits. Only the first of a key asks the server again and again; those behind it
come in order. Too many that wait go back to the queue for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from actors.components.component import Component
from actors.components.limit_key import limit_name
from actors.locks.claim import LockName
from actors.locks.leased_places import LeasedPlaces, Place
from actors.tools.serving import Serving
from bus.connection import Bus
from bus.mailbox import Mailbox
from bus.subjects import SYSTEM_WORKSPACE
from supervisor.at_once import AtOnce

WAITING_MOST = 64
# How long a call goes back for that finds too many waiting.
BACK_S = 5.0
_LOOK_FIRST_S = 0.02
_LOOK_MOST_S = 0.5


class _Queue:
    """Those of this process that want a place of one key: ``turn`` is had by the first, ``freed`` wakes it."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.freed = asyncio.Event()
        self.users = 0


class ToolPlaces:
    """For one process of a tool. ``is_off`` says whether a call is not to be run any more, here or at all."""

    def __init__(
        self, bus: Bus, component: Component[..., Any], at_once: AtOnce, holder: str, mailbox: Mailbox,
        is_off: Callable[[Serving], bool],
    ) -> None:  # fmt: skip
        self.places = LeasedPlaces(bus, holder)
        self._component = component
        self._at_once = at_once
        self._mailbox = mailbox
        self._is_off = is_off
        self._waiting = 0
        self._queues: dict[str, _Queue] = {}
        self._running = asyncio.Semaphore(component.concurrency)

    @contextlib.asynccontextmanager
    async def place(self, serving: Serving) -> AsyncIterator[bool]:
        """Whether the call may go on: it has a place until the end of this, or is off, which its next step will see.

        False: it is to come again in ``BACK_S``. Raises: BusError.
        """
        key = self._at_once.key
        arguments = self._component.decode_raw_input(bytes(serving.event.input)) if key else {}
        name = LockName(SYSTEM_WORKSPACE, "place", limit_name(f"tool {self._component.name}", key, arguments))
        async with self._queue(name.name) as queue:
            if queue.turn.locked() and self._waiting >= WAITING_MOST:
                yield False
                return
            place = await self._wait(queue, name, serving)
            try:
                async with self._running:
                    yield True
            finally:
                if place is not None:
                    await asyncio.shield(self.places.release(place))
                    queue.freed.set()

    async def _wait(self, queue: _Queue, name: LockName, serving: Serving) -> Place | None:
        """None if the call is off before it has a place."""
        self._widen(1)
        try:
            async with queue.turn:
                look_s = _LOOK_FIRST_S
                while not self._is_off(serving):
                    queue.freed.clear()
                    if place := await self.places.take(name, self._at_once.limit):
                        return place
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(queue.freed.wait(), look_s * (0.5 + random.random()))
                    look_s = min(_LOOK_MOST_S, look_s * 2)
                return None
        finally:
            self._widen(-1)

    @contextlib.asynccontextmanager
    async def _queue(self, name: str) -> AsyncIterator[_Queue]:
        queue = self._queues.setdefault(name, _Queue())
        queue.users += 1
        try:
            yield queue
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[name]

    def _widen(self, by: int) -> None:
        self._waiting += by
        self._mailbox.widen(self._component.concurrency + min(self._waiting, WAITING_MOST))
