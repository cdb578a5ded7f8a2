"""PostgreSQL by asyncpg. The second wall: no superuser and nobody who may reach the server's files is let in to read,
each statement runs in a transaction that is READ ONLY and always rolled back, under ``statement_timeout``.

A READ ONLY transaction alone would not do: COPY ... TO PROGRAM and pg_read_file are reading to PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from actors.toolbox.sql.address import Address
from actors.toolbox.sql.dialect import POSTGRES
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

CONNECT_S = 10.0
FETCH_ROWS = 64
_POWERS = ("pg_read_server_files", "pg_write_server_files", "pg_execute_server_program")
_TOO_MIGHTY = f"""
SELECT rolname, rolsuper FROM pg_catalog.pg_roles
WHERE rolname = current_user AND (rolsuper OR EXISTS (
  SELECT 1 FROM pg_catalog.pg_roles AS power
  WHERE power.rolname IN {_POWERS} AND pg_catalog.pg_has_role(current_user, power.oid, 'MEMBER')))
"""  # noqa: S608 - names of ours
_TABLES = """
SELECT n.nspname, c.relname, c.relkind IN ('v', 'm') AS is_view, c.oid, c.reltuples::bigint AS estimate
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND NOT c.relispartition
ORDER BY n.nspname <> 'public', n.nspname, c.relname
"""
_COLUMNS = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable,
  EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary
          AND a.attnum = ANY (i.indkey)) AS is_key
FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEYS = """
SELECT k.conname, a.attname AS col, t.relname AS other, b.attname AS ref
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class t ON t.oid = k.confrelid
CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS u (own, far, nth)
JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own
JOIN pg_catalog.pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.far
WHERE k.contype = 'f' AND k.conrelid = $1 ORDER BY k.conname, u.nth
"""


class PostgresEngine:
    """One database of a server."""

    def __init__(self, address: Address, rules: Rules) -> None:
        self._address = address
        self._rules = rules

    async def run(self, query: str, bounds: Bounds) -> Table:
        """Run one statement: a prepared statement is one by PostgreSQL's protocol."""
        async with self._open(bounds) as db:
            statement = await db.prepare(query)
            columns = [Column(one.name, one.type.name) for one in statement.get_attributes()]
            if not columns:
                await statement.fetch()
                return Taking(bounds).table([], changed=_changed(statement.get_statusmsg()))
            taking = Taking(bounds)
            cursor = await statement.cursor()
            while rows := await cursor.fetch(min(FETCH_ROWS, taking.wanted)):
                if not taking.take([tuple(row) for row in rows]):
                    break
            return taking.table(columns)

    async def schema(self, table: str | None, bounds: Bounds) -> Schema:
        """Tables, columns, keys, row estimates and samples."""
        async with self._open(bounds) as db:
            found = await self._tables(db)
            chosen = [row for row in found if table is None or _name(row) == table.removeprefix("public.")]
            told = [await _told(db, row) for row in chosen[:TABLES_IN_FULL]]
            return Schema(dialect=POSTGRES.title, tables=told, more=[_name(row) for row in chosen[TABLES_IN_FULL:]])

    async def catalog(self, bounds: Bounds) -> dict[str, list[str]]:
        """Tables and their columns."""
        async with self._open(bounds) as db:
            return {_name(row): [column.name for column in await _columns(db, row["oid"])]
                    for row in (await self._tables(db))[:TABLES_IN_FULL]}  # fmt: skip

    async def _tables(self, db: asyncpg.Connection[Any]) -> list[Any]:
        allowed = self._rules.tables
        return [row for row in await db.fetch(_TABLES) if allowed is None or _name(row) in allowed]

    # ---- the connection

    @asynccontextmanager
    async def _open(self, bounds: Bounds) -> AsyncIterator[asyncpg.Connection[Any]]:
        try:
            async with asyncio.timeout(CONNECT_S + bounds.timeout_s):
                db = await self._connect(bounds)
                try:
                    async with self._transaction(db):
                        yield db
                finally:
                    db.terminate()  # no farewell: whatever still runs is cut off, and nothing is left to be kept
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise _read(error, bounds) from error

    async def _connect(self, bounds: Bounds) -> asyncpg.Connection[Any]:
        settings = {"application_name": "callboard", "statement_timeout": str(int(bounds.timeout_s * 1000))}
        if self._rules.read_only:
            settings["default_transaction_read_only"] = "on"
        try:
            return await asyncpg.connect(self._address.url, timeout=CONNECT_S, server_settings=settings,
                                         command_timeout=bounds.timeout_s + 5, statement_cache_size=0)  # fmt: skip
        except (ValueError, OverflowError):  # of the URL; its message may hold the whole of it
            raise TerminalError("the database's URL cannot be read", code="no_database") from None

    @asynccontextmanager
    async def _transaction(self, db: asyncpg.Connection[Any]) -> AsyncIterator[None]:
        if not self._rules.read_only:
            async with db.transaction():
                yield
            return
        transaction = db.transaction(readonly=True)
        await transaction.start()
        # This takes the snapshot too, after which PostgreSQL does not let a transaction become READ WRITE.
        if mighty := await db.fetchrow(_TOO_MIGHTY):
            raise _refused_role(mighty["rolname"])
        yield
        # It is not committed, ever: the connection is cut.


def _refused_role(role: str) -> TerminalError:
    return TerminalError(
        f"role {role} may reach the server's files or programs, so it is not used to read; make one that only reads: "
        "CREATE ROLE reader LOGIN PASSWORD '...'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        code="no_database",
    )


def _read(error: Exception, bounds: Bounds) -> Exception:
    match error:
        case asyncpg.QueryCanceledError() | TimeoutError():
            return too_slow(bounds.timeout_s)
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
            return TerminalError(f"PostgreSQL does not let us in: {error}", code="no_database")
        case (
            OSError()
            | asyncpg.PostgresConnectionError()
            | asyncpg.CannotConnectNowError()
            | asyncpg.TooManyConnectionsError()
        ):
            return RetryableError(f"PostgreSQL cannot be reached: {error}", code="sql_unreachable")
        case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError():
            return RetryableError(str(error), code="sql_busy")
        case asyncpg.PostgresError():
            return failed(str(error).partition("\n")[0])
        case _:
            return failed(str(error).partition("\n")[0])


def _changed(status: str | None) -> int:
    last = (status or "").rpartition(" ")[2]
    return int(last) if last.isdigit() else 0


# ---- schema


def _name(row: Any) -> str:
    return str(row["relname"]) if row["nspname"] == "public" else f"{row['nspname']}.{row['relname']}"


def _sql_name(row: Any) -> str:
    return f"{quoted(row['nspname'])}.{quoted(row['relname'])}"


async def _columns(db: asyncpg.Connection[Any], oid: int) -> list[ColumnInfo]:
    return [ColumnInfo(name=row["attname"], type=row["type"], nullable=row["nullable"], primary_key=row["is_key"])
            for row in await db.fetch(_COLUMNS, oid)]  # fmt: skip


async def _told(db: asyncpg.Connection[Any], row: Any) -> TableInfo:
    columns = await _columns(db, row["oid"])
    rows: Sequence[Any] = await db.fetch(f"SELECT * FROM {_sql_name(row)} LIMIT {SAMPLE_ROWS}")  # noqa: S608
    keys = [(key["conname"], key["col"], key["other"], key["ref"]) for key in await db.fetch(_KEYS, row["oid"])]
    return TableInfo(
        name=_name(row), kind="view" if row["is_view"] else "table", foreign_keys=foreign_keys(keys),
        columns=sampled(columns, [tuple(each) for each in rows]), row_estimate=await _estimate(db, row),
    )  # fmt: skip


async def _estimate(db: asyncpg.Connection[Any], row: Any) -> int | None:
    counted = f"SELECT count(*) FROM (SELECT 1 FROM {_sql_name(row)} LIMIT {COUNT_LIMIT + 1}) AS counted"  # noqa: S608
    if (count := int(await db.fetchval(counted))) <= COUNT_LIMIT:
        return count
    return int(row["estimate"]) if row["estimate"] > COUNT_LIMIT else None
