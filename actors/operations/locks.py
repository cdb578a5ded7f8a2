"""Critical sections: a lock of the workspace, asked for, waited for and given back as operations of the job.

What is done to the lock itself is in ``actors.locks.protocol``. Here it gets its place in the log: that the lock is
wanted is recorded before anything is done about it, so that whoever finishes the job knows what to drop. While the job
waits it may be parked; the grant comes as a reply, from whoever passes the lock on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from actors.jobs.journal import Entry, Journal, Pending
from actors.jobs.sections import ASKED, GRANTED, LEFT, Asked, Left
from actors.locks.claim import Claim, Kind, LockName, check_lock
from actors.locks.lock_store import Granted, LockStore
from actors.locks.protocol import acquire, drop, release, withdraw
from actors.operations.hosting import Hosting
from actors.operations.records import Records
from actors.operations.values import raw_of
from bus.crash import crash_point
from bus.errors import Fenced as FencedError
from bus.errors import PermissionRefused, UsageError
from supervisor.number import is_number

log = logging.getLogger("callboard.locks")

# Ten years: what a timer can still be set for.
TIMEOUT_MOST_S = 10 * 366 * 86_400
_held: ContextVar[tuple[str, ...]] = ContextVar("callboard_locks_held", default=())


class Lease(NamedTuple):
    """A lock that the job holds. ``token`` rises with every grant of that lock: a store that refuses a lower one than
    it has seen is safe from a writer who came to a halt and wakes up late.
    """

    name: str
    token: int


class Lock:
    """``async with job.lock("account-17") as lease:`` one job at a time, in the order in which they asked."""

    def __init__(self, locks: Locks, key: str, name: str, limit: int, timeout_s: float | None) -> None:
        self.name = name
        self._locks = locks
        self.key = key
        self._limit = limit
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Lease:
        if self._limit == 1 and self.name in _held.get():
            raise UsageError(f"the job is in a section of lock {self.name!r} already", code="lock_held", path="name",
                             hint="a lock cannot be taken again inside of its own section")  # fmt: skip
        token = await self._locks.take(self.key, "lock", self.name, self._limit, self._timeout_s)
        _held.set((*_held.get(), self.name))
        return Lease(self.name, token)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held = list(_held.get())
        held.remove(self.name)
        _held.set(tuple(held))
        await self._locks.leave(self.key, raised=kind is not None)


class Locks(Records):
    """``lock``, and the slot that a job with a limit needs to run at all."""

    def lock(self, name: str, limit: int, timeout_s: float | None) -> Lock:
        """See ``Job.lock``. The key is taken here, before anything is awaited."""
        check_lock(name, limit)
        if timeout_s is not None and not (is_number(timeout_s) and 0 <= timeout_s < TIMEOUT_MOST_S):
            raise UsageError(f"timeout_s of lock {name!r} cannot be {timeout_s!r}", code="bad_lock", path="timeout_s",
                             hint="seconds, 0 or more, ten years at most")  # fmt: skip
        return Lock(self, self.new_key(key_name("lock", name)), name, limit, timeout_s)

    def slot(self, name: str, limit: int) -> Coroutine[Any, Any, int]:
        """Be one of ``limit`` jobs that run under that name, until the job's end."""
        return self.take(self.new_key(key_name("slot", name)), "slot", name, limit, None)

    async def take(self, key: str, kind: Kind, name: str, limit: int, timeout_s: float | None) -> int:
        """The token, once the lock is the job's. Raises: TimeoutError."""
        wish = Asked(name, limit, kind, _instant(timeout_s))
        asked = msgspec.convert(await self._record(f"{key}/asked", ASKED, "asked", partial(msgspec.to_builtins, wish)),
                                Asked)  # fmt: skip
        try:
            entry = await self._granted(key, asked)
        except asyncio.CancelledError:
            if not self.halted:  # a branch that is given up: nobody will leave the section that it never came to
                await self.leave(key, raised=True)
            raise
        await self._take_up(entry.sequence)
        answer = msgspec.json.decode(raw_of(entry), type=Granted)
        if answer.timed_out:
            raise TimeoutError(f"lock {name!r} was not free within {timeout_s} s")
        return answer.token

    async def _granted(self, key: str, asked: Asked) -> Entry:
        """The record that the lock is the job's, or that it did not come in time."""
        entry = self._recorded(key, asked)
        until = datetime.fromisoformat(asked.until) if asked.until else None
        while entry is None:
            await self._may_begin()
            self.busy += 1
            try:
                await self._seek(key, asked, is_late=until is not None and datetime.now(UTC) >= until)
            finally:
                self.rest()
            if (entry := self._recorded(key, asked)) is None:
                await self._wait(key, until)
                entry = self._recorded(key, asked)
        return entry

    def _recorded(self, key: str, asked: Asked) -> Entry | None:
        entry = self.journal.recall(key, GRANTED, key_name(asked.kind, asked.name))
        return None if entry is None or isinstance(entry.outcome, Pending) else entry

    async def _seek(self, key: str, asked: Asked, *, is_late: bool) -> None:
        """Get the lock, or a place in its queue; or leave the queue if it is too late. Records what is decided."""
        if self.listen is not None:
            await self.listen()
        store, claim = self._store(asked), self._claim(key, asked)
        if claim.era:
            await drop(store, self.job, claim.era - 1)
        token = await (withdraw if is_late else acquire)(store, claim, self._confirm)
        if token is not None or is_late:
            # Shielded: a branch that is given up just now has the lock all the same, and its leaving comes after this.
            answer = Granted(token) if token is not None else Granted(timed_out=True)
            await asyncio.shield(self._note(key, GRANTED, msgspec.json.encode(answer)))

    async def leave(self, key: str, *, raised: bool) -> None:
        """Give the lock back, and record that it was. A job that leaves this process leaves its locks as they are."""
        self.check_running()
        entry = self.journal.recall(f"{key}/left", LEFT, "left")
        if entry is not None and not isinstance(entry.outcome, Pending):
            return await self._take_up(entry.sequence)
        await self._may_begin()
        self.busy += 1
        try:
            await self._let_go(key)
            await self._note(f"{key}/left", LEFT, msgspec.json.encode(Left(raised)))
        finally:
            self.rest()

    async def _let_go(self, key: str) -> None:
        asked = msgspec.json.decode(raw_of(self.journal.entries[f"{key}/asked"]), type=Asked)
        await release(self._store(asked), self._claim(key, asked), self._confirm)

    def _store(self, asked: Asked) -> LockStore:
        name = LockName(self.workspace, asked.kind, asked.name)
        return LockStore(self.hosting.bus, self.hosting.blobs, name)

    def _claim(self, key: str, asked: Asked) -> Claim:
        return Claim(
            lock=asked.name, job=self.job, call=key, workflow=self.submitted.workflow, limit=asked.limit,
            era=self.journal.retried_at, asked_at=datetime.now(UTC),
        )  # fmt: skip

    async def _confirm(self) -> None:
        """Before something is written that the log does not fence."""
        self.check_running()
        try:
            await self.log.confirm()
        except FencedError:
            self.fence()
            raise asyncio.CancelledError("another host owns the job") from None


async def drop_locks(hosting: Hosting, workspace: str, job: str, journal: Journal) -> None:
    """The job has ended: what it may hold or wait for goes to those who wait. May be done again. Raises: BusError."""
    for name in journal.sections.locks(workspace):
        crash_point("host.before_drop")
        try:
            await drop(LockStore(hosting.bus, hosting.blobs, name), job, journal.retried_at)
        except PermissionRefused as error:  # who may not write there holds nothing, or the leader's sweep drops it
            log.warning("%s: lock %s is not dropped: %s", job, name.key, error)


def key_name(kind: Kind, name: str) -> str:
    """What the key of an operation about that lock, slot or rate begins with."""
    return f"{kind}-{LockName('', kind, name).token}"


def _instant(timeout_s: float | None) -> str | None:
    return None if timeout_s is None else (datetime.now(UTC) + timedelta(seconds=timeout_s)).isoformat()
