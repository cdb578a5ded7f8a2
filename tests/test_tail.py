"""A tail tells every event once and in order, whatever happens to the server, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from bus import jobid, subjects
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import ServerUnsuitable, UsageError
from bus.messages import Signal
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import EVENTS, ensure_streams
from store import tail as tail_module
from store.log import append_unfenced
from store.tail import Followed, TailItem, Unread, live_filter, tail
from tests.waiting import wait_until

PATIENCE_S = 60.0


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A connection to the shared server, with our streams."""
    async with await Bus.connect(ConnectOptions(servers=[server.url])) as bus:
        await ensure_streams(bus)
        yield bus


@pytest.fixture
def workspace() -> str:
    """A workspace that no other test writes to."""
    return f"t-{jobid.new()}"


async def say(bus: Bus, workspace: str, first: int, last: int, *, job: str = "j") -> list[int]:
    """Append signals that carry their number; the sequences that they got."""
    blobs = Blobs(bus)
    return [
        await append_unfenced(
            bus, blobs, workspace, Signal(job=job, name="n", data=msgspec.Raw(str(number).encode())), since=0
        )
        for number in range(first, last + 1)
    ]


def number_of(item: TailItem) -> int:
    """The number in a signal of ``say``."""
    assert isinstance(item, Followed)
    assert isinstance(item.event, Signal)
    return int(bytes(item.event.data))


async def take(items: AsyncIterator[TailItem], count: int) -> list[TailItem]:
    """The next items of a tail; fails when they do not come."""
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(items) for _ in range(count)]


async def tails_on(bus: Bus) -> set[str]:
    """The tail consumers on the server."""
    names = (await bus.api(f"CONSUMER.NAMES.{EVENTS}"))["consumers"] or []
    return {name for name in names if name.startswith("tail-")}


async def test_history_then_live_without_gap_or_double(bus: Bus, workspace: str) -> None:
    """What was there before and what comes meanwhile arrives once, in the order of the log, with its sequence."""
    sequences = await say(bus, workspace, 1, 1200)
    async with aclosing(tail(bus, Blobs(bus), live_filter(workspace))) as items:
        early = await take(items, 700)
        writer = asyncio.create_task(say(bus, workspace, 1201, 1500))
        late = await take(items, 800)
        sequences += await writer
    assert [number_of(item) for item in early + late] == list(range(1, 1501))
    assert [item.sequence for item in early + late] == sequences
    assert {item.workspace for item in early if isinstance(item, Followed)} == {workspace}


async def test_a_server_that_is_killed_and_comes_back_costs_no_event(nats_server: EmbeddedServer) -> None:
    """500 events before, 500 while tailing, a kill -9 of the server in their middle: exactly 1 to 1,000, in order."""
    options = ConnectOptions(servers=[nats_server.url])
    async with await Bus.connect(options, name="writer") as writer, await Bus.connect(options, name="reader") as reader:
        await ensure_streams(writer)
        await say(writer, "w", 1, 500)
        heard: list[int] = []

        async def listen() -> None:
            async with aclosing(tail(reader, Blobs(reader), live_filter("w"))) as items:
                while len(heard) < 1000:
                    heard.append(number_of(await anext(items)))

        listening, writing = asyncio.create_task(listen()), asyncio.create_task(say(writer, "w", 501, 1000))
        await wait_until(lambda: len(heard) > 600, PATIENCE_S)
        nats_server.kill()
        await nats_server.wait()
        await nats_server.restart()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(listening, writing)
        assert heard == list(range(1, 1001))
        assert await tails_on(writer) == set()


async def test_a_lost_consumer_is_made_again(bus: Bus, workspace: str) -> None:
    """Somebody deletes the tail's consumer: the tail goes on after the last event that it told."""
    await say(bus, workspace, 1, 3)
    before = await tails_on(bus)
    async with aclosing(tail(bus, Blobs(bus), live_filter(workspace))) as items:
        assert [number_of(i) for i in await take(items, 3)] == [1, 2, 3]
        (ours,) = await tails_on(bus) - before
        await bus.api(f"CONSUMER.DELETE.{EVENTS}.{ours}")
        await say(bus, workspace, 4, 6)
        assert [number_of(i) for i in await take(items, 3)] == [4, 5, 6]


async def test_a_reader_that_pauses_longer_than_the_consumer_lives(
    bus: Bus, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server removed the consumer while nobody asked for more: nothing is lost."""
    monkeypatch.setattr(tail_module, "BATCH", 2)
    await say(bus, workspace, 1, 6)
    before = await tails_on(bus)
    async with aclosing(tail(bus, Blobs(bus), live_filter(workspace))) as items:
        assert [number_of(i) for i in await take(items, 1)] == [1]
        (ours,) = await tails_on(bus) - before
        await bus.api(f"CONSUMER.DELETE.{EVENTS}.{ours}")
        assert [number_of(i) for i in await take(items, 5)] == [2, 3, 4, 5, 6]


async def test_a_hole_in_what_the_consumer_delivers_is_filled(
    bus: Bus, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that the client dropped on its way is read again, and none after it is told before it."""
    take_one, dropped = tail_module._Source._take, []

    def drop_the_third(self: Any, msg: Any) -> None:
        if not dropped and self._count == 2:
            dropped.append(msg)
        else:
            take_one(self, msg)

    monkeypatch.setattr(tail_module._Source, "_take", drop_the_third)
    await say(bus, workspace, 1, 5)
    async with aclosing(tail(bus, Blobs(bus), live_filter(workspace))) as items:
        assert [number_of(i) for i in await take(items, 5)] == [1, 2, 3, 4, 5]
    assert dropped


async def test_silence_is_not_taken_for_peace(bus: Bus, workspace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull of which nothing is heard, not even heartbeats, is given up and the tail goes on."""
    monkeypatch.setattr(tail_module, "SILENCE_S", 0.2)
    hear, deaf, unheard = tail_module._Source._on_message, [True], list[Any]()
    monkeypatch.setattr(
        tail_module._Source, "_on_message", lambda self, msg: unheard.append(msg) if deaf else hear(self, msg)
    )
    await say(bus, workspace, 1, 2)
    before = await tails_on(bus)
    async with aclosing(tail(bus, Blobs(bus), live_filter(workspace))) as items:
        first = asyncio.create_task(take(items, 2))
        old = await wait_until(lambda: _new(bus, before))
        await wait_until(lambda: len(unheard) >= 2, 30, what="both were sent to deaf ears")
        deaf.clear()
        assert [number_of(i) for i in await first] == [1, 2]
        assert not old & (await tails_on(bus))


async def _new(bus: Bus, before: set[str]) -> set[str]:
    return await tails_on(bus) - before


async def test_resuming_after_a_sequence(bus: Bus, workspace: str) -> None:
    """``since`` is the last sequence that one has seen."""
    sequences = await say(bus, workspace, 1, 4)
    async with aclosing(tail(bus, Blobs(bus), live_filter(workspace), since=sequences[1])) as items:
        assert [number_of(i) for i in await take(items, 2)] == [3, 4]


async def test_only_what_is_new(bus: Bus, workspace: str) -> None:
    """``new_only`` leaves the history out."""
    await say(bus, workspace, 1, 3)
    before = await tails_on(bus)
    async with aclosing(tail(bus, Blobs(bus), live_filter(workspace), new_only=True)) as items:
        first = asyncio.create_task(take(items, 2))
        await wait_until(lambda: _new(bus, before))
        await say(bus, workspace, 4, 5)
        assert [number_of(i) for i in await first] == [4, 5]


async def test_closing_leaves_no_consumer(bus: Bus, workspace: str) -> None:
    """A tail that is closed, or whose task is cancelled, takes its consumer with it."""
    await say(bus, workspace, 1, 1)
    before = await tails_on(bus)
    async with aclosing(tail(bus, Blobs(bus), live_filter(workspace))) as items:
        await take(items, 1)
        assert len(await tails_on(bus) - before) == 1
    assert await tails_on(bus) - before == set()

    async def follow() -> None:
        async with aclosing(tail(bus, Blobs(bus), live_filter(workspace))) as items:
            async for _ in items:
                pass

    following = asyncio.create_task(follow())
    await wait_until(lambda: _new(bus, before))
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert await tails_on(bus) - before == set()
    assert bus.on_reconnect == []


async def test_what_nobody_can_read_is_told(bus: Bus, workspace: str) -> None:
    """A message that is no event, or whose body is gone, is an item of its own in its place."""
    await say(bus, workspace, 1, 1)
    await bus.append(subjects.event(workspace, "j", "job.completed"), b"not json")
    await bus.append(
        subjects.event(workspace, "j", "signal.n"),
        b'{"type":"signal","job":"j","at":"2026-01-01T00:00:00Z","name":"n","blob":{"sha256":"00","size_bytes":300000}}',
    )
    await bus.append(f"log.{workspace}.short", b"{}")
    await say(bus, workspace, 2, 2)
    async with aclosing(tail(bus, Blobs(bus), f"log.{workspace}.>")) as items:
        first, bad, gone, short, second = await take(items, 5)
    assert (number_of(first), number_of(second)) == (1, 2)
    assert isinstance(bad, Unread)
    assert isinstance(gone, Unread)
    assert isinstance(short, Unread)
    assert bad.subject == f"log.{workspace}.j.job.completed"
    assert "malformed" in bad.reason
    assert "not in the object store" in gone.reason
    assert "is no event" in short.reason
    assert [i.sequence for i in (first, bad, gone, short, second)] == sorted(
        i.sequence for i in (first, bad, gone, short, second)
    )


async def test_a_big_event_comes_whole(bus: Bus, workspace: str) -> None:
    """An event that lies in the object store is told with its body."""
    big = msgspec.json.encode("x" * 400_000)
    await append_unfenced(bus, Blobs(bus), workspace, Signal(job="j", name="n", data=msgspec.Raw(big)))
    async with aclosing(tail(bus, Blobs(bus), live_filter(workspace))) as items:
        (item,) = await take(items, 1)
    assert isinstance(item, Followed)
    assert isinstance(item.event, Signal)
    assert bytes(item.event.data) == big


async def test_no_log_yet_is_said_at_once(nats_server: EmbeddedServer) -> None:
    """Without the stream there is nothing to follow, and the error says what to start."""
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        with pytest.raises(ServerUnsuitable, match="EVENTS"):
            await anext(tail(bus, Blobs(bus), live_filter()))


@pytest.mark.parametrize(
    ("given", "subject"),
    [
        ({}, "log.*.*.>"),
        ({"workspace": "shop"}, "log.shop.*.>"),
        ({"workspace": "shop", "job": "j1"}, "log.shop.j1.>"),
        ({"job": "j1", "kind": "job.failed"}, "log.*.j1.job.failed"),
        ({"kind": "reply"}, "log.*.*.reply.>"),
        ({"kind": "reply.>"}, "log.*.*.reply.>"),
        ({"kind": "signal.approve"}, "log.*.*.signal.approve"),
        ({"kind": "call.tool.quote"}, "log.*.*.call.tool.quote.>"),
        ({"kind": "call.*.quote.v1"}, "log.*.*.call.*.quote.v1"),
    ],
)
def test_filters(given: dict[str, str], subject: str) -> None:
    """What is not named is open, and a beginning of a kind takes in all that begins so."""
    assert live_filter(**given) == subject


@pytest.mark.parametrize(
    "given",
    [
        {"workspace": "a.b"},
        {"job": "j 1"},
        {"job": "*"},
        {"kind": "exploded"},
        {"kind": "job.failed.now"},
        {"kind": "job..x"},
        {"kind": "signal.a b"},
        {"kind": ">"},
    ],
)
def test_filters_that_cannot_be(given: dict[str, str]) -> None:
    """A name that would change the shape of the filter, or a kind that no event has, is refused."""
    with pytest.raises(UsageError):
        live_filter(**given)
