"""How the output of one tool looks: a table where it has columns and rows, text where it is text."""

from __future__ import annotations

from typing import Any

from actors.console.amount import size
from actors.console.page import Align, Block, Column, Gap, Page, Sheet, Span, clean, line, one_line
from actors.console.result_page import ROW_LIMIT, cell, result_page

_HEADING_LIMIT = 60


def output_page(value: Any, *, row_limit: int | None = ROW_LIMIT) -> Page:
    """A page for decoded JSON; a table ends after ``row_limit`` rows (None: never) with a word on how many are left."""
    match value:
        case {"columns": list(columns), "rows": list(rows)} if all(isinstance(row, list) for row in rows):
            rest = {name: each for name, each in value.items() if name not in ("columns", "rows")}
            return [_table(columns, rows, row_limit), *_below(rest, row_limit)]
        case {"text": str(text)}:
            rest = {name: each for name, each in value.items() if name != "text" and each not in (None, "", [], {})}
            return [*(line(each) for each in clean(text).split("\n")), *_below(rest, row_limit)]
        case _:
            return result_page(_named(value), row_limit=row_limit)


def _below(rest: dict[str, Any], row_limit: int | None) -> list[Block]:
    return [Gap(), *result_page(_named(rest), row_limit=row_limit)] if rest else []


def _table(columns: list[Any], rows: list[list[Any]], row_limit: int | None) -> Sheet:
    names = [_title(each) for each in columns]
    shown = rows if row_limit is None else rows[:row_limit]
    cells = tuple(tuple(_cells(names, row)) for row in shown)
    left = len(rows) - len(shown)
    heads = tuple(_column(name, [row[i] for row in rows if i < len(row)]) for i, name in enumerate(names))
    return Sheet(heads, cells, "", f"... and {left:,} more; --json shows all" if left else "")


def _cells(names: list[str], row: list[Any]) -> list[Span]:
    """As many as there are columns, whatever a tool has put into the row."""
    return [cell(name, row[i] if i < len(row) else None) for i, name in enumerate(names)]


def _column(name: str, values: list[Any]) -> Column:
    are_numbers = all(each is None or (isinstance(each, int | float) and not isinstance(each, bool)) for each in values)
    align: Align = "right" if are_numbers else "left"
    return Column(one_line(name, _HEADING_LIMIT), align, shrink=not are_numbers)


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
