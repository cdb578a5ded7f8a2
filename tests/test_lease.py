"""The lease: one holder, found by compare-and-set, given up by silence; retaken after outages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from bus import jobid
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import Ambiguous, Fenced
from bus.lease import Lease, who_holds
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from tests.waiting import wait_until


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A connection to the shared server, with our streams."""
    async with await Bus.connect(ConnectOptions(servers=[server.url])) as opened:
        await ensure_streams(opened)
        yield opened


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def test_one_of_many_gets_it(bus: Bus) -> None:
    """Ten race: one has it; when it gives up, another gets it with a later epoch."""
    name = jobid.new()
    leases = [Lease(bus, name, f"n{i}") for i in range(10)]
    assert sum(await asyncio.gather(*(lease.acquire() for lease in leases))) == 1
    (first,) = [lease for lease in leases if lease.is_held]
    holding = await who_holds(bus, name)
    assert holding is not None and holding.holder == first.holder
    others = [lease for lease in leases if lease is not first]
    assert not any([await lease.acquire() for lease in others])
    epoch = first.epoch
    assert await first.renew() and first.epoch == epoch, "the epoch stays over renewals"
    await first.release()
    assert not first.is_held and await who_holds(bus, name) is None
    assert await others[0].acquire() and others[0].epoch > epoch


async def test_silence_gives_it_away(bus: Bus) -> None:
    """The server lets it go after its time; the former holder's renewal is refused, and it has known before."""
    name, clock = jobid.new(), Clock()
    first, second = Lease(bus, name, "a", ttl_s=1, clock=clock), Lease(bus, name, "b", ttl_s=1)
    assert await first.acquire() and first.is_held
    clock.now_s += 1.0
    assert not first.is_held, "out by its own clock, before it has asked anybody"
    await wait_until(second.acquire, what="the second gets it")
    assert second.epoch > first.epoch
    assert not await first.renew()
    holding = await who_holds(bus, name)
    assert holding is not None and holding.holder == "b", "a refused renewal changes nothing"


async def test_renewal_whose_answer_was_lost(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that was stored without our knowledge does not make us lose the lease to ourselves."""
    lease = Lease(bus, jobid.new(), "a")
    assert await lease.acquire()
    append, epoch = bus.append, lease.epoch

    async def unanswered(*args: object, **kwargs: object) -> int:
        await append(*args, **kwargs)  # type: ignore[arg-type]
        raise Ambiguous("no answer in time")

    monkeypatch.setattr(bus, "append", unanswered)
    with pytest.raises(Ambiguous):
        await lease.renew()
    monkeypatch.undo()
    assert await lease.renew() and lease.epoch == epoch


async def test_acquisition_whose_answer_was_lost(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds its own name there, and does not know why, takes it with a new epoch and does not wait for itself."""
    lease = Lease(bus, jobid.new(), "a")
    append = bus.append

    async def unanswered(*args: object, **kwargs: object) -> int:
        await append(*args, **kwargs)  # type: ignore[arg-type]
        raise Ambiguous("no answer in time")

    monkeypatch.setattr(bus, "append", unanswered)
    with pytest.raises(Ambiguous):
        await lease.acquire()
    assert not lease.is_held
    monkeypatch.undo()
    assert await lease.acquire() and lease.is_held


async def test_a_foreign_value_is_free_for_the_taking(bus: Bus) -> None:
    """What somebody put into the bucket by hand does not keep everybody out for ever."""
    name = jobid.new()
    await bus.append(f"$KV.duties.{name}", b"not ours")
    assert await who_holds(bus, name) is None
    assert await Lease(bus, name, "a").acquire()


class Worker:
    """Runs a lease; ``terms`` counts how often it has held it, ``at_work`` says whether it does now."""

    def __init__(self, bus: Bus, name: str, *, ttl_s: float = 1.0) -> None:
        self.lease = Lease(bus, name, jobid.new(), ttl_s=ttl_s)
        self.terms = 0
        self.at_work = False
        self.fail = asyncio.Event()
        self.task = asyncio.create_task(self.lease.run(self.work))

    async def work(self) -> None:
        """Until cancelled, or until told to fail."""
        self.terms += 1
        self.at_work = True
        try:
            await self.fail.wait()
            raise Fenced("x", expected=1)
        finally:
            self.at_work = False

    async def stop(self) -> None:
        """Leave; a held lease is given back."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def test_run_moves_on(bus: Bus) -> None:
    """Work goes on at another when the holder leaves, and when its work fails; never at two."""
    name = jobid.new()
    workers = [Worker(bus, name) for _ in range(3)]
    try:
        for _ in range(3):
            await wait_until(lambda: sum(w.at_work for w in workers) == 1, 30)
            (holder,) = [w for w in workers if w.at_work]
            holder.fail.set()
            await wait_until(lambda holder=holder: not holder.at_work)  # type: ignore[misc]
            holder.fail.clear()
        await wait_until(lambda: sum(w.at_work for w in workers) == 1, 30)
        (holder,) = [w for w in workers if w.at_work]
        await holder.stop()
        assert not holder.at_work
        await wait_until(lambda: sum(w.at_work for w in workers) == 1, 30)
    finally:
        for worker in workers:
            await worker.stop()
    assert await who_holds(bus, name) is None, "who leaves in order leaves nothing behind"


async def test_lost_lease_cancels_the_work(bus: Bus) -> None:
    """When another has it, by whatever means, the work of the former holder ends at its next renewal."""
    name = jobid.new()
    worker = Worker(bus, name)
    try:
        await wait_until(lambda: worker.at_work, 30)
        await bus.append(f"$KV.duties.{name}", b'{"holder":"b","since":"2026-01-01T00:00:00Z","id":"b"}')
        await wait_until(lambda: not worker.at_work, 30)
        assert worker.terms == 1 and not worker.lease.is_held
    finally:
        await worker.stop()


async def test_server_away_and_back(nats_server: EmbeddedServer) -> None:
    """The holder is out by its own clock while the server is away; one of all has it again when it is back."""
    async with contextlib.AsyncExitStack() as stack:
        buses = [
            await stack.enter_async_context(await Bus.connect(ConnectOptions(servers=[nats_server.url])))
            for _ in range(3)
        ]
        await ensure_streams(buses[0])
        workers = [Worker(bus, "x") for bus in buses]
        await wait_until(lambda: sum(w.at_work for w in workers) == 1, 30)
        nats_server.kill()
        await wait_until(lambda: not any(w.at_work for w in workers), 30)
        await nats_server.restart()
        await wait_until(lambda: sum(w.at_work for w in workers) == 1, 30)
        for worker in workers:
            await worker.stop()
