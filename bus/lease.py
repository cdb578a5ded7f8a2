"""A named lease in bucket ``duties``: one holder in the cluster, found by compare-and-set, given up by silence.

The server keeps the key for ``ttl_s`` after each renewal. The holder counts from before it sent the renewal, on its own
clock, so it considers itself out before the server can give the lease to another. Two may still act at once for a
moment: a process that was stopped between its look at the clock and its act. So a lease only spares work; what must not
happen twice is fenced in the log (``actors.duties.term``).

Raw instead of a client's KV: renewals need a TTL of their own, and nats-py breaks on expired keys (NATS-FACTS, item 6
and finding 8). Reads ask the stream's leader, since a replica may lag.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import math
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from bus import headers as h
from bus.connection import ApiError, Bus
from bus.errors import BusClosed, BusError, Contended, Fenced, PermissionRefused
from bus.event import utc_now
from bus.streams import DUTIES

log = logging.getLogger("callboard.lease")

TTL_S = 9.0
_NOT_FOUND = 10037
# A renewal without an answer is tried again this soon; the lease's time goes on.
_TRY_AGAIN_S = 0.5
# A user who may not write to the bucket never leads; the operator may allow it later.
_REFUSED_PAUSE_S = 60.0


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """The lease's value. ``id`` tells one process from another of the same name; ``epoch`` is 0 in a first write."""

    holder: str
    since: datetime
    id: str = ""
    epoch: int = 0


@dataclass(frozen=True)
class _Found:
    """What the bucket holds: ``holding`` is None if the lease is free. The next write has to expect ``revision``."""

    revision: int
    holding: Holding | None


def own_clock_s() -> float:
    """Seconds that also pass while the machine is suspended, where the platform has such a clock."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class Lease:
    """The lease ``name``, as ``holder`` wants to have it; one object for each process and name."""

    def __init__(
        self, bus: Bus, name: str, holder: str, *, ttl_s: float = TTL_S, clock: Callable[[], float] = own_clock_s
    ) -> None:
        self.name = name
        self.holder = holder
        self.ttl_s = max(1.0, ttl_s)  # the server knows no shorter one
        self.epoch = 0
        self._bus = bus
        self._clock = clock
        self._id = secrets.token_hex(6)
        self._subject = f"$KV.duties.{name}"
        self._since = utc_now()
        self._revision = 0
        self._good_until_s = 0.0

    @property
    def is_held(self) -> bool:
        """Whether this process holds it at this moment, by its own clock: to be asked before each act."""
        return self.epoch > 0 and self._clock() < self._good_until_s

    @property
    def left_s(self) -> float:
        """For how long it is still held if no renewal succeeds."""
        return max(0.0, self._good_until_s - self._clock()) if self.epoch else 0.0

    # ---- one step each

    async def acquire(self) -> bool:
        """Try once to get it; ``epoch`` is then the sequence that fences. Raises: BusError."""
        found = await self._find()
        if found.holding is not None and found.holding.id != self._id:
            return False
        self._since = utc_now()
        try:
            self.epoch = await self._write(found.revision, epoch=0)
        except Fenced:
            return False
        return True

    async def renew(self) -> bool:
        """Keep it for another ``ttl_s``; False if it is another's by now. Raises: BusError (it may still be ours)."""
        try:
            await self._write(self._revision, self.epoch)
        except Contended:  # an earlier renewal of ours is still on its way through the cluster: try again later
            raise
        except Fenced:
            return await self._renew_unanswered()
        return True

    async def _renew_unanswered(self) -> bool:
        """Whether what stands there is an earlier renewal of ours whose answer was lost."""
        found = await self._find()
        if found.holding is None or (found.holding.id, found.holding.epoch) != (self._id, self.epoch):
            return False
        try:
            await self._write(found.revision, self.epoch)
        except Contended:
            raise
        except Fenced:
            return False
        return True

    async def release(self) -> None:
        """Give it up, so that another need not wait. Raises: BusError."""
        was_held, self.epoch = self.is_held, 0
        if was_held:
            headers = {"KV-Operation": "DEL", h.EXPECTED_SEQUENCE: str(self._revision)}
            with contextlib.suppress(Fenced):
                await self._bus.append(self._subject, b"", headers=headers, timeout_s=2)

    async def _write(self, revision: int, epoch: int) -> int:
        """Store the lease on the condition ``revision``; its sequence. Raises: Fenced, BusError."""
        holding = Holding(holder=self.holder, since=self._since, id=self._id, epoch=epoch)
        headers = {h.EXPECTED_SEQUENCE: str(revision), "Nats-TTL": f"{math.ceil(self.ttl_s)}s"}
        until_s = self._clock() + self.ttl_s
        timeout_s = max(1.0, self.ttl_s / 4)
        self._revision = await self._bus.append(
            self._subject, msgspec.json.encode(holding), headers=headers, timeout_s=timeout_s
        )
        self._good_until_s = until_s
        return self._revision

    async def _find(self) -> _Found:
        return await _find(self._bus, self._subject)

    # ---- all of it

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """For ever: wait for the lease, do ``work`` while it is held, and cancel it when it is lost.

        If ``work`` returns or raises, the lease is given back and wanted again. Returns only by cancellation or when
        the connection has closed for good.
        """
        while True:
            try:
                await self._wait_for_it()
                log.info("%s: held by %s, epoch %d", self.name, self.holder, self.epoch)
                await self._hold(work)
            except PermissionRefused as error:
                log.warning("%s: %s; this process does not take part", self.name, error)
                await asyncio.sleep(_REFUSED_PAUSE_S)
            except BusClosed:
                return
            except BusError as error:
                log.info("%s: %s; trying again", self.name, error)
            await self._pause()

    async def _wait_for_it(self) -> None:
        """Look about four times within a ``ttl_s``, never all at once."""
        while not await self._try():
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self.ttl_s / 4 * (0.75 + random.random() / 2))

    async def _try(self) -> bool:
        try:
            return await self.acquire()
        except (PermissionRefused, BusClosed):
            raise
        except BusError as error:
            log.info("%s: %s; trying again", self.name, error)
            await self._bus.settle()
            return False

    async def _hold(self, work: Callable[[], Awaitable[None]]) -> None:
        working = asyncio.ensure_future(work())
        keeping = asyncio.create_task(self._keep(), name=f"lease {self.name}")
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(keeping, working)
            with contextlib.suppress(BusError):
                await self.release()
            self.epoch = 0

    async def _keep(self) -> None:
        """Renew until it is lost, or until its time is over by our own clock."""
        pause_s = self.ttl_s / 3
        while self.is_held:
            await asyncio.sleep(min(pause_s, self.left_s))
            try:
                async with asyncio.timeout(self.left_s):
                    if not await self.renew():
                        self.epoch = 0  # before the work hears of it: what it does until then must not think otherwise
                        log.warning("%s: lost to another", self.name)
                        return
                pause_s = self.ttl_s / 3
            except (BusError, TimeoutError) as error:
                log.warning("%s: not renewed (%s), %.1f s left", self.name, str(error) or "no answer", self.left_s)
                pause_s = _TRY_AGAIN_S


async def _end(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, BusError):  # also Fenced: what such work finds out about having been followed
            log.warning("the work under a lease ended: %s", outcome)
        elif isinstance(outcome, Exception):
            log.error("the work under a lease failed", exc_info=outcome)


async def who_holds(bus: Bus, name: str) -> Holding | None:
    """The present holder of a lease, None if it is free. Raises: BusError."""
    return (await _find(bus, f"$KV.duties.{name}")).holding


async def _find(bus: Bus, subject: str) -> _Found:
    try:
        message = (await bus.api(f"STREAM.MSG.GET.{DUTIES}", {"last_by_subj": subject}))["message"]
    except ApiError as error:
        if error.err_code == _NOT_FOUND:
            return _Found(0, None)
        raise
    data = base64.b64decode(message.get("data", ""))
    try:
        return _Found(message["seq"], msgspec.json.decode(data, type=Holding))
    except msgspec.DecodeError:  # a mark that somebody gave it up, or nothing of ours: free for the taking
        return _Found(message["seq"], None)
