"""The first wall of tool sql: what is parsed and let through, what is refused, and with which words."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.toolbox.sql.address import read_url, resolve
from actors.toolbox.sql.dialect import DUCKDB, POSTGRES, SQLITE, Dialect
from actors.toolbox.sql.guard import Refused, check
from actors.toolbox.sql.mend import mended
from actors.toolbox.sql.rules import Rules, allowed_names
from actors.toolbox.sql.table import Bounds, Taking
from bus.errors import UsageError
from bus.failure import TerminalError
from tests import sql_attacks

DIALECTS = [SQLITE, POSTGRES, DUCKDB]
SCHEMA = "CREATE TABLE orders (id integer, sku text, price real); CREATE TABLE customers (id integer, name text)"


def _refused(query: str, dialect: Dialect, *, read_only: bool = True, tables: tuple[str, ...] | None = None) -> str:
    names = None if tables is None else allowed_names(tables, dialect)
    with pytest.raises(Refused) as caught:
        check(query, Rules(dialect, read_only, names))
    return str(caught.value)


@pytest.mark.parametrize(
    ("dialect", "attacks"),
    [(SQLITE, sql_attacks.SQLITE), (DUCKDB, sql_attacks.DUCKDB),
     (POSTGRES, (*sql_attacks.POSTGRES, *sql_attacks.POSTGRES_WITHOUT_EFFECT))],
)  # fmt: skip
def test_attacks_are_refused(dialect: Dialect, attacks: tuple[str, ...]) -> None:
    """Each attack is refused by the parser alone, in any case and explained too."""
    for attack in attacks:
        assert _refused(attack, dialect)
        assert _refused(f"  {attack.upper()} ;", dialect)
        assert _refused(f"EXPLAIN {attack}", dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_allowlist_holds(dialect: Dialect) -> None:
    """Tables beyond the allowlist are refused, wherever they stand; names that a query makes are its own."""
    for attack in sql_attacks.BEYOND_THE_ALLOWLIST:
        assert "secrets is not open to this tool" in _refused(attack, dialect, tables=("customers", "sales"))
    rules = Rules(dialect, tables=allowed_names(["customers", "main.sales", "public.sales"], dialect))
    for query in (
        "SELECT * FROM customers c JOIN sales s ON c.id = s.id",
        "WITH secrets AS (SELECT * FROM customers) SELECT * FROM secrets",
        "WITH RECURSIVE secrets AS (SELECT 1 AS x UNION SELECT x + 1 FROM secrets WHERE x < 3) SELECT * FROM secrets",
        "WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM a, b",
        "SELECT * FROM (SELECT * FROM customers) AS secrets",
        f"SELECT * FROM {'main' if dialect.name != 'postgres' else 'public'}.customers",
    ):
        assert check(query, rules) == query


def test_quoted_names_are_names_of_their_own_in_postgres() -> None:
    """Where quotes keep the case, a WITH in other letters does not hide a table."""
    query = 'WITH "SECRETS" AS (SELECT 1) SELECT * FROM secrets'
    assert "secrets" in _refused(query, POSTGRES, tables=("customers",))
    assert check(query, Rules(SQLITE, tables=frozenset({"customers"}))) == query
    assert "did you mean customers?" in _refused('SELECT * FROM "Customers"', POSTGRES, tables=("customers",))


def test_what_tells_about_the_data_is_let_through() -> None:
    """EXPLAIN of a query everywhere, SHOW and DESCRIBE where there are such; with an allowlist only of its tables."""
    for dialect in DIALECTS:
        assert check("EXPLAIN SELECT 1", Rules(dialect))
        assert check("VALUES (1), (2)", Rules(dialect))
    assert check("EXPLAIN QUERY PLAN SELECT * FROM orders", Rules(SQLITE))
    assert check("EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM orders", Rules(POSTGRES))
    assert check("SHOW server_version", Rules(POSTGRES))
    for query in ("DESCRIBE orders", "SUMMARIZE orders", "SHOW TABLES", "FROM orders"):
        assert check(query, Rules(DUCKDB))
        assert _refused(query, DUCKDB, tables=("customers",))
    assert _refused("SHOW server_version", POSTGRES, tables=("customers",))
    assert check("SELECT * FROM read_csv('a.csv'), 'b.parquet'", Rules(DUCKDB, with_files=True))


def test_a_refusal_says_what_would_be_right() -> None:
    """A model that reads the message knows which part is wrong, and what to write instead."""
    assert "DELETE is refused: this tool only reads; write SELECT" in _refused("DELETE FROM orders", SQLITE)
    assert "one statement at a time; these are 2" in _refused("SELECT 1; SELECT 2", SQLITE)
    assert "function load_extension is refused" in _refused("SELECT load_extension('x')", SQLITE)
    assert "SELECT ... INTO" in _refused("SELECT * INTO z FROM orders", POSTGRES)
    assert "no SQLite that can be read" in _refused("SELEC 1", SQLITE)
    assert "no SQLite that can be read" in _refused("SELECT 'open", SQLITE)
    assert "nested too deeply" in _refused("SELECT " + "(" * 20_000 + "1" + ")" * 20_000, SQLITE)
    assert "50,000" in _refused("SELECT 1 " + " " * 50_000 + "x", SQLITE)
    assert "these are 0" in _refused("", SQLITE)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_could_be_read_two_ways(dialect: Dialect) -> None:
    """Comments, quotes and escapes hide nothing from the guard that the database would see."""
    for query in (
        'SELECT U&"\\0071uery_to_xml"($$select * from secrets$$, true, true, $$$$)', "SELECT u& 'x'",
        "SELECT 1 {# , (SELECT x FROM secrets) #}", "SELECT 1 --\r, (SELECT x FROM secrets)", "SELECT 1 --\x0c, 2",
        "SELECT '\\', (SELECT x FROM secrets), '\\'", "SELECT E'\\', ', (SELECT x FROM secrets), ' '",
        "SELECT 1 /* */, (SELECT x FROM secrets) /* */", "SELECT $$'$$, (SELECT x FROM secrets), $$'$$",
        'SELECT "a\\" , (SELECT x FROM secrets), "\\"', "SELECT 1 /* , (SELECT x FROM secrets)", "SELECT 1\0",
    ):  # fmt: skip
        assert _refused(query, dialect, tables=("customers",))
    nested = "SELECT 1 /* /* */, (SELECT x FROM secrets) -- */"
    if dialect is SQLITE:  # where comments do not nest
        assert "secrets" in _refused(nested, dialect, tables=("customers",))
    assert check("SELECT 1\r\n -- one\r\n", Rules(dialect)) == "SELECT 1\n -- one"


def test_writing_is_for_tables_only() -> None:
    """A tool that may write takes one statement over rows or tables, and still nothing that reaches further."""
    rules = Rules(POSTGRES, read_only=False)
    for query in (
        "INSERT INTO t VALUES (1)", "UPDATE t SET a = 1", "DELETE FROM t", "CREATE TABLE t (a int)", "DROP VIEW v",
        "CREATE INDEX i ON t (a)", "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
    ):  # fmt: skip
        assert check(query, rules) == query
    for query in ("CREATE EXTENSION dblink", "CREATE FUNCTION f() RETURNS int AS 'x' LANGUAGE sql", "SET ROLE boss",
                  "COPY t TO PROGRAM 'id'", "DROP DATABASE d", "INSERT INTO t SELECT pg_read_file('x')"):  # fmt: skip
        assert _refused(query, POSTGRES, read_only=False)
    assert "secrets" in _refused("DELETE FROM secrets", POSTGRES, read_only=False, tables=("t",))


# ---- generated

_columns = st.sampled_from(["id", "price", "count(*)", "max(price)", "coalesce(sku, 'x')", "price * 2 AS twice", "*",
                            "CASE WHEN id > 1 THEN 'a' ELSE 'b' END", "CAST(id AS text)", "upper(sku)"])  # fmt: skip
_conditions = st.sampled_from(["", " WHERE id > 1", " WHERE sku LIKE 'A%'", " WHERE id IN (SELECT id FROM customers)",
                               " WHERE price BETWEEN 1 AND 2 OR sku IS NULL"])  # fmt: skip
_ends = st.sampled_from(["", " GROUP BY id", " ORDER BY id DESC", " LIMIT 3", " ORDER BY 1 LIMIT 3 OFFSET 1"])


def _select(columns: list[str], source: str, condition: str, end: str) -> str:
    return f"SELECT {', '.join(columns)} FROM {source}{condition}{end}"


_selects = st.builds(_select, st.lists(_columns, min_size=1, max_size=3), st.just("orders"), _conditions, _ends)
_nested = st.one_of(
    _selects,
    st.builds(lambda inner: f"SELECT * FROM ({inner}) AS sub", _selects),
    st.builds(lambda inner, outer: f"WITH c AS ({inner}) SELECT * FROM c WHERE EXISTS ({outer})", _selects, _selects),
    st.builds(lambda one, two: f"SELECT * FROM ({one}) AS a UNION ALL SELECT * FROM ({two}) AS b", _selects, _selects),
)
WORDS = """
select * from orders customers ; delete insert into values (1) (1,'a') with a as ( ) -- /* */ ' " returning update set
price = 0 drop table create view explain replace , 1 union all begin commit pragma user_version = 7 attach or
"""
_words = st.sampled_from([*WORDS.split(), "\n"])


@given(_nested, st.sampled_from(DIALECTS))
def test_generated_queries_are_let_through(query: str, dialect: Dialect) -> None:
    """Ordinary questions are never refused, with and without the allowlist of their tables."""
    assert check(query, Rules(dialect)) == query
    assert check(f"{query} ;", Rules(dialect)) == query
    assert check(query, Rules(dialect, tables=frozenset({"orders", "customers"}))) == query
    with pytest.raises(Refused):
        check(query, Rules(dialect, tables=frozenset({"customers"})))


@given(_nested, st.sampled_from(sql_attacks.WRITES), st.sampled_from(DIALECTS), st.booleans())
def test_writes_are_refused_wherever_they_stand(query: str, write: str, dialect: Dialect, first: bool) -> None:
    """A write before, behind or within a query is found."""
    for text in (f"{write}; {query}" if first else f"{query}; {write}", f"WITH w AS ({write}) {query}"):
        with pytest.raises(Refused):
            check(text, Rules(dialect))


@given(st.lists(_words, max_size=14))
def test_what_is_let_through_changes_nothing(words: list[str]) -> None:
    """Any heap of words that the parser alone lets through leaves a database that could be written as it was."""
    text = " ".join(words)
    try:
        statement = check(text, Rules(SQLITE))
    except Refused:
        return
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        before = list(db.iterdump()), db.execute("PRAGMA user_version").fetchone()
        with contextlib.suppress(sqlite3.Error, sqlite3.Warning):
            db.execute(statement).fetchall()
        assert (list(db.iterdump()), db.execute("PRAGMA user_version").fetchone()) == before


# ---- around it


def test_errors_are_mended_with_names() -> None:
    """What is near comes first; where nothing is near, all that there is."""
    catalog = {"orders": ["id", "price"], "customers": ["id", "name"]}
    assert "did you mean orders?" in mended("no such table: ordres", catalog)
    assert "did you mean orders.price?" in mended("no such column: o.prise", catalog)
    assert "did you mean customers.id or orders.id?" not in mended("no such table: id", catalog)
    assert "customers: id, name" in mended('column "zzz" does not exist', catalog)
    assert mended("syntax error", catalog) == "syntax error"


def test_addresses_are_read_and_never_shown() -> None:
    """A URL names one of three engines; a wrong one is not repeated, since it may hold a password."""
    assert read_url("sqlite:///a/b.db").path == "a/b.db" and read_url("duckdb:////a%20b.db").path == "/a b.db"
    assert resolve("env:DB", {"DB": "sqlite:///x"}).path == "x"
    with pytest.raises(TerminalError, match="DB is not set"):
        resolve("env:DB", {})
    for wrong in ("mysql://me:hush-hush@host/db", "sqlite://", "sqlite:///", "hush-hush", "sqlite:///a?mode=rwc"):
        with pytest.raises(UsageError) as caught:
            read_url(wrong)
        assert "hush" not in str(caught.value) and "sqlite:///figures.db" in str(caught.value)
    address = read_url("postgresql://me:hush%2Fhush@host/db")
    assert "hush" not in repr(address)
    assert address.hidden("no hush/hush in hush%2Fhush at postgresql://me:hush%2Fhush@host/db") == (
        "no *** in *** at postgres database"
    )


@given(st.lists(st.lists(st.text() | st.integers() | st.floats() | st.binary() | st.none() | st.decimals(),
                         min_size=2, max_size=2), max_size=8), st.integers(1, 5), st.integers(1, 20))  # fmt: skip
def test_results_keep_their_bounds(rows: list[list[object]], row_limit: int, cell_limit: int) -> None:
    """Never more rows than asked for, never a longer text, always JSON, and it is told what was left out."""
    import msgspec

    taking = Taking(Bounds(row_limit=row_limit, cell_limit_chars=cell_limit))
    taking.take(rows)
    table = taking.table([])
    assert table.row_count == len(table.rows) == min(len(rows), row_limit)
    assert table.truncated == (len(rows) > row_limit)
    cells = [value for row in table.rows for value in row]
    assert all(len(value) <= cell_limit + 1 for value in cells if isinstance(value, str))
    assert bool(table.cut_cells) == any(isinstance(v, str) and len(v) == cell_limit + 1 for v in cells)
    assert msgspec.json.decode(msgspec.json.encode(table.rows)) == table.rows
