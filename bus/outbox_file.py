"""The SQLite file of an outbox: opened when first needed, shared by the processes of a node, set aside if damaged.

Each change is one statement, so a process that is killed, or a task that is cancelled, leaves nothing half done. A
commit is on the disk (``synchronous=FULL``), so it outlives the machine's power too. It costs 0.3 ms here; NORMAL,
which outlives the process alone, costs 0.05 ms. Neither is paid while the server is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite

from bus.errors import OutboxError, OutboxFull
from bus.holder import HolderLock

log = logging.getLogger("callboard.outbox")

VERSION = 1
BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
  id INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, holder TEXT NOT NULL, owner TEXT NOT NULL, kind TEXT NOT NULL,
  about TEXT NOT NULL, subject TEXT NOT NULL, headers TEXT NOT NULL, since INTEGER NOT NULL, destination TEXT NOT NULL,
  stored_at REAL NOT NULL, size_bytes INTEGER NOT NULL, trouble TEXT NOT NULL DEFAULT '', tried_at REAL NOT NULL
  DEFAULT 0, body BLOB NOT NULL, blob BLOB);
CREATE INDEX IF NOT EXISTS message_about ON message(about);
CREATE INDEX IF NOT EXISTS message_holder ON message(holder, id, size_bytes);
CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY CHECK (one = 1), messages INTEGER, size_bytes INTEGER);
INSERT OR IGNORE INTO total VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS put AFTER INSERT ON message BEGIN
  UPDATE total SET messages = messages + 1, size_bytes = size_bytes + new.size_bytes; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON message BEGIN
  UPDATE total SET messages = messages - 1, size_bytes = size_bytes - old.size_bytes; END;
"""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_DISK_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class OutboxFile:
    """Runs statements on the file at ``path``. ``synchronous`` is SQLite's: FULL or NORMAL."""

    def __init__(self, path: Path, *, synchronous: str = "FULL") -> None:
        self.path = path
        self._synchronous = synchronous
        self._db: aiosqlite.Connection | None = None
        self._inode = 0
        self._turn = asyncio.Lock()

    async def run(self, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """The rows of one statement. A damaged file is set aside, and a new one begun. Raises: OutboxError."""
        async with self._turn:
            try:
                return await self._run(sql, arguments)
            except sqlite3.DatabaseError as error:
                await self._close()
                if _code(error) not in _DAMAGED:
                    raise self._error(error) from error
                damage = error
            await self._set_aside(damage)
            try:
                return await self._run(sql, arguments)
            except sqlite3.Error as error:
                await self._close()
                raise self._error(error) from error

    async def close(self) -> None:
        """Close the file; the next statement opens it again."""
        async with self._turn:
            await self._close()

    async def _run(self, sql: str, arguments: Sequence[Any]) -> list[Any]:
        if self._db is not None and self._inode != _inode_of(self.path):  # set aside or deleted by somebody else
            await self._close()
        db = self._db or await self._open()
        return list(await db.execute_fetchall(sql, arguments))

    # ---- opening

    async def _open(self) -> aiosqlite.Connection:
        try:
            lock = await self._lock()
            try:
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
                self._inode = _inode_of(self.path)
                self._db = await self._connect()
            finally:
                lock.release(remove=False)
        except OSError as error:
            hint = "it has to be writable; CALLBOARD_DATA_DIR names another place"
            raise OutboxError(f"the outbox {self.path} cannot be opened: {error}", hint=hint) from error
        return self._db

    async def _connect(self) -> aiosqlite.Connection:
        db = await aiosqlite.connect(self.path, timeout=BUSY_S, isolation_level=None)
        try:
            [(version,)] = await db.execute_fetchall("PRAGMA user_version")
            self._check_version(version)
            if not version:
                await db.execute_fetchall("PRAGMA auto_vacuum=FULL")  # what is delivered does not keep its room
            await db.execute_fetchall("PRAGMA journal_mode=WAL")
            await db.execute_fetchall(f"PRAGMA synchronous={self._synchronous}")
            if not version:
                await db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
        except BaseException:
            await db.close()
            raise
        return db

    def _check_version(self, version: int) -> None:
        if version > VERSION:
            hint = "deliver what is in it with that version, or move the file away"
            raise OutboxError(f"the outbox {self.path} was written by a newer Callboard", hint=hint)

    async def _lock(self) -> HolderLock:
        """One process at a time opens the file or sets it aside."""
        deadline = time.monotonic() + BUSY_S
        while (lock := HolderLock.take(self.path.with_suffix(".lock"))) is None:
            if time.monotonic() > deadline:
                hint = f"end the process that holds {self.path.with_suffix('.lock')}"
                raise OutboxError(f"the outbox {self.path} is being opened by another process that hangs", hint=hint)
            await asyncio.sleep(0.01)
        return lock

    # ---- trouble

    async def _set_aside(self, error: sqlite3.Error) -> None:
        lock = await self._lock()
        try:
            if self._inode == _inode_of(self.path):  # else another process was faster
                aside = _rename(self.path)
                log.error("the outbox %s is damaged (%s): moved to %s, a new one is begun", self.path, error, aside)
        finally:
            lock.release(remove=False)

    def _error(self, error: sqlite3.Error) -> OutboxError:
        if _code(error) in _DISK_FULL:
            hint = f"make room on the disk of {self.path.parent}"
            return OutboxFull(f"the outbox {self.path} cannot be written: {error}", hint=hint)
        if _code(error) in _BUSY:
            hint = "find the process that has it open: lsof"
            return OutboxError(f"the outbox {self.path} is held by another process: {error}", hint=hint)
        return OutboxError(f"the outbox {self.path} cannot be used: {error}", hint="see 'callboard outbox list'")

    async def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            await db.close()


def _rename(path: Path) -> Path:
    """Out of the way, with what belongs to it."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    return aside


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _inode_of(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
