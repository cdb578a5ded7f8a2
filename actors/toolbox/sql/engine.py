"""What each database does for the tool: run one statement within bounds, tell its schema, and refuse writes itself."""

from __future__ import annotations

from typing import Protocol

from actors.toolbox.sql.address import Address
from actors.toolbox.sql.dialect import DUCKDB, POSTGRES, SQLITE, Dialect
from actors.toolbox.sql.rules import Rules
from actors.toolbox.sql.schema import Schema
from actors.toolbox.sql.table import Bounds, Table
from bus.errors import UsageError
from bus.failure import TerminalError

DIALECTS: dict[str, Dialect] = {"sqlite": SQLITE, "postgres": POSTGRES, "duckdb": DUCKDB}


class Engine(Protocol):
    """One database. Each call has a connection of its own, so that nothing of a call is left for the next one."""

    async def run(self, query: str, bounds: Bounds) -> Table:
        """Run one statement, which the guard has seen. Raises: TerminalError, RetryableError."""

    async def schema(self, table: str | None, bounds: Bounds) -> Schema:
        """What there is; with ``table`` that one alone. Raises: TerminalError, RetryableError."""

    async def catalog(self, bounds: Bounds) -> dict[str, list[str]]:
        """The columns of each table that the rules open."""


def engine_of(address: Address, rules: Rules, folders: tuple[str, ...] = ()) -> Engine:
    """The engine for the address. Raises: UsageError if its package is not installed."""
    try:
        match address.engine:
            case "sqlite":
                from actors.toolbox.sql.sqlite import SqliteEngine

                return SqliteEngine(address, rules)
            case "postgres":
                from actors.toolbox.sql.postgres import PostgresEngine

                return PostgresEngine(address, rules)
            case _:
                from actors.toolbox.sql.duck import DuckEngine

                return DuckEngine(address, rules, folders)
    except ImportError as error:
        raise missing_extra(address.engine, error) from error


def missing_extra(extra: str, error: ImportError) -> UsageError:
    """A package that an extra brings is not there."""
    return UsageError(
        f"Sql needs the package {error.name}", code="missing_extra", hint=f"pip install 'callboard[{extra}]'"
    )


def too_slow(timeout_s: float) -> TerminalError:
    """The statement was stopped at its time limit."""
    return TerminalError(f"the statement was stopped after {timeout_s:g} s; filter earlier or aggregate less",
                         code="sql_timeout")  # fmt: skip


def failed(message: str) -> TerminalError:
    """The database refuses or does not understand the statement."""
    return TerminalError(message, code="sql_error")
