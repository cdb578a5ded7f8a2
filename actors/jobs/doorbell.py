"""A job's doorbell: its replies as they are stored, heard on core NATS.

It may be missed, so it is never the truth. The server says with each republished event which sequence its subject had
before; if that one was not heard, or after a reconnect, or when nothing was heard for a while, the log is read from
where it was last read to the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from actors.jobs.journal import Journal
from actors.jobs.switchboard import Switchboard
from bus import headers as h
from bus.connection import Message
from bus.errors import BusError, Unreadable
from bus.messages import decode
from store.log import JobLog, Recorded

log = logging.getLogger("callboard.doorbell")


class Doorbell:
    """Feeds ``hear`` with the job's replies, in the log's order; listens from its first use on."""

    def __init__(self, board: Switchboard, job_log: JobLog, journal: Journal, hear: Callable[[Recorded], None]) -> None:
        self._board = board
        self._log = job_log
        self._journal = journal
        self._hear = hear
        self._open = False
        self._reading: asyncio.Task[None] | None = None
        self._again = False
        self._closed = False
        self._time = asyncio.get_running_loop().time
        self._read_s = self._time()
        self._patience = 1.0

    async def open(self) -> None:
        """Begin to listen; at once if it listens already."""
        if not self._open and not self._closed:
            self._open = True
            await self._board.connect((self._log.workspace, self._log.job), self.ring)

    def ring(self, msg: Message) -> None:
        """One republished event."""
        headers = msg.headers or {}
        sequence = int(headers[h.SEQUENCE])
        subject = headers.get(h.SUBJECT, msg.subject)
        if sequence <= self._journal.read_to:
            return
        if self._reading is not None or self._journal.has_gap(subject, int(headers.get(h.LAST_SEQUENCE, "0"))):
            self.read_on()
            return
        try:
            event = decode(msg.data, subject=subject, sequence=sequence)
        except Unreadable as error:
            log.warning("left out: %s", error)
            return
        if event.blob is not None:
            self.read_on()
            return
        self._journal.heard[subject] = sequence
        self._patience = 1.0
        self._hear(Recorded(sequence, event))

    def read_on(self) -> None:
        """Read the log from where it was last read; one reader at a time, once more if something came meanwhile."""
        if self._closed:
            return
        self._again = True
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())

    def read_on_if_quiet(self, quiet_s: float) -> None:
        """The poll behind the doorbell: after ``quiet_s``, then twice that, up to a minute, until something comes."""
        if self._time() - self._read_s >= quiet_s * self._patience:
            self._patience = min(self._patience * 2, 12.0)
            self.read_on()

    async def _read(self) -> None:
        try:
            while self._again and not self._closed:
                self._again = False
                await self._read_once()
        except BusError as error:
            log.warning("%s: reading on failed, the next poll will do it: %s", self._log.job, error)
            self._patience = 1.0
        finally:
            self._reading = None

    async def _read_once(self) -> None:
        for recorded in await self._log.read(since=self._journal.read_to):
            self._hear(recorded)
            self._journal.read_to = max(self._journal.read_to, recorded.sequence)
        self._read_s = self._time()

    def let_go(self) -> None:
        """Forget whom it rings for; it is closed."""
        self._hear = _nobody

    async def close(self) -> None:
        """Stop listening."""
        self._closed = True
        if self._reading:
            self._reading.cancel()
        if self._open:
            await self._board.disconnect((self._log.workspace, self._log.job))


def _nobody(_: Recorded) -> None:
    """Hears nothing."""
