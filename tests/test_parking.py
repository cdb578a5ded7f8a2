"""Parking: a job that only waits leaves memory, and whatever it waits for brings it back, in every order of events."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest

from actors import App, Job
from actors.hosts.holding import Holding
from actors.hosts.job_actor import JobActor
from actors.hosts.parking import CROWDED_SHARE, Parking
from actors.jobs.doorbell import Doorbell
from actors.jobs.journal import Entry, Journal
from actors.jobs.requests import publish_wake
from actors.operations.operations import Operations
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.mailbox import Delivery
from bus.messages import CallJob, JobCancelled, JobCompleted, JobFailed, JobOwned, JobWaiting, Signal
from bus.objects import Blobs
from bus.streams import JOBS, stream_info
from store.log import JobLog, append_unfenced
from tests.stage import Stage, stage
from tests.troupe import Troupe, check_decisions, troupe
from tests.waiting import wait_until

SOON_S = 0.05
app = App("parking", version="1.0.0")


@app.tool
async def add(n: int) -> int:
    """Add one."""
    return n + 1


@app.job
async def waiter(job: Job, name: str) -> str:
    """Wait for a signal between two calls."""
    first = await job.call(add, n=0)
    data = await job.wait_for(name)
    return f"{await job.call(add, n=first)} {data}"


@app.job
async def three(job: Job, start: int) -> list[int]:
    """Three signals of one name, one after the other."""
    return [start, *[await job.wait_for("go") for _ in range(3)]]


@app.job
async def two_at_once(job: Job, start: int) -> list[int]:
    """Two branches that go on with a call each after a signal of their own."""

    async def branch(name: str) -> int:
        value = await job.wait_for(name)
        return await job.call(add, n=value + start)

    return list(await job.gather(branch("left"), branch("right")))


@app.job
async def patient(job: Job, timeout_s: float) -> str:
    """Wait for a signal, but not for ever."""
    try:
        return f"got {await job.wait_for('go', timeout_s=timeout_s)}"
    except TimeoutError:
        return f"late {await job.call(add, n=0)}"


@app.job
async def sleeper(job: Job, seconds: float) -> int:
    """Sleep between two calls."""
    value = await job.call(add, n=0)
    await job.sleep(seconds)
    return await job.call(add, n=value)


@app.job(timeout_s=2.0)
async def limited(job: Job, name: str) -> str:
    """Wait for longer than the job may take."""
    return str(await job.wait_for(name))


@app.job
async def parent(job: Job, name: str) -> str:
    """Wait for a child that waits."""
    return f"child: {await job.call(waiter, name=name)}"


def output(end: object) -> str:
    assert isinstance(end, JobCompleted), end
    return bytes(end.output).decode()


async def test_parked_job_is_gone_and_comes_back(nats_server: EmbeddedServer) -> None:
    """A parked job is in no memory and no queue; a signal and its wake-up bring it to any host."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        await on.submit("waiter", "w", {"name": "go"})
        await on.parked("w")
        assert await on.unacked("waiter") == 0
        assert not any(mailbox.in_flight for host in on.hosts for mailbox in host._mailboxes)
        await on.signal("waiter", "w", "go", b'"now"')
        assert output(await on.end("w")) == '"2 now"'
        events = await on.events("w")
        check_decisions(events)
        owners = [r.event.request for r in events if isinstance(r.event, JobOwned)]
        assert len(owners) == 2 and owners[0] != owners[1], "the wake-up is the new lease"
        await wait_until(lambda: on.in_memory == 0)
        assert not await on.requests_left()


async def test_signal_before_the_wait(nats_server: EmbeddedServer) -> None:
    """Signals that were there before the job waits, even before it was requested, count, in their order."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        await append_unfenced(on.bus, on.blobs, "default", Signal(job="t", name="go", data=msgspec.Raw(b"1")))
        await on.submit("three", "t", {"start": 0})
        await on.parked("t")
        await on.signal("three", "t", "go", b"2")
        await on.signal("three", "t", "go", b"3")
        assert output(await on.end("t")) == "[0,1,2,3]"


async def test_cancel_before_the_job_is_taken(nats_server: EmbeddedServer) -> None:
    """A cancel that stands in the log when a host takes the request ends the job before its function runs."""
    async with troupe(nats_server.url, app) as on:
        await append_unfenced(on.bus, on.blobs, "default", Signal(job="c", name="cancel", by="me"))
        await on.submit("sleeper", "c", {"seconds": 0})
        end = await on.end("c")
        assert isinstance(end, JobCancelled) and end.by == "me"
        assert not any(r.event.kind.startswith("call.") for r in await on.events("c"))


async def test_wake_up_for_a_job_that_is_not_parked_is_dropped(nats_server: EmbeddedServer) -> None:
    """Wake-ups for running, ended and unknown jobs change nothing and leave the queue."""
    async with troupe(nats_server.url, app, hosts=2) as on:
        await on.submit("waiter", "w", {"name": "go"})
        await wait_until(lambda: on.in_memory == 1)
        await on.submit("sleeper", "s", {"seconds": 0})
        await on.end("s")
        before = {job: len(await on.events(job)) for job in ("s", "none")}
        for workflow, job in (("waiter", "w"), ("sleeper", "s"), ("sleeper", "none")) * 5:
            await publish_wake(on.bus, "default", workflow, job, "reply")

        async def dropped() -> bool:
            return await on.requests_left() == 1

        await wait_until(dropped, what="only the running job's request is left")
        assert before == {job: len(await on.events(job)) for job in before}
        assert sum(isinstance(r.event, JobOwned) for r in await on.events("w")) == 1
        await on.signal("waiter", "w", "go")
        await on.end("w")


async def test_cancel_of_a_parked_job(nats_server: EmbeddedServer) -> None:
    """A parked parent that is cancelled wakes to end, and takes its parked child with it."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        await on.submit("parent", "p", {"name": "never"})
        await on.parked("p")
        child = next(r.event.child for r in await on.events("p") if r.event.kind.startswith("call.job"))
        await on.parked(child)
        await on.signal("parent", "p", "cancel", b'{"reason": "enough"}')
        end = await on.end("p")
        assert isinstance(end, JobCancelled) and end.reason == "enough"
        assert isinstance(await on.end(child), JobCancelled)


async def test_wait_with_a_time_limit(nats_server: EmbeddedServer) -> None:
    """A parked wait ends at its time by a schedule of the server, unless the signal was faster."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        await on.submit("patient", "late", {"timeout_s": 1.0})
        await on.submit("patient", "soon", {"timeout_s": 60.0})
        await on.parked("late")
        waiting = [r.event for r in await on.events("late") if isinstance(r.event, JobWaiting)]
        assert waiting[-1].until is not None
        await on.signal("patient", "soon", "go", b'"it"')
        assert output(await on.end("soon")) == '"got it"'
        assert output(await on.end("late")) == '"late 1"'


async def test_long_sleep_parks(nats_server: EmbeddedServer) -> None:
    """A sleep that is longer than the grace parks the job, and it is never cut short."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        await on.submit("sleeper", "s", {"seconds": 1.5})
        await on.parked("s")
        assert output(await on.end("s")) == "2"
        events = await on.events("s")
        slept = next(r.event for r in events if getattr(r.event, "op", "") == "sleep")
        woke = [r.event for r in events if isinstance(r.event, JobOwned)][-1]
        due_at = datetime.fromisoformat(bytes(slept.output).decode().strip('"'))
        assert woke.at >= due_at - timedelta(seconds=0.05)


async def test_a_jobs_own_time_limit_wakes_it(nats_server: EmbeddedServer) -> None:
    """A job that is parked when its time is up fails then, though nothing that it waits for has come."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        await on.submit("limited", "l", {"name": "never"})
        await on.parked("l")
        end = await on.end("l")
        assert isinstance(end, JobFailed) and end.failure.code == "timeout"


async def test_signals_at_every_instant_of_parking(nats_server: EmbeddedServer) -> None:
    """Signals and wake-ups at random instants, while jobs park, are parked, or are about to: none is lost."""
    roll, jobs = random.Random(1), [f"j{n}" for n in range(150)]

    async def disturb(on: Troupe, job: str) -> None:
        for data in (b"1", b"2", b"3"):
            await asyncio.sleep(roll.choice((0.0, SOON_S, SOON_S + roll.random() * 0.02, roll.random() * 0.3)))
            await on.signal("three", job, "go", data)

    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        for job in jobs:
            await on.submit("three", job, {"start": 0})
        await asyncio.gather(*(disturb(on, job) for job in jobs))
        await on.all_end(jobs)
        parks = 0
        for job in jobs:
            assert output(await on.end(job)) == "[0,1,2,3]"
            events = await on.events(job)
            check_decisions(events)
            after = events[[isinstance(r.event, JobCompleted) for r in events].index(True) + 1 :]
            # A host that looked before the end may claim after it, sees that, and leaves it at that.
            assert all(isinstance(r.event, JobOwned | Signal) for r in after)
            parks += sum(isinstance(r.event, JobWaiting) for r in events)
        assert parks > len(jobs), "the test has to come by the window"


async def test_branches_are_not_parked_half_way(nats_server: EmbeddedServer) -> None:
    """While one branch takes a signal the other one's wait does not park the job away from it."""
    roll, jobs = random.Random(2), [f"j{n}" for n in range(100)]

    async def disturb(on: Troupe, job: str) -> None:
        for name in ("left", "right"):
            await asyncio.sleep(SOON_S - 0.01 + roll.random() * 0.02)
            await on.signal("two_at_once", job, name, b"1")

    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        for job in jobs:
            await on.submit("two_at_once", job, {"start": 0})
        await asyncio.gather(*(disturb(on, job) for job in jobs))
        await on.all_end(jobs)
        assert {output(await on.end(job)) for job in jobs} == {"[2,2]"}


# ---- many


def held_by_jobs() -> Counter[str]:
    """The objects of this process that belong to one job each, by type."""
    types = (JobActor, Operations, Parking, Holding, Journal, JobLog, Doorbell, Delivery)
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, types))


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The garbage collector rests for the time of a test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_many_parked_jobs_are_nothing_to_their_host(nats_server: EmbeddedServer, uncollected: None) -> None:
    """Of 300 parked jobs a host keeps no object, without help of the garbage collector; and every one of them wakes."""
    jobs = [f"j{n}" for n in range(300)]
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        (host,) = on.hosts
        await asyncio.gather(*(on.submit("waiter", job, {"name": "go"}) for job in jobs))
        await wait_until(lambda: on.waiting(300), 60, what="all are parked")
        await wait_until(lambda: not host.running and not host._tasks)
        assert not held_by_jobs()
        assert not host._wakes and not host.hosting.board._rings and not await on.requests_left()
        await asyncio.gather(*(on.signal("waiter", job, "go", b"1") for job in jobs))
        await on.all_end(jobs)
        assert {output(await on.end(job)) for job in jobs[::30]} == {'"2 1"'}


async def test_jobs_that_wait_make_room(nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that only wait leave early if they keep others out, and stay for their time if there is room."""
    monkeypatch.setattr("actors.hosts.parking.CROWDED_SHARE", 0.0001)
    async with troupe(nats_server.url, app, park_after_s=3600, capacity=8) as on:
        for n in range(12):
            await on.submit("waiter", f"j{n}", {"name": "go"})
        await wait_until(lambda: on.waiting(6), 60, what="some are parked")

        async def all_began() -> bool:
            return all([any(isinstance(r.event, JobOwned) for r in await on.events(f"j{n}")) for n in range(12)])

        await wait_until(all_began, 60, what="none is kept out")
        await wait_until(lambda: held_by_jobs()["JobActor"] == on.in_memory > 0, what="who has room stays")


def test_a_job_that_awaits_an_answer_stays_in_a_crowd() -> None:
    """Only signals and instants are worth leaving early for."""
    call = CallJob(job="j", call="waiter:1", name="waiter", version=1, child="c")
    entries = {
        "waiter:1": Entry("waiter:1", "job", "waiter", command=call),
        "sleep:1": Entry("sleep:1", "sleep", "sleep"),
    }
    for waits, share in ((["sleep:1"], CROWDED_SHARE), (["signal-go:1"], CROWDED_SHARE), (["sleep:1", "waiter:1"], 1)):
        ops: Any = SimpleNamespace(
            journal=SimpleNamespace(entries=entries), waits=waits, hosting=SimpleNamespace(park_after_s=10)
        )
        parking = Parking(ops, NotImplemented, NotImplemented, is_crowded=lambda: True)
        assert parking.patience_s() == 10 * share


# ---- processes


@pytest.mark.parametrize("point", ["host.before.job.waiting:1", "host.after.job.waiting:1"])
async def test_host_killed_around_parking(nats_server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """Killed before or after it has written that the job waits, the job is parked again and loses no signal."""
    marker = tmp_path / "died"
    env = {VARIABLE: f"{point}:{marker}", "CALLBOARD_PARK_AFTER_S": "0.1"}
    async with stage(nats_server.url, tmp_path, "tests.apps.core:app", env=env) as on:
        await on.submit("waiter", "w", {"name": "go"})
        await wait_until(marker.exists, 20)
        await append_unfenced(on.bus, Blobs(on.bus), "default", Signal(job="w", name="go", data=msgspec.Raw(b"7")))
        await publish_wake(on.bus, "default", "waiter", "w", "signal.go")
        assert output(await on.end("w")) == '"2 7"'
        check_decisions(await on.events("w"))
        assert on.effects() == ["w/step:1", "w/step:2"]


async def _requests(on: Stage) -> int:
    info = await stream_info(on.bus, JOBS)
    assert info is not None
    return int(info["state"]["messages"])


async def test_parked_jobs_cost_no_memory(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """1,500 more parked jobs leave the host as small as before, and they still come back.

    As many go first, since cycles of objects wait for the garbage collector, which a busy host runs rarely.
    """
    jobs, warm_up = [f"j{n}" for n in range(1500)], [f"w{n}" for n in range(1500)]
    env = {"CALLBOARD_PARK_AFTER_S": "0.2"}
    async with stage(nats_server.url, tmp_path, "tests.apps.core:app", env=env, replicas={"step": 1}) as on:

        async def park_all(batch: list[str], parked_jobs: int) -> int:
            for job in batch:
                await on.submit("waiter", job, {"name": "go"})

            async def parked() -> bool:
                if await _requests(on):
                    return False
                info = await stream_info(on.bus, "EVENTS", subjects="log.default.*.job.waiting")
                return info is not None and len(info["state"].get("subjects") or {}) >= parked_jobs

            await wait_until(parked, 60, what="all are parked")
            return psutil.Process(on.pid("host-1")).memory_info().rss

        first = await park_all(warm_up, 1500)
        second = await park_all(jobs, 3000)
        assert second - first < 3_000_000, f"1,500 parked jobs cost {(second - first) / 1e6:.1f} MB"
        for job in jobs[:20]:
            await append_unfenced(on.bus, on.blobs, "default", Signal(job=job, name="go", data=msgspec.Raw(b"1")))
            await publish_wake(on.bus, "default", "waiter", job, "signal.go")
        for job in jobs[:20]:
            assert output(await on.end(job)) == '"2 1"'
