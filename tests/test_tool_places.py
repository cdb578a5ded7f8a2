"""Calls of a tool with ``at_once``: so many at a time for each key, over all replicas; who waits is in nobody's way."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from actors import App, AtOnce, Job
from actors.locks.claim import LockName
from actors.locks.leased_places import LeasedPlaces
from actors.tools.tool_actor import ToolActor
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import JobCompleted, ReplyRetrying
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

LIMIT_S = 40.0
NAME = LockName("_system", "place", "tool work")


class Works:
    """An app whose tool runs until its customer's gate is open; who runs now, and how many did at most."""

    def __init__(self, at_once: AtOnce) -> None:
        self.app = App("works")
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.gates = {name: asyncio.Event() for name in "ABC"}

        @self.app.tool(at_once=at_once, concurrency=2)
        async def work(customer: str) -> str:
            self.now[customer] += 1
            self.most[customer] = max(self.most[customer], self.now[customer])
            try:
                await self.gates[customer].wait()
            finally:
                self.now[customer] -= 1
            return customer

        @self.app.job
        async def ask(job: Job, customer: str) -> str:
            return await job.call(work, customer=customer)


@contextlib.asynccontextmanager
async def playing(url: str, works: Works) -> AsyncIterator[tuple[Troupe, ToolActor]]:
    """The app with two replicas of its tool; the second one is given too."""
    async with troupe(url, works.app) as on:
        replica = ToolActor(on.bus, on.blobs, works.app.components[0], name="replica")
        await replica.start()
        try:
            yield on, replica
        finally:
            await replica.stop(0.1)


async def test_so_many_at_once_for_each_key(nats_server: EmbeddedServer) -> None:
    """Of one customer one runs, however many wait and wherever; others go on past them; in the end all have run."""
    works = Works(AtOnce(1, key="customer"))
    async with playing(nats_server.url, works) as (on, replica):
        blocked = [f"a{n}" for n in range(8)]
        for job in blocked:
            await on.submit("ask", job, {"customer": "A"})
        await wait_until(lambda: works.now["A"] == 1 and len(replica.running) > 2, LIMIT_S)
        works.gates["B"].set()
        for job in ("b1", "b2", "b3"):
            await on.submit("ask", job, {"customer": "B"})
            assert isinstance(await on.end(job, deadline_s=LIMIT_S), JobCompleted)
        assert (works.now["A"], works.most["A"], works.most["B"]) == (1, 1, 1)
        # What waits in a replica that stops goes to the other one, with no attempt spent.
        await replica.stop(0.1)
        works.gates["A"].set()
        await on.all_end(blocked)
        assert works.most["A"] == 1
        tried = [r.event for job in blocked for r in await on.events(job) if isinstance(r.event, ReplyRetrying)]
        assert tried and all(event.handed_back for event in tried)


async def test_without_a_key_and_a_cancelled_one_that_waits(nats_server: EmbeddedServer) -> None:
    """Two of all run; one that is cancelled while it waits never begins."""
    works = Works(AtOnce(2))
    async with playing(nats_server.url, works) as (on, _):
        for customer in "ABC":
            await on.submit("ask", customer, {"customer": customer})
        await wait_until(lambda: works.now.total() == 2, LIMIT_S)
        late = next(name for name in "ABC" if not works.now[name])
        await on.signal("ask", late, "cancel")
        await on.end(late, deadline_s=LIMIT_S)
        for gate in works.gates.values():
            gate.set()
        await on.all_end("ABC")
        assert works.most[late] == 0 and works.now.total() == 0


async def test_places_are_leased(nats_server: EmbeddedServer) -> None:
    """No more than the limit; renewed while held; free at once when given back, and by themselves after a death."""
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await ensure_streams(bus)
        one, other = LeasedPlaces(bus, "one", lease_s=1), LeasedPlaces(bus, "other", lease_s=1)
        first, second = await one.take(NAME, 2), await one.take(NAME, 2)
        assert first is not None and second is not None and await other.take(NAME, 2) is None
        before = first.revision
        await wait_until(lambda: first.revision != before, LIMIT_S)
        assert await other.take(NAME, 2) is None
        await one.release(first)
        third = await other.take(NAME, 2)
        assert third is not None and third.subject == first.subject
        await one.stop()  # as if it had died

        async def is_free() -> bool:
            return await other.take(NAME, 2) is not None

        await wait_until(is_free, LIMIT_S)
        assert await one.take(NAME, 2) is None
        await one.release(second)  # it is another's by now, and stays so
        assert await one.take(NAME, 2) is None
        await other.stop()


async def test_a_place_that_was_lost_is_not_given_back(nats_server: EmbeddedServer) -> None:
    """Who finds another in its place says so, renews it no more, and leaves it alone."""
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await ensure_streams(bus)
        slow, quick = LeasedPlaces(bus, "slow", lease_s=1), LeasedPlaces(bus, "quick", lease_s=30)
        lost = await slow.take(NAME, 1)
        assert lost is not None
        async with lost.changing:  # it stands still between two renewals
            mine = await wait_until(lambda: quick.take(NAME, 1), LIMIT_S)
        await wait_until(lambda: lost.is_lost, LIMIT_S)
        await slow.release(lost)
        assert mine is not None and await slow.take(NAME, 1) is None
        await quick.release(mine)
        await slow.stop()
        await quick.stop()


def test_what_cannot_be() -> None:
    """A tool has no more places than can be asked for at once, and a key begins with one of its parameters."""
    with pytest.raises(UsageError, match="a limit up to 1,000"):
        Works(AtOnce(1_001))
    with pytest.raises(UsageError, match="begins with no parameter"):
        Works(AtOnce(1, key="client"))
