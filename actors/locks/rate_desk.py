"""Reservations of rates in bucket ``locks``, shared by all processes: ``<workspace>.rate.<name>``, changed by CAS.

What many ask for at once in one process is asked for together, so a process writes as often as the server answers,
however many wait. Between two writes of others it does not even read. The instants are of this machine's clock: if the
clocks of two machines differ by a second, so may what they begin.
"""

from __future__ import annotations

import asyncio
import math
import random
import time

import msgspec

from actors.locks.claim import LockName
from actors.locks.lock_store import PREFIX
from bus import headers as h
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, BusError, Fenced
from bus.outage import through_outage
from bus.reader import newest
from bus.streams import LOCKS
from supervisor.rate import Rate, Reservations, reserve

_KEPT_LONGER_S = 60


class RateDesk:
    """One process's way to reserve. Nothing is done until somebody asks."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._asked: dict[LockName, list[asyncio.Future[float]]] = {}
        self._known: dict[LockName, tuple[Reservations, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def reserve(self, name: LockName, rate: Rate, *, within_s: float | None = None) -> float:
        """The instant (seconds since the epoch) at which one more may begin. Raises: BusError.

        If that is later than in ``within_s`` seconds nothing is reserved, and the instant is an estimate. It is the
        same for all who ask for ``name``.
        """
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        waiting = self._asked.get(name)
        if waiting is not None:
            waiting.append(future)
        else:
            self._asked[name] = [future]
            task = asyncio.create_task(self._serve(name, rate, math.inf if within_s is None else within_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _serve(self, name: LockName, rate: Rate, within_s: float) -> None:
        """Reserve for all who ask, until nobody does."""
        while asked := self._asked[name]:
            self._asked[name] = []
            try:
                instants = await self._reserve(name, rate, len(asked), within_s)
            except BusError as error:
                _fail(asked, error)
                continue
            for future, instant in zip(asked, instants, strict=True):
                if not future.done():
                    future.set_result(instant)
        del self._asked[name]

    async def _reserve(self, name: LockName, rate: Rate, times: int, within_s: float) -> list[float]:
        while True:
            known = self._known.get(name)
            before, revision = await self._read(name) if known is None else known
            now_s = time.time()
            after, instants = reserve(rate, before, times, now_s, until_s=now_s + within_s)
            if after is before:
                self._remember(name, before, revision)
                return instants
            ttl_s = int(max(0.0, after.until_s - now_s) + rate.per_s) + _KEPT_LONGER_S
            headers = {h.EXPECTED_SEQUENCE: str(revision), "Nats-TTL": f"{ttl_s}s"}
            try:
                written = await self._bus.append(_subject(name), msgspec.json.encode(after), headers=headers)
            except Fenced:
                self._known.pop(name, None)
                await asyncio.sleep(random.random() * 0.005)
            except (Ambiguous, NoResponder):
                self._known.pop(name, None)
                await self._bus.settle()  # if it was stored, these instants are given to nobody
            else:
                self._remember(name, after, written)
                return instants

    def _remember(self, name: LockName, state: Reservations, revision: int) -> None:
        self._known[name] = (state, revision)
        if len(self._known) > 1_000:
            del self._known[next(iter(self._known))]

    async def _read(self, name: LockName) -> tuple[Reservations, int]:
        """What is reserved, from the stream's leader. Raises: BusError."""
        return _decoded(await through_outage(self._bus, lambda: newest(self._bus, LOCKS, _subject(name))))


def _decoded(found: tuple[bytes, int] | None) -> tuple[Reservations, int]:
    if found is None:
        return Reservations(), 0
    try:
        return msgspec.json.decode(found[0], type=Reservations), found[1]
    except msgspec.DecodeError:  # nothing of ours: begin anew
        return Reservations(), found[1]


def _subject(name: LockName) -> str:
    return f"{PREFIX}{name.key}"


def _fail(asked: list[asyncio.Future[float]], error: BusError) -> None:
    for future in asked:
        if not future.done():
            future.set_exception(error)
