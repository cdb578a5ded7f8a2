"""What a database holds, as tool ``sql_schema`` tells it: enough to write a statement without guessing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.toolbox.sql.table import cell

TABLES_IN_FULL = 30
SAMPLE_ROWS = 20
SAMPLES_SHOWN = 3
SAMPLE_LIMIT_CHARS = 60
# Counting is exact up to here; beyond it a statistic of the database has to do.
COUNT_LIMIT = 100_000


class ColumnInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A column of a table. ``samples`` are a few of its values."""

    name: str
    type: str
    nullable: bool = True
    primary_key: bool = False
    samples: list[Any] = []


class ForeignKey(msgspec.Struct, frozen=True, kw_only=True):
    """``columns`` of this table name rows of ``table`` by its columns ``references``."""

    columns: list[str]
    table: str
    references: list[str]


class TableInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A table or view. ``row_estimate`` is exact up to 100,000 rows, then a statistic; None if nobody knows."""

    name: str
    kind: str = "table"
    columns: list[ColumnInfo] = []
    foreign_keys: list[ForeignKey] = []
    row_estimate: int | None = None


class Schema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``dialect`` is the SQL that it takes. ``more`` names tables that are not told in full: ask for each by name."""

    dialect: str
    tables: list[TableInfo]
    more: list[str] = []


def sampled(columns: Sequence[ColumnInfo], rows: Sequence[Sequence[Any]]) -> list[ColumnInfo]:
    """Pure: the columns with values out of ``rows``, whose order of columns is the same."""
    return [msgspec.structs.replace(column, samples=_samples([row[at] for row in rows]))
            for at, column in enumerate(columns)]  # fmt: skip


def _samples(values: Sequence[Any]) -> list[Any]:
    shown: list[Any] = []
    for value in values:
        sample = cell(value, SAMPLE_LIMIT_CHARS)[0]
        if value is not None and sample not in shown:
            shown.append(sample)
    return shown[:SAMPLES_SHOWN]


def quoted(name: str) -> str:
    """Pure: an identifier as SQL text; ``schema.table`` is for the caller to split."""
    return '"' + name.replace('"', '""') + '"'


def foreign_keys(rows: Sequence[tuple[Any, str, str, str | None]]) -> list[ForeignKey]:
    """Pure: rows of (key's id, column, other table, other column) as one foreign key for each id."""
    keys: dict[Any, list[tuple[str, str, str]]] = {}
    for key, column, table, references in rows:
        keys.setdefault(key, []).append((column, table, references or ""))
    return [ForeignKey(columns=[one[0] for one in parts], table=parts[0][1],
                       references=[one[2] for one in parts if one[2]]) for parts in keys.values()]  # fmt: skip
