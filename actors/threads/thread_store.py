"""Where threads are kept: bucket ``threads``, key ``<workspace>.<name>``, changed by compare-and-set."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from actors.threads.thread import (
    Earlier,
    Exchange,
    Summary,
    Thread,
    added,
    check_thread,
    earlier_of,
    sealed,
    thread_key,
    to_seal,
)
from bus.cells import Cells
from bus.connection import Bus
from bus.errors import Ambiguous, Fenced, UsageError
from bus.kv import Entry, Kv
from bus.objects import Blobs
from bus.reader import read_all
from bus.streams import THREADS, stream_info

BUCKET = "threads"
KEPT_VARIABLE = "CALLBOARD_THREAD_KEPT_S"
KEPT_S = 90 * 86_400
# What was said before that is in the object store still, but no run begins with it.
LOAD_BYTES = 1_000_000
_MARK_S = 60


class ThreadStore:
    """One process's way to the threads of a workspace. ``kept_s``: how long after its last exchange one goes."""

    def __init__(self, bus: Bus, blobs: Blobs, workspace: str, kept_s: int | None = None) -> None:
        self._bus = bus
        self._blobs = blobs
        self._workspace = workspace
        self._kv = Kv(bus, BUCKET)
        kept_s = kept_seconds(os.environ) if kept_s is None else kept_s
        self._cells = Cells(bus, BUCKET, Thread, ttl_s=(lambda _: kept_s) if kept_s else None)

    # ---- for runs

    async def earlier(self, name: str) -> Earlier:
        """What a run begins with: the newest exchanges, ``LOAD_BYTES`` of them at most. Raises: BusError."""
        thread = await self._cells.read(thread_key(self._workspace, name))
        if thread is None:
            return Earlier(thread=name)
        return earlier_of(thread, await self._newest(thread, LOAD_BYTES))

    async def add(self, name: str, exchange: Exchange, summary: Summary | None = None) -> int:
        """Add an exchange, once; how many the thread has by then. Raises: BusError."""
        key = thread_key(self._workspace, name)
        while True:
            there = await self._cells.read(key)
            longer = added(there, name, exchange, summary)
            if longer is there:
                return longer.count
            if await self._put(key, there, await self._sealed(longer)):
                return longer.count

    async def _sealed(self, thread: Thread) -> Thread:
        body = to_seal(thread)
        if body is None:
            return thread
        while True:
            try:
                return sealed(thread, await self._blobs.put(body), len(body))
            except Ambiguous:
                await self._bus.settle()

    async def _put(self, key: str, there: Thread | None, longer: Thread) -> bool:
        """Whether it was written upon what was there."""

        def step(now: Thread | None) -> tuple[Thread | None, bool]:
            return (longer, True) if now in (there, longer) else (now, False)

        return await self._cells.change(key, step)

    async def _newest(self, thread: Thread, most_bytes: int | None) -> tuple[Exchange, ...]:
        found, left = thread.exchanges, most_bytes
        for chunk in reversed(thread.sealed):
            left = None if left is None else left - chunk.size_bytes
            if left is not None and left < 0 and found:
                break
            body = await self._blobs.get(chunk.sha256)
            found = (*msgspec.json.decode(body, type=tuple[Exchange, ...]), *found)
        return found

    # ---- for people

    async def all(self) -> list[Thread]:
        """Every thread, the one that was used last first; of each what stands in the bucket. Raises: BusError."""
        if await stream_info(self._bus, THREADS) is None:  # no node has ever been here
            return []
        stored = await read_all(self._bus, THREADS, f"{self._kv.prefix}{self._workspace}.*")
        entries = [self._kv.entry_of(each) for each in stored]
        found = [msgspec.json.decode(entry.value, type=Thread) for entry in entries if not entry.deleted]
        return sorted(found, key=lambda thread: thread.last_at, reverse=True)

    async def whole(self, name: str) -> Thread:
        """One with all its exchanges. Raises: UsageError (``unknown_thread``), BusError."""
        thread, _ = await self._found(name)
        return msgspec.structs.replace(thread, exchanges=await self._newest(thread, None))

    async def forget(self, name: str) -> Thread:
        """Remove a thread and what is sealed of it; what it was. The logs of its jobs stay as they are.

        Raises: UsageError (``unknown_thread``), BusError.
        """
        while True:
            thread, entry = await self._found(name)
            for chunk in thread.sealed:
                await self._blobs.delete(chunk.sha256)
            try:
                await self._kv.purge(entry.key, revision=entry.revision, ttl_s=_MARK_S)
            except Fenced:
                continue
            return thread

    async def _found(self, name: str) -> tuple[Thread, Entry]:
        check_thread(name)
        entry = None
        if await stream_info(self._bus, THREADS) is not None:
            entry = await self._kv.get(thread_key(self._workspace, name))
        if entry is None or entry.deleted:
            hint = "see: callboard threads list"
            raise UsageError(f"there is no thread {name!r}", code="unknown_thread", path="thread", hint=hint)
        return msgspec.json.decode(entry.value, type=Thread), entry


def kept_seconds(env: Mapping[str, str]) -> int:
    """How long a thread is kept after its last exchange, 0 for ever. Raises: UsageError."""
    text = env.get(KEPT_VARIABLE) or str(KEPT_S)
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{KEPT_VARIABLE} is {text!r}", code="bad_setting", path=KEPT_VARIABLE,
                         hint="whole seconds, or 0 to keep threads for ever")  # fmt: skip
    return int(text)
