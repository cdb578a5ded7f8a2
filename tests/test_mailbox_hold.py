"""A mailbox that is held: it takes what it is allowed to and no more, and nothing is left with the server under way."""

from __future__ import annotations

from collections import Counter

from bus.connection import Bus
from bus.embedded import EmbeddedServer
from tests.test_mailbox import empty, publish, unacked, worker
from tests.waiting import wait_until


async def test_nothing_is_taken_while_it_is_held(nats_server: EmbeddedServer) -> None:
    """The pull that waited at the server is called back: what comes now goes to others, or stays."""
    async with worker(nats_server, capacity=8) as held, worker(nats_server, capacity=8) as other:
        await wait_until(lambda: held.mailbox.room == 8)
        await held.mailbox.hold()
        assert held.mailbox.room == 0
        await publish(other.bus, range(40))
        await wait_until(lambda: len(other.got) == 40)
        assert held.got == []
        await other.mailbox.hold()
        await publish(other.bus, range(40, 60))
        assert await unacked(other.bus) == (0, 20)
        await held.mailbox.resume()
        await wait_until(lambda: len(held.got) == 20)
        await wait_until(lambda: empty(other.bus))


async def test_an_allowance_is_taken_once(nats_server: EmbeddedServer) -> None:
    """Allowed one more, beside what is in flight, it takes one; then nothing, whether or not that one has ended."""
    async with worker(nats_server, capacity=2, auto=False) as one:
        await publish(one.bus, range(2))
        await wait_until(lambda: len(one.got) == 2)
        await one.mailbox.hold(1)
        await publish(one.bus, range(2, 12))
        await wait_until(lambda: len(one.got) == 3)
        for delivery in list(one.mailbox.in_flight):
            await delivery.ack()
        await wait_until(lambda: unacked_is(one.bus))
        await one.mailbox.hold(1)
        await wait_until(lambda: len(one.got) == 4)
        assert Counter(one.bodies) == Counter("0123")
        await one.mailbox.resume()
        await wait_until(lambda: len(one.got) == 5)


async def unacked_is(bus: Bus) -> bool:
    """Nine wait, and none is given out."""
    return await unacked(bus) == (0, 9)


async def test_held_from_the_start(nats_server: EmbeddedServer) -> None:
    """A mailbox may begin with nothing, and a restart of the server does not change that."""
    async with worker(nats_server, capacity=4) as one:
        await one.mailbox.hold()
        nats_server.kill()
        await nats_server.restart()
        await one.bus.settle()
        await publish(one.bus, range(5))
        assert await unacked(one.bus) == (0, 5)
        assert one.mailbox.room == 0
        await one.mailbox.resume()
        await wait_until(lambda: len(one.got) == 5, 30)
