"""So many places under a name, in the whole system, each of them its holder's for as long as that renews it.

A place is one key in bucket ``locks``, ``_system.place.<name>.<number>``, made if it is not there, kept by a TTL of
the server's, removed at the end. A process that dies leaves keys behind that expire by themselves. One that stands
still for longer than the lease, or is cut off from the server, may find its place taken when it wakes up: then there is
one holder too many for a while. Jobs have locks that cannot be lost so (``actors.locks.protocol``); a tool has no log
to keep them in.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from dataclasses import dataclass, field

import msgspec

from actors.locks.claim import LockName
from actors.locks.lock_store import PREFIX
from bus import headers as h
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, BusError, Fenced
from bus.reader import last_of_each, newest
from bus.streams import LOCKS

log = logging.getLogger("callboard.locks")

LEASE_S = 10
# A renewal may be lost, and one may be late.
_RENEWALS_WITHIN_LEASE = 3
_TRIES = 3


class Holding(msgspec.Struct, frozen=True):
    """The value of a key: whose place it is, for people, and which one of its places."""

    holder: str
    id: str


@dataclass(eq=False)
class Place:
    """One place that this process holds."""

    subject: str
    value: bytes
    revision: int
    is_lost: bool = False
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)


class LeasedPlaces:
    """The places of one process, ``holder``. Nothing is done, and nothing runs, until one is taken."""

    def __init__(self, bus: Bus, holder: str, *, lease_s: int = LEASE_S) -> None:
        self._bus = bus
        self._holder = holder
        self._lease_s = lease_s
        self._held: set[Place] = set()
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, name: LockName, limit: int) -> Place | None:
        """One of ``limit`` places under that name; None if all are taken. Raises: BusError."""
        if place := await self._try(name, random.randrange(limit)):
            return place
        if limit == 1:
            return None
        taken = await last_of_each(self._bus, LOCKS, [f"{PREFIX}{name.key}.*"])
        numbers = {stored.subject.rpartition(".")[2] for stored in taken}
        free = [number for number in range(limit) if str(number) not in numbers]
        for number in random.sample(free, min(_TRIES, len(free))):
            if place := await self._try(name, number):
                return place
        return None

    async def release(self, place: Place) -> None:
        """Give it back. If the server cannot be told, the place is free when its time is over."""
        self._held.discard(place)
        async with place.changing:
            if place.is_lost:
                return
            try:
                await self._bus.api(f"STREAM.MSG.DELETE.{LOCKS}", {"seq": place.revision, "no_erase": True})
            except BusError as error:
                log.info("%s is free within %d s: %s", place.subject, self._lease_s, error)

    async def stop(self) -> None:
        """Renew nothing any more."""
        if self._renewing is not None:
            self._renewing.cancel()

    async def _try(self, name: LockName, number: int) -> Place | None:
        value = msgspec.json.encode(Holding(self._holder, secrets.token_hex(8)))
        place = Place(f"{PREFIX}{name.key}.{number}", value, 0)
        try:
            await self._write(place)
        except Fenced:
            return None
        except (Ambiguous, NoResponder):
            await self._bus.settle()
            if not await self._is_found(place):
                return None
        self._held.add(place)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew(), name="places")
        return place

    async def _write(self, place: Place) -> None:
        headers = {h.EXPECTED_SEQUENCE: str(place.revision), "Nats-TTL": f"{self._lease_s}s"}
        place.revision = await self._bus.append(place.subject, place.value, headers=headers)

    async def _is_found(self, place: Place) -> bool:
        """Whether the key is ours; then its revision is noted."""
        found = await newest(self._bus, LOCKS, place.subject)
        if found is None or found[0] != place.value:
            return False
        place.revision = found[1]
        return True

    # ---- renewing

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / _RENEWALS_WITHIN_LEASE)
            await asyncio.gather(*(self._renew_one(place) for place in list(self._held)))

    async def _renew_one(self, place: Place) -> None:
        async with place.changing:
            if place not in self._held:
                return
            try:
                await self._write_again(place)
            except Fenced:
                place.is_lost = True
                self._held.discard(place)
                log.warning("%s was not renewed in time, and is somebody else's now", place.subject)
            except BusError as error:
                log.warning("%s is not renewed: %s; trying again", place.subject, error)

    async def _write_again(self, place: Place) -> None:
        try:
            await self._write(place)
        except Fenced:  # an answer of ours was lost, or it has expired, or it is somebody else's
            if not await self._is_found(place):
                place.revision = 0
            await self._write(place)
