"""Tool sql on real SQLite, DuckDB and PostgreSQL: its answers, its limits, and the second wall without the first."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import duckdb
import pytest

from actors import App
from actors.toolbox import Sql
from actors.toolbox.sql import sqlite as sqlite_engine
from actors.toolbox.sql.guard import check
from actors.toolbox.sql.table import Bounds, Table
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError
from tests import sql_attacks
from tests.postgres import PASSWORD, QUOTED_PASSWORD, postgres

TABLES = """
CREATE TABLE customers (id integer PRIMARY KEY, name text);
CREATE TABLE orders (id integer PRIMARY KEY, sku text NOT NULL, price numeric(10, 2), since timestamp,
                     customer integer REFERENCES customers (id));
CREATE TABLE secrets (x text);
CREATE VIEW sales AS SELECT sku, price FROM orders;
INSERT INTO customers VALUES (1, 'ann');
INSERT INTO secrets VALUES ('hidden');
INSERT INTO orders VALUES (1, 'A1', 1.5, '2024-01-02 03:04:05', 1), (2, 'B2', 2, NULL, 1);
"""
ROWS = [("customers", 1), ("orders", 2), ("secrets", 1)]
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
DOUBLING = "WITH RECURSIVE n (s) AS (SELECT 'x' UNION ALL SELECT s || s FROM n LIMIT 40) SELECT length(s) FROM n"
READER = "reader-pw-17"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files of the databases lie."""
    return tmp_path_factory.mktemp("sql")


@pytest.fixture(scope="module")
def sqlite_url(folder: Path) -> str:
    """A SQLite file with the tables, and a full-text table."""
    with contextlib.closing(sqlite3.connect(folder / "figures.db")) as db:
        db.executescript(TABLES + "CREATE VIRTUAL TABLE words USING fts5 (t); INSERT INTO words VALUES ('blue sky');")
        db.commit()
    return f"sqlite:////{str(folder / 'figures.db').lstrip('/')}"


@pytest.fixture(scope="module")
def duckdb_url(folder: Path) -> str:
    """A DuckDB file with the tables."""
    with contextlib.closing(duckdb.connect(str(folder / "figures.duckdb"))) as db:
        db.execute(TABLES)
    return f"duckdb:////{str(folder / 'figures.duckdb').lstrip('/')}"


@pytest.fixture(scope="module")
def boss_url() -> Iterator[str]:
    """A PostgreSQL server with the tables; its superuser."""
    with postgres() as url:
        asyncio.run(_fill(url))
        yield url


@pytest.fixture(scope="module")
def reader_url(boss_url: str) -> str:
    """A role that has all rights on the tables, so that nothing but the wall keeps it from writing."""
    return boss_url.replace(f"boss:{QUOTED_PASSWORD}", f"reader:{READER}")


async def _fill(url: str) -> None:
    db = await asyncpg.connect(url)
    await db.execute(f"{TABLES} CREATE SEQUENCE counter; CREATE SCHEMA far; CREATE TABLE far.away (a int);"
                     f"CREATE ROLE reader LOGIN PASSWORD '{READER}'; GRANT ALL ON SCHEMA public TO reader;"
                     "GRANT INSERT, SELECT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO reader;"
                     "GRANT ALL ON SEQUENCE counter TO reader")  # fmt: skip
    await db.close()


async def _passed(kit: Sql, attacks: tuple[str, ...]) -> list[str]:
    """The attacks that the connection lets through when nobody has parsed them."""
    _, _, engine = kit._open()
    passed = []
    for attack in attacks:
        try:
            await engine.run(attack, kit.bounds)
        except TerminalError:
            continue
        passed.append(attack)
    return passed


async def _asks(kit: Sql, query: str) -> Table:
    return await kit.run(query)


async def _is_told(kit: Sql, query: str) -> str:
    with pytest.raises(TerminalError) as caught:
        await kit.run(query)
    return str(caught.value)


async def _checks_in_common(kit: Sql, only: Sql) -> None:
    """What holds for every database."""
    table = await _asks(
        kit, "SELECT o.id, name, price, since FROM orders o JOIN customers c ON c.id = o.customer ORDER BY 1;"
    )
    assert [column.name for column in table.columns] == ["id", "name", "price", "since"]
    assert [row[:3] for row in table.rows] == [[1, "ann", 1.5], [2, "ann", 2]]
    assert table.rows[0][3].startswith("2024-01-02") and table.rows[1][3] is None
    assert (table.row_count, table.truncated) == (2, False)
    assert (await kit.run("SELECT id FROM orders ORDER BY id", 1)).rows == [[1]]
    assert (await kit.run("SELECT id FROM orders", 1)).truncated
    assert (await _asks(kit, "SELECT * FROM orders WHERE id = 99")).rows == []
    assert (await _asks(kit, "EXPLAIN SELECT * FROM orders")).rows
    assert "did you mean orders?" in await _is_told(kit, "SELECT * FROM ordres")
    assert "did you mean orders.price" in await _is_told(kit, "SELECT prise FROM orders")
    assert "hidden" not in await _is_told(kit, "SELECT nope(x) FROM secrets")
    told = await kit.schema()
    orders = next(each for each in told.tables if each.name == "orders")
    assert [column.name for column in orders.columns] == ["id", "sku", "price", "since", "customer"]
    assert [column.samples for column in orders.columns][:3] == [[1, 2], ["A1", "B2"], [1.5, 2]]
    assert [column.primary_key for column in orders.columns] == [True, False, False, False, False]
    assert (orders.row_estimate, orders.kind) == (2, "table")
    assert [(k.columns, k.table, k.references) for k in orders.foreign_keys] == [(["customer"], "customers", ["id"])]
    assert [(each.name, each.kind) for each in (await kit.schema("sales")).tables] == [("sales", "view")]
    with pytest.raises(TerminalError, match="did you mean sales"):
        await kit.schema("salse")
    await _checks_of_the_allowlist(only)


async def _checks_of_the_allowlist(only: Sql) -> None:
    assert {each.name for each in (await only.schema()).tables} == {"customers", "sales"}
    assert (await _asks(only, "SELECT sku FROM sales ORDER BY sku")).rows == [["A1"], ["B2"]]
    assert (await _asks(only, "WITH secrets AS (SELECT name FROM customers) SELECT * FROM secrets")).rows == [["ann"]]
    assert "these are: customers, sales" in await _is_told(only, "SELECT * FROM secrets")


async def _checks_of_time(make: Callable[..., Sql]) -> None:
    hasty = make(timeout_s=0.3)
    assert "stopped after 0.3 s" in await _is_told(hasty, ENDLESS)
    running = asyncio.ensure_future(make(timeout_s=60).run(ENDLESS))
    await asyncio.wait([running], timeout=0.2)
    running.cancel()
    await asyncio.wait([running], timeout=30)
    assert running.cancelled()


async def test_sqlite(sqlite_url: str, folder: Path) -> None:
    """Answers, schema, limits; the parser away, each attack is refused by the connection and leaves no trace."""
    kit, only = Sql(sqlite_url), Sql(sqlite_url, tables=["customers", "sales"])
    await _checks_in_common(kit, only)
    await _checks_of_time(lambda **settings: Sql(sqlite_url, **settings))
    assert (await _asks(kit, "SELECT t FROM words WHERE words MATCH 'sky'")).rows == [["blue sky"]]
    assert (await _asks(kit, "SELECT value FROM json_each('[7]')")).rows == [[7]]
    before = (folder / "figures.db").read_bytes(), set(folder.iterdir())
    assert await _passed(kit, sql_attacks.SQLITE) == []
    assert await _passed(only, (*sql_attacks.SQLITE, *sql_attacks.BEYOND_THE_ALLOWLIST, "SELECT * FROM sqlite_schema",
                                "SELECT sku FROM orders UNION SELECT x FROM secrets")) == []  # fmt: skip
    assert ((folder / "figures.db").read_bytes(), set(folder.iterdir())) == before


async def test_duckdb(duckdb_url: str, folder: Path) -> None:
    """The same of DuckDB, and files are read only out of the folders that are named."""
    kit, only = Sql(duckdb_url), Sql(duckdb_url, tables=["customers", "sales"])
    await _checks_in_common(kit, only)
    await _checks_of_time(lambda **settings: Sql(duckdb_url, **settings))
    before = (folder / "figures.duckdb").read_bytes(), set(folder.iterdir())
    assert await _passed(kit, sql_attacks.DUCKDB) == []
    assert await _passed(only, sql_attacks.BEYOND_THE_ALLOWLIST) == []
    assert ((folder / "figures.duckdb").read_bytes(), set(folder.iterdir())) == before
    inner = folder / "csv"
    inner.mkdir()
    (inner / "a.csv").write_text("a,b\n1,x\n")
    (folder / "outside.csv").write_text("a\n1\n")
    reads = Sql(duckdb_url, files_from=[str(inner)])
    tables = await asyncio.gather(*(reads.run(f"SELECT b FROM read_csv('{inner}/a.csv')") for _ in range(4)))
    assert [table.rows for table in tables] == [[["x"]]] * 4
    assert "Permission" in await _is_told(reads, f"SELECT * FROM '{inner}/../outside.csv'")
    assert await _passed(reads, (f"COPY orders TO '{inner}/o.csv'", "SELECT * FROM read_text('/etc/passwd')")) == []


async def test_postgres(reader_url: str, boss_url: str) -> None:
    """The same of PostgreSQL; what its transaction does not refuse has no effect, since it is never committed."""
    kit, only = Sql(reader_url, timeout_s=5), Sql(reader_url, tables=["public.customers", "sales"])
    await _checks_in_common(kit, only)
    await _checks_of_time(lambda **settings: Sql(reader_url, **settings))
    assert await _passed(Sql(reader_url, timeout_s=0.5), sql_attacks.POSTGRES) == []
    assert await _passed(kit, sql_attacks.POSTGRES_WITHOUT_EFFECT) == list(sql_attacks.POSTGRES_WITHOUT_EFFECT)
    db = await asyncpg.connect(boss_url)
    try:
        assert [(table, await db.fetchval(f"SELECT count(*) FROM {table}")) for table, _ in ROWS] == ROWS
        assert await db.fetchval("SELECT sum(price) FROM orders") == 3.5
        assert await db.fetchval("SELECT nextval('counter')") == 1
        assert await db.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        assert await db.fetchval("SELECT count(*) FROM pg_class WHERE relname = 'z'") == 0
    finally:
        await db.close()


async def test_passwords_stay_hidden(reader_url: str, boss_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error, description or repr has the password or the URL; a superuser is not used to read."""
    assert "role boss may reach the server's files" in await _is_told(Sql(boss_url), "SELECT 1")
    monkeypatch.setenv("FIGURES_URL", reader_url.replace(READER, PASSWORD.replace("/", "%2F").replace("@", "%40")))
    kit = Sql("env:FIGURES_URL")
    said = [await _is_told(kit, "SELECT 1"), repr(kit), repr(Sql(boss_url))]
    said += [repr(tool) + str(tool.info()) for tool in App("desk").use(Sql(boss_url)).tools]
    port = reader_url.rpartition(":")[2]
    with pytest.raises(RetryableError) as caught:
        await Sql(reader_url.replace(port, "1/postgres")).run("SELECT 1")
    for text in (*said, str(caught.value)):
        assert "s3cr3t" not in text and READER not in text and "://" not in text
    monkeypatch.delenv("FIGURES_URL")
    assert "FIGURES_URL is not set" in await _is_told(kit, "SELECT 1")


async def test_writing_on_purpose(tmp_path: Path) -> None:
    """With read_only=False one statement writes and is kept; what reaches further is refused by both walls."""
    file = tmp_path / "w.db"
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.executescript(TABLES)
    kit = Sql(f"sqlite:////{str(file).lstrip('/')}", read_only=False)
    assert (await kit.run("UPDATE orders SET price = 0")).row_count == 2
    assert (await kit.run("INSERT INTO customers VALUES (2, 'eve') RETURNING id")).rows == [[2]]
    assert (await kit.run("SELECT sum(price), (SELECT count(*) FROM customers) FROM orders")).rows == [[0, 2]]
    attacks = ("ATTACH 'other.db' AS o", "PRAGMA writable_schema = ON", "SELECT load_extension('x')")
    assert await _passed(kit, attacks) == []
    for attack in attacks:
        assert "refused" in await _is_told(kit, attack)
    tool, about = App("desk").use(kit).tools
    assert (tool.retry.attempts, tool.read_only, about.read_only) == (1, False, True)


async def test_long_values_and_long_results(sqlite_url: str) -> None:
    """Cells and results are cut where it is said, and the note says how to go on."""
    kit = Sql(sqlite_url, cell_limit_chars=10, result_limit_chars=200)
    table = await kit.run("SELECT 'abcdefghijklmnop', x'00ff', 1e999 FROM orders")
    assert table.rows[0] == ["abcdefghij…", "<blob of 2…", "inf"] and table.cut_cells == 4
    assert "substr()" in table.note
    long = await kit.run(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 90) SELECT 'abcdef' FROM n"
    )
    assert long.truncated and long.row_count < 90 and "LIMIT and OFFSET" in long.note
    with pytest.raises(TerminalError, match="string or blob too big"):
        await kit.run(DOUBLING)


async def test_a_missing_or_locked_file(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong path makes no file; a file that somebody writes to is worth another attempt."""
    for engine in ("sqlite", "duckdb"):
        assert "there is no" in await _is_told(Sql(f"{engine}:////{str(tmp_path / 'no.db').lstrip('/')}"), "SELECT 1")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(sqlite_engine, "BUSY_S", 0.01)
    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=0)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RetryableError, match="locked"):
            await Sql(sqlite_url).run("SELECT 1 FROM orders")


def test_settings_are_checked() -> None:
    """Wrong settings are refused where they are written."""
    wrong: list[dict[str, Any]] = [{"row_limit": 0}, {"timeout_s": -1.0}, {"tables": []}, {"tables": "orders"}]
    for settings in wrong:
        with pytest.raises(UsageError):
            Sql("sqlite:///x.db", **settings)
    for url in ("mysql://host/db", "env:", "env:A B", "x.db"):
        with pytest.raises(UsageError):
            Sql(url)


async def test_as_tools(sqlite_url: str) -> None:
    """A kit declares two tools, whose descriptions and schemas a model can go by."""
    app = App("desk")
    kit = app.use(Sql(sqlite_url, name="figures", tables=["orders"]))
    assert [tool.name for tool in kit.tools] == ["figures", "figures_schema"]
    told = kit.tools[0].info()
    assert "read-only" in told.description and "SQLite" in told.description and "orders" in told.description
    assert told.input_schema["required"] == ["query"] and "One statement" in str(told.input_schema)
    assert (await kit.tools[0](query="SELECT count(*) FROM orders")).rows == [[2]]
    assert [table.name for table in (await kit.tools[1]()).tables] == ["orders"]
    with pytest.raises(TerminalError, match="1 is the least"):
        await kit.run("SELECT 1", 0)
    assert check("SELECT 1", kit._open()[1]) == "SELECT 1" and Bounds() == Sql("sqlite:///x").bounds
