"""Key-value on a JetStream stream (ADR-8), raw: nats-py's own KV breaks on limit markers, and its watch is silent for
up to 20 s after a server restart (NATS-FACTS, findings 7 and 8).

:class:`Kv` reads and writes keys; :class:`KvCache` holds a whole bucket in memory and keeps it live. A core
subscription to the bucket's subjects is only a doorbell: it rings before the write is stored, rings for writes that are
refused, and may be missed. So it only makes the cache read on from its last sequence, and every 10 s and after a
reconnect the cache compares itself with the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus import headers as h
from bus.connection import Bus
from bus.errors import BusError
from bus.reader import Stored, last, scan
from bus.streams import stream_info

log = logging.getLogger("callboard.kv")

CHECK_S = 10.0
# A doorbell rings before the message is stored: what a first look does not find, one of these later ones will.
_LATER_LOOKS_S = (0.02, 0.1, 0.5)
_OPERATION = "KV-Operation"
_MARKER_REASON = "Nats-Marker-Reason"
_ROLLUP = "Nats-Rollup"


class Entry(msgspec.Struct, frozen=True):
    """A key as the bucket holds it. ``revision`` is its sequence; a deleted key keeps its revision for a while."""

    key: str
    value: bytes
    revision: int
    deleted: bool = False


class Kv:
    """One bucket; its stream is made by ``bus.streams.ensure_streams``."""

    def __init__(self, bus: Bus, bucket: str) -> None:
        self.bus = bus
        self.bucket = bucket
        self.stream = f"KV_{bucket}"
        self.prefix = f"$KV.{bucket}."

    async def get(self, key: str) -> Entry | None:
        """The newest entry of ``key``, a deletion included; None if it was never written. Raises: BusError."""
        stored = await last(self.bus, self.stream, self.prefix + key)
        return None if stored is None else self.entry_of(stored)

    async def put(self, key: str, value: bytes, *, ttl_s: int | None = None) -> int:
        """Write whatever was there before, for ``ttl_s`` whole seconds if given; the new revision. Raises: BusError."""
        headers = None if ttl_s is None else {"Nats-TTL": f"{ttl_s}s"}
        return await self.bus.append(self.prefix + key, value, headers=headers)

    async def compare_and_set(self, key: str, value: bytes, revision: int) -> int:
        """Write if ``revision`` is still the newest one (0: never written). Raises: Fenced, BusError."""
        return await self.bus.append(self.prefix + key, value, headers={h.EXPECTED_SEQUENCE: str(revision)})

    async def delete(self, key: str, *, revision: int | None = None) -> int:
        """Leave a deletion marker, if ``revision`` (when given) is still the newest one. Raises: Fenced, BusError."""
        headers = {_OPERATION: "DEL"} | ({} if revision is None else {h.EXPECTED_SEQUENCE: str(revision)})
        return await self.bus.append(self.prefix + key, b"", headers=headers)

    async def purge(self, key: str, *, revision: int | None = None, ttl_s: int | None = None) -> int:
        """Like :meth:`delete`, and drop the key's history where the bucket keeps one. Raises: Fenced, BusError.

        The marker itself goes after ``ttl_s`` seconds, if that is given.
        """
        headers = {_OPERATION: "PURGE", _ROLLUP: "sub"}
        headers |= {} if revision is None else {h.EXPECTED_SEQUENCE: str(revision)}
        headers |= {} if ttl_s is None else {"Nats-TTL": f"{ttl_s}s"}
        return await self.bus.append(self.prefix + key, b"", headers=headers)

    def entry_of(self, stored: Stored) -> Entry:
        """The entry in a message of the bucket's stream."""
        deleted = stored.headers.get(_OPERATION) in ("DEL", "PURGE") or _MARKER_REASON in stored.headers
        return Entry(stored.subject[len(self.prefix) :], stored.body, stored.sequence, deleted)


OnChange = Callable[[str, Entry | None], None]


class KvCache:
    """All keys of a bucket in memory. ``on_change`` hooks get the key and its new entry, None once it is deleted."""

    def __init__(self, kv: Kv, *, check_s: float = CHECK_S) -> None:
        self.on_change: list[OnChange] = []
        self.sequence = 0
        self._kv = kv
        self._check_s = check_s
        self._entries: dict[str, Entry] = {}
        self._markers: set[str] = set()
        self._created = ""
        self._bell = asyncio.Event()
        self._lock = asyncio.Lock()
        self._sub: Subscription | None = None
        self._task: asyncio.Task[None] | None = None
        self._check_due = False

    # ---- life

    async def start(self) -> None:
        """Load the bucket and keep it live from here. Raises: BusError."""
        self._sub = await self._kv.bus.subscribe(self._kv.prefix + ">", self._ring)
        self._kv.bus.on_reconnect.append(self._ring_check)
        await self.check()
        self._task = asyncio.create_task(self._run(), name=f"kv cache {self._kv.bucket}")

    async def stop(self) -> None:
        """Stop listening; what is in memory can still be read."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        with contextlib.suppress(ValueError):
            self._kv.bus.on_reconnect.remove(self._ring_check)
        if self._sub:
            with contextlib.suppress(Exception):  # the connection may be gone already
                await self._sub.unsubscribe()
            self._sub = None

    @property
    def is_live(self) -> bool:
        """It was started, and not stopped."""
        return self._task is not None

    # ---- reading

    def get(self, key: str) -> Entry | None:
        """The entry of a key that is not deleted."""
        return self._entries.get(key)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    async def refresh(self, must_see: int = 0) -> None:
        """Read what is new, until sequence ``must_see`` is in memory (a replica may lag). Raises: BusError."""
        while True:
            async with self._lock:
                await self._read_on()
            if self.sequence >= must_see:
                return
            await asyncio.sleep(0.02)

    async def check(self) -> None:
        """Compare with the stream itself: a bucket made anew or compacted is loaded again. Raises: BusError."""
        async with self._lock:  # what is read while the stream is asked would look like a bucket that lost it
            info = await stream_info(self._kv.bus, self._kv.stream)
            if info is None:
                raise BusError(f"there is no bucket {self._kv.bucket}")
            created, state = str(info["created"]), info["state"]
            if created != self._created or state["last_seq"] < self.sequence:
                await self._load_anew(created)
            if state["last_seq"] > self.sequence:
                await self._read_on()
            if state["last_seq"] >= self.sequence:
                await self._compare(state, created)

    async def _compare(self, state: dict[str, Any], created: str) -> None:
        """Nothing came in since the stream was asked: as many messages here as there, or some were removed unseen."""
        if state["messages"] == len(self._entries) + len(self._markers):
            self.sequence = state["last_seq"]
        else:
            await self._load_anew(created)

    async def _load_anew(self, created: str) -> None:
        """Read the bucket from its start; keys that are gone without a marker are reported as deleted.

        Who looks something up meanwhile sees what was there before: a bucket is never empty because it is being read.
        """
        latest: dict[str, Entry] = {}
        async for page in scan(self._kv.bus, self._kv.stream, self._kv.prefix + ">"):
            latest.update((entry.key, entry) for entry in map(self._kv.entry_of, page))
        old, self._entries = self._entries, {key: entry for key, entry in latest.items() if not entry.deleted}
        self._markers = latest.keys() - self._entries.keys()
        self.sequence, self._created = max((entry.revision for entry in latest.values()), default=0), created
        for key, entry in self._entries.items():
            self._tell_change(old.get(key), entry)
        for key in old.keys() - self._entries.keys():
            self._tell(key, None)

    async def _read_on(self) -> bool:
        found = False
        async for page in scan(self._kv.bus, self._kv.stream, self._kv.prefix + ">", since=self.sequence):
            found = True
            for stored in page:
                self._take(self._kv.entry_of(stored))
        return found

    def _take(self, entry: Entry) -> None:
        self.sequence = max(self.sequence, entry.revision)
        known = self._entries.get(entry.key)
        if entry.deleted:
            self._markers.add(entry.key)
            self._entries.pop(entry.key, None)
            if known:
                self._tell(entry.key, None)
            return
        self._markers.discard(entry.key)
        self._entries[entry.key] = entry
        self._tell_change(known, entry)

    def _tell_change(self, known: Entry | None, entry: Entry) -> None:
        if known is None or known.revision != entry.revision or known.value != entry.value:
            self._tell(entry.key, entry)

    def _tell(self, key: str, entry: Entry | None) -> None:
        for hook in self.on_change:
            try:
                hook(key, entry)
            except Exception:
                log.exception("a hook failed on key %s of bucket %s", key, self._kv.bucket)

    # ---- keeping live

    def _ring(self, _: Msg) -> None:
        self._bell.set()

    def _ring_check(self) -> None:
        self._check_due = True
        self._bell.set()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._check_s):
                    await self._bell.wait()
            except TimeoutError:
                self._check_due = True
            self._bell.clear()
            try:
                await self._catch_up()
            except BusError as error:
                log.warning("bucket %s: %s; trying again", self._kv.bucket, error)
                self._check_due = True

    async def _catch_up(self) -> None:
        if self._check_due:
            self._check_due = False
            await self.check()
            return
        for pause_s in (0.0, *_LATER_LOOKS_S):
            await asyncio.sleep(pause_s)
            async with self._lock:
                if await self._read_on():
                    return
