"""The log of one job: one owner, each event once, whatever happens to the connection and the server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from bus import headers as h
from bus import jobid, subjects
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import Ambiguous, Fenced
from bus.messages import JobCompleted, JobOwned, JobSubmitted, ReplyCompleted, ReplyProgress, Signal
from bus.objects import BlobMissing, Blobs
from bus.options import ConnectOptions
from bus.reader import last, read_all
from bus.streams import EVENTS, Limits, ensure_streams
from store import log as log_module
from store.artifacts import CLAIM_BYTES
from store.log import JobLog, append_unfenced, read_job
from tests.waiting import wait_until

WORKSPACE = "shop"


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A connection to the shared server, with our streams."""
    async with await Bus.connect(ConnectOptions(servers=[server.url])) as bus:
        await ensure_streams(bus)
        yield bus


@pytest.fixture
def job() -> str:
    """A job of the test's own."""
    return jobid.new()


def open_log(bus: Bus, job: str) -> JobLog:
    """A host's hold on that job, not claimed yet."""
    return JobLog(bus, Blobs(bus), WORKSPACE, job)


def begun(job: str, host: str = "h1") -> tuple[JobSubmitted, JobOwned]:
    """The first two events of a job."""
    return JobSubmitted(job=job, workflow="order", version="1.0.0"), JobOwned(job=job, host=host)


def progress(job: str, done: int) -> ReplyProgress:
    """Any small event."""
    return ReplyProgress(job=job, call="c:1", attempt=1, done=done)


async def kinds(bus: Bus, job: str) -> list[str]:
    """The kinds of events in a job's log, in order."""
    return [r.event.kind for r in await read_job(bus, Blobs(bus), WORKSPACE, job)]


# ---- create, claim, append, fence


async def test_a_new_job_is_created_once(bus: Bus, job: str) -> None:
    """Who creates a job owns it; a second creator, with the same or another host, is told that it exists."""
    first, second = open_log(bus, job), open_log(bus, job)
    assert await first.create(*begun(job))
    assert not await second.create(*begun(job, "h2"))
    assert await kinds(bus, job) == ["job.submitted", "job.owned"]
    events = await first.read()
    assert first.epoch == events[1].sequence
    assert second.epoch == 0


async def test_of_many_that_race_one_creates(bus: Bus, job: str) -> None:
    """Twenty hosts get the same request at once: one owns the job, and the log shows one beginning."""
    logs = [open_log(bus, job) for _ in range(20)]
    created = await asyncio.gather(*(log.create(*begun(job, f"h{i}")) for i, log in enumerate(logs)))
    assert sum(created) == 1
    assert await kinds(bus, job) == ["job.submitted", "job.owned"]


async def test_hosts_on_their_own_connections_never_both_create(server: EmbeddedServer, bus: Bus) -> None:
    """Their events may interleave so that one's beginning and another's ownership win: then nobody created it.

    The log has one of each all the same, and the host whose request is the owner's takes the job over.
    """
    options = ConnectOptions(servers=[server.url])
    async with await Bus.connect(options) as b, await Bus.connect(options) as c:
        for _ in range(50):
            job = jobid.new()
            logs = [open_log(connection, job) for connection in (bus, b, c)]
            created = await asyncio.gather(*(log.create(*begun(job, f"h{i}")) for i, log in enumerate(logs)))
            assert sum(created) <= 1
            assert sorted(await kinds(bus, job)) == ["job.owned", "job.submitted"]


async def test_the_former_owner_is_fenced(bus: Bus, job: str) -> None:
    """After another host has claimed the job, not one event of the first gets in, nor its claim on what it saw."""
    first, second = open_log(bus, job), open_log(bus, job)
    await first.create(*begun(job))
    lost = first.epoch
    await first.append(progress(job, 1))
    assert await second.claim(JobOwned(job=job, host="h2"), first.epoch) > lost
    for event in (progress(job, 2), JobCompleted(job=job)):
        with pytest.raises(Fenced):
            await first.append(event)
    with pytest.raises(Fenced):
        await first.claim(JobOwned(job=job, host="h1"), lost)
    await second.append(progress(job, 3))
    done = [r.event.done for r in await second.read() if isinstance(r.event, ReplyProgress)]
    assert done == [1, 3]


async def test_two_owners_in_a_race_never_both_write(bus: Bus, job: str) -> None:
    """Two hosts claim from the same state while the owner writes: one wins, and what follows its claim is its own."""
    owner, a, b = (open_log(bus, job) for _ in range(3))
    await owner.create(*begun(job))
    seen = owner.epoch
    writes = [owner.append(progress(job, n)) for n in range(50)]
    claims = [log.claim(JobOwned(job=job, host=host), seen) for log, host in ((a, "a"), (b, "b"))]
    outcomes = await asyncio.gather(*writes[:25], *claims, *writes[25:], return_exceptions=True)
    won = [o for o in outcomes[25:27] if isinstance(o, int)]
    assert len(won) == 1
    stored = {o for o in outcomes[:25] + outcomes[27:] if isinstance(o, int)}
    assert all(sequence < won[0] for sequence in stored)
    refused = [o for o in outcomes if isinstance(o, BaseException)]
    assert all(isinstance(o, Fenced) for o in refused)
    assert len(await kinds(bus, job)) == 3 + len(stored)


async def test_anyone_may_write_a_reply(bus: Bus, job: str) -> None:
    """Replies and signals need no ownership, before and after the job changes hands."""
    log = open_log(bus, job)
    await log.create(*begun(job))
    await append_unfenced(bus, Blobs(bus), WORKSPACE, ReplyCompleted(job=job, call="c:1"))
    await append_unfenced(bus, Blobs(bus), WORKSPACE, Signal(job=job, name="approve"))
    assert (await kinds(bus, job))[2:] == ["reply.completed", "signal.approve"]


async def test_parallel_branches_append_without_order(bus: Bus, job: str) -> None:
    """A hundred appends at once are all stored, each once, under one fence."""
    log = open_log(bus, job)
    await log.create(*begun(job))
    sequences = await asyncio.gather(*(log.append(progress(job, n)) for n in range(100)))
    assert len(set(sequences)) == 100
    assert len(await kinds(bus, job)) == 102


# ---- read


async def test_a_job_of_three_thousand_events_is_read_whole(bus: Bus, job: str) -> None:
    """Longer than a page of the server: nothing missing, nothing twice, in order; and from any place on."""
    log = open_log(bus, job)
    await log.create(*begun(job))
    for start in range(0, 3000, 500):
        await asyncio.gather(*(log.append(progress(job, n)) for n in range(start, start + 500)))
    events = await log.read()
    assert len(events) == 3002
    sequences = [r.sequence for r in events]
    assert sequences == sorted(set(sequences))
    done = [int(r.event.done) for r in events if isinstance(r.event, ReplyProgress)]
    assert sorted(done) == list(range(3000))
    assert await log.read(since=sequences[1500]) == events[1501:]


async def test_what_was_read_is_let_go_at_once(bus: Bus, job: str) -> None:
    """A page of the log leaves memory with its reader: a process that is idle runs no collector for days."""
    log = open_log(bus, job)
    await log.create(*begun(job))
    await log.append(progress(job, 1))
    messages = lambda: sum(type(each).__name__ == "Msg" for each in gc.get_objects())  # noqa: E731
    gc.collect()
    gc.disable()
    try:
        before = messages()
        for _ in range(10):
            assert len(await log.read()) == 3
        assert messages() - before < 10
    finally:
        gc.enable()


async def test_reading_waits_for_what_must_be_there(bus: Bus, job: str) -> None:
    """Who knows of a sequence reads until it is among the events: a replica may lag behind."""
    log = open_log(bus, job)
    await log.create(*begun(job))
    reading = asyncio.create_task(log.read(must_see=log.epoch + 1))
    target = await log.append(progress(job, 1))
    seen = await asyncio.wait_for(log.read(must_see=target), 10)
    assert seen[-1].sequence == target
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_what_nobody_can_read_does_not_block_the_job(bus: Bus, job: str) -> None:
    """A foreign message among the events is left out, and the job is read around it."""
    log = open_log(bus, job)
    await log.create(*begun(job))
    await bus.append(subjects.event(WORKSPACE, job, "reply.completed"), b"\xff not ours")
    await log.append(JobCompleted(job=job))
    assert await kinds(bus, job) == ["job.submitted", "job.owned", "job.completed"]


# ---- claim check


async def test_a_megabyte_goes_through_the_object_store_unnoticed(bus: Bus, job: str) -> None:
    """The log keeps a reference, readers get the whole body, and the fence holds for it as for any event."""
    output = msgspec.Raw(msgspec.json.encode("x" * 1_000_000))
    log = open_log(bus, job)
    await log.create(*begun(job))
    await log.append(JobCompleted(job=job, output=output))
    stored = await last(bus, EVENTS, subjects.event(WORKSPACE, job, "job.completed"))
    assert stored is not None
    assert len(stored.body) < 1000
    event = (await log.read())[-1].event
    assert isinstance(event, JobCompleted)
    assert event.output == output
    await open_log(bus, job).claim(JobOwned(job=job, host="h2"), log.epoch)
    with pytest.raises(Fenced):
        await log.append(JobCompleted(job=job, output=output))


async def test_the_limit_of_the_claim_check_is_exact(bus: Bus, job: str) -> None:
    """A body at the limit stays in the log, one byte more goes to the object store."""
    log = open_log(bus, job)
    await log.create(*begun(job))
    frame = len(msgspec.json.encode(JobCompleted(job=job, output=msgspec.Raw(b'""'))))
    for extra in (0, 1):
        event = JobCompleted(job=job, output=msgspec.Raw(b'"' + b"x" * (CLAIM_BYTES - frame + extra) + b'"'))
        frame_now = len(msgspec.json.encode(event))
        await log.append(event)
        stored = await last(bus, EVENTS, subjects.event(WORKSPACE, job, "job.completed"))
        assert stored is not None
        assert (b'"blob"' in stored.body) == (frame_now > CLAIM_BYTES)


async def test_a_reference_to_nothing_is_an_error_that_names_it(bus: Bus, job: str) -> None:
    """An event whose body is gone from the object store cannot be made up: the reader is told which blob."""
    body = b'{"type":"signal","job":"%s","at":"2026-01-01T00:00:00Z","name":"n","blob":{"sha256":"ab","size_bytes":9}}'
    await bus.append(subjects.event(WORKSPACE, job, "signal.n"), body % job.encode())
    with pytest.raises(BlobMissing, match="ab"):
        await read_job(bus, Blobs(bus), WORKSPACE, job)


# ---- trouble


def lose_answers(bus: Bus, monkeypatch: pytest.MonkeyPatch, *, times: int) -> list[str]:
    """Let the next appends reach the server and lose their answers; the subjects that it happened to."""
    begin, lost = bus.begin, []

    async def losing(subject: str, body: bytes, **rest: Any) -> asyncio.Future[Any]:
        answer = await begin(subject, body, **rest)
        if not subject.startswith("log.") or len(lost) >= times:
            return answer
        lost.append(subject)
        await answer
        silence: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        silence.set_exception(Ambiguous(f"no answer from {subject} in time"))
        return silence

    monkeypatch.setattr(bus, "begin", losing)
    return lost


async def test_a_lost_answer_is_no_second_event(bus: Bus, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event was stored and its answer lost: it is found by its id, under a fence or without one."""
    log = open_log(bus, job)
    lost = lose_answers(bus, monkeypatch, times=4)
    assert await log.create(*begun(job))
    first = await log.append(progress(job, 1))
    second = await append_unfenced(bus, Blobs(bus), WORKSPACE, progress(job, 2))
    events = await log.read()
    assert len(lost) == 4
    assert [r.event.kind for r in events] == ["job.submitted", "job.owned", "reply.progress", "reply.progress"]
    assert [r.sequence for r in events] == [events[0].sequence, log.epoch, first, second]


async def test_a_lost_answer_to_a_claim_is_told_from_a_lost_race(
    bus: Bus, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again, the condition of a claim fails against the claim itself: that is success, not a fence."""
    first, second = open_log(bus, job), open_log(bus, job)
    await first.create(*begun(job))
    lost = lose_answers(bus, monkeypatch, times=1)
    epoch = await second.claim(JobOwned(job=job, host="h2"), first.epoch)
    assert lost
    assert (await second.read())[-1].sequence == epoch
    assert (await kinds(bus, job)).count("job.owned") == 2


async def test_a_server_that_dies_while_writing_costs_and_doubles_nothing(
    nats_server: EmbeddedServer, job: str
) -> None:
    """Kill -9 in the middle of a stream of fenced appends, and a start on the same store: each is there once."""
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await ensure_streams(bus)
        log = open_log(bus, job)
        await log.create(*begun(job))
        sequences: list[int] = []

        async def write(branch: int) -> None:
            for n in range(branch * 100, branch * 100 + 100):
                sequence = await log.append(progress(job, n))
                sequences.append(sequence)

        writing = asyncio.gather(*(write(branch) for branch in range(5)))
        await wait_until(lambda: len(sequences) > 100)
        nats_server.kill()
        await nats_server.wait()
        await nats_server.restart()
        async with asyncio.timeout(60):
            await writing
        events = await log.read()
        done = [int(r.event.done) for r in events if isinstance(r.event, ReplyProgress)]
        assert sorted(done) == list(range(500))
        assert sorted(sequences) == [r.sequence for r in events[2:]]
        ids = [s.headers[h.EVENT_ID] for s in await read_all(bus, EVENTS, f"log.{WORKSPACE}.{job}.>")]
        assert len(set(ids)) == len(ids)


async def test_a_full_stream_holds_writers_until_there_is_room(
    nats_server: EmbeddedServer, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its limit the log pushes back: the append waits, no history goes, and it is stored once there is room."""
    monkeypatch.setattr(log_module, "FULL_RETRY_S", 0.02)
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await ensure_streams(bus, Limits(events_max_bytes=100_000))
        log = open_log(bus, job)
        await log.create(*begun(job))
        big = msgspec.Raw(b'"' + b"x" * 9_000 + b'"')
        written: list[int] = []

        async def write() -> None:
            for n in range(20):
                sequence = await log.append(ReplyCompleted(job=job, call=f"c:{n}", output=big))
                written.append(sequence)

        writing = asyncio.create_task(write())
        await wait_until(lambda: len(written) >= 9)
        refusals = _count_refusals(bus, monkeypatch)
        await wait_until(lambda: len(refusals) >= 3)
        held = len(written)
        assert held < 20
        assert not writing.done()
        assert (await kinds(bus, job))[:2] == ["job.submitted", "job.owned"]
        config = (await bus.api("STREAM.INFO.EVENTS"))["config"]
        await bus.api("STREAM.UPDATE.EVENTS", config | {"max_bytes": 1_000_000})
        await asyncio.wait_for(writing, 30)
        assert len(await kinds(bus, job)) == 22


def _count_refusals(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    append, refused = bus.append, []

    async def counting(subject: str, body: bytes, **rest: Any) -> int:
        try:
            return await append(subject, body, **rest)
        except Exception:
            refused.append(subject)
            raise

    monkeypatch.setattr(bus, "append", counting)
    return refused


async def test_a_signal_that_is_faster_than_its_job(bus: Bus, job: str) -> None:
    """A log that is not empty is no job yet: it is taken up late, once, after what was there."""
    await append_unfenced(bus, Blobs(bus), WORKSPACE, Signal(job=job, name="approve"))
    first, second = open_log(bus, job), open_log(bus, job)
    assert not await first.create(*begun(job))
    owned = [r.sequence for r in await first.read() if isinstance(r.event, JobOwned)]
    last_owned = max(owned, default=0)
    assert await first.create_late(*begun(job), last_owned, last_owned)
    assert not await second.create_late(*begun(job, "h2"), first.epoch, last_owned)
    found = await kinds(bus, job)
    assert found[0] == "signal.approve"
    assert found.count("job.submitted") == 1
