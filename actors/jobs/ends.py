"""Waiting for the ends of jobs, without polling: a subscription says when, the log says what was missed.

A few jobs are awaited by a subscription each; from ``SHARED_FROM`` at once one subscription to all ends of the
workspace is cheaper, since it brings one message per job and not each of the job's own. Either is only a doorbell: the
log is read for a job that was not just submitted, after a reconnect, and every ``LOOK_S`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable

from bus import headers as h
from bus import subjects
from bus.connection import Bus, Message
from bus.errors import BusClosed, BusError
from bus.objects import Blobs
from bus.reader import Stored, last_of_each, stored_of
from bus.streams import EVENTS
from bus.subjects import JOB_ENDS
from store.log import Recorded, recorded

log = logging.getLogger("callboard.client")

SHARED_FROM = 16
LOOK_S = 5.0
# A job that was submitted a moment ago has hardly ended, so its first look can wait: it ends within some milliseconds,
# heard live, or else the look is worth its price. (It may have ended before its own subscription reached the server.)
_FRESH_LOOK_S = 0.003
_FRESH_LOOK_SHARED_S = 0.25
# Looks that are due within this time go together, once there are many.
_GROUP_S = 0.05
_EXPECTED_LIMIT = 1024
_KEPT_BYTES = 16 * 1024  # a larger end is read from the log
# Six subjects each, and a read answers for 1,024 at most.
_JOBS_PER_LOOK = 170
_REJECTED, _SUBMITTED = "job.rejected", "job.submitted"
_FAILED, _RETRIED = "job.failed", "job.retried"
_END_KINDS = tuple(f"job.{end}" for end in JOB_ENDS)

Unsubscribe = Callable[[], Awaitable[None]]


class _Waiter:
    __slots__ = ("end", "job", "look_at_s", "since")

    def __init__(self, job: str, since: int, end: asyncio.Future[Stored]) -> None:
        self.job = job
        self.since = since
        self.look_at_s = math.inf
        self.end = end


class JobEnds:
    """The ends of one workspace's jobs, for any number of waiters."""

    def __init__(self, bus: Bus, blobs: Blobs, workspace: str) -> None:
        self._bus = bus
        self._blobs = blobs
        self._workspace = workspace
        self._waiters: dict[str, list[_Waiter]] = {}
        self._shares = False
        self._hears_all = False
        # What this client submits while it hears all ends: an end may come before anybody waits for it.
        self._expected: dict[str, Stored | None] = {}
        self._shared: list[Unsubscribe] = []
        self._kick = asyncio.Event()
        self._next_look_s = math.inf
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = ""
        self._time = asyncio.get_running_loop().time
        bus.on_reconnect.append(self._look_at_all)

    async def wait(self, job: str, *, since: int = 0, fresh: bool = False) -> Recorded:
        """The event after ``since`` that ended ``job``; waits as long as it takes.

        ``fresh``: the job was submitted a moment ago.
        Raises: BusClosed, Unreadable, BlobMissing.
        """
        if self._closed:
            raise BusClosed(self._closed)
        was_expected, heard = job in self._expected, self._expected.pop(job, None)
        if heard and heard.sequence > since and not heard.subject.endswith(_FAILED):
            return await recorded(self._blobs, heard)
        waiter = _Waiter(job, since, asyncio.get_running_loop().create_future())
        self._waiters.setdefault(job, []).append(waiter)
        unsubscribe = None
        try:
            unsubscribe = await self._listen(job)
            delay_s = _FRESH_LOOK_S if unsubscribe else _FRESH_LOOK_SHARED_S
            # A failure that was heard may be void by now: the job may have been retried.
            is_heard_next = was_expected and heard is None
            self._plan_look(waiter, LOOK_S if is_heard_next else delay_s if fresh and not heard else 0.0)
            stored = await waiter.end
        finally:
            self._forget(waiter)
            await self._unsubscribe(unsubscribe)
        return await recorded(self._blobs, stored)

    def expect(self, job: str) -> None:
        """``job`` is about to be submitted: keep its end, should it come before anybody waits for it."""
        if self._hears_all:
            self._expected[job] = None
            if len(self._expected) > _EXPECTED_LIMIT:
                del self._expected[next(iter(self._expected))]

    async def close(self) -> None:
        """Let go of everything; who still waits gets a BusClosed."""
        self._closed = "the client was closed"
        with contextlib.suppress(ValueError):
            self._bus.on_reconnect.remove(self._look_at_all)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_all()

    def _forget(self, waiter: _Waiter) -> None:
        others = self._waiters[waiter.job]
        others.remove(waiter)
        if not others:
            del self._waiters[waiter.job]

    # ---- listening

    async def _listen(self, job: str) -> Unsubscribe | None:
        """Make sure that the job's end is heard; how to stop that, if it has a subscription of its own."""
        if not self._shares and len(self._waiters) < SHARED_FROM:
            sub = await self._bus.subscribe(subjects.live(self._workspace, job, "job.*"), self._on_message)
            return sub.unsubscribe
        if not self._shares:
            self._shares = True
            for kind in _END_KINDS:
                sub = await self._bus.subscribe(subjects.live(self._workspace, "*", kind), self._on_message)
                self._shared.append(sub.unsubscribe)
            self._hears_all = True
        return None

    async def _unsubscribe(self, own: Unsubscribe | None) -> None:
        """Stop listening for one job, and for all of them when it was the last."""
        done = [own] if own else []
        if not self._waiters and self._shared:
            done += self._shared
            self._shared, self._shares, self._hears_all = [], False, False
            self._expected.clear()
        for unsubscribe in done:
            with contextlib.suppress(Exception):  # the connection may be gone already
                await unsubscribe()

    def _on_message(self, msg: Message) -> None:
        _, _, job, kind = msg.subject.split(".", 3)
        if kind not in _END_KINDS or not msg.headers or h.SEQUENCE not in msg.headers:
            return
        if job in self._waiters:
            self._tell(job, stored_of(msg))
        elif job in self._expected and len(msg.data) <= _KEPT_BYTES:
            self._expected[job] = stored_of(msg)
        else:
            self._expected.pop(job, None)

    def _tell(self, job: str, stored: Stored) -> None:
        for waiter in self._waiters.get(job, ()):
            if stored.sequence > waiter.since and not waiter.end.done():
                waiter.end.set_result(stored)

    # ---- looking

    def _plan_look(self, waiter: _Waiter, delay_s: float) -> None:
        waiter.look_at_s = self._time() + delay_s
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._look_on()), asyncio.create_task(self._watch_connection())]
        if waiter.look_at_s < self._next_look_s:
            self._kick.set()

    def _look_at_all(self) -> None:
        """What was said while the connection was away was not heard."""
        self._expected.clear()
        for waiter in self._all():
            waiter.look_at_s = 0.0
        self._kick.set()

    def _all(self) -> list[_Waiter]:
        return [waiter for waiters in self._waiters.values() for waiter in waiters]

    async def _look_on(self) -> None:
        while True:
            now = self._time()
            due = [waiter for waiter in self._all() if waiter.look_at_s <= now and not waiter.end.done()]
            for start in range(0, len(due), _JOBS_PER_LOOK):
                await self._look(due[start : start + _JOBS_PER_LOOK])
            await self._sleep()

    async def _sleep(self) -> None:
        """Until the next look is due; looks that are due almost at once go together."""
        now = self._time()
        earliest = min((waiter.look_at_s for waiter in self._all()), default=math.inf)
        self._next_look_s = max(earliest, now + (_GROUP_S if self._shares else 0.0))
        try:
            async with asyncio.timeout_at(None if earliest == math.inf else self._next_look_s):
                await self._kick.wait()
        except TimeoutError:
            pass
        self._kick.clear()

    async def _look(self, waiters: list[_Waiter]) -> None:
        for waiter in waiters:
            waiter.look_at_s = self._time() + LOOK_S * (0.9 + 0.2 * random.random())
        try:
            ends = await read_ends(self._bus, self._workspace, [(w.job, w.since) for w in waiters])
        except BusError as error:
            log.warning("looking for the ends of jobs: %s; trying again", error)
            return
        for job, stored in ends.items():
            self._tell(job, stored)

    async def _watch_connection(self) -> None:
        await self._bus.closed.wait()
        self._closed = f"the connection closed for good: {self._bus.last_error}"
        self._fail_all()

    def _fail_all(self) -> None:
        for waiter in self._all():
            if not waiter.end.done():
                waiter.end.set_exception(BusClosed(self._closed))


async def read_ends(bus: Bus, workspace: str, jobs: list[tuple[str, int]]) -> dict[str, Stored]:
    """The events that ended these jobs after the sequence given with each, as far as they have ended.

    At most ``_JOBS_PER_LOOK`` jobs. Raises: BusError.
    """
    wanted = [subjects.event(workspace, job, kind) for job, _ in jobs for kind in (*_END_KINDS, _SUBMITTED, _RETRIED)]
    found: dict[str, list[Stored]] = {}
    for stored in await last_of_each(bus, EVENTS, wanted):
        found.setdefault(stored.subject.split(".", 3)[2], []).append(stored)
    ends = {job: _end(found.get(job, []), since) for job, since in jobs}
    return {job: stored for job, stored in ends.items() if stored}


def _end(stored: list[Stored], since: int) -> Stored | None:
    """The first end. A rejection before the job was taken up after all is none, nor is a failure before a retry."""
    newest = {subjects.parse_event(s.subject).kind: s for s in stored}
    void_before = {_REJECTED: newest.pop(_SUBMITTED, None), _FAILED: newest.pop(_RETRIED, None)}
    ends = [
        s
        for kind, s in newest.items()
        if s.sequence > since and not ((later := void_before.get(kind)) and s.sequence < later.sequence)
    ]
    return min(ends, key=lambda s: s.sequence, default=None)
