"""A result as a typed table: columns with types, rows of values that JSON has, and whether something was left out."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

BLOB_SHOWN_BYTES = 16
DEPTH_LIMIT = 8
_EXACT_FLOAT = 2**53
_INTEGERS = (-(2**63), 2**64)


class Column(msgspec.Struct, frozen=True):
    """A column; ``type`` is the database's word for it (SQLite has none: the kind of its first value)."""

    name: str
    type: str


class Table(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rows in the order of ``columns``. ``row_count`` counts those that are here; of a write, those it changed.

    ``truncated``: there are more rows than these. ``cut_cells``: so many values were longer than they are here.
    Dates are ISO 8601 text; a decimal is a number where that loses nothing, else text; a blob tells its size.
    """

    columns: list[Column]
    rows: list[list[Any]]
    row_count: int
    truncated: bool = False
    cut_cells: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is taken of one result, and how long one statement may run."""

    row_limit: int = 200
    timeout_s: float = 30.0
    cell_limit_chars: int = 500
    result_limit_chars: int = 100_000


class Taking:
    """Takes rows until the bounds are reached. Engines hand in one row more than the limit if there is one."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.rows: list[list[Any]] = []
        self.truncated = False
        self.cut_cells = 0
        self._chars = 0

    @property
    def wanted(self) -> int:
        """How many rows an engine shall ask for: one more than are kept, to know whether there are more."""
        return self.bounds.row_limit + 1

    def take(self, rows: Iterable[Sequence[Any]]) -> bool:
        """Keep what there is room for; False once there is none."""
        for row in rows:
            if len(self.rows) >= self.bounds.row_limit or self._chars > self.bounds.result_limit_chars:
                self.truncated = True
                return False
            self.rows.append([self._cell(value) for value in row])
        return True

    def _cell(self, value: Any) -> Any:
        shown, cut = cell(value, self.bounds.cell_limit_chars)
        self.cut_cells += cut
        self._chars += len(shown) if isinstance(shown, str) else 8
        return shown

    def table(self, columns: Sequence[Column], *, changed: int | None = None) -> Table:
        """What was taken; ``changed`` is the number of rows of a statement that gives none."""
        return Table(columns=list(columns), rows=self.rows, row_count=len(self.rows) if changed is None else changed,
                     truncated=self.truncated, cut_cells=self.cut_cells, note=self._note())  # fmt: skip

    def _note(self) -> str:
        said = []
        if self.truncated:
            said.append(f"only the first {len(self.rows)} rows; aggregate, filter, or page with LIMIT and OFFSET")
        if self.cut_cells:
            said.append(f"values are cut at {self.bounds.cell_limit_chars} characters; substr() reads on")
        return "; ".join(said)


def cell(value: Any, limit_chars: int) -> tuple[Any, bool]:
    """Pure: the value as JSON has it, and whether it was cut."""
    shown = plain(value)
    if isinstance(shown, list | dict):
        text = msgspec.json.encode(shown).decode()
        return (shown, False) if len(text) <= limit_chars else (text[:limit_chars] + "…", True)
    if isinstance(shown, str) and len(shown) > limit_chars:
        return shown[:limit_chars] + "…", True
    return shown, False


def plain(value: Any, depth: int = 0) -> Any:
    """Pure: any value that a driver gives, as one that JSON has."""
    match value:
        case None | bool():
            return value
        case str():
            return value.encode("utf-8", "replace").decode()  # a lone surrogate cannot be written as JSON
        case int():
            return value if _INTEGERS[0] <= value < _INTEGERS[1] else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return _number(value)
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return _blob(bytes(value))
        case Mapping() if depth < DEPTH_LIMIT:
            return {str(plain(key)): plain(each, depth + 1) for key, each in value.items()}
        case list() | tuple() | set() | frozenset() if depth < DEPTH_LIMIT:
            return [plain(each, depth + 1) for each in value]
        case dt.timedelta() | uuid.UUID():
            return str(value)
        case _:
            return str(value).encode("utf-8", "replace").decode()


def _number(value: Decimal) -> int | float | str:
    if not value.is_finite():
        return str(value)
    if abs(value) <= _EXACT_FLOAT and value == value.to_integral_value():
        return int(value)
    number = float(value)
    return number if math.isfinite(number) and Decimal(repr(number)) == value else str(value)


def _blob(value: bytes) -> str:
    more = "…" if len(value) > BLOB_SHOWN_BYTES else ""
    return f"<blob of {len(value):,} bytes: {value[:BLOB_SHOWN_BYTES].hex()}{more}>"
