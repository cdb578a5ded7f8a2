"""The mailbox: every message once to one worker, whatever happens to the connection, the server or the consumer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from bus import headers as h
from bus import mailbox as mailbox_module
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import BusError
from bus.mailbox import Delivery, Mailbox
from bus.options import ConnectOptions
from bus.streams import JOBS, ensure_consumer, ensure_streams
from tests.waiting import wait_until

SUBJECT = "jobs.default.box"


class Worker:
    """A mailbox, and what it was given."""

    def __init__(self, bus: Bus, *, capacity: int = 50, ack_wait_s: float = 60.0, auto: bool = True) -> None:
        self.bus = bus
        self.got: list[Delivery] = []
        self.most = 0
        self.auto = auto
        self.rebuilt = 0
        self._ack_wait_s = ack_wait_s
        self._tasks: set[asyncio.Task[None]] = set()
        self.mailbox = Mailbox(bus, JOBS, "box", self._take, capacity=capacity, rebuild=self._rebuild)

    async def _rebuild(self) -> None:
        self.rebuilt += 1
        await ensure_consumer(self.bus, JOBS, "box", [SUBJECT], ack_wait_s=self._ack_wait_s)

    def _take(self, delivery: Delivery) -> None:
        self.got.append(delivery)
        self.most = max(self.most, len(self.mailbox.in_flight))
        if self.auto:
            task = asyncio.create_task(self._work(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, delivery: Delivery) -> None:
        await asyncio.sleep(0)
        await delivery.ack()

    @property
    def bodies(self) -> list[str]:
        return [delivery.body.decode() for delivery in self.got]


@contextlib.asynccontextmanager
async def worker(server: EmbeddedServer, **options: float | bool) -> AsyncIterator[Worker]:
    """A worker on a connection of its own."""
    async with await Bus.connect(ConnectOptions(servers=[server.url]), name="worker") as bus:
        await ensure_streams(bus)
        made = Worker(bus, **options)  # type: ignore[arg-type]
        await made.mailbox.start()
        yield made
        await made.mailbox.stop_taking()


async def publish(bus: Bus, bodies: range | list[int]) -> None:
    await asyncio.gather(*(bus.append(SUBJECT, str(n).encode()) for n in bodies))


async def unacked(bus: Bus) -> tuple[int, int]:
    """(given out and not acked, not given out yet)"""
    info = await bus.api(f"CONSUMER.INFO.{JOBS}.box")
    return info["num_ack_pending"], info["num_pending"]


async def empty(bus: Bus) -> bool:
    return await unacked(bus) == (0, 0)


async def test_each_message_once_within_capacity(nats_server: EmbeddedServer) -> None:
    """Two thousand messages go to two workers, each once, and none ever holds more than its capacity."""
    async with worker(nats_server) as one, worker(nats_server) as two:
        await publish(one.bus, range(2000))
        await wait_until(lambda: len(one.got) + len(two.got) >= 2000, 20)
        await wait_until(lambda: empty(one.bus))
        assert Counter(one.bodies + two.bodies) == Counter(str(n) for n in range(2000))
        assert max(one.most, two.most) <= 50
        assert min(len(one.got), len(two.got)) > 100, "both had a share"
        assert one.mailbox.handled + two.mailbox.handled == 2000


async def test_capacity_is_kept_while_nothing_is_done(nats_server: EmbeddedServer) -> None:
    """A worker that finishes nothing gets as much as it may hold, and the rest once there is room."""
    async with worker(nats_server, capacity=8, auto=False) as slow:
        await publish(slow.bus, range(20))
        await wait_until(lambda: len(slow.got) == 8)
        assert await unacked(slow.bus) == (8, 12)
        for delivery in list(slow.mailbox.in_flight):
            await delivery.ack()
        await wait_until(lambda: len(slow.got) == 16)


async def test_server_killed_with_pulls_outstanding(nats_server: EmbeddedServer) -> None:
    """After kill -9 and restart on its store the mailbox asks again; what was in flight is delivered again."""
    async with worker(nats_server, ack_wait_s=1.5, auto=False) as one:
        await publish(one.bus, [1, 2])
        await wait_until(lambda: len(one.got) == 2)
        nats_server.kill()
        await nats_server.restart()
        await wait_until(lambda: one.bus.reconnects == 1, 20)
        await publish(one.bus, [3])
        await wait_until(lambda: "3" in one.bodies, 20)
        # Their delivery counts may begin anew: a server that was killed had perhaps not written down that it gave them.
        await wait_until(lambda: min(Counter(one.bodies)[body] for body in ("1", "2")) > 1, 20)


async def test_consumer_deleted_under_it(nats_server: EmbeddedServer) -> None:
    """A consumer that somebody deletes is made again, and messages flow."""
    async with worker(nats_server) as one:
        for n in range(3):
            await one.bus.api(f"CONSUMER.DELETE.{JOBS}.box")
            await publish(one.bus, [n])
            await wait_until(lambda n=n: str(n) in one.bodies, 20)  # type: ignore[misc]
        assert one.rebuilt >= 4


async def test_idle_mailbox_does_not_poll(nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle mailbox has one pull at the server at a time, and asks again only when that one has ended."""
    monkeypatch.setattr(mailbox_module, "EXPIRES_S", 1.0)
    monkeypatch.setattr(mailbox_module, "HEARTBEAT_S", 0.3)
    asked, ended, beats = [], [], []

    def on_status(msg: Msg) -> None:
        (beats if (msg.headers or {}).get(h.STATUS) == "100" else ended).append(msg)

    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as spy:
        await spy.subscribe("$JS.API.CONSUMER.MSG.NEXT.>", asked.append)
        await spy.settle()
        async with worker(nats_server) as one:
            await spy.subscribe(one.mailbox._inbox + "*", on_status)
            await spy.settle()
            await wait_until(lambda: len(ended) >= 2, 20)
            assert beats, "the server says that the pull is alive"
            assert len(asked) <= len(ended) + 1


async def test_lost_pull_is_asked_again(nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull that the server never got, or has forgotten, is noticed by its silence."""
    monkeypatch.setattr(mailbox_module, "HEARTBEAT_S", 0.2)
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await ensure_streams(bus)
        one, lost = Worker(bus), []
        pull = one.mailbox._next

        async def lose_first(subject: str, body: bytes = b"", **rest: str) -> None:
            if subject == pull and not lost:
                lost.append(body)
                return
            await Bus.publish(bus, subject, body, **rest)

        monkeypatch.setattr(bus, "publish", lose_first)
        await one.mailbox.start()
        await wait_until(lambda: bool(lost))
        await publish(bus, [1])
        await wait_until(lambda: one.bodies == ["1"], 20)
        await one.mailbox.stop_taking()


async def test_stop_hands_everything_back(nats_server: EmbeddedServer) -> None:
    """A mailbox that stops in the middle of a stream of messages keeps none: others have them at once."""
    async with worker(nats_server, auto=False, capacity=1000) as one:
        sending = asyncio.create_task(publish(one.bus, range(500)))
        await wait_until(lambda: len(one.got) >= 20)
        await one.mailbox.stop_taking()
        await one.mailbox.hand_back()
        await sending
        async with worker(nats_server, capacity=1000) as two:
            await wait_until(lambda: len(set(two.bodies)) == 500, 20, what="long before the lease of 60 s is over")
            await wait_until(lambda: empty(two.bus))
            assert Counter(two.bodies) == Counter(str(n) for n in range(500))


async def test_nak_with_a_delay(nats_server: EmbeddedServer) -> None:
    """A message that is handed back comes again, at once or after its delay, and says how often it has come."""
    async with worker(nats_server, auto=False) as one:
        await publish(one.bus, [1, 2])
        await wait_until(lambda: len(one.got) == 2)
        by_body = {delivery.body: delivery for delivery in one.got}
        await by_body[b"1"].nak(0.4)
        await by_body[b"2"].nak()
        await wait_until(lambda: len(one.got) == 4)
        assert [(d.body, d.attempt) for d in one.got[2:]] == [(b"2", 2), (b"1", 2)]


async def test_kept_leases_do_not_run_out(nats_server: EmbeddedServer) -> None:
    """A message in progress stays with its worker; one that is forgotten comes again; a terminated one never does."""
    async with worker(nats_server, auto=False, ack_wait_s=1.0) as one:
        await publish(one.bus, [1, 2, 3])
        await wait_until(lambda: len(one.got) == 3)
        by_body = {delivery.body: delivery for delivery in one.got}
        by_body[b"2"].forget()
        await by_body[b"3"].term("no use")

        async def twice() -> bool:
            await one.mailbox.keep_leases()
            return sum(d.body == b"2" for d in one.got) == 2

        await wait_until(twice)
        assert Counter(one.bodies) == {"1": 1, "2": 2, "3": 1}
        await by_body[b"2"].ack()
        assert await unacked(one.bus) == (2, 0), "a delivery that was let go says nothing more"


class _NoMailbox:
    bus = None


@pytest.mark.parametrize("reply", [
    "$JS.ACK.JOBS.box.3.1234.77.1700000000123456789.5",
    "$JS.ACK.hub.AAAA.JOBS.box.3.1234.77.1700000000123456789.5.x9Yz",
])  # fmt: skip
def test_both_shapes_of_ack_subjects(reply: str) -> None:
    """Old ack subjects, and those with domain and account, say the same."""
    delivery = Delivery(_NoMailbox(), Msg(None, subject="s", reply=reply, data=b""))  # type: ignore[arg-type]
    assert (delivery.attempt, delivery.sequence, delivery.stored_ns) == (3, 1234, 1700000000123456789)


# ---- what it says of itself


async def test_room_is_what_it_waits_for(nats_server: EmbeddedServer) -> None:
    """What was asked for and has not come; nothing before it starts, when it is full, on hold, or stopped."""
    async with worker(nats_server, capacity=8, auto=False) as one:
        box = one.mailbox
        assert box.room == 8
        await publish(one.bus, range(7))
        await wait_until(lambda: len(one.got) == 7)
        assert (box.room, box.taken, box.handled) == (1, 7, 0)
        await publish(one.bus, [7])
        await wait_until(lambda: len(one.got) == 8)
        assert box.room == 0
        await one.got[0].ack()
        assert (box.room, box.handled, box.last_sequence) == (0, 1, one.got[0].sequence), "one is too few to ask for"
        await one.got[1].ack()
        assert box.room == 2
        await box.hold()
        assert box.room == 0
        await box.resume()
        assert box.room == 2
        await box.stop_taking()
        assert box.room == 0
    assert Mailbox(one.bus, JOBS, "box", print, capacity=8, rebuild=one._rebuild).room == 0


async def test_mailbox_in_trouble_has_no_room(nats_server: EmbeddedServer) -> None:
    """While its consumer is gone and cannot be made again it waits for nothing, and is not taken for deaf."""
    async with worker(nats_server, capacity=8) as one:
        making = one._rebuild

        async def refuse() -> None:
            one.rebuilt += 1
            raise BusError("not now")

        one.mailbox._rebuild = refuse
        await one.bus.api(f"CONSUMER.DELETE.{JOBS}.box")
        await wait_until(lambda: one.rebuilt > 1)
        assert one.mailbox.room == 0
        one.mailbox._rebuild = making
        await wait_until(lambda: one.mailbox.room == 8, 30)
