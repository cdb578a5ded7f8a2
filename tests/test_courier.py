"""The courier: what lies in an outbox gets to its server once, whoever else delivers it, and to no other server."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from actors.clients.offline import held_request
from actors.jobs.requests import JobRequest
from bus import headers as h
from bus.connection import Bus
from bus.courier import Courier, Round, deliver_inherited
from bus.destination import Destination
from bus.embedded import EmbeddedServer
from bus.messages import ReplyCompleted, encode
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.outbox import Held, Outbox
from bus.reader import read_all
from bus.streams import EVENTS, JOBS, ensure_streams, stream_info
from store.log import append_unfenced
from tests.waiting import wait_until

DEADLINE_S = 30


def reply(number: int, bus: Bus, *, job: str = "j", owner: str = "n1/tool") -> Held:
    """The result of call ``x:<number>``."""
    call = f"x:{number}"
    return Held(
        event_id=f"old-{number}", owner=owner, kind="event", about=f"default/{job}/{call}",
        subject=f"log.default.{job}.reply.completed", headers={h.EVENT_ID: f"old-{number}"},
        body=encode(ReplyCompleted(job=job, call=call, output=msgspec.Raw(b"1"))), destination=bus.destination,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def buses(server: EmbeddedServer, count: int = 1) -> AsyncIterator[list[Bus]]:
    """So many connections to a server that has the streams."""
    async with contextlib.AsyncExitStack() as stack:
        options = ConnectOptions(servers=[server.url])
        made = [await stack.enter_async_context(await Bus.connect(options)) for _ in range(count)]
        await ensure_streams(made[0])
        yield made


async def left_behind(path: Path, messages: list[Held]) -> None:
    """A process put these in, and is no more."""
    outbox = Outbox(path)
    for held in messages:
        await outbox.put(held)
    await outbox.close()


async def pending(path: Path) -> list[Held]:
    """What is in the outbox now."""
    outbox = Outbox(path)
    try:
        return await outbox.pending()
    finally:
        await outbox.close()


async def stored_ids(bus: Bus) -> Counter[str]:
    """How often each event is in the log."""
    return Counter(stored.headers.get(h.EVENT_ID, "") for stored in await read_all(bus, EVENTS, "log.>"))


async def test_couriers_at_once(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Three couriers on one outbox, of which a part is stored already: each event is in the log once."""
    path = tmp_path / "n1.db"
    async with buses(nats_server, 3) as all_buses:
        messages = [reply(n, all_buses[0]) for n in range(200)]
        for held in messages[:50]:  # stored, and its process died before it had removed them
            await all_buses[0].append(held.subject, held.body, headers=held.headers)
        await left_behind(path, messages[:100])
        await left_behind(path, messages[100:])
        couriers = [Courier(bus, [path]) for bus in all_buses]

        async def all_delivered() -> bool:
            await asyncio.gather(*(courier.round() for courier in couriers))
            return not await pending(path)

        await wait_until(all_delivered, DEADLINE_S)
        assert await stored_ids(all_buses[0]) == {held.event_id: 1 for held in messages}
        assert not list((tmp_path / "holders").iterdir())


async def test_same_message_at_the_same_moment(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Two outboxes hold the same event, and nothing keeps their couriers apart: the server drops the second one."""
    async with buses(nats_server, 2) as both:
        messages = [reply(n, both[0]) for n in range(100)]
        paths = [tmp_path / "a.db", tmp_path / "b.db"]
        for path in paths:
            await left_behind(path, messages)
        await asyncio.gather(*(Courier(bus, [path]).round() for bus, path in zip(both, paths, strict=True)))
        assert await stored_ids(both[0]) == {held.event_id: 1 for held in messages}
        assert not any([await pending(path) for path in paths])


async def test_server_killed_under_a_courier(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """It waits, goes on when the server is back on its store, and nothing is lost or doubled."""
    path = tmp_path / "n1.db"
    async with buses(nats_server) as [bus]:
        messages = [reply(n, bus) for n in range(2000)]
        await left_behind(path, messages)
        courier = Courier(bus, [path], period_s=0.2)
        courier.start()
        for kill_at in (1900, 1000):
            await wait_until(lambda kill_at=kill_at: _count_of(path, kill_at), DEADLINE_S)  # type: ignore[misc]
            nats_server.kill()
            await nats_server.restart()

        async def is_empty() -> bool:
            return not await pending(path)

        await wait_until(is_empty, DEADLINE_S * 2)
        await courier.stop()
        assert await stored_ids(bus) == {held.event_id: 1 for held in messages}


async def _count_of(path: Path, at_most: int) -> bool:
    outbox = Outbox(path)
    try:
        return (await outbox.counts()).messages <= at_most
    finally:
        await outbox.close()


async def test_living_holder_is_left_alone(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What a process holds it delivers itself; once it is gone, its successor has it delivered before it begins."""
    path = tmp_path / "n1.db"
    async with buses(nats_server) as [bus]:
        holder = Outbox(path)
        await holder.put(reply(1, bus))
        assert await Courier(bus, [path]).round() == Round(in_use=1)
        await deliver_inherited(bus, path, "n1/tool", limit_s=0.2)
        assert not await stored_ids(bus)
        await holder.close()
        await deliver_inherited(bus, path, "n1/tool")
        assert await stored_ids(bus) == {"old-1": 1} and not await pending(path)


async def test_locks_of_the_dead_go(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A process that was killed when it held nothing any more has left its lock file: the next round takes it away."""
    path = tmp_path / "n1.db"
    async with buses(nats_server) as [bus]:
        dead, alive = Outbox(path), Outbox(path)
        await dead.put(reply(1, bus))
        await alive.put(reply(2, bus))
        await dead.remove(["old-1"])
        await alive.remove(["old-2"])
        await dead.close()
        (tmp_path / "holders" / "n10.other").touch()
        await Courier(bus, [path]).round()
        assert {file.name for file in (tmp_path / "holders").iterdir()} == {f"n1.{alive.token}", "n10.other"}
        await alive.close(empty=True)


async def test_nothing_inherited_makes_no_file(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """An actor that begins looks whether there is an outbox, and makes none."""
    async with buses(nats_server) as [bus]:
        await deliver_inherited(bus, tmp_path / "outbox" / "n1.db", "n1/tool")
        assert not (tmp_path / "outbox").exists()


async def test_other_server_other_user(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A message for another server or user stays where it is, and is counted."""
    path = tmp_path / "n1.db"
    async with buses(nats_server) as [bus]:
        elsewhere = Destination(("other:4222",))
        other_user = msgspec.structs.replace(bus.destination, identity="user bob")
        messages = [msgspec.structs.replace(reply(n, bus), destination=to) for n, to in
                    enumerate([elsewhere, bus.destination, other_user])]  # fmt: skip
        await left_behind(path, messages)
        assert await Courier(bus, [path]).round() == Round(delivered=1, elsewhere=2)
        assert await stored_ids(bus) == {"old-1": 1}
        assert [held.event_id for held in await pending(path)] == ["old-0", "old-2"]


async def test_other_server_is_said(
    nats_server: EmbeddedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A courier that runs says once that something is not for its server, and does not read it again and again."""
    path = tmp_path / "n1.db"
    async with buses(nats_server) as [bus]:
        await left_behind(path, [msgspec.structs.replace(reply(1, bus), destination=Destination(("other:4222",)))])
        courier = Courier(bus, [path])
        await courier._look()
        assert "1 held messages are not for localhost:" in caplog.text
        assert await courier.round() == Round()
        assert await courier.round(force=True) == Round(elsewhere=1)
        await left_behind(path, [reply(2, bus)])
        assert await courier.round() == Round(delivered=1, elsewhere=1)


async def test_refused_message(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What the server refuses stays with the reason, does not stop the others, and is tried again only when asked."""
    path = tmp_path / "n1.db"
    async with buses(nats_server) as [bus]:
        bad = msgspec.structs.replace(reply(1, bus), headers={h.EVENT_ID: "old-1", "Nats-Expected-Stream": "ELSE"})
        await left_behind(path, [bad, reply(2, bus)])
        courier = Courier(bus, [path])
        assert await courier.round() == Round(delivered=1, refused=1)
        assert await courier.round() == Round(refused=1)
        [held] = await pending(path)
        assert held.event_id == "old-1" and "expected stream" in held.trouble
        assert await courier.round(force=True) == Round(refused=1)
        await deliver_inherited(bus, path, "n1/tool")  # does not wait for what cannot be


async def test_log_without_room(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A full log is asked again; what it took is removed at once, what it did not take stays."""
    path = tmp_path / "n1.db"
    async with buses(nats_server) as [bus]:
        config = (await bus.api(f"STREAM.INFO.{EVENTS}"))["config"]
        await bus.api(f"STREAM.UPDATE.{EVENTS}", config | {"max_msgs": 2})
        await left_behind(path, [reply(n, bus) for n in range(3)])
        done = await Courier(bus, [path]).round()
        assert (done.delivered, done.waiting) == (2, 1)
        await bus.api(f"STREAM.UPDATE.{EVENTS}", config)
        assert await Courier(bus, [path]).round() == Round(delivered=1)
        assert (await stored_ids(bus)).total() == 3


async def test_requests_go_to_the_queue(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A small input in the message, a big one in the object store; each request in the queue once."""
    path = tmp_path / "client.db"
    async with buses(nats_server, 2) as both:
        big = msgspec.json.encode({"text": "x" * 300_000})
        inputs = {"small": b'{"n":1}', "big": big}
        held = [held_request(JobRequest(workflow="w", job=job, input=raw), both[0].destination)
                for job, raw in inputs.items()]  # fmt: skip
        outbox = Outbox(path)
        for one in held:
            await outbox.put(one, free=True)
        # A client that lives does not keep others from delivering what is free.
        await asyncio.gather(*(Courier(bus, [path]).round() for bus in both))
        await outbox.close()
        assert not await pending(path)
        bus, blobs = both[0], Blobs(both[0])
        stored = await read_all(bus, JOBS, "jobs.>")
        bodies = {s.headers[h.JOB_ID]: await blobs.get(s.headers[h.JOB_BLOB]) if h.JOB_BLOB in s.headers else s.body
                  for s in stored}  # fmt: skip
        assert bodies == inputs and len(stored) == 2
        # "Stored" but not "removed": the same once more.
        await outbox.put(held[0], free=True)
        await outbox.close()
        assert await Courier(bus, [path]).round() == Round(delivered=1)
        info = await stream_info(bus, JOBS)
        assert info and info["state"]["messages"] == 2


async def test_what_comes_during_a_round_is_found_by_the_next(
    nats_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that is left behind when a round has looked, but is not over, does not count as looked after."""
    path = tmp_path / "n1.db"
    async with buses(nats_server) as [bus]:
        await left_behind(path, [reply(1, bus)])
        close, late = Outbox.close, [reply(2, bus)]

        async def close_late(outbox: Outbox) -> None:
            if late:
                await left_behind(path, [late.pop()])
            await close(outbox)

        monkeypatch.setattr(Outbox, "close", close_late)
        courier = Courier(bus, [path])
        assert [(await courier.round()).delivered for _ in range(3)] == [1, 1, 0]
        assert await stored_ids(bus) == {"old-1": 1, "old-2": 1}


async def test_background_courier_finds_what_comes_later(
    nats_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's courier looks after all outboxes of this user, also such as are made while it runs."""
    monkeypatch.setenv("CALLBOARD_DATA_DIR", str(tmp_path))
    async with buses(nats_server) as [bus]:
        courier = Courier(bus, period_s=0.05)
        courier.start()
        await left_behind(tmp_path / "outbox" / "n7.db", [reply(1, bus)])
        await wait_until(lambda: _delivered(bus, 1), DEADLINE_S)
        await left_behind(tmp_path / "outbox" / "n7.db", [reply(2, bus)])
        await left_behind(tmp_path / "outbox" / "client.db", [reply(3, bus)])
        await wait_until(lambda: _delivered(bus, 3), DEADLINE_S)
        await courier.stop()
        assert not await pending(tmp_path / "outbox" / "n7.db")


async def _delivered(bus: Bus, count: int) -> bool:
    return len(await stored_ids(bus)) == count


async def test_reply_of_somebody_else_is_no_hit(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The log has other replies on that subject, before and after: they are not taken for the one that is held."""
    path = tmp_path / "n1.db"
    async with buses(nats_server) as [bus]:
        other = ReplyCompleted(job="j", call="y:1", output=msgspec.Raw(b"1"))
        first = await append_unfenced(bus, Blobs(bus), "default", other)
        await append_unfenced(bus, Blobs(bus), "default", other)
        await left_behind(path, [msgspec.structs.replace(reply(1, bus), since=first)])
        assert await Courier(bus, [path]).round() == Round(delivered=1)
        assert (await stored_ids(bus))["old-1"] == 1
