"""DuckDB. The second wall: the file is opened to be read, the connection reaches no other file and no network, its
settings are locked, and DuckDB's own parser has to call the statement a single SELECT or EXPLAIN.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from actors.toolbox.sql.address import Address
from actors.toolbox.sql.dialect import DUCKDB
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

T = TypeVar("T")

FETCH_ROWS = 64
MEMORY_LIMIT = "1GB"
_SETTINGS: dict[str, Any] = {
    "memory_limit": MEMORY_LIMIT, "max_temp_directory_size": "0MB", "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}  # fmt: skip
_CLOSED = {"enable_external_access": "false", "lock_configuration": "true"}
_SETTING = threading.Lock()
_READING = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})
_TABLES = """
SELECT schema_name, name, kind, size FROM (
  SELECT schema_name, table_name AS name, 'table' AS kind, estimated_size AS size FROM duckdb_tables()
  WHERE NOT internal AND database_name = current_database()
  UNION ALL SELECT schema_name, view_name, 'view', NULL FROM duckdb_views()
  WHERE NOT internal AND database_name = current_database())
ORDER BY schema_name <> 'main', schema_name, name
"""
_COLUMNS = """
SELECT column_name, data_type, is_nullable FROM duckdb_columns()
WHERE database_name = current_database() AND schema_name = ? AND table_name = ? ORDER BY column_index
"""
_KEYS = """
SELECT constraint_type, constraint_column_names, referenced_table, referenced_column_names FROM duckdb_constraints()
WHERE database_name = current_database() AND schema_name = ? AND table_name = ?
"""


class DuckEngine:
    """One file. DuckDB has no asyncio: each call runs in a thread, and is interrupted at its time limit."""

    def __init__(self, address: Address, rules: Rules, folders: Sequence[str] = ()) -> None:
        self._path = Path(address.path)
        self._rules = rules
        self._folders = [str(Path(folder).resolve()) for folder in folders]

    async def run(self, query: str, bounds: Bounds) -> Table:
        """Run one statement."""
        return await self._in_thread(lambda db: self._run(db, query, bounds), bounds)

    async def schema(self, table: str | None, bounds: Bounds) -> Schema:
        """Tables, columns, keys, row estimates and samples."""
        return await self._in_thread(lambda db: self._schema(db, table), bounds)

    async def catalog(self, bounds: Bounds) -> dict[str, list[str]]:
        """Tables and their columns."""
        return await self._in_thread(
            lambda db: {_name(row): [column.name for column in _columns(db, row)] for row in self._tables(db)}, bounds
        )

    def _run(self, db: duckdb.DuckDBPyConnection, query: str, bounds: Bounds) -> Table:
        self._check(db, query)
        db.execute(query)
        columns = [Column(one[0], str(one[1])) for one in db.description or ()]
        taking = Taking(bounds)
        while rows := db.fetchmany(min(FETCH_ROWS, taking.wanted)):
            if not taking.take(rows):
                break
        return taking.table(columns)

    def _check(self, db: duckdb.DuckDBPyConnection, query: str) -> None:
        statements = db.extract_statements(query)
        if len(statements) != 1:
            raise failed(f"one statement at a time; these are {len(statements)}")
        if self._rules.read_only and statements[0].type not in _READING:
            raise failed(f"{statements[0].type.name} is refused: this tool only reads")
        if self._rules.tables is not None and statements[0].type == duckdb.StatementType.SELECT:
            self._check_tables(db, query, self._rules.tables)

    def _check_tables(self, db: duckdb.DuckDBPyConnection, query: str, allowed: frozenset[str]) -> None:
        # DuckDB names the tables behind a view, and not the view.
        views = [row for row in self._tables(db) if row[2] == "view"]
        behind = {name for row in views for name in _tables_of(db, f"SELECT * FROM {_where(row)}")}  # noqa: S608
        for name in _tables_of(db, query):
            if name not in allowed | behind:
                raise failed(f"table {name} is not open to this tool; these are: {self._rules.open_tables}")

    def _schema(self, db: duckdb.DuckDBPyConnection, table: str | None) -> Schema:
        found = [row for row in self._tables(db) if table is None or _name(row).lower() == table.lower()]
        told = [_told(db, row) for row in found[:TABLES_IN_FULL]]
        return Schema(dialect=DUCKDB.title, tables=told, more=[_name(row) for row in found[TABLES_IN_FULL:]])

    def _tables(self, db: duckdb.DuckDBPyConnection) -> list[Any]:
        allowed = self._rules.tables
        return [row for row in db.execute(_TABLES).fetchall() if allowed is None or _name(row).lower() in allowed]

    # ---- the connection

    async def _in_thread(self, work: Callable[[duckdb.DuckDBPyConnection], T], bounds: Bounds) -> T:
        """Raises: TerminalError, RetryableError. Whoever is cancelled waits until the thread has stopped."""
        stop = _Stop()
        running = asyncio.ensure_future(asyncio.to_thread(self._with_connection, work, stop))
        try:
            return await asyncio.wait_for(asyncio.shield(running), bounds.timeout_s)
        except TimeoutError:
            raise too_slow(bounds.timeout_s) from None
        except duckdb.Error as error:
            raise _read(error) from error
        finally:
            stop.now()
            with contextlib.suppress(Exception):
                await asyncio.shield(running)

    def _with_connection(self, work: Callable[[duckdb.DuckDBPyConnection], T], stop: _Stop) -> T:
        with contextlib.closing(self._connect()) as db, stop.over(db):
            return work(db)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        if not self._path.is_file():
            raise TerminalError(f"there is no DuckDB file {self._path.name}", code="no_database")
        if not self._folders:
            return duckdb.connect(str(self._path), read_only=self._rules.read_only, config=_SETTINGS | _CLOSED)
        # Folders cannot be opened once the rest is closed, nor before there is a connection. Connections of one process
        # to one file share their settings, so only the first one makes them.
        with _SETTING:
            db = duckdb.connect(str(self._path), read_only=self._rules.read_only, config=_SETTINGS)
            if not _setting(db, "lock_configuration"):
                folders = ", ".join("'" + folder.replace("'", "''") + "'" for folder in self._folders)
                db.execute(f"SET allowed_directories = [{folders}]")
                for name, value in _CLOSED.items():
                    db.execute(f"SET {name} = {value}")
            return db


def _setting(db: duckdb.DuckDBPyConnection, name: str) -> bool:
    found = db.execute("SELECT current_setting(?)", [name]).fetchone()
    return bool(found and found[0])


class _Stop:
    """Ends what runs on a connection, from another thread; before there is one too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._db: duckdb.DuckDBPyConnection | None = None
        self._is_over = False

    def now(self) -> None:
        with self._lock:
            self._is_over = True
            if self._db is not None:
                self._db.interrupt()

    @contextlib.contextmanager
    def over(self, db: duckdb.DuckDBPyConnection) -> Iterator[None]:
        with self._lock:
            if self._is_over:
                raise failed("the statement was stopped before it began")
            self._db = db
        try:
            yield
        finally:
            with self._lock:
                self._db = None


def _read(error: duckdb.Error) -> Exception:
    text = str(error).partition("\n")[0]
    if isinstance(error, duckdb.IOException) and "lock" in text:
        return RetryableError("the DuckDB file is open elsewhere for writing", code="sql_busy")
    return failed(text)


# ---- schema


def _name(row: Any) -> str:
    schema, name = row[0], row[1]
    return str(name) if schema == "main" else f"{schema}.{name}"


def _where(row: Any) -> str:
    return f"{quoted(row[0])}.{quoted(row[1])}"


def _tables_of(db: duckdb.DuckDBPyConnection, query: str) -> set[str]:
    return {name.replace('"', "").lower().removeprefix("main.") for name in db.get_table_names(query, qualified=True)}


def _columns(db: duckdb.DuckDBPyConnection, row: Any) -> list[ColumnInfo]:
    return [ColumnInfo(name=name, type=type_, nullable=nullable)
            for name, type_, nullable in db.execute(_COLUMNS, [row[0], row[1]]).fetchall()]  # fmt: skip


def _told(db: duckdb.DuckDBPyConnection, row: Any) -> TableInfo:
    schema, name, kind, size = row
    where = _where(row)
    constraints = db.execute(_KEYS, [schema, name]).fetchall()
    own = {column for each in constraints if each[0] == "PRIMARY KEY" for column in each[1]}
    links = [(nth, column, each[2], far) for nth, each in enumerate(constraints) if each[0] == "FOREIGN KEY"
             for column, far in zip(each[1], each[3], strict=True)]  # fmt: skip
    columns = [ColumnInfo(name=each.name, type=each.type, nullable=each.nullable, primary_key=each.name in own)
               for each in _columns(db, row)]  # fmt: skip
    rows = db.execute(f"SELECT * FROM {where} LIMIT {SAMPLE_ROWS}").fetchall()  # noqa: S608
    return TableInfo(name=_name(row), kind=kind, columns=sampled(columns, rows), foreign_keys=foreign_keys(links),
                     row_estimate=_estimate(db, where, size))  # fmt: skip


def _estimate(db: duckdb.DuckDBPyConnection, where: str, size: int | None) -> int | None:
    counted = f"SELECT count(*) FROM (SELECT 1 FROM {where} LIMIT {COUNT_LIMIT + 1})"  # noqa: S608
    found = db.execute(counted).fetchone()
    count = int(found[0]) if found else 0
    return count if count <= COUNT_LIMIT else size
