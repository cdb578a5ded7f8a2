"""Critical sections of jobs: one at a time, in order, while parked, and with every way in which a job can end."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

import pytest

from actors import App, Job, Retry
from actors.changes.job_retry import retry_job
from actors.duties.stray_locks import StrayLocks
from actors.duties.term import begin_term
from actors.duties.timing import Timing
from actors.jobs.requests import publish_wake
from actors.locks.claim import Claim, LockName
from actors.locks.lock_store import LockState, LockStore, lock_states
from actors.testing import replay
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.event import utc_now
from bus.lease import Lease
from bus.messages import JobCancelled, JobCompleted, JobFailed
from bus.streams import LOCKS, stream_info
from tests import command_line
from tests.stage import ROOT
from tests.troupe import Troupe, check_decisions, troupe
from tests.waiting import wait_until

SOON_S = 0.05
DEADLINE_S = 40.0
app = App("locks", version="1.0.0")
inside: Counter[str] = Counter()
most: Counter[str] = Counter()
broken: set[str] = set()


@app.tool(retry=Retry(attempts=1))
async def enter(job: str, lock: str) -> int:
    """Note who is in."""
    inside[lock] += 1
    most[lock] = max(most[lock], inside[lock])
    if job in broken:
        inside[lock] -= 1
        raise ValueError("broken")
    return inside[lock]


@app.tool
async def leave(lock: str) -> None:
    """Note who is out."""
    inside[lock] -= 1


@app.job
async def worker(job: Job, lock: str, limit: int = 1, seconds: float = 0.0) -> int:
    """In and out."""
    async with job.lock(lock, limit=limit) as lease:
        await job.call(enter, job=job.id, lock=lock)
        await job.sleep(seconds)
        await job.call(leave, lock=lock)
    return lease.token


@app.job(timeout_s=60.0)
async def holder(job: Job, lock: str, timeout_s: float | None = None) -> int:
    """Holds it until it is told to go."""
    async with job.lock(lock, timeout_s=timeout_s) as lease:
        await job.wait_for("go")
    return lease.token


@app.job(timeout_s=0.6)
async def hasty(job: Job, lock: str) -> None:
    """Its time is up while it holds the lock."""
    async with job.lock(lock):
        await job.wait_for("never")


@app.job
async def branches(job: Job, lock: str) -> str:
    """One branch waits for the lock, the other one fails after a signal."""

    async def wants() -> None:
        async with job.lock(lock):
            await job.wait_for("never")

    async def fails() -> None:
        await job.wait_for("fail")
        raise ValueError("on purpose")

    try:
        await job.gather(wants(), fails())
    except ValueError:
        await job.wait_for("go")
    return "given up"


@app.job
async def twice(job: Job, lock: str) -> str:
    """Asks for what it holds."""
    async with job.lock(lock):
        try:
            async with job.lock(lock):
                return "two"
        except UsageError as error:
            return error.code


async def one(on: Troupe) -> LockState:
    """The only lock that there is."""
    states = await lock_states(on.bus)
    assert len(states) == 1, states
    return states[0]


async def stands(on: Troupe, *, holders: list[str], queue: list[str]) -> None:
    """Wait until these jobs hold the lock and wait for it."""

    async def look() -> bool:
        states = await lock_states(on.bus)
        held = [h.claim.job for state in states for h in state.holders]
        return (held, [w.claim.job for state in states for w in state.queue]) == (holders, queue)

    await wait_until(look, DEADLINE_S, what=f"{holders} hold it, {queue} wait")


async def queue_up(on: Troupe, workflow: str, *jobs: str, lock: str = "x", held: int = 0) -> None:
    """Submit one after the other, each when the one before has its place."""
    for number, job in enumerate(jobs):
        await on.submit(workflow, job, {"lock": lock})

        async def placed(wanted: int = held + number + 1) -> bool:
            return sum(len(s.holders) + len(s.queue) for s in await lock_states(on.bus)) == wanted

        await wait_until(placed, DEADLINE_S)


async def token(on: Troupe, job: str) -> int:
    end = await on.end(job, deadline_s=DEADLINE_S)
    assert isinstance(end, JobCompleted), end
    check_decisions(await on.events(job))
    return int(bytes(end.output))


async def test_first_come_first_served_and_parked_meanwhile(nats_server: EmbeddedServer) -> None:
    """Waiting jobs are in no memory, get the lock in their order with rising tokens, and leave nothing behind."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        await queue_up(on, "holder", "a", "b", "c", "d", lock="account 17/é")
        await wait_until(lambda: on.in_memory == 0, DEADLINE_S)
        state = await one(on)
        assert (state.name, state.limit, state.kind) == ("account 17/é", 1, "lock")
        tokens = []
        for n, job in enumerate("abcd"):
            await stands(on, holders=[job], queue=list("abcd")[n + 1 :])
            tokens.append((await one(on)).holders[0].token)
            await on.signal("holder", job, "go")
            assert await token(on, job) == tokens[-1]
        assert tokens == sorted(set(tokens))
        assert await lock_states(on.bus) == []
        result = await replay(holder, await on.events("b"))
        assert result.difference is None


async def test_never_more_than_the_limit(nats_server: EmbeddedServer) -> None:
    """Many jobs on two hosts, few places: more than one is used where there are more, and never one too many."""
    most.clear()
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        jobs = [f"w{n}" for n in range(60)]
        roll = random.Random(1)
        for n, job in enumerate(jobs):
            limit = 1 + n % 3
            body = {"lock": f"limit {limit}", "limit": limit, "seconds": roll.choice((0.0, 0.01, 0.08))}
            await on.submit("worker", job, body)
        await on.all_end(jobs)
        tokens = {job: await token(on, job) for job in jobs}
        assert len(set(tokens.values())) == len(jobs)
        assert most["limit 1"] == 1 and most["limit 2"] <= 2 and 2 <= most["limit 3"] <= 3, most
        assert await lock_states(on.bus) == []


async def test_time_limit(nats_server: EmbeddedServer) -> None:
    """A job that waited long enough gives up its place, also while it is parked; the lock passes it by."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        await queue_up(on, "holder", "a")
        await on.submit("holder", "b", {"lock": "x", "timeout_s": 0.5})
        end = await on.end("b", deadline_s=DEADLINE_S)
        assert isinstance(end, JobFailed) and end.failure.exception == "TimeoutError"
        await stands(on, holders=["a"], queue=[])
        await queue_up(on, "holder", "c", held=1)
        await on.signal("holder", "a", "go")
        await stands(on, holders=["c"], queue=[])
        await on.signal("holder", "c", "go")
        await token(on, "c")
        # Retried, it asks anew: its time begins again, and now the lock is free.
        await retry_job(on.bus, on.blobs, "default", "b")
        await stands(on, holders=["b"], queue=[])


async def test_every_end_gives_it_back(nats_server: EmbeddedServer) -> None:
    """Cancelled, terminated, out of time, or cancelled while waiting: the next one gets the lock."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        await queue_up(on, "holder", "a", "b", "c")
        await queue_up(on, "hasty", "d", held=3)
        await queue_up(on, "holder", "e", "f", held=4)
        await on.end("d", deadline_s=DEADLINE_S)  # its time was up while it waited
        await stands(on, holders=["a"], queue=["b", "c", "e", "f"])
        await on.signal("holder", "a", "cancel")
        await stands(on, holders=["b"], queue=["c", "e", "f"])
        await on.signal("holder", "e", "cancel")
        await stands(on, holders=["b"], queue=["c", "f"])
        await on.signal("holder", "b", "terminate")
        await stands(on, holders=["c"], queue=["f"])
        await on.signal("holder", "c", "go")
        await stands(on, holders=["f"], queue=[])
        await on.signal("holder", "f", "cancel")
        await queue_up(on, "hasty", "g")
        await queue_up(on, "holder", "h", held=1)
        assert isinstance(await on.end("g", deadline_s=DEADLINE_S), JobFailed)
        await stands(on, holders=["h"], queue=[])
        assert isinstance(await on.end("f"), JobCancelled)


async def test_a_retried_job_asks_anew(nats_server: EmbeddedServer) -> None:
    """It failed in its section and so has given the lock back; it waits for its turn again before it goes on."""
    broken.add("a")
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        await on.submit("worker", "a", {"lock": "x"})
        assert isinstance(await on.end("a", deadline_s=DEADLINE_S), JobFailed)
        await queue_up(on, "holder", "b")
        broken.discard("a")
        retried = await retry_job(on.bus, on.blobs, "default", "a")
        assert retried.calls == ("enter:1",)
        await stands(on, holders=["b"], queue=["a"])
        held = (await one(on)).holders[0].token
        assert not any(isinstance(r.event, JobCompleted) for r in await on.events("a"))
        await on.signal("holder", "b", "go")
        end = await _completed(on, "a")
        assert int(bytes(end.output)) > held
        assert await lock_states(on.bus) == []


async def _completed(on: Troupe, job: str) -> JobCompleted:
    found: list[JobCompleted] = []

    async def completed() -> bool:
        found[:] = [r.event for r in await on.events(job) if isinstance(r.event, JobCompleted)]
        return bool(found)

    await wait_until(completed, DEADLINE_S)
    return found[0]


@pytest.mark.parametrize("holds", [True, False])
async def test_a_branch_that_is_given_up(nats_server: EmbeddedServer, holds: bool) -> None:
    """It gives back what it holds and leaves the queue, while its job goes on."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        if not holds:
            await queue_up(on, "holder", "other")
        await queue_up(on, "branches", "b", held=0 if holds else 1)
        await on.signal("branches", "b", "fail")
        await stands(on, holders=[] if holds else ["other"], queue=[])
        await on.signal("branches", "b", "go")
        assert isinstance(await on.end("b", deadline_s=DEADLINE_S), JobCompleted)


async def test_a_lock_inside_of_itself_is_refused(nats_server: EmbeddedServer) -> None:
    """It could never be granted."""
    async with troupe(nats_server.url, app) as on:
        await on.submit("twice", "t", {"lock": "x"})
        end = await on.end("t", deadline_s=DEADLINE_S)
        assert isinstance(end, JobCompleted) and bytes(end.output) == b'"lock_held"', end


async def test_a_needless_wake_up_changes_nothing(nats_server: EmbeddedServer) -> None:
    """A job that is woken while it waits for the lock keeps its place."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        await queue_up(on, "holder", "a", "b", "c")
        await wait_until(lambda: on.in_memory == 0, DEADLINE_S)
        place = (await one(on)).queue[0].place
        for _ in range(3):
            await publish_wake(on.bus, "default", "holder", "b", "lock")
            await asyncio.sleep(0)
        await wait_until(lambda: on.in_memory > 0, DEADLINE_S)
        await wait_until(lambda: on.in_memory == 0, DEADLINE_S)
        state = await one(on)
        assert [w.claim.job for w in state.queue] == ["b", "c"] and state.queue[0].place == place


async def test_a_host_that_lost_the_job_cannot_queue(nats_server: EmbeddedServer) -> None:
    """Who has read the head before another host had the lock for the job is refused."""
    async with troupe(nats_server.url, app) as on:
        store = LockStore(on.bus, on.blobs, LockName("default", "lock", "x"))
        claim = Claim(lock="x", job="late", call="lock-x:1", workflow="holder", limit=1, asked_at=utc_now())
        _, revision = await store.head()
        await queue_up(on, "holder", "a")
        with pytest.raises(Exception, match="expected sequence"):
            await store.enqueue(claim, revision)
        await stands(on, holders=["a"], queue=[])


# ---- the leader's sweep


async def test_what_is_gone_is_removed_again(nats_server: EmbeddedServer) -> None:
    """To remove a place that another one has removed is no error, wherever in the stream it stood."""
    async with troupe(nats_server.url, app) as on:
        store = LockStore(on.bus, on.blobs, LockName("default", "lock", "x"))
        places = [await on.bus.append(f"$KV.locks.other.{n}", b"{}") for n in range(4)]
        for place in (places[0], places[2]):
            await store.remove(place)
            await store.remove(place)
        info = await stream_info(on.bus, LOCKS)
        assert info is not None and info["state"]["messages"] == 2


async def test_the_sweep_frees_what_an_ended_job_holds(nats_server: EmbeddedServer) -> None:
    """A claim of a job that has ended, or that nobody knows, is dropped at the second look; the next one is told."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        lease = Lease(on.bus, "leader", "t")
        assert await lease.acquire()
        sweep = StrayLocks(await begin_term(on.bus, on.blobs, lease, "t"), Timing())
        store = LockStore(on.bus, on.blobs, LockName("default", "lock", "x"))
        await on.submit("worker", "ended", {"lock": "other"})
        await token(on, "ended")
        for job in ("ended", "unknown"):
            claim = Claim(lock="x", job=job, call="lock-x:1", workflow="worker", limit=2, asked_at=utc_now())
            head, revision = await store.head()
            await store.write(head.grant(claim, utc_now()), revision)
        await queue_up(on, "holder", "a", held=2)
        await sweep.sweep()
        await stands(on, holders=["ended", "unknown"], queue=["a"])
        await sweep.sweep()
        assert sweep.repaired == 2
        await stands(on, holders=["a"], queue=[])
        # Free, and somebody waits who was not told.
        await queue_up(on, "holder", "b", held=1)
        head, revision = await store.head()
        await store.write(head.without_job("a", 0), revision)
        await sweep.sweep()
        await sweep.sweep()
        await stands(on, holders=["b"], queue=[])
        await on.signal("holder", "b", "go")
        await token(on, "b")


async def test_the_command_shows_holders_and_queue(nats_server: EmbeddedServer) -> None:
    """Each lock with who is in and who waits, in order; as JSON too, and by the beginning of its name."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        assert (await callboard(nats_server.url, "locks")).strip() == "no lock is held"
        await queue_up(on, "holder", "a", "b", "c", lock="account 17")
        said = (await callboard(nats_server.url, "locks")).split("\n")
        assert "account 17" in said[1] and " a " in said[1] and "holds" in said[1]
        assert "waits, 1." in said[2] and " b " in said[2] and "waits, 2." in said[3]
        states = json.loads(await callboard(nats_server.url, "locks", "acc", "--json"))
        assert [w["claim"]["job"] for w in states[0]["queue"]] == ["b", "c"]
        assert json.loads(await callboard(nats_server.url, "locks", "other", "--json")) == []


async def callboard(url: str, *words: str) -> str:
    """What the command says."""
    command = [*command_line.callboard(), *words, "--nats", url]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    return said.decode()
