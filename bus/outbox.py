"""The outbox: messages on their way that the server could not take yet, on this machine's disk.

One SQLite file for each node (``<data>/outbox/<node>.db``), and ``client.db`` for clients. It is touched only in
trouble: a call that succeeds does not open it. A message stays until it is known to be stored; whoever delivers it
(``bus.courier``) looks first whether it is stored already, so it gets there once however often this is tried.

A message has a *holder*: the process that goes on trying by itself, for as long as it lives (``bus.holder``). When it
is gone, or if there never was one (the request of a client), the message is free, and any courier may take it.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from bus.crash import crash_point
from bus.destination import Destination
from bus.errors import OutboxError, OutboxFull, UsageError
from bus.holder import HolderLock
from bus.outbox_file import OutboxFile
from bus.paths import data_dir

BYTES_VARIABLE = "CALLBOARD_OUTBOX_BYTES"
LIMIT_BYTES = 64 * 1024 * 1024
LIMIT_MESSAGES = 100_000
CLIENT = "client"
FREE = ""
_OVERHEAD_BYTES = 200


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A message in the outbox. ``about`` is ``workspace/job`` of a request, ``workspace/job/call`` of a reply.

    ``blob`` goes to the object store first; headers or body refer to it. ``since`` bounds the search for an event: it
    cannot stand at or before that sequence of the log. ``trouble`` is why the last delivery failed, at ``tried_at``.
    """

    event_id: str
    owner: str
    kind: Literal["event", "request"]
    about: str
    subject: str
    headers: dict[str, str]
    body: bytes
    blob: bytes | None = None
    since: int = 0
    destination: Destination = Destination()
    stored_at: float = 0.0
    size_bytes: int = 0
    holder: str = FREE
    trouble: str = ""
    tried_at: float = 0.0


class Counts(msgspec.Struct, frozen=True):
    """What an outbox holds; ``oldest_at`` is 0 if that is nothing."""

    messages: int = 0
    size_bytes: int = 0
    oldest_at: float = 0.0


class Chunk(NamedTuple):
    """Some messages; ``last`` is where the next chunk goes on."""

    last: int
    messages: list[Held]


_COLUMNS = ("event_id", "owner", "kind", "about", "subject", "headers", "since", "destination", "stored_at",
            "size_bytes", "holder", "trouble", "tried_at")  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)}"


def outbox_dir(env: Mapping[str, str]) -> Path:
    """Where the outboxes of this user lie."""
    return data_dir(env) / "outbox"


def outbox_path(env: Mapping[str, str], name: str = CLIENT) -> Path:
    """The file of node ``name``, or of the clients."""
    return outbox_dir(env) / f"{name}.db"


def limit_of(env: Mapping[str, str]) -> int:
    """How many bytes an outbox may hold: ``CALLBOARD_OUTBOX_BYTES``. Raises: UsageError."""
    text = env.get(BYTES_VARIABLE, "")
    if text and not text.isdecimal():
        raise UsageError(
            f"{BYTES_VARIABLE} is {text!r}", code="bad_limit", path=BYTES_VARIABLE, hint="a number of bytes"
        )
    return int(text) if text else LIMIT_BYTES


class Outbox:
    """One process's view of the outbox at ``path``."""

    def __init__(
        self, path: Path, *, limit_bytes: int | None = None, limit_messages: int = LIMIT_MESSAGES,
        synchronous: str = "FULL",
    ) -> None:  # fmt: skip
        self.path = path
        self.limit_bytes = limit_of(os.environ) if limit_bytes is None else limit_bytes
        self.limit_messages = limit_messages
        self.token = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._file = OutboxFile(path, synchronous=synchronous)
        self._lock: HolderLock | None = None

    def exists(self) -> bool:
        """Whether there is a file at all; asking does not make one."""
        return self.path.exists()

    # ---- putting in and taking out

    async def put(self, held: Held, *, free: bool = False) -> None:
        """Keep a message; when this returns it is on the disk. ``free``: anybody may deliver it, also while we live.

        Putting in what is there already does nothing. Raises: OutboxFull, OutboxError.
        """
        crash_point("outbox.before_put")
        holder = FREE if free else self._hold()
        size_bytes = _size_of(held)
        texts = {"headers": _text(held.headers), "destination": _text(held.destination)}
        facts = {"holder": holder, "stored_at": held.stored_at or time.time(), "size_bytes": size_bytes}
        values = {**msgspec.structs.asdict(held), **texts, **facts}
        names = (*_COLUMNS, "body", "blob")
        added = await self._file.run(
            f"INSERT OR IGNORE INTO message ({', '.join(names)}) SELECT {', '.join('?' * len(names))} FROM total"  # noqa: S608
            " WHERE messages < ? AND size_bytes + ? <= ? RETURNING id",
            [*(values[name] for name in names), self.limit_messages, size_bytes, self.limit_bytes],
        )
        if not added and await self.get(held.event_id) is None:
            raise await self._full(held, size_bytes)
        crash_point("outbox.after_put")

    async def _full(self, held: Held, size_bytes: int) -> OutboxFull:
        counts = await self.counts()
        return OutboxFull(
            f"the outbox {self.path} is full: no room for {size_bytes:,} bytes of {held.about} beside the"
            f" {counts.size_bytes:,} bytes of {counts.messages:,} messages that it holds; the limits are"
            f" {self.limit_bytes:,} bytes and {self.limit_messages:,} messages",
            hint=f"bring the server back, drop some ('callboard outbox list'), or raise {BYTES_VARIABLE}",
        )  # fmt: skip

    async def remove(self, event_ids: Iterable[str]) -> int:
        """Take messages out; how many were there. Raises: OutboxError."""
        ids = list(event_ids)
        sql = f"DELETE FROM message WHERE event_id IN ({', '.join('?' * len(ids))}) RETURNING id"  # noqa: S608
        return len(await self._file.run(sql, ids))

    async def note(self, event_id: str, trouble: str) -> None:
        """Write down why a delivery failed. Raises: OutboxError."""
        sql = "UPDATE message SET trouble = ?, tried_at = ? WHERE event_id = ?"
        await self._file.run(sql, [trouble[:500], time.time(), event_id])

    # ---- looking

    async def pending(self, owner: str | None = None) -> list[Held]:
        """What is held, all or of one owner, in the order in which it came; without bodies. Raises: OutboxError."""
        where, arguments = ("", []) if owner is None else (" WHERE owner = ?", [owner])
        return [_held(row) for row in await self._file.run(f"{_SELECT} FROM message{where} ORDER BY id", arguments)]

    async def about(self, what: str) -> list[Held]:
        """What is held about a job or a call, without bodies. Raises: OutboxError."""
        rows = await self._file.run(f"{_SELECT} FROM message WHERE about = ? ORDER BY id", [what])
        return [_held(row) for row in rows]

    async def get(self, event_id: str) -> Held | None:
        """One message, whole. Raises: OutboxError."""
        rows = await self._file.run(f"{_SELECT}, body, blob FROM message WHERE event_id = ?", [event_id])
        return _held(rows[0]) if rows else None

    async def counts(self) -> Counts:
        """How much is held. Raises: OutboxError."""
        sql = "SELECT messages, size_bytes, (SELECT min(stored_at) FROM message) FROM total"
        [(messages, size_bytes, oldest_at)] = await self._file.run(sql)
        return Counts(messages, size_bytes, oldest_at or 0.0)

    # ---- holders

    async def holders(self) -> dict[str, int]:
        """Who holds how many messages. Raises: OutboxError."""
        return dict(await self._file.run("SELECT holder, count(*) FROM message GROUP BY holder"))

    async def chunk(
        self, holder: str, *, after: int = 0, tried_before: float = math.inf, limit: int = 32,
        limit_bytes: int = 1 << 22,
    ) -> Chunk:  # fmt: skip
        """The next whole messages of a holder after ``after``: one at least, if there is one.

        ``tried_before``: not what was refused since that instant. Raises: OutboxError.
        """
        ids: list[int] = []
        left_bytes = limit_bytes
        sql = "SELECT id, size_bytes FROM message WHERE holder = ? AND id > ? AND tried_at <= ? ORDER BY id LIMIT ?"
        for number, size_bytes in await self._file.run(sql, [holder, after, tried_before, limit]):
            if ids and size_bytes > left_bytes:
                break
            ids.append(number)
            left_bytes -= size_bytes
        where = f"WHERE id IN ({', '.join('?' * len(ids))}) ORDER BY id"
        rows = await self._file.run(f"{_SELECT}, body, blob FROM message {where}", ids)
        return Chunk(ids[-1] if ids else after, [_held(row) for row in rows])

    async def count(self, holder: str, *, after: int = 0, tried_after: float = -1.0) -> int:
        """How many messages of a holder come after ``after``, tried since ``tried_after``. Raises: OutboxError."""
        sql = "SELECT count(*) FROM message WHERE holder = ? AND id > ? AND tried_at > ?"
        [(count,)] = await self._file.run(sql, [holder, after, tried_after])
        return int(count)

    def tidy(self, holders: Iterable[str]) -> None:
        """Delete the lock files of processes that are gone and hold nothing, all but those of ``holders``."""
        keep = {self._lock_path(holder) for holder in (FREE, self.token, *holders)}
        with contextlib.suppress(OSError):
            for path in {*self._lock_path("*").parent.glob(f"{self.path.stem}.*")} - keep:
                if lock := HolderLock.take(path):
                    lock.release(remove=True)

    def _hold(self) -> str:
        if self._lock is None:
            try:
                self._lock = HolderLock.take(self._lock_path(self.token))
            except OSError as error:
                hint = "it has to be writable; CALLBOARD_DATA_DIR names another place"
                raise OutboxError(f"no lock can be made in {self.path.parent}: {error}", hint=hint) from error
        return self.token

    def claim(self, holder: str) -> HolderLock | None:
        """The right to deliver what ``holder`` has left; None while it lives, or somebody else delivers it."""
        if holder == self.token:
            return None
        try:
            return HolderLock.take(self._lock_path(holder))
        except OSError as error:
            raise OutboxError(f"no lock can be made in {self.path.parent}: {error}") from error

    def _lock_path(self, holder: str) -> Path:
        return self.path.parent / "holders" / f"{self.path.stem}.{holder or 'free'}"

    async def close(self, *, empty: bool = False) -> None:
        """Let go: what is still held is free from now on. ``empty``: this process holds nothing any more."""
        await self._file.close()
        if self._lock:
            self._lock.release(remove=empty)
            self._lock = None


_text = msgspec.json.encode


def _size_of(held: Held) -> int:
    parts = (held.body, held.blob or b"", _text(held.headers), held.subject)
    return _OVERHEAD_BYTES + sum(len(part) for part in parts)


def _held(row: Any) -> Held:
    fields = dict(zip((*_COLUMNS, "body", "blob"), row, strict=False))
    fields["headers"] = msgspec.json.decode(fields["headers"])
    fields["destination"] = msgspec.json.decode(fields["destination"], type=Destination)
    return Held(**{"body": b"", **fields})
