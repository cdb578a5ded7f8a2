"""The courier: delivers what lies in outboxes of this machine and whose holder is gone, once the server is there.

Two things make a delivery happen once. The courier has the lock of the holder whose messages it takes, so no other
process delivers them at the same time. And it looks whether an event is in the log already, by its id: whoever died
between "stored" and "removed" has left a message that only has to be removed. What the read-back cannot see, such as
an answer that is still under way, the server drops by ``Nats-Msg-Id``. A request that comes twice is one job by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from bus import headers as h
from bus.connection import Bus
from bus.crash import crash_point
from bus.errors import Ambiguous, BusClosed, BusError, CallboardError, NoResponder, OutboxError, StreamFull, UsageError
from bus.objects import Blobs
from bus.outbox import FREE, Held, Outbox, outbox_dir
from bus.reader import read_all
from bus.streams import EVENTS

log = logging.getLogger("callboard.courier")

PERIOD_S = 5.0
TRY_AGAIN_S = 60.0
INHERITED_S = 30.0
_PASSING = (Ambiguous, NoResponder, StreamFull, BusClosed)


class Round(msgspec.Struct):
    """What one round over the outboxes did. What was not delivered is held by a living process, for elsewhere, refused
    (the reason stands in the message's ``trouble``), or had to wait since the server went away or is full.
    """

    delivered: int = 0
    in_use: int = 0
    elsewhere: int = 0
    refused: int = 0
    waiting: int = 0


class Courier:
    """Delivers over one connection. ``paths`` are the outboxes to look after (None: all of this user's)."""

    def __init__(self, bus: Bus, paths: Iterable[Path] | None = None, *, period_s: float = PERIOD_S) -> None:
        self._bus = bus
        self._paths = None if paths is None else list(paths)
        self._period_s = period_s
        self._blobs = Blobs(bus)
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._said = ""
        self._idle: dict[Path, tuple[int, ...]] = {}
        self._task: asyncio.Task[None] | None = None

    # ---- life

    def start(self) -> None:
        """Look every ``period_s`` seconds, and whenever the server is back."""
        self._bus.on_reconnect.append(self.nudge)
        self._task = asyncio.create_task(self._run(), name="courier")

    def nudge(self) -> None:
        """Look now."""
        self._wake.set()

    async def stop(self) -> None:
        """Look no more; a round under way is given up."""
        if self._task:
            self._bus.on_reconnect.remove(self.nudge)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._bus.is_online:
                await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._period_s):
                    await self._wake.wait()

    async def _look(self) -> None:
        try:
            done = await self.round()
        except CallboardError as error:
            if str(error) != self._said:  # such as a disk that is full: once, not every five seconds
                log.warning("%s; trying again", error)
            self._said = str(error)
        except Exception:
            log.exception("delivering what lies in outboxes failed; trying again")
        else:
            self._said = ""
            self._report(done)

    def _report(self, done: Round) -> None:
        if done.delivered:
            log.info("delivered %d held messages", done.delivered)
        if done.elsewhere:
            where = self._bus.destination
            log.warning("%d held messages are not for %s: see 'callboard outbox list'", done.elsewhere, where)

    # ---- one round

    async def round(self, *, force: bool = False) -> Round:
        """Once over all outboxes; ``force``: also what was refused a moment ago. Raises: OutboxError, UsageError."""
        done = Round()
        async with self._turn:
            for path in self._files():
                if force or self._idle.get(path) != _signature(path):
                    await self._round_of(path, done, force=force)
        return done

    def _files(self) -> list[Path]:
        paths = sorted(outbox_dir(os.environ).glob("*.db")) if self._paths is None else self._paths
        return [path for path in paths if path.exists()]

    async def _round_of(self, path: Path, done: Round, *, force: bool) -> None:
        # Taken before the first look: what is written while this round goes on has to be seen by the next one. Our own
        # changes make the next one look in vain, once.
        seen = _signature(path)
        outbox = Outbox(path)
        tried_before = math.inf if force else time.time() - TRY_AGAIN_S
        todo_before = done.in_use + done.refused + done.waiting
        try:
            holders = await outbox.holders()
            for holder, count in holders.items():
                await self._deliver_of(outbox, holder, count, tried_before, done)
            outbox.tidy(holders)
        finally:
            await outbox.close()
        if done.in_use + done.refused + done.waiting == todo_before:  # nothing for us before somebody writes to it
            self._idle[path] = seen

    async def _deliver_of(self, outbox: Outbox, holder: str, count: int, tried_before: float, done: Round) -> None:
        lock = outbox.claim(holder)
        if lock is None:
            done.in_use += count
            return
        left = count
        try:
            done.refused += await outbox.count(holder, tried_after=tried_before)
            await self._deliver_all(outbox, holder, tried_before, done)
            left = await outbox.count(holder)
        finally:
            lock.release(remove=not left and holder != FREE)

    async def _deliver_all(self, outbox: Outbox, holder: str, tried_before: float, done: Round) -> None:
        last = 0
        while (chunk := await outbox.chunk(holder, after=last, tried_before=tried_before)).messages:
            last = chunk.last
            ours = [held for held in chunk.messages if self._bus.destination.reaches(held.destination)]
            done.elsewhere += len(chunk.messages) - len(ours)
            if not await self._deliver(outbox, ours, done):
                done.waiting += await outbox.count(holder, after=last)
                return

    async def _deliver(self, outbox: Outbox, chunk: list[Held], done: Round) -> bool:
        """Whether it makes sense to go on."""
        try:
            stored = await self._stored(chunk)
        except BusError as error:
            return self._wait(outbox, len(chunk), error, done)
        new = [held for held in chunk if held.event_id not in stored]
        outcomes = await asyncio.gather(*(self._send(held) for held in new), return_exceptions=True)
        failed = [(held, error) for held, error in zip(new, outcomes, strict=True) if error is not None]
        crash_point("outbox.after_send")
        delivered = {held.event_id for held in chunk} - {held.event_id for held, _ in failed}
        if delivered:
            done.delivered += await outbox.remove(delivered)
        return await self._note(outbox, failed, done)

    async def _stored(self, chunk: list[Held]) -> set[str]:
        """Those of the events that are in the log. One read for each subject: a fan-out has its replies on one."""
        since: dict[str, int] = {}
        for held in chunk:
            if held.kind == "event":
                since[held.subject] = min(held.since, since.get(held.subject, held.since))
        pages = await asyncio.gather(
            *(read_all(self._bus, EVENTS, subject, since=first) for subject, first in since.items())
        )
        return {stored.headers.get(h.EVENT_ID, "") for page in pages for stored in page}

    async def _send(self, held: Held) -> None:
        crash_point("outbox.before_send")
        if held.blob is not None:
            await self._blobs.put(held.blob)
        await self._bus.append(held.subject, held.body, headers={h.MSG_ID: held.event_id, **held.headers})

    async def _note(self, outbox: Outbox, failed: list[tuple[Held, BaseException]], done: Round) -> bool:
        """What passes by itself is tried in the next round; what is refused, less often."""
        passing = [error for _, error in failed if _passes(error)]
        for held, error in failed:
            if not isinstance(error, BusError | UsageError):
                raise error
            if not _passes(error):
                done.refused += 1
                log.error("%s of %s is refused: %s; it stays in %s", held.kind, held.about, error, outbox.path)
                await outbox.note(held.event_id, str(error))
        return not passing or self._wait(outbox, len(passing), passing[0], done)

    def _wait(self, outbox: Outbox, count: int, error: BaseException, done: Round) -> bool:
        done.waiting += count
        log.warning("%d messages stay in %s for now: %s", count, outbox.path, error)
        return False


async def deliver_inherited(bus: Bus, path: Path, owner: str, *, limit_s: float = INHERITED_S) -> None:
    """Deliver what the killed predecessors of ``owner`` have left in the outbox at ``path``, before it begins.

    After ``limit_s`` seconds (a log that is full, another courier that hangs) it begins all the same.
    """
    deadline_s = time.monotonic() + limit_s
    courier = Courier(bus, [path])
    try:
        while await _left_of(bus, path, owner):
            await courier.round()
            if time.monotonic() > deadline_s:
                log.warning("what %s has left in %s is not delivered yet; going on", owner, path)
                return
            await asyncio.sleep(0.05)
    except OutboxError as error:
        log.error("%s", error)


async def _left_of(bus: Bus, path: Path, owner: str) -> bool:
    outbox = Outbox(path)
    if not outbox.exists():
        return False
    try:
        pending = await outbox.pending(owner)
    finally:
        await outbox.close()
    return any(not held.trouble and bus.destination.reaches(held.destination) for held in pending)


def _passes(error: BaseException) -> bool:
    """Whether the server is away or has no room. A bare BusError is the object store's, of which no more is known."""
    return isinstance(error, _PASSING) or type(error) is BusError


def _signature(path: Path) -> tuple[int, ...]:
    """Changes when somebody writes to the file."""
    return tuple(number for name in (path, Path(f"{path}-wal")) for number in _facts(name))


def _facts(path: Path) -> tuple[int, ...]:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return ()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
