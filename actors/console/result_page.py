"""Any JSON as tables: lists of flat objects become titled tables, single values a list of facts.

Units come from names, as in all of our code: ``duration_s`` is shown as a duration, ``size_bytes`` as a size,
``started_at`` as a local instant, and the heading leaves the unit out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from actors.console.amount import count, duration, instant, size
from actors.console.page import Align, Block, Column, Gap, Page, Sheet, Span, clean, facts, line, one_line

ROW_LIMIT = 50
_CELL_LIMIT = 120
_TEXT_LIMIT = 2_000
_HEADING_LIMIT = 60
_UNITS = ("_s", "_bytes", "_at")


def result_page(value: Any, *, row_limit: int | None = ROW_LIMIT) -> Page:
    """A page for decoded JSON; tables end after ``row_limit`` rows (None: never) with a word on how many are left."""
    match value:
        case dict():
            return _object_page(value, row_limit)
        case list() if value and all(isinstance(item, dict) for item in value):
            return [_table("", value, row_limit)]
        case list():
            return [line(cell("", item)) for item in value] or [line(Span("(an empty list)", "dim"))]
        case str():
            return [line(text) for text in clean(value).split("\n")]
        case _:
            return [line(cell("", value))]


def _object_page(value: dict[str, Any], row_limit: int | None) -> Page:
    plain = [(name, item) for name, item in value.items() if not _is_section(item)]
    sections: list[Block] = [facts((heading(name), _fact(name, item)) for name, item in plain)] if plain else []
    for name, item in value.items():
        if _is_section(item):
            sections.append(_section(name, item, row_limit))
    if not sections:
        return [line(Span("(an empty object)", "dim"))]
    return [block for section in sections for block in (section, Gap())][:-1]


def _is_section(item: Any) -> bool:
    """What is shown under a title of its own."""
    if isinstance(item, list):
        return bool(item) and all(isinstance(part, dict) for part in item)
    return isinstance(item, dict) and bool(item)


def _section(name: str, item: dict[str, Any] | list[dict[str, Any]], row_limit: int | None) -> Block:
    if isinstance(item, list):
        return _table(heading(name), item, row_limit)
    if all(isinstance(part, dict) and part for part in item.values()):  # an object of objects: their names are a column
        return _table(heading(name), [{"": key, **part} for key, part in item.items()], row_limit)
    sheet = facts((heading(key), _fact(key, part)) for key, part in item.items())
    return replace(sheet, title=heading(name))


def _table(title: str, rows: Sequence[dict[str, Any]], row_limit: int | None) -> Sheet:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = tuple(_column(name, [row.get(name) for row in rows]) for name in names)
    shown = rows if row_limit is None else rows[:row_limit]
    cells = tuple(tuple(cell(name, row.get(name)) for name in names) for row in shown)
    left = len(rows) - len(shown)
    return Sheet(columns, cells, title, f"... and {left:,} more; --json shows all" if left else "")


def _column(name: str, values: Sequence[Any]) -> Column:
    are_numbers = all(value is None or _is_number(value) for value in values)
    align: Align = "right" if are_numbers else "left"
    return Column(heading(name), align, shrink=not are_numbers)


def heading(name: str) -> str:
    """``longest_functions`` as ``longest functions``, ``duration_s`` as ``duration``."""
    for unit in _UNITS:
        if name.endswith(unit) and len(name) > len(unit):
            name = name.removesuffix(unit)
            break
    return one_line(name.replace("_", " "), 60)


def _fact(name: str, value: Any) -> Span:
    if isinstance(value, str):
        return Span(one_line(value, _TEXT_LIMIT))
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return Span(one_line(", ".join(cell(name, item).text for item in value), _TEXT_LIMIT))
    return cell(name, value)


def cell(name: str, value: Any) -> Span:
    """One value as people read it; ``name`` says its unit."""
    match value:
        case None:
            return Span("")
        case bool():
            return Span("yes" if value else "no")
        case int() | float():
            return Span(_number(name, value))
        case str() if name.endswith("_at") and (at := _instant(value)):
            return Span(instant(at))
        case str():
            return Span(one_line(value, _CELL_LIMIT))
        case _:
            return Span(one_line(msgspec.json.encode(value).decode(), _CELL_LIMIT), "dim")


def _number(name: str, value: float) -> str:
    if name.endswith("_s"):
        return duration(value)
    if name.endswith("_bytes"):
        return size(value)
    return count(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else None


# ---- the output of one tool


def output_page(value: Any, *, row_limit: int | None = ROW_LIMIT) -> Page:
    """A page for decoded JSON; a table ends after ``row_limit`` rows (None: never) with a word on how many are left."""
    match value:
        case {"columns": list(columns), "rows": list(rows)} if all(isinstance(row, list) for row in rows):
            rest = {name: each for name, each in value.items() if name not in ("columns", "rows")}
            return [_grid(columns, rows, row_limit), *_below(rest, row_limit)]
        case {"text": str(text)}:
            rest = {name: each for name, each in value.items() if name != "text" and each not in (None, "", [], {})}
            return [*(line(each) for each in clean(text).split("\n")), *_below(rest, row_limit)]
        case _:
            return result_page(_named(value), row_limit=row_limit)


def _below(rest: dict[str, Any], row_limit: int | None) -> list[Block]:
    return [Gap(), *result_page(_named(rest), row_limit=row_limit)] if rest else []


def _grid(columns: list[Any], rows: list[list[Any]], row_limit: int | None) -> Sheet:
    names = [_title(each) for each in columns]
    shown = rows if row_limit is None else rows[:row_limit]
    cells = tuple(tuple(_cells(names, row)) for row in shown)
    left = len(rows) - len(shown)
    heads = tuple(_grid_column(name, [row[i] for row in rows if i < len(row)]) for i, name in enumerate(names))
    return Sheet(heads, cells, "", f"... and {left:,} more; --json shows all" if left else "")


def _cells(names: list[str], row: list[Any]) -> list[Span]:
    """As many as there are columns, whatever a tool has put into the row."""
    return [cell(name, row[i] if i < len(row) else None) for i, name in enumerate(names)]


def _grid_column(name: str, values: list[Any]) -> Column:
    """Under its own name: a database's columns say nothing of units."""
    return replace(_column("", values), title=one_line(name, _HEADING_LIMIT))


def _title(column: Any) -> str:
    return str(column.get("name", "")) if isinstance(column, dict) else str(column)


def _named(value: Any) -> Any:
    """Artifacts as their names, with what they are."""
    match value:
        case {"artifact": "file", "name": str(name), "media_type": str(kind), "size_bytes": int(size_bytes)}:
            return f"{name} ({kind}, {size(size_bytes)})"
        case dict():
            return {key: _named(each) for key, each in value.items()}
        case list():
            return [_named(each) for each in value]
        case _:
            return value
