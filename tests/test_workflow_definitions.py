"""Published workflows on a real server: one bucket for all tests here, each with names of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest

from actors import App, Job
from actors.components.registry import Registry
from actors.workflow.document import Document
from actors.workflow_versions.definition import Definition, Deprecation, key_of, parse_key, sha256_of
from actors.workflow_versions.definitions import BUCKET, Definitions
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.kv import Kv
from bus.options import resolve_options
from bus.streams import ensure_streams
from tests.waiting import wait_until


def document(name: str, version: str = "1.0.0", *, signal: str = "go", **more: Any) -> Document:
    """A workflow of one step."""
    value = {"name": name, "version": version, "steps": [{"id": "a", "kind": "wait", "signal": signal}], **more}
    return msgspec.convert(value, Document)


def takes(*required: str) -> dict[str, Any]:
    """The schema of an input with these fields."""
    return {"type": "object", "required": list(required), "properties": {name: {} for name in required}}


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A connection to the shared server."""
    async with await Bus.connect(resolve_options(server.url, env={}), name="test definitions") as opened:
        await ensure_streams(opened)
        yield opened


@pytest.fixture
async def definitions(bus: Bus) -> AsyncIterator[Definitions]:
    """What is published, followed."""
    opened = Definitions(bus)
    await opened.start()
    yield opened
    await opened.stop()


def refusal(caught: pytest.ExceptionInfo[UsageError]) -> tuple[str, str, str]:
    """Code, message and hint."""
    return caught.value.code, str(caught.value.args[0]), caught.value.hint


async def test_a_version_is_published_once(bus: Bus, definitions: Definitions) -> None:
    """The same again is nothing new, however it was written; another content says what differs and what to do."""
    first = document("once", labels={"a": "1", "b": "2"})
    done = await definitions.publish(first, by="ann")
    assert not done.existing
    again = document("once", labels={"b": "2", "a": "1"}, **{"$schema": "workflow.schema.json"})
    revision = await Kv(bus, BUCKET).get("once.1.0.0")
    assert (await definitions.publish(again, by="bob")).existing
    assert await Kv(bus, BUCKET).get("once.1.0.0") == revision
    with pytest.raises(UsageError) as caught:
        await definitions.publish(document("once", signal="halt"))
    code, message, hint = refusal(caught)
    assert code == "version_taken"
    assert '$.steps[0].signal: "go" published, "halt" in yours' in message
    assert hint == "give yours version 1.0.1"
    found = definitions.get("once", "1.0.0")
    assert found is not None and (found.by, found.read(), found.sha256) == ("ann", first, sha256_of(first))


async def test_who_publishes_at_the_same_moment(definitions: Definitions, bus: Bus) -> None:
    """Of several who publish one version with different contents one wins, and the others are told so."""
    others = [Definitions(bus) for _ in range(4)]
    for other in others:
        await other.start()
    results = await asyncio.gather(
        *(other.publish(document("race", signal=f"s{n}")) for n, other in enumerate(others)), return_exceptions=True
    )
    for other in others:
        await other.stop()
    assert sum(not isinstance(result, UsageError) for result in results) == 1
    assert {result.code for result in results if isinstance(result, UsageError)} == {"version_taken"}
    await definitions.refresh()
    assert definitions.get("race", "1.0.0") is not None


async def test_a_break_needs_a_major(definitions: Definitions) -> None:
    """A minor version that breaks is refused with the changes named; by force, or as a major, it is published."""
    await definitions.publish(document("broke", "1.0.0", input=takes("a")))
    broken = document("broke", "1.1.0", input=takes("a", "b"))
    with pytest.raises(UsageError) as caught:
        await definitions.publish(broken)
    code, message, hint = refusal(caught)
    assert code == "breaking_change" and "$.input.b is required now" in message and "2.0.0" in hint
    assert definitions.get("broke", "1.1.0") is None
    await definitions.publish(msgspec.structs.replace(broken, version="2.0.0"))
    forced = await definitions.publish(broken, force=True)
    assert [change.path for change in forced.changes] == ["$.input.b"]
    with pytest.raises(UsageError, match="another content") as caught:
        await definitions.publish(document("broke", "1.1.0", input=takes("a", "b", "c")))
    assert refusal(caught)[2] == "give yours version 3.0.0"
    beside = [document("broke", "3.0.0", input=takes("x"))]
    with pytest.raises(UsageError, match=r"\$\.input\.y is required now"):
        definitions.check(document("broke", "3.1.0", input=takes("x", "y")), beside=beside)


async def test_newest(definitions: Definitions) -> None:
    """New jobs take the newest version that is not deprecated, else one whose day has not come."""
    for version in ("1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1", "2.0.0"):
        await definitions.publish(document("new", version))

    def newest(major: int | None = None, day: int = 1) -> str:
        found = definitions.newest("new", major, now=datetime(2030, 1, day, tzinfo=UTC))
        assert found is not None
        return found.version

    assert (newest(), newest(1)) == ("2.0.0", "1.10.0")
    await definitions.deprecate("new", "2.0.0", "use 1")
    assert newest() == "2.0.0-rc.1"
    await definitions.deprecate("new", "1.10.0", "old", date(2030, 1, 10))
    await definitions.deprecate("new", "1.9.0", "old", date(2030, 1, 20))
    await definitions.deprecate("new", "1.0.0", "old", date(2030, 1, 2))
    assert [newest(1, day) for day in (1, 10, 20)] == ["1.10.0", "1.9.0", "1.10.0"]
    await definitions.undeprecate("new", "1.0.0")
    assert newest(1, 20) == "1.0.0"
    assert definitions.newest("new", 3) is None
    marked = definitions.get("new", "1.9.0")
    assert marked is not None and marked.deprecated is not None
    assert marked.deprecated.warning("new", "1.9.0").endswith("new jobs are refused from 2030-01-20: old")


async def test_search_and_names(definitions: Definitions) -> None:
    """Lists by text, category and label; a name that is not there says what is near."""
    await definitions.publish(document("seek-a", description="Ship it Fast", category="shop", labels={"team": "x"}))
    await definitions.publish(document("seek-a", "1.1.0", description="Ship it", category="shop"))
    await definitions.publish(document("seek-b", category="other", labels={"team": "y"}))

    def found(text: str = "seek", **filters: Any) -> list[str]:
        return [f"{each.name}@{each.version}" for each in definitions.search(text, **filters)]

    assert found() == ["seek-a@1.1.0", "seek-a@1.0.0", "seek-b@1.0.0"]
    assert found("fast SEEK") == ["seek-a@1.0.0"]
    assert found(category="shop", labels={"team": "x"}) == ["seek-a@1.0.0"]
    assert [each.newest for each in definitions.search("seek")] == [True, False, True]
    assert definitions.named("seek-a").version == "1.1.0"
    assert definitions.named("seek-a@1.0.0").version == "1.0.0"
    with pytest.raises(UsageError, match=r"did you mean 'seek-[ab]'"):
        definitions.named("seek-c")
    with pytest.raises(UsageError, match=r"there is 1\.1\.0, 1\.0\.0"):
        definitions.named("seek-a@2.0.0")
    with pytest.raises(UsageError, match="semantic version"):
        definitions.named("seek-a@2")


async def test_others_hear_of_it(definitions: Definitions, bus: Bus) -> None:
    """Whoever follows the bucket is told of each new version, and of a word of deprecation."""
    heard: list[tuple[str, str]] = []
    definitions.on_change.append(lambda name, version: heard.append((name, version)))
    other = Definitions(bus)
    await other.start()
    await other.publish(document("heard", "1.0.0+build.5"))
    await wait_until(lambda: ("heard", "1.0.0+build.5") in heard)
    await other.deprecate("heard", "1.0.0+build.5", "no")
    await other.stop()

    def is_marked() -> bool:
        found = definitions.get("heard", "1.0.0+build.5")
        return found is not None and found.deprecated == Deprecation("no")

    await wait_until(is_marked)
    await definitions.undeprecate("heard", "1.0.0+build.5")


async def test_what_cannot_be_published(definitions: Definitions, bus: Bus) -> None:
    """A document over the limit, one with a parameter that is not given, and one with a Python job's name."""
    with pytest.raises(UsageError) as caught:
        await definitions.publish(document("big", description="x" * 1_100_000))
    assert refusal(caught)[0] == "too_large"
    with pytest.raises(UsageError, match="'limit' has no value"):
        await definitions.publish(document("open", params={"limit": {}}))

    app = App("coded", version="1.0.0")

    @app.job(name="coded-job")
    async def coded(job: Job) -> str:
        """A job in Python."""
        return job.id

    await Registry(bus).register(coded.info())
    with pytest.raises(UsageError, match=r"app coded has a job coded-job 1\.0\.0") as caught:
        await definitions.publish(document("coded-job", "2.0.0"))
    assert refusal(caught)[0] == "name_taken"
    assert not (await definitions.publish(document("coded-job", "2.0.0"), force=True)).existing


async def test_what_nobody_can_read_is_left_out(definitions: Definitions, bus: Bus) -> None:
    """A key or value that is none of ours hides no other, and what a newer Callboard wrote is told when read."""
    kv = Kv(bus, BUCKET)
    await kv.put("strange", b"x")
    await kv.put("strange.1.0.0", b"no json")
    await kv.put("strange.3.0.0", msgspec.json.encode(Definition(
        document=msgspec.Raw(b'{"name": "strange", "version": "3.0.0", "steps": [{"id": "a", "kind": "warp"}]}'),
        sha256="", published_at=datetime.now(UTC))))  # fmt: skip
    await definitions.publish(document("strange", "2.0.0"))
    assert [definition.version for definition in definitions.all() if definition.name == "strange"] == [
        "3.0.0", "2.0.0"
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"strange 3\.0\.0 cannot be read"):
        definitions.named("strange@3.0.0").read()
    for key in ("strange", "strange.1.0.0", "strange.3.0.0"):
        await kv.delete(key)


# ---- pure


def test_keys_read_back() -> None:
    """Name and version make a key that names them again."""
    assert key_of("order", "1.0.0-rc.1+b.2") == "order.1.0.0-rc.1=b.2"
    found = parse_key("order.1.0.0-rc.1=b.2")
    assert found is not None and (found[0], found[1].major, found[1].released) == ("order", 1, False)
    assert [parse_key(key) for key in ("order", "a b.1.0.0", "order.1", "order.x")] == [None] * 4


def test_a_day_that_has_come() -> None:
    """From the beginning of the day, in UTC, new jobs are refused; without a day they never are."""
    word = Deprecation("old", date(2030, 1, 2))
    assert not word.is_over(datetime(2030, 1, 1, 23, 59, tzinfo=UTC))
    assert word.is_over(datetime(2030, 1, 2, tzinfo=UTC))
    assert not Deprecation("old").is_over()
