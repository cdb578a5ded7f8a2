"""The leader and its fence on streams with three replicas, whose refusals come from other places in the server."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from actors.duties.leader import Leader
from actors.duties.term import Term, TermOver, begin_term
from actors.duties.timing import Timing
from bus.connection import Bus
from bus.errors import BusError, Fenced
from bus.lease import Lease
from bus.messages import decode
from bus.objects import Blobs
from bus.reader import read_all
from bus.streams import DUTIES, EVENTS, Limits, ensure_streams
from bus.system_events import DutiesTaken, NodeLost, NodeReturned
from tests.cluster import cluster
from tests.waiting import wait_until


async def test_one_leads_through_the_loss_of_a_server(tmp_path: Path) -> None:
    """Three race for the lease; the server that leads its stream is killed; then and later one leads, and is fenced."""
    async with contextlib.AsyncExitStack() as stack:
        three = await stack.enter_async_context(cluster(tmp_path))
        buses = [await stack.enter_async_context(await Bus.connect(three.options)) for _ in range(3)]
        await ensure_streams(buses[0], Limits(replicas=3))
        leases = [Lease(bus, "race", str(n)) for n, bus in enumerate(buses)]
        assert sum(await asyncio.gather(*(lease.acquire() for lease in leases))) <= 1
        leaders = [
            Leader(bus, Blobs(bus), f"n{n}", "gateway", Timing(lease_s=4, sweep_s=1)) for n, bus in enumerate(buses)
        ]
        for leader in leaders:
            leader.start()
            stack.push_async_callback(leader.stop)
        await wait_until(lambda: sum(leader.leads for leader in leaders) == 1, 60)
        term = next(leader.term for leader in leaders if leader.leads)
        assert term is not None
        lost = [NodeLost(job=f"x{n}", silent_s=1) for n in range(20)]
        await asyncio.gather(*(term.append("_system", event) for event in lost))
        usurper = Lease(buses[1], "other", "x")  # another lease, so that only the log can refuse the first leader
        assert await usurper.acquire()
        await begin_term(buses[1], Blobs(buses[1]), usurper, "usurper")
        with pytest.raises(Fenced):
            await term.append("_system", NodeLost(job="late", silent_s=1))
        three.servers[await three.leader_of(buses[0], DUTIES)].kill()
        await wait_until(lambda: led_anew(leaders, term), 90)
        events = [decode(s.body) for s in await read_all(buses[1], EVENTS, "log._system.>")]
        assert sorted(e.job for e in events if isinstance(e, NodeLost)) == sorted(e.job for e in lost)
        assert len([e for e in events if isinstance(e, DutiesTaken)]) >= 2


async def led_anew(leaders: list[Leader], before: Term) -> bool:
    """Whether a term has begun after that one, which ended by the outage or when its leader asked the log."""
    with contextlib.suppress(BusError, TermOver):  # an append as leader is what finds out
        for leader in leaders:
            if leader.term is not None:
                await leader.term.append("_system", NodeReturned(job="probe", away_s=0))
                return leader.term is not before
    return False
