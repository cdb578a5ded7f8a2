"""The duties on a real server: who leads, who is lost, and which jobs are given out again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from actors import App, Job
from actors.duties import stuck_jobs
from actors.duties.leader import Leader
from actors.duties.node_watch import PS_SUBJECT, NodeWatch
from actors.duties.stuck_jobs import StuckJobs
from actors.duties.term import Term, TermOver, begin_term
from actors.duties.timing import Timing
from bus import headers as h
from bus.connection import Bus, Message
from bus.embedded import EmbeddedServer
from bus.errors import Fenced
from bus.lease import Lease
from bus.messages import (
    CallJob,
    Event,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    Signal,
    decode,
    encode,
)
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.reader import read_all
from bus.streams import EVENTS, JOBS, ensure_streams
from bus.system_events import DutiesTaken, NodeLost, NodeReturned, NodeStarted, NodeStopped
from store.log import append_unfenced
from tests.troupe import Troupe, check_decisions, troupe
from tests.waiting import wait_until

QUICK = Timing(lease_s=2, lost_after_s=1.5, sweep_s=0.2, settle_s=0.3)
AT_ONCE = Timing(settle_s=0)


@pytest.fixture
async def bus(nats_server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A connection to a server of the test's own, with our streams."""
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as opened:
        await ensure_streams(opened)
        yield opened


async def term_on(bus: Bus, node: str = "n1", lease: str = "leader") -> Term:
    """Lead at once."""
    held = Lease(bus, lease, node)
    assert await held.acquire()
    return await begin_term(bus, Blobs(bus), held, node)


async def system_events(bus: Bus, *kinds: type[Event]) -> list[Event]:  # type: ignore[valid-type]
    """What the log of the system holds of these kinds, in order."""
    events = [decode(s.body) for s in await read_all(bus, EVENTS, "log._system.>")]
    return [event for event in events if isinstance(event, kinds)]


# ---- who leads


async def test_a_former_leader_is_fenced(bus: Bus) -> None:
    """Two who both believe that they lead: what the first writes is refused, by the log and not by its own insight."""
    first = await term_on(bus, "n1", "one")
    second = await term_on(bus, "n2", "other")  # another lease, so that the first one's clock says nothing
    with pytest.raises(Fenced):
        await first.append("_system", NodeLost(job="x", silent_s=1))
    with pytest.raises(Fenced):
        await first.confirm()
    await second.confirm()
    await second.append("_system", NodeLost(job="y", silent_s=1))
    assert [event.job for event in await system_events(bus, NodeLost)] == ["y"]


async def test_a_term_ends_with_its_lease(bus: Bus) -> None:
    """Before an act that no log fences, the clock is asked; a term begins only while the server confirms the lease."""
    term = await term_on(bus)
    term.check()
    await term.lease.release()
    with pytest.raises(TermOver):
        term.check()
    late = Lease(bus, "leader", "late")
    assert await late.acquire()
    await bus.append("$KV.duties.leader", b'{"holder":"b","since":"2026-01-01T00:00:00Z","id":"b"}')
    with pytest.raises(TermOver):
        await begin_term(bus, Blobs(bus), late, "late")
    assert len(await system_events(bus, DutiesTaken)) == 1


async def test_one_leads_and_another_follows(nats_server: EmbeddedServer, bus: Bus) -> None:
    """Of three one leads; when it stops another does, with a later epoch, and each term is in the log once."""
    async with contextlib.AsyncExitStack() as stack:
        leaders = []
        for n in range(3):
            own = await stack.enter_async_context(await Bus.connect(ConnectOptions(servers=[nats_server.url])))
            leaders.append(Leader(own, Blobs(own), f"n{n}", "gateway", QUICK))
            leaders[-1].start()
        for _ in range(2):
            await wait_until(lambda: sum(leader.leads for leader in leaders) == 1, 30)
            (chief,) = [leader for leader in leaders if leader.leads]
            await chief.stop()
            assert not chief.leads
            leaders.remove(chief)
        await wait_until(lambda: leaders[0].leads, 30)
        await leaders[0].stop()
    taken = [event for event in await system_events(bus, DutiesTaken) if isinstance(event, DutiesTaken)]
    assert len(taken) == 3 and taken == sorted(taken, key=lambda event: event.epoch)
    assert len({event.job for event in taken}) == 3 and len({event.epoch for event in taken}) == 3


# ---- who is lost


class Answering:
    """A node that answers ``ps`` while ``on``."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.name = name
        self.on = True
        self._bus = bus

    async def start(self) -> None:
        """Begin to listen."""
        await self._bus.subscribe(PS_SUBJECT, self._answer)

    def _answer(self, msg: Message) -> None:
        if self.on:
            body = msgspec.json.encode({"node": self.name, "pid": 1, "later": "fields"})
            self._task = asyncio.create_task(self._bus.publish(msg.reply, body))


async def test_lost_and_returned(bus: Bus) -> None:
    """A silent node is declared lost once, over a change of leaders too, and returns once; one that stopped is not."""
    stays, leaves = Answering(bus, "stays"), Answering(bus, "leaves")
    for node in (stays, leaves):
        await node.start()
    for event in (
        NodeStarted(job="died-unseen", pid=1),
        NodeStarted(job="stopped", pid=1),
        NodeStopped(job="stopped"),
    ):
        await append_unfenced(bus, Blobs(bus), "_system", event)
    watch = NodeWatch(await term_on(bus, "n1", "one"), QUICK)
    await watch.look()
    leaves.on = False

    async def lost() -> set[str]:
        await watch.look()
        return {event.job for event in await system_events(bus, NodeLost)}

    await wait_until(lambda: lost_are(lost, {"leaves", "died-unseen"}), 30)
    second = NodeWatch(await term_on(bus, "n2", "other"), QUICK)
    leaves.on = True

    async def returned() -> bool:
        await second.look()
        return bool(await system_events(bus, NodeReturned))

    await wait_until(returned, 30)
    for _ in range(5):
        await second.look()
    events = await system_events(bus, NodeLost, NodeReturned)
    assert sorted((type(event).__name__, event.job) for event in events) == [
        ("NodeLost", "died-unseen"), ("NodeLost", "leaves"), ("NodeReturned", "leaves"),
    ]  # fmt: skip
    (back,) = [event for event in events if isinstance(event, NodeReturned)]
    assert back.away_s >= QUICK.lost_after_s and back.by == "n2"


async def lost_are(lost: object, wanted: set[str]) -> bool:
    """Whether exactly these are lost."""
    assert callable(lost)
    found: set[str] = await lost()
    assert found <= wanted, found
    return found == wanted


async def test_nobody_answers(bus: Bus) -> None:
    """If not even one node answers, it is the leader that is deaf: nobody is declared lost."""
    await append_unfenced(bus, Blobs(bus), "_system", NodeStarted(job="a", pid=1))
    watch = NodeWatch(await term_on(bus), Timing(lost_after_s=0.5))
    for _ in range(6):
        await watch.look()
    assert not await system_events(bus, NodeLost) and "a" in watch.roll.nodes


# ---- jobs that nobody runs

app = App("stuck", version="1.0.0")


@app.job
async def waits(job: Job, name: str) -> str:
    """Wait for a signal."""
    return str(await job.wait_for(name))


@app.job
async def sleeps(job: Job, seconds: float) -> str:
    """Sleep."""
    await job.sleep(seconds)
    return "rested"


@app.job
async def mother(job: Job, name: str) -> str:
    """Wait for a child."""
    return str(await job.call(waits, name=name))


moods: list[str] = []


@app.job
async def moody(job: Job) -> str:
    """Fail the first time."""
    moods.append("bad")
    if len(moods) == 1:
        raise ValueError("not today")
    return "fine"


async def purge(bus: Bus, subject: str) -> None:
    """Take requests or timers out of the queue, as an operator might."""
    await bus.api(f"STREAM.PURGE.{JOBS}", {"filter": subject})


async def vanish(on: Troupe) -> None:
    """The hosts end as if killed: nothing is acked, handed back or written."""
    for host in on.hosts:
        await host.hosting.bus.client.close()
        tasks = [*host._tasks, *host._tickers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        host._mailboxes.clear()
    on.hosts.clear()


async def another_host(on: Troupe, url: str, stack: contextlib.AsyncExitStack) -> None:
    """A host that comes later."""
    async_troupe = await stack.enter_async_context(troupe(url, on.app, lease_s=1, park_after_s=0.2))
    on.hosts.extend(async_troupe.hosts)


async def test_job_without_a_request_is_driven_again(nats_server: EmbeddedServer) -> None:
    """Its host is gone and its request purged: the sweep finds a host for it, once; a held job is left alone."""
    async with contextlib.AsyncExitStack() as stack:
        on = await stack.enter_async_context(troupe(nats_server.url, app, park_after_s=60, lease_s=1))
        await on.submit("waits", "held", {"name": "go"})
        await wait_until(lambda: on.in_memory == 1)
        sweep = StuckJobs(await term_on(on.bus), AT_ONCE)
        await sweep.sweep()
        assert sweep.redriven == 0, "its request is there"
        await vanish(on)
        await sweep.sweep()
        assert sweep.redriven == 0, "its request is there still, and will come to another host"
        await purge(on.bus, "jobs.>")
        await sweep.sweep()
        await sweep.sweep()
        assert sweep.redriven == 1, "one wake-up, as long as it waits for a host"
        await another_host(on, nats_server.url, stack)
        await on.signal("waits", "held", "go", b'"on"')
        assert isinstance(await on.end("held"), JobCompleted)
        check_decisions(await on.events("held"))
        await sweep.sweep()
        assert sweep.redriven == 1 and not sweep.jobs.jobs


async def test_queue_that_was_made_anew(nats_server: EmbeddedServer) -> None:
    """Another job's request at the sequence of the lost one is not taken for its lease."""
    async with contextlib.AsyncExitStack() as stack:
        on = await stack.enter_async_context(troupe(nats_server.url, app, park_after_s=60, lease_s=1))
        await on.submit("waits", "first", {"name": "go"})
        await wait_until(lambda: on.in_memory == 1)
        await vanish(on)
        await on.bus.api(f"STREAM.DELETE.{JOBS}")
        await ensure_streams(on.bus)
        await on.submit("waits", "second", {"name": "go"})
        (lease,) = {r.event.request for r in await on.events("first") if isinstance(r.event, JobOwned)}
        assert [s.sequence for s in await read_all(on.bus, JOBS, "jobs.>")] == [lease]
        sweep = StuckJobs(await term_on(on.bus), AT_ONCE)
        await sweep.sweep()
        wakes = [s.headers[h.JOB_WAKE] for s in await read_all(on.bus, JOBS, "jobs.>") if h.JOB_WAKE in s.headers]
        assert sweep.redriven == 1 and wakes[0].startswith("redrive.")


async def test_timer_that_was_lost(nats_server: EmbeddedServer) -> None:
    """A parked sleeper whose schedule was purged is woken by the sweep once its time is over."""
    async with troupe(nats_server.url, app, park_after_s=0.2) as on:
        await on.submit("sleeps", "s", {"seconds": 2})
        await on.parked("s")
        await purge(on.bus, "timers.>")
        sweep = StuckJobs(await term_on(on.bus), AT_ONCE)

        async def rested() -> bool:
            await sweep.sweep()
            return any(isinstance(r.event, JobCompleted) for r in await on.events("s"))

        await wait_until(rested, 30)
        assert sweep.redriven >= 1
        check_decisions(await on.events("s"))


async def test_signal_without_a_wake_up(nats_server: EmbeddedServer) -> None:
    """Whoever appended the signal died before its wake-up: the sweep makes up for it."""
    async with troupe(nats_server.url, app, park_after_s=0.2) as on:
        await on.submit("waits", "w", {"name": "go"})
        await on.parked("w")
        sweep = StuckJobs(await term_on(on.bus), AT_ONCE)
        await sweep.sweep()
        assert sweep.redriven == 0, "it has reason to wait"
        await on.signal("waits", "w", "go", b'"on"', wake=False)
        await sweep.sweep()
        assert isinstance(await on.end("w"), JobCompleted) and sweep.redriven == 1


@pytest.mark.parametrize("told", [False, True], ids=["no reply", "a reply without a wake-up"])
async def test_parent_that_was_not_told(nats_server: EmbeddedServer, told: bool) -> None:
    """A child ended, and its host died before the parent knew: the parent gets the child's result, once."""
    async with troupe(nats_server.url, app, park_after_s=0.2) as on:
        await on.submit("mother", "m", {"name": "go"})
        await on.parked("m")
        (call,) = [r.event for r in await on.events("m") if isinstance(r.event, CallJob)]
        await on.parked(call.child)
        for host in on.hosts:
            await host.stop()
        # Written as the child's last host did, before it died and its request was purged.
        end = JobCompleted(job=call.child, output=msgspec.Raw(b'"done"'))
        await on.bus.append(f"log.default.{call.child}.job.completed", encode(end))
        if told:
            reply = ReplyCompleted(job="m", call=call.call, output=msgspec.Raw(b'"done"'))
            await append_unfenced(on.bus, on.blobs, "default", reply)
        async with troupe(nats_server.url, app, park_after_s=0.2):
            sweep = StuckJobs(await term_on(on.bus), AT_ONCE)
            await sweep.sweep()
            assert sweep.redriven == 1
            completed = await on.end("m")
        assert isinstance(completed, JobCompleted) and bytes(completed.output) == b'"done"'
        check_decisions(await on.events("m"))
        assert sum(isinstance(r.event, ReplyCompleted) for r in await on.events("m")) == 1


async def test_retried_job_that_was_not_woken(nats_server: EmbeddedServer) -> None:
    """Whoever retried a failed job died before its wake-up: the sweep learns that it is open again, and it goes on."""
    async with troupe(nats_server.url, app) as on:
        moods.clear()
        await on.submit("moody", "r", {})
        assert isinstance(await on.end("r"), JobFailed)
        sweep = StuckJobs(await term_on(on.bus), AT_ONCE)
        await sweep.sweep()
        assert sweep.redriven == 0 and not sweep.jobs.jobs
        await append_unfenced(on.bus, on.blobs, "default", JobRetried(job="r"))
        await sweep.sweep()
        assert sweep.redriven == 1

        async def completed() -> bool:
            return any(isinstance(r.event, JobCompleted) for r in await on.events("r"))

        await wait_until(completed, 30)
        await sweep.sweep()
        assert sweep.redriven == 1 and not sweep.jobs.jobs


async def test_job_that_was_submitted_and_never_owned(nats_server: EmbeddedServer) -> None:
    """A host died between the two events that begin a job, and its request was purged."""
    async with troupe(nats_server.url, app) as on:
        moods.append("good")
        await append_unfenced(on.bus, on.blobs, "default", JobSubmitted(job="s", workflow="moody", version="1.0.0",
                                                                        input=msgspec.Raw(b"{}")))  # fmt: skip
        sweep = StuckJobs(await term_on(on.bus), AT_ONCE)
        await sweep.sweep()
        assert sweep.redriven == 1
        assert isinstance(await on.end("s"), JobCompleted)
        check_decisions(await on.events("s"))


async def test_next_leader_reads_on_from_a_checkpoint(
    nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows every open job without reading what came before, also what nobody has reacted to yet."""
    monkeypatch.setattr(stuck_jobs, "SAVE_EVENTS", 1)
    async with troupe(nats_server.url, app, park_after_s=0.2) as on:
        for job in ("signalled", "waits", "ends"):
            await on.submit("waits", job, {"name": "go"})
        await on.submit("mother", "m", {"name": "go"})
        for job in ("signalled", "waits", "ends", "m"):
            await on.parked(job)
        (call,) = [r.event for r in await on.events("m") if isinstance(r.event, CallJob)]
        await on.parked(call.child)
        for host in on.hosts:
            await host.stop()
        await on.signal("waits", "signalled", "go", wake=False)
        end = JobCompleted(job=call.child, output=msgspec.Raw(b'"done"'))
        await on.bus.append(f"log.default.{call.child}.job.completed", encode(end))
        first = StuckJobs(await term_on(on.bus, "n1", "one"), Timing())
        await first.sweep()
        assert set(first.jobs.jobs) == {("default", job) for job in ("signalled", "waits", "ends", "m")}
        await append_unfenced(on.bus, on.blobs, "default", JobCompleted(job="ends"))
        read = list[str]()
        scan_all = stuck_jobs.scan

        def scan(*args: Any, **kwargs: Any) -> Any:
            read.append(f"{args[2]} {kwargs['since'] > 0}")
            return scan_all(*args, **kwargs)

        monkeypatch.setattr(stuck_jobs, "scan", scan)
        second = StuckJobs(await term_on(on.bus, "n2", "other"), AT_ONCE)
        async with troupe(nats_server.url, app, park_after_s=0.2):
            await second.sweep()
            assert read == ["log.*.*.job.* True", "log.*.*.signal.* True", "log.*.*.approval.answered False"]
            assert second.redriven == 2
            assert isinstance(await on.end("m"), JobCompleted) and isinstance(await on.end("signalled"), JobCompleted)
        assert [key for key in second.jobs.jobs if key[1] == "ends"] == []


async def test_an_old_leader_gives_nobody_an_answer(bus: Bus) -> None:
    """The reply for a parent is fenced like all that a leader writes."""
    first = await term_on(bus, "n1", "one")
    await term_on(bus, "n2", "other")
    with pytest.raises(Fenced):
        await first.append("default", ReplyCompleted(job="m", call="x:1"))
    assert not await read_all(bus, EVENTS, "log.default.>")


async def test_events_that_nobody_can_read(bus: Bus) -> None:
    """They are left out, and the rest is swept."""
    blobs, late = Blobs(bus), datetime.now(UTC) - timedelta(hours=1)
    for subject, body in (
        ("log.default.bad.job.submitted", b"{"),
        ("log.default.bad.job.owned", b'{"type":"no.such","job":"bad"}'),
        ("log._system.bad.node.started", b"\xff"),
    ):
        await bus.append(subject, body)
    for event in (
        JobSubmitted(job="good", workflow="waits", version="1.0.0"),
        JobOwned(job="good", host="h", request=1),
        JobWaiting(job="good", on=("sleep:1",), until=late),
        Signal(job="nobody", name="x"),
    ):
        await append_unfenced(bus, blobs, "default", event)
    term = await term_on(bus)
    sweep = StuckJobs(term, AT_ONCE)
    await sweep.sweep()
    await NodeWatch(term, QUICK).look()
    assert sweep.redriven == 1 and set(sweep.jobs.jobs) == {("default", "good")}


async def test_host_that_lives_without_its_request(nats_server: EmbeddedServer) -> None:
    """The request is purged under a living host: another host or itself takes the job, and it is right all the same."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=60, lease_s=1) as on:
        await on.submit("waits", "l", {"name": "go"})
        await wait_until(lambda: on.in_memory == 1)
        await purge(on.bus, "jobs.>")
        sweep = StuckJobs(await term_on(on.bus), AT_ONCE)
        for _ in range(3):
            await sweep.sweep()
            await wait_until(lambda: is_empty(on))
        await on.signal("waits", "l", "go", b'"on"')
        assert isinstance(await on.end("l"), JobCompleted)
        check_decisions(await on.events("l"))


async def is_empty(on: Troupe) -> bool:
    """Whether every wake-up was taken: what is left is one lease at most, held by a host."""
    return await on.requests_left() == await on.unacked("waits")
