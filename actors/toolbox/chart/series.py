"""Rows as series of points: which columns there are, what they hold, and what is wrong with them. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from actors.toolbox.sql.table import Table
from bus.failure import TerminalError

Kind = Literal["line", "bar", "scatter", "histogram"]
Rows = list[dict[str, Any]] | Table

SERIES_LIMIT = 30
NAMES_SHOWN = 30


class Series(msgspec.Struct, frozen=True):
    """Points of one colour: ``name`` is the value of the colour's column, empty if there is none."""

    name: str
    x: list[Any]
    y: list[float | int | None]


class Wrong(TerminalError):
    """The rows cannot be drawn as was asked; the message says which column or value, and what would be right."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_chart")


def records(rows: Rows) -> list[Mapping[str, Any]]:
    """Rows as mappings, also those of a table."""
    if not isinstance(rows, Table):
        return list(rows)
    names = [column.name for column in rows.columns]
    return [dict(zip(names, row, strict=False)) for row in rows.rows]


def series_of(rows: Sequence[Mapping[str, Any]], kind: Kind, x: str, y: str, color: str) -> list[Series]:
    """The points, one series for each value of ``color``, in the order in which these come. Raises: Wrong."""
    if not rows:
        raise Wrong("there are no rows to draw")
    if kind == "histogram" and y:
        raise Wrong("a histogram counts the values of x; leave y out, or draw a bar chart of x and y")
    if kind != "histogram" and not y:
        raise Wrong(f"a {kind} chart needs y, the column of its numbers; there are {_shown(_columns(rows))}")
    _check_columns(rows, {"x": x, "y": y, "color": color})
    groups: dict[str, Series] = {}
    for at, row in enumerate(rows):
        name = _label(row.get(color)) if color else ""
        series = groups.setdefault(name, Series(name, [], []))
        series.x.append(_place(row.get(x), at, x))
        if y:
            series.y.append(_number(row.get(y), at, y))
    if len(groups) > SERIES_LIMIT:
        raise Wrong(f"column {color!r} has {len(groups)} values, a chart has at most {SERIES_LIMIT} colours; "
                    "group the rest as one, or leave color out")  # fmt: skip
    return list(groups.values())


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _check_columns(rows: Sequence[Mapping[str, Any]], asked: Mapping[str, str]) -> None:
    known = _columns(rows)
    for parameter, name in asked.items():
        if name and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise Wrong(f"{parameter}: there is no column {name!r}; {hint}there are {_shown(known)}")


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (" ..." if len(names) > NAMES_SHOWN else "")


def _label(value: Any) -> str:
    return "none" if value is None else str(value)


def _place(value: Any, at: int, column: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    raise Wrong(
        f"x: column {column!r} has a {type(value).__name__} in row {at + 1}; texts, numbers and dates can be drawn"
    )


def _number(value: Any, at: int, column: str) -> float | int | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value if value is None or math.isfinite(value) else None
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    raise Wrong(f"y: column {column!r} has {value!r:.60} in row {at + 1}, which is no number; "
                "choose a column of numbers, or count first")  # fmt: skip
