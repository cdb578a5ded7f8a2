"""Values in a bucket that many processes change, each by compare-and-set: nothing that one of them does is lost.

A change is a function from what is there to what shall be. It is asked again when somebody else was faster, and also
when the answer to a write was lost: so doing it twice must be the same as doing it once, or do no harm. What a process
wrote last it tries to write upon without reading; what it would leave as it is, it reads first.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from bus import headers as h
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, Fenced, Unreadable
from bus.outage import through_outage
from bus.reader import newest

T = TypeVar("T")
R = TypeVar("R")

_KNOWN_MOST = 1_000


class Cells(Generic[T]):
    """Values of one type in the stream of a bucket. ``ttl_s``: after how many seconds a value may go, None: never."""

    def __init__(self, bus: Bus, bucket: str, of: type[T], *, ttl_s: Callable[[T], int] | None = None) -> None:
        self._bus = bus
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._decoder = msgspec.json.Decoder(of)
        self._ttl_s = ttl_s
        self._known: dict[str, tuple[T | None, int]] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def read(self, key: str) -> T | None:
        """What is there, from the stream's leader. Raises: BusError, Unreadable."""
        return (await self._read(key))[0]

    async def change(self, key: str, step: Callable[[T | None], tuple[T | None, R]]) -> R:
        """Do ``step``: from what is there (None: nothing) to what shall be, and an answer, which is returned.

        What is the same afterwards is not written. Raises: BusError, Unreadable, and what ``step`` raises.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            is_fresh = False
            while True:
                if key not in self._known:
                    self._remember(key, *await self._read(key))
                    is_fresh = True
                before, revision = self._known[key]
                after, answer = step(before)
                if after is None or after is before:
                    if is_fresh:
                        return answer
                    del self._known[key]
                elif await self._write(key, after, revision):
                    return answer
                is_fresh = False

    async def _write(self, key: str, value: T, revision: int) -> bool:
        """Whether it was written; if not, what is known of the key is forgotten."""
        headers = {h.EXPECTED_SEQUENCE: str(revision)}
        if self._ttl_s is not None:
            headers["Nats-TTL"] = f"{self._ttl_s(value)}s"
        self._known.pop(key, None)
        try:
            written = await self._bus.append(self._prefix + key, msgspec.json.encode(value), headers=headers)
        except Fenced:
            await asyncio.sleep(random.random() * 0.005)
            return False
        except (Ambiguous, NoResponder):
            await self._bus.settle()
            return False
        self._remember(key, value, written)
        return True

    def _remember(self, key: str, value: T | None, revision: int) -> None:
        self._known[key] = (value, revision)
        if len(self._known) > _KNOWN_MOST:
            del self._known[next(iter(self._known))]

    async def _read(self, key: str) -> tuple[T | None, int]:
        found = await through_outage(self._bus, lambda: newest(self._bus, self._stream, self._prefix + key))
        return self._decoded(key, found)

    def _decoded(self, key: str, found: tuple[bytes, int] | None) -> tuple[T | None, int]:
        if found is None or not found[0]:  # a mark of a deletion has no body
            return None, found[1] if found else 0
        try:
            return self._decoder.decode(found[0]), found[1]
        except msgspec.DecodeError as error:
            raise Unreadable(self._prefix + key, found[1], str(error)) from error
