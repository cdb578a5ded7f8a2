"""Invariant 3: two hosts never both advance a job, whatever they believe."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bus import jobid
from bus.connection import Bus, Message
from bus.embedded import EmbeddedServer
from bus.errors import Fenced
from bus.messages import CallTool, JobCancelled, JobCompleted, JobOwned, JobSubmitted, ReplyCompleted, Signal
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import JOBS, ensure_streams
from store.log import JobLog, append_unfenced
from tests.stage import Stage, stage
from tests.troupe import check_decisions
from tests.waiting import wait_until

APP = "tests.apps.core:app"
LEASE_S = "1.5"


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A connection to the shared server, with our streams."""
    async with await Bus.connect(ConnectOptions(servers=[server.url])) as opened:
        await ensure_streams(opened)
        yield opened


def logs_of(bus: Bus, count: int) -> list[JobLog]:
    """Several hosts' holds on one new job."""
    job = jobid.new()
    return [JobLog(bus, Blobs(bus), "default", job) for _ in range(count)]


def submitted(log: JobLog) -> JobSubmitted:
    return JobSubmitted(job=log.job, workflow="w", version="1.0.0")


def owned(log: JobLog, host: str = "h") -> JobOwned:
    return JobOwned(job=log.job, host=host)


async def test_writes_of_the_former_owner_are_refused(bus: Bus) -> None:
    """After a claim by another host no append of the first one is stored, and its next claim fails too."""
    first, second = logs_of(bus, 2)
    assert await first.create(submitted(first), owned(first, "a"))
    await first.append(CallTool(job=first.job, call="x:1", name="x", version=1))
    await second.claim(owned(second, "b"), first.epoch)
    refused = [
        first.append(CallTool(job=first.job, call="x:2", name="x", version=1)),
        first.append(ReplyCompleted(job=first.job, call="l:1", op="local")),
        first.append(JobCompleted(job=first.job)),
        first.claim(owned(first, "a"), first.epoch),
    ]
    for refusal in refused:
        with pytest.raises(Fenced):
            await refusal
    await second.append(JobCompleted(job=second.job))
    kinds = [r.event.kind for r in await second.read()]
    assert kinds == ["job.submitted", "job.owned", "call.tool.x.v1", "job.owned", "job.completed"]


async def test_one_of_many_claims_wins(bus: Bus) -> None:
    """Of twenty hosts that claim after the same owner exactly one gets the job, and only its writes are stored."""
    logs = logs_of(bus, 20)
    assert await logs[0].create(submitted(logs[0]), owned(logs[0]))
    epoch = logs[0].epoch
    claims = await asyncio.gather(*(log.claim(owned(log), epoch) for log in logs), return_exceptions=True)
    winners = [log for log, claim in zip(logs, claims, strict=True) if not isinstance(claim, Fenced)]
    assert len(winners) == 1
    ends = await asyncio.gather(*(log.append(JobCompleted(job=log.job)) for log in logs), return_exceptions=True)
    assert sum(not isinstance(end, Fenced) for end in ends) == 1


async def test_one_of_many_creations_wins(bus: Bus) -> None:
    """Of twenty hosts that take up the same new job at once none but one believes that it created it."""
    logs = logs_of(bus, 20)
    created = await asyncio.gather(*(log.create(submitted(log), owned(log)) for log in logs))
    assert sum(created) <= 1
    kinds = Counter(r.event.kind for r in await logs[0].read())
    assert kinds == {"job.submitted": 1, "job.owned": 1}


async def test_a_log_that_is_not_empty_is_not_created_blindly(bus: Bus) -> None:
    """A signal that was faster than the job's host makes the first creation fail, so that the host reads it."""
    (log,) = logs_of(bus, 1)
    await append_unfenced(bus, Blobs(bus), "default", Signal(job=log.job, name="cancel"))
    assert not await log.create(submitted(log), owned(log))
    last_owned = max((r.sequence for r in await log.read() if isinstance(r.event, JobOwned)), default=0)
    assert await log.create_late(submitted(log), owned(log), last_owned, last_owned)
    assert {r.event.kind for r in await log.read()} == {"signal.cancel", "job.submitted", "job.owned"}


async def test_what_was_ended_before_it_began_never_begins(bus: Bus) -> None:
    """A planned job is cancelled after its host has read the log and before it takes it up: it is not taken up."""
    (log,) = logs_of(bus, 1)
    await append_unfenced(bus, Blobs(bus), "default", Signal(job=log.job, name="cancel"))
    assert not await log.create(submitted(log), owned(log))
    life_at = max((r.sequence for r in await log.read() if r.event.kind.startswith("job.")), default=0)
    await append_unfenced(bus, Blobs(bus), "default", JobCancelled(job=log.job))
    assert not await log.create_late(submitted(log), owned(log), life_at, life_at)
    assert "job.submitted" not in {r.event.kind for r in await log.read()}


async def test_appends_wait_for_a_claim_of_their_own_host(bus: Bus) -> None:
    """A host that claims its job anew while branches write does not fence itself."""
    (log,) = logs_of(bus, 1)
    assert await log.create(submitted(log), owned(log))
    calls = [CallTool(job=log.job, call=f"x:{n}", name="x", version=1) for n in range(12)]
    await asyncio.gather(*(log.append(call) for call in calls[:10]), log.claim(owned(log), log.epoch),
                         *(log.append(call) for call in calls[10:]))  # fmt: skip
    assert sum(isinstance(r.event, CallTool) for r in await log.read()) == 12


# ---- processes


async def owners(on: Stage, job: str) -> list[str]:
    """The hosts that have owned the job, in order."""
    return [r.event.host for r in await on.events(job) if isinstance(r.event, JobOwned)]


async def owned_by(on: Stage, job: str, host: str) -> None:
    """Wait until ``host`` is the job's last owner."""

    async def is_owner() -> bool:
        return (await owners(on, job))[-1:] == [host]

    await wait_until(is_owner, what=f"{job} is owned by {host}")


async def unacked(on: Stage) -> int:
    return int((await on.bus.api(f"CONSUMER.INFO.{JOBS}.job-held-normal"))["num_ack_pending"])


async def doing(on: Stage, actor: str, what: str) -> None:
    """Wait for a heartbeat in which ``actor`` says that it does ``what``, asked from now on."""
    said: list[str] = []

    def hear(msg: Message) -> None:
        said.append(msgspec.json.decode(msg.data)["doing"])

    sub = await on.bus.subscribe(f"hb.{actor}", hear)
    await wait_until(lambda: what in said, what=lambda: f"{actor} says {said}")
    await sub.unsubscribe()


@pytest.mark.parametrize("ends_while_stopped", [False, True])
async def test_stopped_host_drops_its_copy(
    nats_server: EmbeddedServer, tmp_path: Path, ends_while_stopped: bool
) -> None:
    """A host stopped for longer than its lease finds the job with another host: it writes nothing, acks nothing."""
    env, job, gate = {"CALLBOARD_LEASE_S": LEASE_S}, "frozen", tmp_path / "ledger.open"
    async with stage(nats_server.url, tmp_path, APP, env=env) as n1:
        await n1.submit("held", job, {"start": 1})
        await wait_until(lambda: f"{job}/gate:1" in n1.effects())
        n1_pid = n1.pid("host-1")
        os.kill(n1_pid, signal.SIGSTOP)
        async with stage(nats_server.url, tmp_path, APP, env=env, node="n2", only=("held",)) as n2:
            await owned_by(n2, job, "n2/host-1")
            if ends_while_stopped:
                gate.touch()
                await n2.end(job)
            before = len(await n2.events(job))
            os.kill(n1_pid, signal.SIGCONT)
            await doing(n1, "n1.host-1", "idle")
            assert len(await n2.events(job)) == before, "the stopped host wrote to a job that is not its own"
            assert await unacked(n2) == (0 if ends_while_stopped else 1)
            gate.touch()
            end = await n2.end(job)
            assert isinstance(end, JobCompleted)
            assert bytes(end.output) == b"4"
            check_decisions(await n2.events(job))
            assert await owners(n2, job) == ["n1/host-1", "n2/host-1"]
            assert Counter(n2.effects()) == Counter({f"{job}/{call}": 1 for call in ("step:1", "gate:1", "step:2")})
        await n1.submit("held", "after", {"start": 5})
        assert bytes((await n1.end("after")).output) == b"8", "the host that was stopped goes on with other jobs"


async def test_two_hosts_that_both_believe_to_own_a_job(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Stopped and woken again and again, two hosts take many jobs from each other; each decision is made once."""
    env, jobs = {"CALLBOARD_LEASE_S": "0.8"}, [f"tug-{n}" for n in range(12)]
    async with (
        stage(nats_server.url, tmp_path, APP, env=env) as n1,
        stage(nats_server.url, tmp_path, APP, env=env, node="n2", only=("held",)) as n2,
    ):
        for job in jobs:
            await n1.submit("held", job, {"start": 1})
        await wait_until(lambda: sum("gate" in line for line in n1.effects()) == len(jobs))
        for stopped, other in ((n1, "n2/host-1"), (n2, "n1/host-1")):
            pid = stopped.pid("host-1")
            os.kill(pid, signal.SIGSTOP)
            try:
                for job in jobs:
                    await owned_by(n1, job, other)
            finally:
                os.kill(pid, signal.SIGCONT)
        (tmp_path / "ledger.open").touch()
        for job in jobs:
            assert bytes((await n1.end(job)).output) == b"4"
            check_decisions(await n1.events(job))
    assert set(Counter(n1.effects()).values()) == {1}
