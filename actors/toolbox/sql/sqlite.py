"""SQLite by aiosqlite. The second wall: the file is opened to be read, ``query_only`` is set, and SQLite asks an
authorizer of ours about each table, function and pragma while it prepares a statement.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiosqlite

from actors.toolbox.sql.address import Address
from actors.toolbox.sql.dialect import SQLITE
from actors.toolbox.sql.engine import failed, too_slow
from actors.toolbox.sql.rules import Rules
from actors.toolbox.sql.schema import (
    COUNT_LIMIT,
    SAMPLE_ROWS,
    TABLES_IN_FULL,
    ColumnInfo,
    Schema,
    TableInfo,
    foreign_keys,
    quoted,
    sampled,
)
from actors.toolbox.sql.table import Bounds, Column, Table, Taking
from bus.failure import RetryableError, TerminalError

CHECK_EVERY_STEPS = 2_000
FETCH_ROWS = 64
BUSY_S = 2.0
VALUE_LIMIT_BYTES = 16 * 1024 * 1024
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: VALUE_LIMIT_BYTES,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
# Pragmas that only tell, and data_version, which full-text tables ask for while they are read.
_PRAGMAS = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list",
                      "data_version"})  # fmt: skip
# Tables to SQLite's mind, but rows that a function makes; the empty name is a query's own.
_ROWS_OF_THEIR_OWN = frozenset({"", "json_each", "json_tree"})
_VIRTUAL = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE 'create virtual%'"
_READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})
_NEVER = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_CREATE_VTABLE, sqlite3.SQLITE_ANALYZE,
                    sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_TEMP_TRIGGER})  # fmt: skip
_TYPES = {int: "integer", float: "real", str: "text", bytes: "blob"}
_Authorizer = Callable[[int, str | None, str | None, str | None, str | None], int]


class Stop:
    """When a statement has to end; SQLite asks every so many steps."""

    def __init__(self, timeout_s: float) -> None:
        self.at_s = time.monotonic() + timeout_s

    def is_over(self) -> bool:
        """Whether the time is over; what is true ends the statement."""
        return time.monotonic() >= self.at_s


class SqliteEngine:
    """One file. It has to exist: a wrong path is an error, not a new database."""

    def __init__(self, address: Address, rules: Rules) -> None:
        self._path = Path(address.path)
        self._rules = rules

    async def run(self, query: str, bounds: Bounds) -> Table:
        """Run one statement."""
        async with self._open(bounds, self._authorizer) as db, db.execute(query) as cursor:
            taking = Taking(bounds)
            raw: list[Any] = []
            while rows := list(await cursor.fetchmany(min(FETCH_ROWS, taking.wanted))):
                raw.extend(rows[: FETCH_ROWS - len(raw)])
                if not taking.take(rows):
                    break
            if not self._rules.read_only:
                await db.commit()
            if not (description := cast("Any", cursor.description)):
                return taking.table([], changed=max(0, cursor.rowcount))
            return taking.table(_columns(description, raw))

    async def schema(self, table: str | None, bounds: Bounds) -> Schema:
        """Tables, columns, keys, row estimates and samples."""
        async with self._open(bounds) as db:
            names = await self._names(db)
            chosen = [each for each in names if table is None or each.lower() == table.lower()]
            told = [await _told(db, name, names[name]) for name in chosen[:TABLES_IN_FULL]]
            return Schema(dialect=SQLITE.title, tables=told, more=chosen[TABLES_IN_FULL:])

    async def catalog(self, bounds: Bounds) -> dict[str, list[str]]:
        """Tables and their columns."""
        async with self._open(bounds) as db:
            return {name: [column.name for column in await _table_columns(db, name)] for name in await self._names(db)}

    async def _names(self, db: aiosqlite.Connection) -> dict[str, str]:
        query = ("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') "
                 "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name")  # fmt: skip
        rows = await db.execute_fetchall(query)
        tables = self._rules.tables
        return {name: kind for name, kind in rows if tables is None or name.lower() in tables}

    # ---- the connection

    @asynccontextmanager
    async def _open(self, bounds: Bounds, authorizer: Callable[[sqlite3.Connection], _Authorizer] | None = None
                    ) -> AsyncIterator[aiosqlite.Connection]:  # fmt: skip
        stop = Stop(bounds.timeout_s)
        try:
            async with aiosqlite.Connection(lambda: self._connect(stop, authorizer), FETCH_ROWS) as db:
                try:
                    yield db
                finally:
                    stop.at_s = 0.0  # a statement that nobody waits for any more must not hold up the closing
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _read(error, bounds) from error

    def _connect(
        self, stop: Stop, authorizer: Callable[[sqlite3.Connection], _Authorizer] | None
    ) -> sqlite3.Connection:
        if not self._path.is_file():
            raise TerminalError(f"there is no SQLite file {self._path.name}", code="no_database")
        mode = "ro" if self._rules.read_only else "rw"
        db = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S)
        for limit, value in _LIMITS.items():
            db.setlimit(limit, value)
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        if self._rules.read_only:
            db.execute("PRAGMA query_only = ON")
        if authorizer is not None:
            db.set_authorizer(authorizer(db))
        db.set_progress_handler(stop.is_over, CHECK_EVERY_STEPS)
        return db

    def _authorizer(self, db: sqlite3.Connection) -> _Authorizer:
        made = _make_virtual_tables(db)
        open_tables = _with_what_views_read(db, self._rules.tables)
        if open_tables is not None:
            open_tables |= _shadows(db, open_tables & made)

        def allow(action: int, first: str | None, second: str | None, _schema: str | None, _source: str | None) -> int:
            return sqlite3.SQLITE_OK if self._allows(action, first, second, open_tables) else sqlite3.SQLITE_DENY

        return allow

    def _allows(self, action: int, first: str | None, second: str | None, open_tables: frozenset[str] | None) -> bool:
        if action in _READS:
            return True
        if action == sqlite3.SQLITE_READ:
            if SQLITE.hides(first or ""):
                return False
            return open_tables is None or (first or "").lower() in open_tables | _ROWS_OF_THEIR_OWN
        if action == sqlite3.SQLITE_FUNCTION:
            return not SQLITE.refuses(second or "")
        if action == sqlite3.SQLITE_PRAGMA:
            return (first or "").lower() in _PRAGMAS
        return not self._rules.read_only and action not in _NEVER


def _make_virtual_tables(db: sqlite3.Connection) -> frozenset[str]:
    """The file's virtual tables. All are connected now, and those of functions made, which is no reading to SQLite."""
    names = [name for (name,) in db.execute(_VIRTUAL)]
    functions = [*(_ROWS_OF_THEIR_OWN - {""}), *(f"pragma_{name}" for name in _PRAGMAS - {"data_version"})]
    for name in (*names, *functions):
        with contextlib.suppress(sqlite3.Error):  # of a module that is not there: whoever reads it is told
            db.execute(f"SELECT 1 FROM {quoted(name)} LIMIT 0").close()  # noqa: S608 - an identifier in its quotes
    return frozenset(name.lower() for name in names)


def _shadows(db: sqlite3.Connection, virtual: frozenset[str]) -> frozenset[str]:
    """The tables in which those virtual tables keep their rows, and which they read by themselves."""
    tables = (name.lower() for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'"))
    return frozenset(name for name in tables if name.rpartition("_")[0] in virtual)


def _with_what_views_read(db: sqlite3.Connection, tables: frozenset[str] | None) -> frozenset[str] | None:
    """The allowlist, and the tables behind its views, which SQLite asks about like about any other."""
    if tables is None:
        return None
    read: set[str] = set()

    def note(action: int, first: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ:
            read.add((first or "").lower())
        return sqlite3.SQLITE_OK

    views = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'view'")]
    db.set_authorizer(note)
    for view in views:
        if view.lower() in tables:
            db.execute(f"EXPLAIN SELECT * FROM {quoted(view)}").close()  # noqa: S608 - an identifier in its quotes
    db.set_authorizer(None)
    return tables | read


# ---- results


def _columns(description: Iterable[Any], rows: list[Any]) -> list[Column]:
    return [Column(one[0], _kind(row[at] for row in rows)) for at, one in enumerate(description)]


def _kind(values: Iterable[Any]) -> str:
    return next((_TYPES.get(type(value), "text") for value in values if value is not None), "null")


def _read(error: sqlite3.Error | sqlite3.Warning, bounds: Bounds) -> Exception:
    match getattr(error, "sqlite_errorcode", None):
        case sqlite3.SQLITE_INTERRUPT:
            return too_slow(bounds.timeout_s)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return RetryableError("the SQLite file is locked by somebody who writes", code="sql_busy")
        case _:
            return failed(str(error))


# ---- schema


async def _table_columns(db: aiosqlite.Connection, table: str) -> list[ColumnInfo]:
    query = 'SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?) WHERE hidden IN (0, 2, 3)'
    return [ColumnInfo(name=name, type=type_ or "any", nullable=not notnull and not key, primary_key=bool(key))
            for name, type_, notnull, key in await db.execute_fetchall(query, (table,))]  # fmt: skip


async def _told(db: aiosqlite.Connection, table: str, kind: str) -> TableInfo:
    columns = await _table_columns(db, table)
    shown = ", ".join(quoted(column.name) for column in columns)
    rows = list(await db.execute_fetchall(f"SELECT {shown} FROM {quoted(table)} LIMIT {SAMPLE_ROWS}"))  # noqa: S608
    keys = 'SELECT id, "from", "table", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq'
    return TableInfo(name=table, kind=kind, columns=sampled(columns, [tuple(row) for row in rows]),
                     foreign_keys=foreign_keys([tuple(row) for row in await db.execute_fetchall(keys, (table,))]),
                     row_estimate=await _estimate(db, table, kind))  # fmt: skip


async def _estimate(db: aiosqlite.Connection, table: str, kind: str) -> int | None:
    counted = f"SELECT count(*) FROM (SELECT 1 FROM {quoted(table)} LIMIT {COUNT_LIMIT + 1})"  # noqa: S608
    if (count := await _number(db, counted)) <= COUNT_LIMIT:
        return count
    try:
        return None if kind == "view" else await _number(db, f"SELECT max(_rowid_) FROM {quoted(table)}")  # noqa: S608
    except sqlite3.OperationalError:
        return None  # a table WITHOUT ROWID


async def _number(db: aiosqlite.Connection, query: str) -> int:
    rows = list(await db.execute_fetchall(query))
    return int(rows[0][0] or 0)
