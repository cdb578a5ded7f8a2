"""Heeds pause and resume for one job: passes the word on to its children, then records that the job follows it.

In this order, so that after a crash in between the next host does both again; children ignore what they know. The job's
operations heed a pause at once (``Operations.unpaused``); ``job.paused`` is stored once nothing that had begun before
is still to be asked for, and after a resume nothing begins before ``job.resumed`` is stored. So the log holds no new
command between the two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from actors.jobs.halts import Fenced, Halt
from actors.jobs.hold import Word, data_of
from actors.jobs.signals import PAUSE, RESUME
from actors.operations.children import tell_children
from actors.operations.operations import Operations
from bus.errors import BusError
from bus.errors import Fenced as FencedError
from bus.messages import JobPaused, JobResumed
from store.log import Recorded

log = logging.getLogger("callboard.holding")

AGAIN_S = 1.0


class Holding:
    """Follows the words to one running job, one after the other."""

    def __init__(self, operations: Operations, halt: Callable[[Halt], None]) -> None:
        self._ops = operations
        self._halt = halt
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        operations.on_asked = self.heed

    def heed(self) -> None:
        """Follow the newest word if that is not done yet, and nothing is just being asked for."""
        if self._task is None and not self._stopped and self._next():
            self._task = asyncio.create_task(self._heed())

    async def stop(self) -> None:
        """The job leaves: what is half done ends first, so that it does not write after the job's end."""
        self._stopped = True
        if self._timer:
            self._timer.cancel()
        if self._task:
            await asyncio.wait({self._task})
        self._ops.on_asked = lambda: None

    def _next(self) -> Word | None:
        ops = self._ops
        return None if ops.halted or ops.asking else ops.journal.hold.unheeded

    async def _heed(self) -> None:
        ops = self._ops
        ops.busy += 1  # so that the job is not parked meanwhile
        try:
            while word := self._next():
                await self._follow(word)
        except FencedError:
            self._halt(Fenced())
        except BusError as error:
            log.warning("%s: could not record a pause or resume, trying again: %s", ops.job, error)
            self._timer = asyncio.get_running_loop().call_later(AGAIN_S, self.heed)
        finally:
            self._task = None
            ops.rest()

    async def _follow(self, word: Word) -> None:
        ops = self._ops
        if word.children:
            name = PAUSE if word.pauses else RESUME
            await tell_children(ops.hosting, ops.workspace, ops.job, ops.journal, name, data_of(True, word.sequence))
        make = JobPaused if word.pauses else JobResumed
        event = make(job=ops.job, by=word.by, signal=word.sequence)
        ops.journal.apply(Recorded(await ops.log.append(event), event))
        if not ops.journal.hold.is_paused:
            ops.release()
