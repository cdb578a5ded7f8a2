"""Jobs in flight are paused, resumed and terminated: nothing new begins meanwhile, nothing is lost or done twice."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from actors import App, Job, Retry
from actors.clients.client import Client
from actors.gateway.bulk_service import BulkService, FindJobs, TellJobs
from actors.hosts.host import JobHost
from actors.jobs.signals import make_signal
from actors.testing import record_history, replay
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import (
    CallJob,
    CallTool,
    Event,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobPaused,
    JobResumed,
    JobWaiting,
    ReplyCompleted,
    Signal,
)
from store.log import JobLog, Recorded, append_unfenced
from tests.troupe import Troupe, check_decisions, troupe
from tests.waiting import wait_until

DEADLINE_S = 40
SOON_S = 0.05
app = App("control", version="1.0.0")
GATES: dict[str, asyncio.Event] = {}
LEFT: list[str] = []


def gate(name: str) -> asyncio.Event:
    """What a call of that name waits for."""
    return GATES.setdefault(name, asyncio.Event())


@app.tool
async def through(name: str) -> str:
    """Wait until the test opens the gate."""
    await gate(name).wait()
    return name


@app.job
async def two(job: Job, name: str) -> list[str]:
    """Two calls in a row."""
    return [await job.call(through, name=f"{name}-1"), await job.call(through, name=f"{name}-2")]


@app.job
async def one(job: Job, name: str) -> str:
    """One call."""
    return await job.call(through, name=name)


@app.tool(retry=Retry(attempts=1))
async def breaks(name: str) -> str:
    """Fail, the first time, once the test opens the gate."""
    await gate(name).wait()
    if name not in LEFT:
        LEFT.append(name)
        raise RuntimeError("as told")
    return "mended"


@app.job
async def fails(job: Job, name: str) -> str:
    """A call that fails once."""
    return await job.call(breaks, name=name)


@app.job
async def waits(job: Job, name: str) -> str:
    """A signal, then a call."""
    data = await job.wait_for("go")
    return f"{data} {await job.call(through, name=name)}"


@app.job
async def naps(job: Job, seconds: float, name: str) -> str:
    """A short sleep, then a local value and a call."""
    await job.sleep(seconds)
    await job.local(lambda: LEFT.append("woke"))
    return await job.call(through, name=name)


@app.job
async def spread(job: Job, name: str) -> list[Any]:
    """Three branches of two calls, a sleep and a signal."""

    async def calls(n: int) -> str:
        await job.call(through, name=f"{name}-{n}a")
        return await job.call(through, name=f"{name}-{n}b")

    async def nap() -> str:
        await job.sleep(0.05)
        return await job.call(through, name=f"{name}-nap")

    return list(await job.gather(calls(1), calls(2), nap()))


@app.job(timeout_s=1.5)
async def limited(job: Job, name: str) -> str:
    """A job with a deadline."""
    return await job.call(through, name=name)


@app.job
async def parent(job: Job, name: str) -> str:
    """A job that waits for a child of two calls."""
    return f"child: {await job.call(two, name=name)}"


@app.job
async def stubborn(job: Job, name: str) -> str:
    """Does not leave when it is asked to."""
    while True:
        try:
            await job.wait_for("never")
        except asyncio.CancelledError:
            LEFT.append(name)
            await gate(name).wait()
            raise


@app.job
async def wrong(job: Job, name: str) -> str:
    """Waits for a word of the system."""
    return str(await job.wait_for(name))


def open_gates(*names: str) -> None:
    for name in names:
        gate(name).set()


def output(end: object) -> Any:
    assert isinstance(end, JobCompleted), end
    return msgspec.json.decode(end.output)


def commands(events: list[Recorded]) -> list[str]:
    return [r.event.call for r in events if isinstance(r.event, CallTool | CallJob)]


def check_held(events: list[Recorded]) -> None:
    """Between job.paused and job.resumed there is no new command, and no end but by force."""
    paused = False
    for recorded in events:
        match recorded.event:
            case JobPaused():
                paused = True
            case JobResumed():
                paused = False
            case CallTool() | CallJob() | JobCompleted():
                assert not paused, recorded
    check_decisions(events)


def check_held_with_retry(events: list[Recorded]) -> None:
    """As :func:`check_held` for a job of one call that was made anew by a retry."""
    retried = next(n for n, r in enumerate(events) if r.event.kind == "job.retried")
    check_held(events[:retried])
    assert len(commands(events)) == 2


async def has(on: Troupe, job: str, kind: type[Any], times: int = 1) -> list[Recorded]:
    """Wait until the job's log holds that many events of a kind."""
    found: list[Recorded] = []

    async def there() -> bool:
        found[:] = await on.events(job)
        return sum(isinstance(r.event, kind) for r in found) >= times

    await wait_until(there, DEADLINE_S, what=lambda: f"{times} {kind} in {[r.event.kind for r in found]}")
    return found


async def test_paused_with_a_call_in_flight(nats_server: EmbeddedServer) -> None:
    """The call finishes and its result is kept; the next one is asked for after the resume, and not before."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        await on.submit("two", "j", {"name": "flight"})
        await has(on, "j", CallTool)
        await client.pause("j", by="ann")
        await has(on, "j", JobPaused)
        open_gates("flight-1", "flight-2")
        await has(on, "j", ReplyCompleted)
        view = await client.get("j")
        assert (view.state, view.paused_by) == ("paused", "ann") and view.paused_at is not None
        await wait_until(lambda: any(a._operations and "paused" in a._operations.waits for a in actors(on)))
        assert len(commands(await on.events("j"))) == 1
        await client.resume("j", by="bob")
        assert output(await on.end("j")) == ["flight-1", "flight-2"]
        events = await on.events("j")
        check_held(events)
        assert [r.event.by for r in events if isinstance(r.event, JobPaused | JobResumed)] == ["ann", "bob"]
        assert (await client.get("j")).paused_by == ""


def actors(on: Troupe) -> list[Any]:
    return [actor for host in on.hosts for actor in host.running.values()]


async def test_paused_between_two_calls_parks_and_is_woken(nats_server: EmbeddedServer) -> None:
    """A paused job leaves memory, other signals do not move it, a resume does; nothing is asked twice."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on, Client(on.bus) as client:
        await on.submit("two", "j", {"name": "between"})
        await has(on, "j", CallTool)
        await client.pause("j")
        await has(on, "j", JobPaused)
        open_gates("between-1")
        await on.parked("j")
        assert (await client.get("j")).state == "paused"
        before = len(await on.events("j"))
        await client.signal("j", "hello")
        await wait_until(lambda: grown(on, "j", before + 2), DEADLINE_S)
        await on.parked("j")
        assert len(commands(await on.events("j"))) == 1
        open_gates("between-2")
        await client.resume("j")
        assert output(await on.end("j", deadline_s=DEADLINE_S)) == ["between-1", "between-2"]
        check_held(await on.events("j"))


async def grown(on: Troupe, job: str, length: int) -> bool:
    return len(await on.events(job)) >= length


async def test_pause_of_a_parked_job(nats_server: EmbeddedServer) -> None:
    """It is woken to say that it is paused, and parks again; the signal that it waits for counts after the resume."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on, Client(on.bus) as client:
        open_gates("parked")
        await on.submit("waits", "j", {"name": "parked"})
        await on.parked("j")
        await client.pause("j", by="ann")
        await has(on, "j", JobPaused)
        await on.parked("j")
        await client.signal("j", "go", "now")
        await has(on, "j", Signal, 2)
        await on.parked("j")
        assert not [r for r in await on.events("j") if isinstance(r.event, ReplyCompleted)]
        await client.resume("j")
        assert output(await on.end("j", deadline_s=DEADLINE_S)) == "now parked"
        check_held(await on.events("j"))


async def test_a_sleep_that_ends_while_paused(nats_server: EmbeddedServer) -> None:
    """The sleep's end comes, and what follows it waits for the resume."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        LEFT.clear()
        open_gates("nap")
        await append_unfenced(on.bus, on.blobs, "default", make_signal("j", "pause"))
        await on.submit("naps", "j", {"seconds": 0.0, "name": "nap"})
        await has(on, "j", JobPaused)
        await wait_until(lambda: any(a._operations and a._operations.waits for a in actors(on)))
        assert not LEFT
        await client.resume("j")
        assert output(await on.end("j")) == "nap"
        assert LEFT == ["woke"]


async def test_pause_of_branches(nats_server: EmbeddedServer) -> None:
    """Every branch of a gather finishes what it has begun and begins nothing; the job parks and goes on elsewhere."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on, Client(on.bus) as client:
        await on.submit("spread", "j", {"name": "b"})
        await has(on, "j", CallTool, 2)
        await client.pause("j")
        await has(on, "j", JobPaused)
        asked = commands(await on.events("j"))
        open_gates("b-1a", "b-2a", "b-nap", "b-1b", "b-2b")
        await on.parked("j")
        assert commands(await on.events("j")) == asked
        await client.resume("j")
        assert output(await on.end("j", deadline_s=DEADLINE_S)) == ["b-1b", "b-2b", "b-nap"]
        check_held(await on.events("j"))


async def test_pause_and_resume_race(nats_server: EmbeddedServer) -> None:
    """The log's order decides: however fast the words follow each other, the last one holds."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on, Client(on.bus) as client:
        jobs = [f"race-{n}" for n in range(8)]
        for job in jobs:
            await on.submit("two", job, {"name": job})
        for job in jobs:
            await has(on, job, CallTool)
        words = [client.pause, client.resume, client.pause, client.resume, client.pause]
        await asyncio.gather(*(in_turn(job, words[: 1 + n % 5]) for n, job in enumerate(jobs)))
        held = [job for n, job in enumerate(jobs) if n % 5 in (0, 2, 4)]
        for job in held:
            await wait_until(lambda job=job: is_state(client, job, "paused"), DEADLINE_S)  # type: ignore[misc]
        open_gates(*(f"{job}-{n}" for job in jobs for n in (1, 2)))
        for job in set(jobs) - set(held):
            assert output(await on.end(job, deadline_s=DEADLINE_S)) == [f"{job}-1", f"{job}-2"]
        for job in held:
            await has(on, job, ReplyCompleted)
            assert len(commands(await on.events(job))) == 1
            await asyncio.gather(client.resume(job), client.pause(job), client.resume(job))
            await client.resume(job)
            assert output(await on.end(job, deadline_s=DEADLINE_S)) == [f"{job}-1", f"{job}-2"]
        for job in jobs:
            check_held(await on.events(job))


async def in_turn(job: str, words: list[Any]) -> None:
    for word in words:
        await word(job)


async def is_state(client: Client, job: str, state: str) -> bool:
    return (await client.get(job)).state == state


async def test_the_deadline_goes_on(nats_server: EmbeddedServer) -> None:
    """A paused job, parked too, fails when its time is up; a retry leaves it paused."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on, Client(on.bus) as client:
        await append_unfenced(on.bus, on.blobs, "default", make_signal("j", "pause"))
        await on.submit("limited", "j", {"name": "limited"})
        await has(on, "j", JobPaused)
        end = await on.end("j", deadline_s=DEADLINE_S)
        assert isinstance(end, JobFailed) and end.failure.code == "timeout"
        assert not commands(await on.events("j"))
        open_gates("limited")
        await client.retry("j")
        assert await is_state(client, "j", "paused")
        await client.resume("j")
        await wait_until(lambda: is_state(client, "j", "completed"), DEADLINE_S)


async def test_a_job_that_fails_while_paused_can_be_retried(nats_server: EmbeddedServer) -> None:
    """Its failure is kept until the resume; that it parked with it in its hands is no sign that its code caught it."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S, tools=True) as on, Client(on.bus) as client:
        await on.submit("fails", "j", {"name": "fails"})
        await has(on, "j", CallTool)
        await client.pause("j")
        await has(on, "j", JobPaused)
        open_gates("fails")
        await on.parked("j")
        await client.resume("j")
        end = await on.end("j", deadline_s=DEADLINE_S)
        assert isinstance(end, JobFailed) and "as told" in end.failure.message
        assert await (await client.retry("j")).result(DEADLINE_S) == "mended"
        check_held_with_retry(await on.events("j"))


@pytest.mark.parametrize("word", ["cancel", "terminate"])
@pytest.mark.parametrize("parked", [False, True])
async def test_a_paused_job_is_ended(nats_server: EmbeddedServer, word: str, parked: bool) -> None:
    """Cancel and terminate end a paused job at once, parked or not, and its child with it."""
    after_s = SOON_S if parked else 30.0
    async with troupe(nats_server.url, app, park_after_s=after_s) as on, Client(on.bus) as client:
        await on.submit("parent", "j", {"name": f"ended-{word}-{parked}"})
        child = (await has(on, "j", CallJob))[-1].event.child  # type: ignore[union-attr]
        await has(on, child, CallTool)
        await client.pause("j")
        await has(on, "j", JobPaused)
        await has(on, child, JobPaused)
        if parked:
            await wait_until(lambda: ("default", "j") not in on.hosts[0].running, DEADLINE_S)
        await (client.cancel("j", "enough", by="ann") if word == "cancel" else client.terminate("j", by="ann"))
        for job in ("j", child):
            end = await on.end(job, deadline_s=DEADLINE_S)
            assert isinstance(end, JobCancelled), end
            if job == "j":
                assert (end.by, end.reason) == ("ann", "enough" if word == "cancel" else "terminated")
        open_gates(f"ended-{word}-{parked}-1")
        await wait_until(lambda: on.in_memory == 0, DEADLINE_S)
        check_held(await on.events("j"))


async def test_children_are_paused_with_their_parent(nats_server: EmbeddedServer) -> None:
    """By default the word goes down to the children; without children it stays at the parent."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        for name in ("with", "without"):
            await on.submit("parent", name, {"name": name})
        kids = {name: (await has(on, name, CallJob))[-1].event.child for name in ("with", "without")}  # type: ignore[union-attr]
        for kid in kids.values():
            await has(on, kid, CallTool)
        await client.pause("with", by="ann")
        await client.pause("without", children=False)
        await has(on, kids["with"], JobPaused)
        await has(on, "without", JobPaused)
        open_gates("with-1", "with-2", "without-1", "without-2")
        await on.end(kids["without"])
        assert not isinstance((await on.events("without"))[-1].event, JobCompleted)
        assert (await client.get(kids["with"])).paused_by == "job with"
        await client.resume("with")
        await client.resume("without")
        for name, kid in kids.items():
            assert output(await on.end(name)) == f"child: ['{name}-1', '{name}-2']"
            check_held(await on.events(name))
            check_held(await on.events(kid))


async def test_terminate_waits_for_nothing(nats_server: EmbeddedServer) -> None:
    """A function that does not leave when the job is cancelled is left behind when the job is terminated."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        LEFT.clear()
        await on.submit("stubborn", "j", {"name": "stubborn"})
        await wait_until(lambda: any(a._operations and a._operations.waits for a in actors(on)))
        await client.cancel("j", "please")
        await wait_until(lambda: LEFT == ["stubborn"])
        assert not [r for r in await on.events("j") if isinstance(r.event, JobCancelled)]
        await client.terminate("j", "now", by="ann")
        end = await on.end("j")
        assert isinstance(end, JobCancelled) and (end.by, end.reason) == ("ann", "terminated: now")
        view = await client.get("j")
        assert (view.state, view.reason) == ("cancelled", "terminated: now")
        await wait_until(lambda: on.in_memory == 0)
        open_gates("stubborn")
        with pytest.raises(UsageError, match="has ended"):
            await client.terminate("j")


@pytest.mark.parametrize(
    ("word", "kind"), [("cancel", JobCancelled), ("terminate", JobCancelled), ("pause", JobPaused)]
)
async def test_a_word_that_comes_while_the_job_parks(
    nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, word: str, kind: type[Any]
) -> None:
    """Found by the last look at the log before the job leaves, it is heeded, though nobody rings and nobody wakes."""
    store, said = JobLog.append, list[str]()

    async def append(self: JobLog, event: Event) -> int:
        if isinstance(event, JobWaiting) and not said:
            said.append(word)
            await append_unfenced(on.bus, on.blobs, "default", make_signal("j", word))
        return await store(self, event)

    monkeypatch.setattr(JobLog, "append", append)
    monkeypatch.setattr(JobHost, "_on_word", lambda self, msg: None)
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on:
        await on.submit("waits", "j", {"name": "parks"})
        await has(on, "j", kind)
        assert said == [word]


async def test_the_history_of_a_paused_job_is_replayed(nats_server: EmbeddedServer) -> None:
    """The replay kit compares past the pause: the same code fits, other code is found out."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        await on.submit("two", "j", {"name": "history"})
        await has(on, "j", CallTool)
        await client.pause("j")
        open_gates("history-1")
        await has(on, "j", ReplyCompleted)
        history = await record_history(client, "j")
    assert any(isinstance(r.event, Signal) for r in history)
    (await replay(two, history)).check()

    async def other(job: Job, name: str) -> list[str]:
        """What ``two`` does, with its calls the other way round."""
        return [await job.local(lambda: name), await job.call(through, name=f"{name}-1")]

    found = (await replay(App("control", version="1.0.0").job(name="two")(other), history)).difference
    assert found is not None and found.kind == "new"


async def test_words_of_the_system_are_not_waited_for(nats_server: EmbeddedServer) -> None:
    """A job that waits for a pause would wait for ever: it fails and says why."""
    async with troupe(nats_server.url, app) as on:
        await on.submit("wrong", "j", {"name": "pause"})
        end = await on.end("j")
        assert isinstance(end, JobFailed) and end.failure.code == "reserved_signal"


async def test_many_at_once(nats_server: EmbeddedServer) -> None:
    """Jobs are found by workflow, state and age, and told together; one that refuses stops no other."""
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on, Client(on.bus) as client:
        jobs = [f"many-{n}" for n in range(20)]
        for job in jobs:
            await on.submit("waits", job, {"name": "many"})
        await on.submit("fails", "failed", {"name": "many"})
        LEFT.clear()
        open_gates("many")
        await on.end("failed")
        for job in jobs:
            await wait_until(lambda job=job: is_state(client, job, "waiting"), DEADLINE_S)  # type: ignore[misc]
        found = await client.find_jobs(workflow="waits", verb="pause")
        assert {job.job for job in found} == set(jobs)
        assert [job.job for job in await client.find_jobs(states=["failed"], verb="retry")] == ["failed"]
        assert await client.find_jobs(older_than_s=3600) == []
        told = [each async for each in client.tell("pause", [*jobs, "unknown", "failed"], by="ann")]
        assert {each.job: each.code for each in told if each.code} == {"unknown": "unknown_job", "failed": "job_ended"}
        assert {each.job for each in told if each.sequence} == set(jobs)
        for job in jobs:
            await wait_until(lambda job=job: is_state(client, job, "paused"), DEADLINE_S)  # type: ignore[misc]
        paused = await client.find_jobs(states=["paused"])
        service = BulkService(on.bus)
        page = await service.find("default", FindJobs(states=("paused",), limit=3))
        assert ([job.job for job in page["jobs"]], page["total"], page["next_offset"]) == (
            [job.job for job in paused[:3]], len(paused), 3)  # fmt: skip
        again = await service.tell("default", TellJobs(verb="resume", workflow="waits", states=("paused",), by="ann"))
        assert ({each.job for each in again["told"]}, again["left"]) == ({job.job for job in paused}, 0)
        once = await service.tell("default", TellJobs(verb="pause", jobs=("unknown",)))
        assert [each.code for each in once["told"]] == ["unknown_job"]
        for body, code in (
            (TellJobs(verb="pause"), "bad_request"),
            (TellJobs(verb="pause", jobs=("a",), everything=True), "bad_request"),
            (TellJobs(verb="kill", everything=True), "bad_verb"),
            (TellJobs(verb="pause", states=("odd",)), "bad_state"),
        ):  # fmt: skip
            with pytest.raises(UsageError) as refused:
                await service.tell("default", body)
            assert refused.value.code == code
        assert {(job.job, job.paused_by) for job in paused} == {(job, "ann") for job in jobs}
        assert [t.code async for t in client.tell("terminate", [job.job for job in paused])] == [""] * 20
        await on.all_end(jobs, deadline_s=DEADLINE_S)
        assert await client.find_jobs(verb="cancel") == []
