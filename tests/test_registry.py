"""The registry and the key-value cache below it, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import App
from actors.components.component import ComponentInfo
from actors.components.registry import Registry, key_of, parse_ref
from actors.components.schema_change import describe_change
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import Fenced, UsageError
from bus.kv import Entry, Kv, KvCache
from bus.options import resolve_options
from bus.reader import scan
from bus.service import Service
from bus.streams import REGISTRY, ensure_streams
from tests.waiting import wait_until


async def connect(server: EmbeddedServer) -> Bus:
    bus = await Bus.connect(resolve_options(server.url, env={}), name="test registry")
    await ensure_streams(bus)
    return bus


@pytest.fixture
async def bus(nats_server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A connection to a server of the test's own."""
    async with await connect(nats_server) as opened:
        yield opened


@pytest.fixture
async def registry(bus: Bus) -> AsyncIterator[Registry]:
    """A started registry on an empty bucket."""
    opened = Registry(bus)
    await opened.start()
    yield opened
    await opened.stop()


def tool(
    name: str, version: str = "1.0.0", *, app: str = "shop", field: str = "qty", type_: type = int
) -> ComponentInfo:
    """A tool with one parameter."""

    def function(**_: Any) -> int:
        return 0

    namespace: dict[str, Any] = {"type_": type_}
    exec(f"def function({field}: type_) -> int: return 0", namespace)
    component = App(app, version=version).tool(name=name)(namespace["function"])
    return component.info()


def job(name: str, version: str = "1.0.0", *, app: str = "shop") -> ComponentInfo:
    """The same shape as a job's info; the registry does not care who made it."""
    return msgspec.structs.replace(tool(name, version, app=app), kind="job")


async def announce(bus: Bus, info: ComponentInfo, node: str) -> Service:
    """A live service as a running component has it."""
    service = Service()
    metadata = {"kind": info.kind, "app": info.app, "digest": info.digest, "node": node}
    await service.start(bus, name=info.name, version=info.version, metadata=metadata)
    return service


# ---- key-value


async def test_kv_writes_on_condition(bus: Bus) -> None:
    """A write on a revision that is not the newest is refused; a deleted key keeps its revision."""
    kv = Kv(bus, "registry")
    first = await kv.compare_and_set("a.b", b"1", 0)
    with pytest.raises(Fenced):
        await kv.compare_and_set("a.b", b"2", 0)
    second = await kv.compare_and_set("a.b", b"2", first)
    assert await kv.get("a.b") == Entry("a.b", b"2", second)
    gone = await kv.delete("a.b", revision=second)
    assert await kv.get("a.b") == Entry("a.b", b"", gone, deleted=True)
    await kv.compare_and_set("a.b", b"3", gone)
    assert await kv.get("never") is None


async def test_cache_follows_writes_and_deletions(bus: Bus) -> None:
    """What another connection writes, deletes and purges shows in memory and reaches the hooks."""
    kv = Kv(bus, "registry")
    await kv.put("old", b"0")
    cache = KvCache(kv)
    seen: list[tuple[str, bytes | None]] = []
    cache.on_change.append(lambda key, entry: seen.append((key, entry and entry.value)))
    await cache.start()
    await kv.put("a", b"1")
    await kv.put("b", b"1")
    await wait_until(lambda: cache.get("b") is not None)
    await kv.delete("a")
    await kv.purge("b")
    await wait_until(lambda: cache.get("a") is None and cache.get("b") is None)
    assert [entry.key for entry in cache] == ["old"]
    assert seen == [("old", b"0"), ("a", b"1"), ("b", b"1"), ("a", None), ("b", None)]
    await cache.stop()


async def test_cache_survives_restart_and_new_bucket(nats_server: EmbeddedServer, bus: Bus) -> None:
    """After a killed server and after a bucket that was made anew, memory and bucket agree again."""
    kv = Kv(bus, "registry")
    await kv.put("before", b"1")
    cache = KvCache(kv, check_s=0.2)
    await cache.start()
    nats_server.kill()
    await nats_server.wait()
    await nats_server.restart()
    await bus.settle()
    await kv.put("after", b"1")
    await wait_until(lambda: cache.get("after") is not None)
    await bus.api(f"STREAM.DELETE.{REGISTRY}")
    await ensure_streams(bus)
    await kv.put("new", b"1")
    await wait_until(lambda: [entry.key for entry in cache] == ["new"])
    await cache.stop()


async def test_cache_notices_removal_without_marker(bus: Bus) -> None:
    """A key whose messages were purged from the stream itself is gone at the next comparison."""
    kv = Kv(bus, "registry")
    for key in ("a", "b"):
        await kv.put(key, b"1")
    cache = KvCache(kv, check_s=0.1)
    await cache.start()
    await bus.api(f"STREAM.PURGE.{REGISTRY}", {"filter": "$KV.registry.b"})
    await wait_until(lambda: [entry.key for entry in cache] == ["a"])
    await cache.stop()


async def test_a_bucket_that_is_read_anew_is_never_empty(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks a key up while everything is read again finds it, and no hook hears of a change that there was not."""
    kv, seen, said = Kv(bus, "registry"), list[bool](), list[str]()
    for key in ("a", "b"):
        await kv.put(key, b"1")
    cache = KvCache(kv)
    await cache.start()

    async def watched(*args: Any, **options: Any) -> AsyncIterator[Any]:
        async for page in scan(*args, **options):
            seen.append(cache.get("a") is not None)
            yield page

    monkeypatch.setattr("bus.kv.scan", watched)
    cache.on_change.append(lambda key, _: said.append(key))
    await bus.api(f"STREAM.PURGE.{REGISTRY}", {"filter": "$KV.registry.b"})
    await asyncio.gather(cache.check(), kv.put("c", b"1"), cache.refresh())
    await wait_until(lambda: sorted(said) == ["b", "c"])
    assert seen
    assert all(seen)
    await cache.stop()


async def test_failing_hook_harms_nobody(bus: Bus) -> None:
    """An exception in one hook neither stops the cache nor keeps the entry out of it."""
    kv, said = Kv(bus, "registry"), list[str]()
    cache = KvCache(kv)

    def fail(key: str, entry: Entry | None) -> None:
        raise RuntimeError(key)

    cache.on_change += [fail, lambda key, _: said.append(key)]
    await cache.start()
    await kv.put("a", b"1")
    await wait_until(lambda: said == ["a"])
    assert cache.get("a") is not None
    await cache.stop()


# ---- lookup


async def test_newest_version_and_majors(registry: Registry) -> None:
    """The newest version is found overall and within a major, by semantic order and not by that of texts."""
    for version in ("1.9.0", "1.10.0", "2.0.0-rc.1", "2.0.0", "1.2.0"):
        await registry.register(tool("send", version))
    assert [info.version for info in registry.all()] == ["2.0.0", "2.0.0-rc.1", "1.10.0", "1.9.0", "1.2.0"]
    assert found(registry, "send") == "2.0.0"
    assert found(registry, "send", 1) == "1.10.0"
    assert found(registry, "send", 3) is None
    assert registry.find("job", "send") is None


def found(registry: Registry, name: str, major: int | None = None) -> str | None:
    info = registry.find("tool", name, major)
    return info and info.version


async def test_resolve_references(registry: Registry) -> None:
    """Name, major and app each narrow the choice."""
    await registry.register(tool("send", "1.0.0", app="mail"))
    await registry.register(tool("send", "2.1.0", app="mail"))
    await registry.register(tool("send", "3.0.0+build.7", app="post"))
    await registry.register(job("order"))
    refs = ["send", "send@2", "mail.send", "mail.send@1", "post.send", "order"]
    assert [registry.resolve(ref).version for ref in refs] == [
        "3.0.0+build.7", "2.1.0", "2.1.0", "1.0.0", "3.0.0+build.7", "1.0.0",
    ]  # fmt: skip
    assert registry.resolve("order", ("job",)).kind == "job"
    with pytest.raises(UsageError, match="no tool is named 'order'") as caught:
        registry.resolve("order", ("tool",))
    assert caught.value.hint == "'order' is of kind job"


@pytest.mark.parametrize(
    ("ref", "code", "words"),
    [
        ("sned", "unknown_component", "did you mean send"),
        ("send@7", "unknown_component", "there is send@1, send@2"),
        ("post.send", "unknown_component", "there is mail.send"),
        ("xyzzy", "unknown_component", "there is order, send"),
        ("send@", "bad_ref", "[app.]name[@major]"),
        ("send@2.1", "bad_ref", "[app.]name[@major]"),
        ("send@1.0.0", "unknown_component", "send@1"),
        ("send@2.1x", "bad_ref", "[app.]name[@major]"),
        ("a.b.send", "bad_ref", "[app.]name[@major]"),
        ("", "bad_ref", "[app.]name[@major]"),
    ],
)
async def test_unknown_reference_says_what_is_near(registry: Registry, ref: str, code: str, words: str) -> None:
    """A reference that leads nowhere is refused with a near name, the majors or the apps that there are."""
    for info in (tool("send", "1.0.0", app="mail"), tool("send", "2.0.0", app="mail"), job("order")):
        await registry.register(info)
    with pytest.raises(UsageError) as caught:
        registry.resolve(ref)
    assert caught.value.code == code
    assert words in str(caught.value)


@given(
    st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True),
    st.integers(0, 10**6) | st.none(),
    st.sampled_from(["", "app"]),
)
def test_reference_reads_back(name: str, major: int | None, app: str) -> None:
    """What a reference is made of is what is read from it."""
    ref = (f"{app}." if app else "") + name + ("" if major is None else f"@{major}")
    assert parse_ref(ref) == (app, name, major)


async def test_unreadable_entries_are_passed_over(bus: Bus, registry: Registry) -> None:
    """Keys and values that are none of ours leave the registry working."""
    kv = Kv(bus, "registry")
    await kv.put("nonsense", b"{}")
    await kv.put("tool.broken.1.0.0", b"not JSON")
    await kv.put("tool.broken.x", b"{}")
    await registry.register(tool("fine"))
    assert [info.name for info in registry.all()] == ["fine"]
    assert registry.find("tool", "broken") is None


async def test_ten_thousand_components(bus: Bus) -> None:
    """A registry of 10,000 loads within the budget and finds any of them, first and last."""
    info = tool("x")
    value = msgspec.json.encode(info)
    kv = Kv(bus, "registry")
    for start in range(0, 10_000, 500):
        await asyncio.gather(
            *(
                kv.put(key_of("tool", f"t{i}", "1.0.0"), value.replace(b'"x"', b'"t%d"' % i))
                for i in range(start, start + 500)
            )
        )
    registry = Registry(bus)
    await registry.start()
    assert registry.resolve("t0").name == "t0"
    assert registry.resolve("t9999@1").name == "t9999"
    assert len(registry.all()) == 10_000
    with pytest.raises(UsageError, match="t7777"):
        registry.resolve("t77770")
    with pytest.raises(UsageError, match="t7777"):
        registry.resolve("x7777")
    await registry.stop()


# ---- registering


async def test_same_schema_is_written_once(bus: Bus, registry: Registry) -> None:
    """Any number of processes that register one component, at once or later, write it once."""
    await asyncio.gather(*(Registry(bus).register(tool("send")) for _ in range(8)))
    await registry.register(tool("send"))
    info = await bus.api(f"STREAM.INFO.{REGISTRY}")
    assert info["state"]["last_seq"] == 1


async def test_changed_schema_of_a_running_version_is_refused(bus: Bus, registry: Registry) -> None:
    """One name and version with two schemas on two nodes: the second is refused, told what differs and where."""
    old, new = tool("send"), tool("send", field="amount")
    service = await announce(bus, old, "north")
    await registry.register(old)
    with pytest.raises(UsageError) as caught:
        await registry.register(new)
    assert caught.value.code == "schema_conflict"
    assert "north" in str(caught.value)
    assert "input.qty: only there; input.amount: only here" in str(caught.value)
    await service.stop()
    await registry.register(new)
    assert found_digest(registry) == new.digest


def found_digest(registry: Registry) -> str:
    info = registry.find("tool", "send")
    assert info is not None
    return info.digest


async def test_two_nodes_with_two_schemas_at_one_moment(bus: Bus) -> None:
    """Two nodes that announce, then register at the same moment: one of them is refused, whoever it is."""
    infos = [tool("send"), tool("send", field="amount")]
    services = [await announce(bus, info, f"n{i}") for i, info in enumerate(infos)]
    outcomes = await asyncio.gather(*(Registry(bus).register(info) for info in infos), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "UsageError"]
    for service in services:
        await service.stop()


async def test_deleted_component_can_come_back(bus: Bus, registry: Registry) -> None:
    """A component whose entry was deleted is gone from lookups and may be registered again."""
    info = tool("send")
    await registry.register(info)
    await Kv(bus, "registry").delete(key_of("tool", "send", "1.0.0"))
    await wait_until(lambda: registry.find("tool", "send") is None)
    await registry.register(info)
    assert registry.find("tool", "send") == info


async def test_registering_waits_for_the_server(nats_server: EmbeddedServer, bus: Bus, registry: Registry) -> None:
    """A registration that meets a killed server is done when the server is back."""
    nats_server.kill()
    await nats_server.wait()
    task = asyncio.create_task(registry.register(tool("send")))
    await nats_server.restart()
    await asyncio.wait_for(task, 30)
    assert registry.find("tool", "send") is not None


def test_change_names_types_and_needs() -> None:
    """A change is told by field: other type, other need, only on one side, other result."""
    assert describe_change(tool("a"), tool("a", type_=str)) == "input.qty: integer there, string here"
    app = App("shop")

    @app.tool(name="a")
    def optional(qty: int = 1) -> str:
        return ""

    told = describe_change(tool("a"), optional.info())
    assert told == "input.qty: integer there, integer (default 1) here; output: integer there, string here"
