"""Parking: a job that only waits leaves memory; the log holds it and a wake-up brings it back.

Log order decides the race with whoever answers meanwhile: after ``job.waiting`` is stored the log is read once more.
What was stored before it is seen here, and the job goes on (it claims itself anew, so nobody takes it for parked);
what comes after it brings a wake-up of its own, which finds the job parked.

While it waits in memory a job takes the place of another. So where places are few it leaves after a tenth of the time.
Not one that waits for a child: with its host so busy the child is about to answer, and to park would be work on top.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from actors.jobs.halts import Fenced, Halt, Parked
from actors.jobs.requests import publish_schedule
from actors.operations.operations import Operations
from bus.errors import BusError
from bus.errors import Fenced as FencedError
from bus.messages import JobOwned, JobWaiting

log = logging.getLogger("callboard.parking")

CROWDED_SHARE = 0.1


class Parking:
    """Parks one job once it has only waited for ``hosting.park_after_s`` seconds; woken at ``deadline_at`` at last.

    ``is_crowded``: whether its host has hardly any room for other jobs.
    """

    def __init__(
        self,
        operations: Operations,
        owned: Callable[[], JobOwned],
        halt: Callable[[Halt], None],
        deadline_at: datetime | None = None,
        is_crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ops = operations
        self._deadline_at = deadline_at
        self._owned = owned
        self._halt = halt
        self._is_crowded = is_crowded
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._parked = False
        operations.on_idle = self._consider

    @property
    def is_under_way(self) -> bool:
        """Whether ``job.waiting`` is being, or has been, written."""
        return self._task is not None or self._parked

    async def stop(self) -> None:
        """The job leaves: no more parking. What is half done ends first, so that it neither writes after the job's end
        nor changes the epoch under it."""
        if self._timer:
            self._timer.cancel()
        if self._task:
            await asyncio.wait({self._task})
        self._ops.on_idle = lambda: None

    def _consider(self) -> None:
        if self._timer is None and self._task is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.patience_s(), self._look)

    def patience_s(self) -> float:
        """For how long to wait in memory."""
        ops = self._ops
        entries = (ops.journal.entries.get(wait) for wait in ops.waits)
        awaits_answer = any(entry is not None and entry.command is not None for entry in entries)
        return ops.hosting.park_after_s * (CROWDED_SHARE if self._is_crowded() and not awaits_answer else 1.0)

    def _look(self) -> None:
        self._timer = None
        ops = self._ops
        if ops.halted or ops.busy or not ops.waits:
            return
        due_at = self._due()
        grace_s = ops.hosting.park_after_s
        if due_at is not None and (due_at - datetime.now(UTC)).total_seconds() < grace_s:
            self._consider()
            return
        self._task = asyncio.create_task(self._park(due_at))

    def _due(self) -> datetime | None:
        return min((d for d in (*self._ops.waits.values(), self._deadline_at) if d is not None), default=None)

    async def _park(self, due_at: datetime | None) -> None:
        try:
            await self._leave(tuple(self._ops.waits), due_at)
        except FencedError:
            self._halt(Fenced())
        except BusError as error:
            log.warning("%s: could not park: %s", self._ops.job, error)
        finally:
            self._task = None
            if not self._ops.halted and not self._ops.busy and self._ops.waits:
                self._consider()

    async def _leave(self, waits: tuple[str, ...], due_at: datetime | None) -> None:
        """Write that the job waits, look once more, and leave if nothing has come; else claim it anew."""
        ops = self._ops
        if due_at is not None:
            await publish_schedule(ops.hosting.bus, ops.workspace, ops.submitted.workflow, ops.job, due_at)
        if self._has_stirred(waits):
            return
        await ops.log.append(JobWaiting(job=ops.job, on=waits, until=due_at))
        await ops.read_on()
        if ops.halted:
            return
        if self._has_stirred(waits):
            await ops.log.claim(self._owned(), ops.log.epoch)
        else:
            self._parked = True
            self._halt(Parked())

    def _has_stirred(self, waits: tuple[str, ...]) -> bool:
        ops = self._ops
        return bool(ops.halted or ops.busy or tuple(ops.waits) != waits or ops.any_woken())
