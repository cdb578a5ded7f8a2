"""What a job function has put on record to be undone is undone when the job fails or is cancelled, the last first."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from actors import App, Job, Retry
from actors.clients.client import Client
from actors.testing import replay
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.failure import TerminalError
from bus.messages import CallTool, JobCancelled, JobCompleted, JobFailed
from tests.troupe import Troupe, check_decisions, troupe
from tests.waiting import wait_until

app = App("trips")
undone: list[str] = []
gates: dict[str, asyncio.Event] = {}


@app.tool
async def book(what: str) -> str:
    """Books something."""
    return f"booked {what}"


@app.tool(retry=Retry(attempts=1))
async def cancel_booking(what: str) -> None:
    """Undoes that; not everything can be undone, and some of it takes its time."""
    if what == "stone":
        raise TerminalError("cannot be undone")
    if gate := gates.get(what):
        await gate.wait()
    undone.append(what)


@app.job
async def trip(job: Job, parts: list[str], fails: bool = False, waits: bool = False) -> int:
    """Books parts, each with how it is undone."""
    for part in parts:
        await job.undo_with(cancel_booking, part)
        await job.call(book, part)
    if waits:
        await job.wait_for("go")
    if fails:
        raise TerminalError("no such hotel", code="no_hotel")
    return len(parts)


@pytest.fixture
async def on(server: EmbeddedServer) -> AsyncIterator[Troupe]:
    """Two hosts."""
    undone.clear()
    async with troupe(server.url, app, hosts=2, park_after_s=0.3) as found:
        yield found


async def begun(on: Troupe, **values: object) -> str:
    """A job that was submitted."""
    job = f"trip-{os.urandom(4).hex()}"
    await on.submit("trip", job, values)
    return job


async def test_a_job_that_succeeds_undoes_nothing(on: Troupe) -> None:
    """What is on record is for the other ends only."""
    assert isinstance(await on.end(await begun(on, parts=["a", "b"])), JobCompleted)
    assert not undone


async def test_a_job_that_fails_undoes_what_it_did(on: Troupe) -> None:
    """The last first, by calls that are on record; a retry is refused, and a replay finds no difference."""
    job = await begun(on, parts=["a", "b"], fails=True)
    end = await on.end(job)
    assert isinstance(end, JobFailed)
    assert end.failure.code == "no_hotel"
    assert undone == ["b", "a"]
    events = await on.events(job)
    assert [r.event.call for r in events if isinstance(r.event, CallTool)][-2:] == [
        "undo-cancel_booking:2/undo/cancel_booking:1", "undo-cancel_booking:1/undo/cancel_booking:1",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="has undone what it did"):
        await Client(on.bus).retry(job)
    (await replay(trip, events)).check()


async def test_a_cancelled_job_undoes_what_it_did(on: Troupe) -> None:
    """Also one that is parked, and says who cancelled it and why."""
    job = await begun(on, parts=["a", "b"], waits=True)
    await on.parked(job)
    await on.signal("trip", job, "cancel", b'{"reason": "rain"}')
    end = await on.end(job)
    assert isinstance(end, JobCancelled)
    assert end.reason == "rain"
    assert undone == ["b", "a"]


async def test_what_cannot_be_undone_is_told(on: Troupe) -> None:
    """One that fails does not keep the others from being undone."""
    end = await on.end(await begun(on, parts=["a", "stone", "b"], fails=True))
    assert undone == ["b", "a"]
    assert end.failure.details == {"not_undone": ["undo-cancel_booking:2"]}
    assert "not undone" in end.failure.message


async def test_terminate_does_not_wait_for_the_undoing(on: Troupe) -> None:
    """Now means now, also in the middle of undoing."""
    gates["slow"] = asyncio.Event()
    job = await begun(on, parts=["a", "slow"], fails=True)
    await wait_until(lambda: _is_undoing(on))
    await on.signal("trip", job, "terminate")
    assert isinstance(await on.end(job), JobCancelled)
    assert not undone
    gates.pop("slow").set()


async def test_another_host_goes_on_with_the_undoing(on: Troupe) -> None:
    """A host that stops in the middle hands it over; nothing is undone twice."""
    gates["gate"] = asyncio.Event()
    job = await begun(on, parts=["a", "gate", "c"], fails=True)
    await wait_until(lambda: undone == ["c"] and _is_undoing(on))
    host = next(host for host in on.hosts if host.running)
    await host.stop()
    gates.pop("gate").set()
    assert isinstance(await on.end(job), JobFailed)
    assert undone == ["c", "gate", "a"]
    check_decisions(await on.events(job))


def _is_undoing(on: Troupe) -> bool:
    return any(actor.doing == "undoing" for host in on.hosts for actor in host.running.values())
