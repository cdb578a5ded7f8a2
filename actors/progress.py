"""Progress reports of a running call, at most two a second in the log; the last one wins."""

from __future__ import annotations

import asyncio
import contextlib

from bus.connection import Bus
from bus.errors import CallboardError
from bus.messages import CallTool, ReplyProgress
from bus.objects import Blobs
from store.log import append_unfenced

INTERVAL_S = 0.5


class ProgressReports:
    """Takes reports from the tool's function, in whatever thread, and records the newest from time to time."""

    def __init__(self, bus: Bus, blobs: Blobs, workspace: str, event: CallTool, attempt: int) -> None:
        self._bus = bus
        self._blobs = blobs
        self._workspace = workspace
        self._event = event
        self._attempt = attempt
        self._newest: ReplyProgress | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def report(self, done: float, total: float | None, note: str) -> None:
        """Thread-safe; returns at once."""
        event = ReplyProgress(
            job=self._event.job, call=self._event.call, attempt=self._attempt, done=done, total=total, note=note[:200]
        )
        self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: ReplyProgress) -> None:
        self._newest = event
        if self._task is None:
            self._task = asyncio.create_task(self._record())

    async def _record(self) -> None:
        while self._newest is not None:
            event, self._newest = self._newest, None
            await append_unfenced(self._bus, self._blobs, self._workspace, event)
            await asyncio.sleep(INTERVAL_S)
        self._task = None

    async def close(self) -> None:
        """The call has ended: what was not recorded yet is of no interest any more."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, CallboardError):
                await self._task
