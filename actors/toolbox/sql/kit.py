"""``Sql``: the kit of tools ``sql`` and ``sql_schema`` for one database."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actors.toolbox.kit import Kit
from actors.toolbox.sql.address import Address, check_url, read_url, resolve
from actors.toolbox.sql.schema import Schema
from actors.toolbox.sql.table import Bounds, Table
from bus.errors import CallboardError, UsageError
from bus.failure import RetryableError, TerminalError
from supervisor.retry import Retry

if TYPE_CHECKING:
    from actors.components.app import App
    from actors.components.component import Component
    from actors.toolbox.sql.engine import Engine
    from actors.toolbox.sql.rules import Rules

# What connecting and telling an error may take, besides the statement itself.
SLACK_S = 15.0
_TITLES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "duckdb": "DuckDB"}


class Sql(Kit):
    """Tools ``sql`` (run one statement) and ``sql_schema`` (what there is) for one database.

    ``url``: ``sqlite:///file``, ``postgresql://user:password@host/database`` or ``duckdb:///file`` (four slashes for an
    absolute path), or ``env:NAME`` for the environment of the process that serves the tools. ``tables``: an allowlist.
    ``files_from`` are folders of which DuckDB may read CSV, Parquet and JSON files. With ``read_only=False`` one
    statement may write, and is tried once only.
    Raises: UsageError for settings that cannot be.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "sql",
        read_only: bool = True,
        row_limit: int = 200,
        timeout_s: float = 30.0,
        tables: Sequence[str] | None = None,
        cell_limit_chars: int = 500,
        result_limit_chars: int = 100_000,
        files_from: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_url(url)
        self._url = url
        self.name = name
        self.read_only = read_only
        self.tables = None if tables is None else tuple(tables)
        self.files_from = tuple(files_from)
        self.bounds = _bounds(row_limit, timeout_s, cell_limit_chars, result_limit_chars)
        if isinstance(tables, str) or isinstance(files_from, str) or self.tables == ():
            raise UsageError("tables and files_from of Sql are lists of names", code="bad_kit", path="tables",
                             hint="tables=['orders', 'customers']; leave it out for all tables")  # fmt: skip

    def __repr__(self) -> str:
        return f"Sql({self._title()}, name={self.name!r})"

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """Declare both tools."""
        return (self._declare_sql(app), self._declare_schema(app))

    def _declare_sql(self, app: App) -> Component[..., Any]:
        @app.tool(name=self.name, description=self._told(), timeout_s=self.bounds.timeout_s + SLACK_S,
                  retry=Retry() if self.read_only else Retry(attempts=1), read_only=self.read_only)  # fmt: skip
        async def sql(query: str, row_limit: int | None = None) -> Table:
            """Run one SQL statement.

            Args:
                query: One statement, without a semicolon. Look at the schema first.
                row_limit: How many rows to return at most; the tool has a limit of its own.
            """
            return await self.run(query, row_limit)

        return sql

    def _declare_schema(self, app: App) -> Component[..., Any]:
        told = f"Tables of the {self._title()} database: columns, types, keys, row counts and a few sample values."

        timeout_s = self.bounds.timeout_s + SLACK_S

        @app.tool(name=f"{self.name}_schema", description=told, timeout_s=timeout_s, read_only=True)
        async def sql_schema(table: str | None = None) -> Schema:
            """Tell what the database holds.

            Args:
                table: Only this table; without it, all of them.
            """
            return await self.schema(table)

        return sql_schema

    # ---- what the tools do

    async def run(self, query: str, row_limit: int | None = None) -> Table:
        """Run one statement. Raises: TerminalError that says what would be right, RetryableError, UsageError."""
        if row_limit is not None and row_limit < 1:
            raise TerminalError(f"row_limit is {row_limit}; 1 is the least", code="bad_row_limit")
        rows = min(row_limit or self.bounds.row_limit, self.bounds.row_limit)
        address, rules, engine = self._open()
        statement = _checked(query, rules)
        try:
            bounds = self.bounds
            return await engine.run(statement, Bounds(rows, bounds.timeout_s, bounds.cell_limit_chars,
                                                      bounds.result_limit_chars))  # fmt: skip
        except TerminalError as error:
            raise await self._mended(error, address, engine) from None
        except RetryableError as error:
            raise RetryableError(address.hidden(str(error)), code=error.code) from None

    async def schema(self, table: str | None = None) -> Schema:
        """Tell the schema. Raises: TerminalError that says which tables there are, RetryableError, UsageError."""
        address, _, engine = self._open()
        try:
            told = await engine.schema(table, self.bounds)
            catalog = await engine.catalog(self.bounds) if table is not None and not told.tables else None
        except (TerminalError, RetryableError) as error:
            raise type(error)(address.hidden(str(error)), code=error.code) from None
        if catalog is None:
            return told
        from actors.toolbox.sql.mend import mended

        raise TerminalError(mended(f"no such table: {table}", catalog), code="unknown_table")

    async def _mended(self, error: TerminalError, address: Address, engine: Engine) -> TerminalError:
        from actors.toolbox.sql.mend import is_about_names, mended

        message = address.hidden(str(error))
        if is_about_names(message):
            with contextlib.suppress(CallboardError):  # the first error is the one to tell
                message = mended(message, await engine.catalog(self.bounds))
        return TerminalError(message, code=error.code)

    def _open(self) -> tuple[Address, Rules, Engine]:
        address = resolve(self._url)
        from actors.toolbox.sql.engine import DIALECTS, engine_of
        from actors.toolbox.sql.rules import Rules, allowed_names

        dialect = DIALECTS[address.engine]
        tables = None if self.tables is None else allowed_names(self.tables, dialect)
        rules = Rules(dialect, self.read_only, tables, with_files=bool(self.files_from))
        return address, rules, engine_of(address, rules, self.files_from)

    # ---- descriptions

    def _title(self) -> str:
        return "SQL" if self._url.startswith("env:") else _TITLES[read_url(self._url).engine]

    def _told(self) -> str:
        doing = "one read-only statement (SELECT or WITH)" if self.read_only else "one statement"
        only = f" Tables: {', '.join(self.tables)}." if self.tables else ""
        return (f"Run {doing} against the {self._title()} database and return a table of at most "
                f"{self.bounds.row_limit} rows.{only} Ask {self.name}_schema first what there is.")  # fmt: skip


def _bounds(row_limit: int, timeout_s: float, cell_limit_chars: int, result_limit_chars: int) -> Bounds:
    given = {"row_limit": row_limit, "timeout_s": timeout_s, "cell_limit_chars": cell_limit_chars,
             "result_limit_chars": result_limit_chars}  # fmt: skip
    for name, value in given.items():
        if not value > 0:
            raise UsageError(f"{name} of Sql is {value}", code="bad_kit", path=name, hint="more than 0")
    return Bounds(row_limit, timeout_s, cell_limit_chars, result_limit_chars)


def _checked(query: str, rules: Rules) -> str:
    try:
        from actors.toolbox.sql.guard import check
    except ImportError as error:
        from actors.toolbox.sql.engine import missing_extra

        raise missing_extra("sql", error) from error
    return check(query, rules)
