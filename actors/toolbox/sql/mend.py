"""Errors of databases with what would be right: the tables and columns that there are, nearest names first. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

NAMES_SHOWN = 30
_TABLE = (
    re.compile(r"no such table: \"?(?P<name>[\w.]+)"),
    re.compile(r"relation \"(?P<name>[^\"]+)\" does not exist"),
    re.compile(r"Table with name (?P<name>\S+) does not exist"),
    re.compile(r"missing FROM-clause entry for table \"(?P<name>[^\"]+)\""),
)
_COLUMN = (
    re.compile(r"no such column: \"?(?P<name>[\w.]+)"),
    re.compile(r"column \"?(?P<name>[\w.]+)\"? does not exist"),
    re.compile(r"Referenced column \"(?P<name>[^\"]+)\" not found"),
    re.compile(r"does not have a column named \"(?P<name>[^\"]+)\""),
)


def is_about_names(message: str) -> bool:
    """Whether a catalog would help to understand this error."""
    return any(pattern.search(message) for pattern in (*_TABLE, *_COLUMN))


def mended(message: str, catalog: Mapping[str, Sequence[str]]) -> str:
    """The message, and behind it the names that there are; as it is if it is not about a name."""
    if name := _first(_TABLE, message):
        return f"{message}; {_nearest(name, list(catalog), 'tables')}"
    if name := _first(_COLUMN, message):
        return f"{message}; {_about_column(name, catalog)}"
    return message


def _first(patterns: Sequence[re.Pattern[str]], message: str) -> str:
    return next((found["name"] for pattern in patterns if (found := pattern.search(message))), "")


def _about_column(name: str, catalog: Mapping[str, Sequence[str]]) -> str:
    column = name.rpartition(".")[2]
    known = [(table, each) for table, columns in catalog.items() for each in columns]
    near = difflib.get_close_matches(column.lower(), {each.lower() for _, each in known}, n=3)
    said = [f"{table}.{each}" for table, each in known if each.lower() in near]
    if said:
        return f"did you mean {' or '.join(said[:4])}?"
    told = "; ".join(f"{table}: {', '.join(columns[:NAMES_SHOWN])}" for table, columns in list(catalog.items())[:8])
    return f"there are {told}" if told else "sql_schema tells which ones there are"


def _nearest(name: str, names: Sequence[str], what: str) -> str:
    near = difflib.get_close_matches(name.lower().rpartition(".")[2], names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    told = ", ".join(sorted(names)[:NAMES_SHOWN]) + (" ..." if len(names) > NAMES_SHOWN else "")
    return f"{hint}{what} there are: {told or 'none'}"
