"""Progress reports of a running call, at most two a second in the log; the last one wins.

A report is a courtesy: whatever goes wrong with it never touches the call itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math

from bus.connection import Bus
from bus.messages import CallTool, ReplyProgress
from bus.objects import Blobs
from store.log import append_unfenced

log = logging.getLogger("callboard.tool")

INTERVAL_S = 0.5
NOTE_LIMIT_CHARS = 200


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
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def report(self, done: float, total: float | None, note: str) -> None:
        """Thread-safe; returns at once. A number that is none (0/0) is left out. Raises: TypeError, ValueError."""
        done, total = float(done), None if total is None else float(total)
        if not math.isfinite(done) or (total is not None and not math.isfinite(total)):
            return
        text = str(note)[:NOTE_LIMIT_CHARS].encode(errors="replace").decode()
        event = ReplyProgress(
            job=self._event.job, call=self._event.call, attempt=self._attempt, done=done, total=total, note=text
        )
        with contextlib.suppress(RuntimeError):  # a thread that outlived its process's event loop
            self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: ReplyProgress) -> None:
        if self._closed:
            return
        self._newest = event
        if self._task is None:
            self._task = asyncio.create_task(self._record())

    async def _record(self) -> None:
        while self._newest is not None:
            event, self._newest = self._newest, None
            try:
                await append_unfenced(self._bus, self._blobs, self._workspace, event)
            except Exception as error:  # noqa: BLE001 - see the module's first lines
                log.warning("progress of %s was not recorded: %s", event.call, error)
            await asyncio.sleep(INTERVAL_S)
        self._task = None

    def close(self) -> asyncio.Task[None] | None:
        """The call has ended, and with it the interest in reports. Returns the task to wait for, if one is at it."""
        self._closed = True
        if self._task:
            self._task.cancel()
        return self._task
