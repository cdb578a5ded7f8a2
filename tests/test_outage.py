"""Invariants 1, 4 and 7: the server is killed under load, and what ``events.>`` shows is what is stored."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors import App, Job
from actors.jobs.requests import JobRequest, publish_request
from actors.tools import tool_actor
from bus import headers as h
from bus import jobid
from bus.connection import Bus, Message
from bus.embedded import EmbeddedServer
from bus.errors import Ambiguous, BusError, Fenced
from bus.messages import CallTool, JobCompleted, JobOwned, JobSubmitted
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.reader import read_all
from bus.streams import EVENTS, ensure_streams
from store.log import JobLog, append_unfenced
from tests.stage import Stage, stage
from tests.test_crash import RESULT, check_log
from tests.troupe import troupe
from tests.waiting import wait_until

JOBS = 50


async def killed_while_they_run(server: EmbeddedServer, on: Stage, times: int) -> None:
    """Kill -9 the server and start it on its store, each time once some more work was done."""
    for _ in range(times):
        done = len(on.effects())
        await wait_until(lambda done=done: len(on.effects()) >= min(done + 20, JOBS * 5), 30)  # type: ignore[misc]
        server.kill()
        await server.restart()


async def test_server_killed_while_jobs_run(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Fifty jobs of five steps, the server killed three times: every one ends right, and decides everything once."""
    jobs = [f"outage-{n}" for n in range(JOBS)]
    async with stage(nats_server.url, tmp_path, replicas={"step": 2}) as on:
        pids = {status.name: status.pid for status in on.supervisor.statuses()}
        for job in jobs[: JOBS // 2]:
            await on.submit("five", job, {"start": 1})
        killing = asyncio.create_task(killed_while_they_run(nats_server, on, 3))
        for job in jobs[JOBS // 2 :]:
            await _submit_through(on, job)
        await killing
        for job in jobs:
            end = await _end_through(on, job)
            assert isinstance(end, JobCompleted) and bytes(end.output) == str(RESULT).encode()
            check_log(await on.events(job))
        effects = Counter(on.effects())
        assert set(effects) == {f"{job}/step:{n}" for job in jobs for n in range(1, 6)}
        assert pids == {status.name: status.pid for status in on.supervisor.statuses()}, "no actor has exited"


async def _submit_through(on: Stage, job: str) -> None:
    """Submit as a client does: again, if the answer was lost."""
    await publish_request(on.bus, on.blobs, JobRequest(workflow="five", job=job, input=b'{"start":1}'))


async def _end_through(on: Stage, job: str) -> object:
    """The job's end; a read that the outage has caught is read again."""
    while True:
        try:
            return await on.end(job, deadline_s=60)
        except BusError:
            await on.bus.settle()


async def test_events_are_the_log(nats_server: EmbeddedServer) -> None:
    """Under fenced and refused writers, ``events.>`` brings what is stored, all of it, in the stored order."""
    options = ConnectOptions(servers=[nats_server.url])
    async with await Bus.connect(options) as bus, await Bus.connect(options) as listener:
        await ensure_streams(bus)
        heard: list[tuple[int, str, bytes]] = []

        def hear(msg: Message) -> None:
            headers = msg.headers or {}
            heard.append((int(headers[h.SEQUENCE]), headers[h.SUBJECT], msg.data))

        await listener.subscribe("events.>", hear)
        await listener.settle()
        refused = sum(await asyncio.gather(*(_fight(bus) for _ in range(40))))
        assert refused > 40, "the test has to see refused writes"
        stored = [(s.sequence, s.subject, s.body) for s in await read_all(bus, EVENTS, "log.>")]
        await wait_until(lambda: len(heard) >= len(stored))
        assert heard == stored


async def _fight(bus: Bus) -> int:
    """Three hosts write to one job, each as long as it owns it; how many writes were refused."""
    job, refused = jobid.new(), 0
    logs = [JobLog(bus, Blobs(bus), "default", job) for _ in range(3)]
    await logs[0].create(JobSubmitted(job=job, workflow="w", version="1.0.0"), JobOwned(job=job, host="0"))
    last = logs[0].epoch
    for turn in range(1, 5):
        last = await logs[turn % 3].claim(JobOwned(job=job, host=str(turn % 3)), last)
        calls = [CallTool(job=job, call=f"x:{turn}-{n}", name="x", version=1) for n in range(len(logs))]
        outcomes = await asyncio.gather(
            *(log.append(call) for log, call in zip(logs, calls, strict=True)),
            append_unfenced(bus, Blobs(bus), "default", calls[0]), return_exceptions=True,
        )  # fmt: skip
        refused += sum(isinstance(outcome, Fenced) for outcome in outcomes)
    return refused


# ---- a message that comes again to the process that has it, which then cannot go on

again = App("again", version="1.0.0")


@again.tool
async def plus(n: int) -> int:
    """Add one."""
    return n + 1


@again.job
async def simple(job: Job, n: int) -> int:
    """One call."""
    return await job.call(plus, n=n)


async def test_call_that_came_again_and_could_not_be_served(
    nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second delivery is handed back too, instead of being kept in progress for ever."""
    monkeypatch.setattr(tool_actor, "ACK_WAIT_S", 0.5)
    monkeypatch.setattr(tool_actor, "KEEP_S", 60.0)
    read, tries = tool_actor.past_attempts, list[int]()

    async def lost_once(*args: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            actor = actors[0]
            first = next(iter(actor.running.values()))
            delivery = first.delivery
            await wait_until(lambda: first.delivery is not delivery)
            raise Ambiguous("no answer in time")
        return await read(*args)

    monkeypatch.setattr(tool_actor, "past_attempts", lost_once)
    async with troupe(nats_server.url, again, tools=False) as on:
        await on.submit("simple", "a", {"n": 1})
        await wait_until(lambda: on.in_memory == 1)
        monkeypatch.setattr(tool_actor, "LOOK_NS", 10**10)  # all calls count as older than the actor
        actors = [tool_actor.ToolActor(on.bus, on.blobs, plus, name="plus")]
        await actors[0].start()
        assert isinstance(await on.end("a"), JobCompleted)
        assert len(tries) > 1
        await actors[0].stop(1.0)


async def test_request_that_came_again_and_could_not_be_served(
    nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a host and a job."""
    create, tries = JobLog.create, list[int]()

    async def lost_once(self: JobLog, submitted: JobSubmitted, owned: JobOwned) -> bool:
        tries.append(1)
        if len(tries) == 1:
            actor = next(iter(on.hosts[0].running.values()))
            lease = actor.lease
            await wait_until(lambda: actor.lease is not lease)
            raise Ambiguous("no answer in time")
        return await create(self, submitted, owned)

    monkeypatch.setattr(JobLog, "create", lost_once)
    async with troupe(nats_server.url, again, lease_s=0.5) as on:
        for ticker in on.hosts[0]._tickers:
            ticker.cancel()
        await on.submit("simple", "a", {"n": 1})
        assert isinstance(await on.end("a"), JobCompleted)
        await wait_until(lambda: on.in_memory == 0)
