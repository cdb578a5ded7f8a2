"""What is heard while the run goes on: a tail that must miss nothing, and plain ``events.>``, which may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import cast

from bus import headers as h
from bus.connection import Bus, Message
from bus.messages import Ended
from bus.objects import Blobs
from store.tail import Followed, TailItem, tail


class Hearing:
    """``told``: the sequences as the tail told them; ``live``: those that came on ``events.>``; ``ended``: jobs."""

    def __init__(self, bus: Bus) -> None:
        self.told: list[int] = []
        self.live: list[tuple[int, str]] = []
        self.ended: set[str] = set()
        self._bus = bus
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen, from the start of the log."""
        await self._bus.subscribe("events.>", self._on_live)
        self._task = asyncio.create_task(self._follow(), name="tail")

    async def stop(self) -> None:
        """Listen no more. Raises what the tail raised."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _on_live(self, msg: Message) -> None:
        headers = msg.headers or {}
        self.live.append((int(headers[h.SEQUENCE]), headers[h.SUBJECT]))

    async def _follow(self) -> None:
        source = cast("AsyncGenerator[TailItem, None]", tail(self._bus, Blobs(self._bus), "log.>"))
        async with contextlib.aclosing(source) as items:
            async for item in items:
                self.told.append(item.sequence)
                if isinstance(item, Followed) and item.workspace == "default" and isinstance(item.event, Ended):
                    self.ended.add(item.event.job)
