"""The figures that the team is asked about: life expectancy, population and income of 142 countries, 1952 to 2007.

Gapminder's figures, as the package plotly ships them (gapminder.csv, MIT licence), put into a SQLite database.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import os
import sqlite3
import tempfile
from pathlib import Path

from bus.paths import data_dir

_CREATE = """CREATE TABLE countries (
    country TEXT NOT NULL, continent TEXT NOT NULL, year INTEGER NOT NULL, life_expectancy REAL NOT NULL,
    population INTEGER NOT NULL, gdp_per_person REAL NOT NULL, PRIMARY KEY (country, year)
)"""
_FIELDS = ("country", "continent", "year", "lifeExp", "pop", "gdpPercap")


def database() -> Path:
    """The database; it is made if it is not there. Several processes may do that at once."""
    path = data_dir(os.environ) / "examples" / "gapminder.db"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".draft")
        os.close(handle)
        _fill(Path(draft))
        Path(draft).replace(path)
    return path


def _fill(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(_CREATE)
        connection.executemany("INSERT INTO countries VALUES (?, ?, ?, ?, ?, ?)", rows())
    connection.close()


def rows() -> list[tuple[str, ...]]:
    """The figures as they are shipped."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("the figures come with plotly: pip install 'callboard[chart]'")
    file = Path(found.submodule_search_locations[0]) / "package_data" / "datasets" / "gapminder.csv.gz"
    with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
        return [tuple(row[field] for field in _FIELDS) for row in csv.DictReader(text)]
