"""Assets: wired by name or type, loaded in order, lent to calls, refreshed as a whole, unloaded at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import INJECTED, App, Job
from actors.assets.failure import AssetFailed
from actors.assets.refreshing import Refresher
from actors.assets.shelf import Shelf
from actors.assets.sightings import ask_refresh, sight
from actors.assets.supply import Supply
from actors.assets.wiring import dependents, find_cycle, load_order
from actors.command_bodies import calling
from actors.command_bodies.session import Session
from actors.components.component import InvalidInput
from actors.console.node_page import asset_text
from actors.node.process import Actor
from actors.node.storeroom import Storeroom
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import JobCompleted
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.service import ask
from bus.streams import ensure_streams
from bus.system_events import AssetLoaded, AssetNotLoaded
from store.log import read_job
from tests.apps import stocked
from tests.stage import Stage
from tests.test_cli import Shell
from tests.waiting import wait_until
from tests.whole_node import all_serve, whole_node

LIMIT_S = 40.0


class Base:
    """What assets are in these tests; it knows what became of it."""

    def __init__(self, name: str = "") -> None:
        self.name = name


class Left(Base): ...


class Right(Base): ...


# ---- declaring


def test_an_asset_is_no_part_of_the_input() -> None:
    """Neither schema nor arguments know of it; a plain call passes it, and says so if it does not."""
    info = stocked.price.info()
    assert list(info.input_schema["properties"]) == ["sku"]
    assert stocked.price.decode_input(b'{"sku":"A1"}') == {"sku": "A1"}
    with pytest.raises(InvalidInput, match="gets `prices` from its host"):
        stocked.price.bind_input((), {"sku": "A1", "prices": 1})
    given = {"prices": stocked.Catalogue({"A1": 3}), "source": stocked.Database("test")}
    assert asyncio.run(stocked.price("A1", **given)) == stocked.Answer(3, "test")
    with pytest.raises(UsageError, match="an asset was not passed"):
        asyncio.run(stocked.price("A1"))
    assert stocked.app.info_of(stocked.price).assets == {"db": "2.1.0", "prices": "3.0.0"}
    assert stocked.app.info_of(stocked.plain) == stocked.plain.info()
    assert stocked.app.assets_of(stocked.price) == {"prices": "prices", "source": "db"}


def _no_function(app: App) -> None:
    app.asset(3)  # type: ignore[type-var]


def _no_load(app: App) -> None:
    app.asset(Left)


def _bad_refresh(app: App) -> None:
    @app.asset(refresh_s=0.1)
    def often() -> int:
        return 1


def _stars(app: App) -> None:
    @app.asset
    def starred(*others: Base) -> int:
        return 1


def _twice(app: App) -> None:
    app.asset(name="one")(lambda: 1)
    app.asset(name="one")(lambda: 2)


def _job(app: App) -> None:
    @app.job
    async def order(job: Job, left: Left = INJECTED) -> int:
        return 1


def _in_the_middle(app: App) -> None:
    @app.tool
    def tool(left: Left = INJECTED, sku: str = "") -> int:
        return 1


def _itself(app: App) -> None:
    @app.asset
    def one(one: Base) -> Base:
        return one


def _circle(app: App) -> None:
    @app.asset
    def one(other: Right) -> Left:
        return Left()

    @app.asset
    def two(one: Left) -> Right:
        return Right()


@pytest.mark.parametrize(
    ("declare", "code", "text"),
    [
        (_no_function, "bad_asset", "is no function"),
        (_no_load, "bad_asset", "has no method load"),
        (_bad_refresh, "bad_option", "refresh_s cannot be 0.1"),
        (_stars, "bad_asset", "assets come by name"),
        (_twice, "duplicate_asset", "has an asset one already"),
        (_job, "bad_signature", "a job that is resumed may meet another version of an asset"),
        (_in_the_middle, "bad_signature", "parameter 'sku': it stands after an asset"),
        (_itself, "asset_cycle", "assets need each other: one -> one"),
        (_circle, "asset_cycle", "assets need each other: one -> two -> one"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(declare: Any, code: str, text: str) -> None:
    """The decorator says what is wrong, and what would be right."""
    with pytest.raises(UsageError, match=text) as refused:
        declare(App("shop"))
    assert refused.value.code == code and refused.value.hint


def test_parameters_are_filled_by_name_then_by_type() -> None:
    """The name counts first; a type counts if one asset alone has it; all else is refused when the app is described."""
    app = App("shop")

    @app.asset
    def left() -> Left:
        return Left()

    @app.asset(name="right")
    def make() -> Iterator[Right]:
        yield Right()

    @app.tool
    def fits(ctx_free: int, left: Left = INJECTED, other: Right = INJECTED) -> int:
        return 1

    assert app.assets_of(fits) == {"left": "left", "other": "right"}
    app.check_assets()
    cases: dict[str, Any] = {
        "several assets are a Base: left, right": {"what": Base},
        "did you mean 'left'": {"lefd": int},
        "asset left is a Left, not a Right": {"left": Right},
    }
    for text, parameter in cases.items():
        ((name, kind),) = parameter.items()
        scope: dict[str, Any] = {"INJECTED": INJECTED, "kind": kind}
        exec(f"def tool({name}: kind = INJECTED) -> int: return 1", scope)
        with pytest.raises(UsageError, match=text):
            app.assets_of(App("other").tool(scope["tool"]))


graphs = st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdef")), min_size=6, max_size=6).map(
    lambda graph: {name: {needed: needed for needed in sorted(graph.get(name, set()))} for name in "abcdef"}
)


@given(graphs)
def test_order_and_cycles(graph: dict[str, dict[str, str]]) -> None:
    """There is a cycle, whose steps are needs; or an order in which everything stands after what it needs."""
    if cycle := find_cycle(graph):
        assert cycle[0] == cycle[-1] and all(b in graph[a] for a, b in pairwise(cycle))
        return
    order = load_order(graph, graph)
    assert sorted(order) == sorted(graph)
    assert all(order.index(needed) < order.index(name) for name in graph for needed in graph[name])
    for name in graph:
        concerned = dependents(graph, name, order)
        assert concerned == [other for other in order if name in load_order(graph, [other])]


# ---- a shelf


class Stock:
    """An app of two assets that both stand on a third; what happens is in ``told``."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.fault = ""
        self.app = App("shop")
        self.count = 0

        @self.app.asset
        async def base() -> AsyncIterator[Base]:
            self.count += 1
            yield self._begin(Base(f"base{self.count}"))
            self.told.append("base unloaded")

        @self.app.asset
        def left(base: Base) -> Iterator[Left]:
            yield self._begin(Left(f"left on {base.name}"))
            self.told.append("left unloaded")

        @self.app.asset(validate=lambda value: self.fault != "right is wrong")
        async def right(base: Base) -> Right:
            return self._begin(Right(f"right on {base.name}"))

    def _begin(self, value: Any) -> Any:
        if self.fault and value.name.startswith(self.fault):
            raise ConnectionError(f"{self.fault} is away")
        self.told.append(value.name)
        return value

    def shelf(self, *names: str) -> Shelf:
        """The wanted ones and what they need."""
        return Shelf(self.app.assets, names or ["left", "right"])


def lent(shelf: Shelf, name: str) -> str:
    """The name of the value that a call would be given."""
    with shelf.lend({"it": name}) as values:
        return str(values["it"].name)


async def test_loaded_once_in_order_and_unloaded_in_reverse() -> None:
    """What is needed by two is loaded once and before them, and unloaded after them; what nobody wants is left."""
    stock = Stock()
    shelf = stock.shelf()
    await shelf.load()
    assert stock.told[0] == "base1" and sorted(stock.told[1:]) == ["left on base1", "right on base1"]
    assert {beat.name: beat.state for beat in shelf.beats()} == dict.fromkeys(("base", "left", "right"), "loaded")
    await shelf.close()
    assert stock.told[3:] == ["left unloaded", "base unloaded"]
    assert stock.shelf("base").order == ["base"]
    assert Supply().lend().__enter__() == {}


async def test_a_refresh_swaps_all_that_stand_on_it_at_once() -> None:
    """A call keeps the old values until it ends; then they are unloaded, and not before."""
    stock = Stock()
    shelf = stock.shelf()
    await shelf.load()
    with shelf.lend({"one": "left", "other": "right"}) as values:
        await shelf.refresh("base")
        assert (lent(shelf, "left"), lent(shelf, "right")) == ("left on base2", "right on base2")
        assert values["one"].name == "left on base1"
        assert not [line for line in stock.told if "unloaded" in line]
    await wait_until(lambda: stock.told.count("base unloaded") == 1)
    assert stock.told[-2:] == ["left unloaded", "base unloaded"]
    await shelf.refresh("left")
    assert (stock.count, lent(shelf, "left")) == (2, "left on base2")
    await shelf.close()
    assert stock.told.count("base unloaded") == 2 and stock.told.count("left unloaded") == 3


@pytest.mark.parametrize("fault", ["base", "left", "right", "right is wrong"])
async def test_a_failed_refresh_changes_nothing(fault: str) -> None:
    """Whichever of them fails, all values stay, what was loaded for nothing is unloaded, and the state says why."""
    stock = Stock()
    shelf = stock.shelf()
    await shelf.load()
    stock.fault = fault
    culprit = fault.partition(" ")[0]
    with pytest.raises(AssetFailed, match=f"asset {culprit} 0.1.0 cannot be loaded"):
        await shelf.refresh("base")
    assert (lent(shelf, "left"), lent(shelf, "right")) == ("left on base1", "right on base1")
    states = {beat.name: beat for beat in shelf.beats()}
    assert states.pop(culprit).state == "failed" and {beat.state for beat in states.values()} == {"loaded"}
    stock.fault = ""
    await shelf.refresh("base")
    assert {(beat.state, beat.error) for beat in shelf.beats()} == {("loaded", "")}
    await shelf.close()
    for name, loads in (("base", "base"), ("left", "left on")):
        began = [line for line in stock.told if line.startswith(loads) and "unloaded" not in line]
        assert stock.told.count(f"{name} unloaded") == len(began)


async def test_a_failed_load_leaves_nothing_loaded() -> None:
    """The error names the asset and what it raised; what had been loaded is unloaded."""
    stock = Stock()
    stock.fault = "left"
    shelf = stock.shelf()
    with pytest.raises(AssetFailed, match=r"asset left 0\.1\.0 cannot be loaded: ConnectionError: left is away"):
        await shelf.load()
    await shelf.close()
    assert stock.told.count("base unloaded") == 1


async def test_a_load_that_takes_too_long_is_called_off() -> None:
    """After its time the asset has failed, and the author's code is told to stop."""
    app, stopped = App("shop"), asyncio.Event()

    @app.asset(timeout_s=0.05)
    async def slow() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return 1

    with pytest.raises(AssetFailed, match=r"not loaded within 0\.05 s"):
        await Shelf(app.assets, ["slow"]).load()
    assert stopped.is_set()


async def test_refreshed_by_time_and_by_word(nats_server: EmbeddedServer) -> None:
    """When it is old, and when somebody says so: of its app or of any, not of another, and not by what is no order."""
    stock = Stock()
    times: list[int] = []

    @stock.app.asset(refresh_s=1.0)
    async def timed() -> int:
        times.append(1)
        return 1

    shelf = stock.shelf("left", "timed")
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await shelf.load()
        refresher = Refresher(bus, shelf, stock.app.assets)
        await refresher.start()
        for body in (b'{"app":"other"}', b"no order", b"", b'{"app":"shop"}'):
            before = stock.count
            await bus.publish("asset.base.refresh", body)
            await bus.settle()
            if body in (b"", b'{"app":"shop"}'):
                await wait_until(lambda before=before: stock.count == before + 1, LIMIT_S)  # type: ignore[misc]
        assert stock.count == 3
        await wait_until(lambda: len(times) > 1, LIMIT_S)
        await refresher.stop()
        await shelf.close()


def test_ps_shows_assets() -> None:
    """Version, age and state, in one line."""
    from datetime import UTC, datetime, timedelta

    from supervisor.heartbeat import AssetBeat

    now = datetime(2026, 1, 1, tzinfo=UTC)
    old = now - timedelta(seconds=12)
    beats = [
        AssetBeat(name="db", version="1.0.0", state="loaded", loaded_at=old),
        AssetBeat(name="index", version="2.0.0", state="failed", loaded_at=old, error="away"),
        AssetBeat(name="model", version="3.0.0", state="loading"),
    ]
    expected = "db 1.0.0, 12 s old; index 2.0.0, 12 s old, its refresh failed; model 3.0.0, loading"
    assert asset_text(beats, now) == expected


# ---- processes


async def test_a_process_that_is_stopped_while_it_loads_ends(nats_server: EmbeddedServer) -> None:
    """The load is called off, and what was loaded already is unloaded."""
    app, seen = App("shop"), list[str]()

    @app.asset
    async def base() -> AsyncIterator[Base]:
        yield Base()
        seen.append("base unloaded")

    @app.asset
    async def slow(base: Base) -> int:
        seen.append("slow begins")
        await asyncio.Event().wait()
        return 1

    @app.tool
    async def work(slow: int = INJECTED) -> int:
        return slow

    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        actor = cast("Actor", SimpleNamespace(bus=bus, blobs=Blobs(bus), node="n1", name="w-1", stop=asyncio.Event()))
        storeroom = Storeroom(actor, app, [work])
        opening = asyncio.create_task(storeroom.open())
        await wait_until(lambda: seen == ["slow begins"])
        states = {beat.name: beat.state for beat in actor.heartbeat().assets}
        assert states == {"base": "loading", "slow": "loading"} and not actor.heartbeat().doing
        actor.stop.set()
        assert await opening is False
        await storeroom.close()
        assert seen == ["slow begins", "base unloaded"]


async def test_a_call_here_has_its_assets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``callboard call --here`` loads what the tool asks for, and unloads it after the call."""
    monkeypatch.setenv("CALLBOARD_TEST_LEDGER", str(tmp_path / "ledger"))
    await calling.call_here(Session(json=True), "price", {"sku": "A1"}, target="tests.apps.stocked:app")
    assert '"price":10' in capsys.readouterr().out
    assert (tmp_path / "ledger").read_text().splitlines()[-2:] == ["prices at 10 unloaded", "db unloaded"]


async def test_a_node_serves_with_its_assets(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Loaded before calls are taken, injected, seen by ps and the command, refreshed by a word, unloaded at the end; a
    refresh that fails leaves what was there, and a process whose load fails serves nothing until it succeeds.
    """
    url = nats_server.url
    (tmp_path / "price").write_text("-1")
    async with await Bus.connect(ConnectOptions(servers=[url])) as bus:
        await ensure_streams(bus)
        async with whole_node(url, tmp_path, "n1", "tests.apps.stocked:app") as node:
            on = Stage(bus, None, tmp_path / "ledger")  # type: ignore[arg-type]
            await wait_until(lambda: "a price is not above 0" in node.log.read_text(), LIMIT_S)
            await on.submit("ask", "early", {"sku": "A1"})
            (tmp_path / "price").write_text("10")
            done = await on.end("early", deadline_s=LIMIT_S)
            assert isinstance(done, JobCompleted) and msgspec.json.decode(done.output) == {
                "price": 10,
                "source": "figures",
            }
            await all_serve(bus, "n1")

            async def seen() -> list[Any]:
                found = [one for one in await sight(bus) if one.asset.state == "loaded"]
                return found if len(found) > 2 else []

            found = await wait_until(seen, LIMIT_S)
            assert {(one.actor, one.asset.name, one.asset.version) for one in found} == {
                ("price-1", "db", "2.1.0"), ("price-1", "prices", "3.0.0"), ("clerk-1", "tone", "2.1.0"),
            }  # fmt: skip
            await on.submit("clerk", "told", {"question": "how?"})
            done = await on.end("told", deadline_s=LIMIT_S)
            assert isinstance(done, JobCompleted) and msgspec.json.decode(done.output) == "Be short."
            (tmp_path / "price").write_text("12")
            direct = await ask(bus, "tool.price.v2.call", b'{"sku":"A1"}')
            assert b'"price":10' in direct
            run = Shell(url, tmp_path)
            (component,) = await asyncio.to_thread(run.json, "components", "price", "--json")
            assert component["component"]["assets"] == {"db": "2.1.0", "prices": "3.0.0"}
            told = await asyncio.to_thread(run.json, "asset", "refresh", "prices", "--app", "stocked", "--json")
            assert [one["actor"] for one in told] == ["price-1"]
            await wait_until(lambda: "prices at 10 unloaded" in on.effects(), LIMIT_S)
            (tmp_path / "price").write_text("-2")
            assert len(await ask_refresh(bus, "prices", "stocked")) == 1
            await wait_until(lambda: "is not refreshed, the earlier value stays" in node.log.read_text(), LIMIT_S)
            await on.submit("ask", "late", {"sku": "A1"})
            done = await on.end("late", deadline_s=LIMIT_S)
            assert isinstance(done, JobCompleted) and msgspec.json.decode(done.output)["price"] == 12
            with pytest.raises(UsageError, match="did you mean 'prices'"):
                await ask_refresh(bus, "price")
            events = [r.event for r in await read_job(bus, on.blobs, "_system", "n1")]
            notes = [e for e in events if isinstance(e, AssetLoaded | AssetNotLoaded) and e.asset != "tone"]
            said = [(note.kind, note.asset, note.refreshed) for note in notes]
            assert said[0] == ("asset.failed", "prices", False)
            assert [one for one in said if one[2] or one[0] == "asset.loaded"] == [
                ("asset.loaded", "db", False), ("asset.loaded", "prices", False),
                ("asset.loaded", "prices", True), ("asset.failed", "prices", True),
            ]  # fmt: skip
            await node.end()
            assert on.effects()[-2:] == ["prices at 12 unloaded", "db unloaded"]
