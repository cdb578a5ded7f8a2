"""Three servers, every stream on all of them: the one that leads the log is killed under load."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from actors.tools.tool_actor import ACK_WAIT_S
from bench.chaos.faults import Seat
from bench.chaos.injury import Injury
from bench.chaos.ledger import LEDGER_VARIABLE
from bench.chaos.node_process import NodeProcess
from bench.chaos.report import render
from bench.chaos.stage import Settings, Stage
from bus import streams
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import Ambiguous, ApiError, Fenced, UsageError
from bus.messages import CallTool, JobOwned, JobSubmitted
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import (
    BREAKERS,
    DUTIES,
    EVENTS,
    JOBS,
    REGISTRY,
    REPLICAS_VARIABLE,
    Limits,
    chosen_limits,
    ensure_streams,
    stream_info,
)
from store.log import JobLog
from tests.cluster import SIZE, Cluster, cluster
from tests.waiting import wait_until

STREAMS = (JOBS, EVENTS, REGISTRY, DUTIES, BREAKERS)
JOBS_PER_S = 14.0
SECONDS = 8.0
DONE_BEFORE = 15
WIDTH = 20


@pytest.mark.timeout(240)
async def test_leader_of_the_log_is_killed_under_load(tmp_path: Path) -> None:
    """No accepted job is lost, none is decided twice, and the server that comes back holds what the others do."""
    async with cluster(tmp_path) as three, await Bus.connect(three.options, name="test") as bus:
        node = _node(three, tmp_path)
        try:
            node.start()
            stage = Stage(bus, [Seat(node)], tmp_path, Settings(5, SECONDS, jobs_per_s=JOBS_PER_S, quiet_s=90))
            await stage.until_ready()
            assert await _replicas(bus) == dict.fromkeys(STREAMS, SIZE)
            outcome = await stage.run(lambda: _kill_leader(three, bus, stage))
            assert not outcome.findings, render(outcome)
            assert len(outcome.evidence.accepted) == SECONDS * JOBS_PER_S
            assert not outcome.exits, "the node rode it out"
            for stream in (JOBS, EVENTS):
                await three.all_current(bus, stream)
        finally:
            await node.stop()


def _node(three: Cluster, folder: Path) -> NodeProcess:
    env = {LEDGER_VARIABLE: str(folder / "ledger"), REPLICAS_VARIABLE: str(SIZE)}
    return NodeProcess("n1", "bench.chaos.app:app", ",".join(three.options.servers), folder, env=env)


async def test_parallel_appends_of_a_job_do_not_fence_each_other(tmp_path: Path) -> None:
    """A cluster takes one write under a fence at a time: the owner's all come through, a former owner's do not."""
    async with cluster(tmp_path) as three, await Bus.connect(three.options, name="test") as bus:
        await ensure_streams(bus, Limits(replicas=SIZE))
        owner, former = (JobLog(bus, Blobs(bus), "default", "j") for _ in range(2))
        assert await former.create(JobSubmitted(job="j", workflow="w", version="1.0.0"), JobOwned(job="j", host="1"))
        await owner.claim(JobOwned(job="j", host="2"), former.epoch)
        calls = [CallTool(job="j", call=f"x:{n}", name="x", version=1) for n in range(WIDTH)]
        stored = await asyncio.gather(*(owner.append(call) for call in calls))
        assert len(set(stored)) == WIDTH
        refused = await asyncio.gather(*(former.append(call) for call in calls), return_exceptions=True)
        assert all(type(error) is Fenced for error in refused)
        claims = await asyncio.gather(
            *(
                JobLog(bus, Blobs(bus), "default", "j").claim(JobOwned(job="j", host=f"{n}"), owner.epoch)
                for n in range(5)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(claim, int) for claim in claims) == 1
        assert sum(isinstance(claim, Fenced) for claim in claims) == 4


async def test_process_that_starts_while_there_is_no_leader_waits(
    nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What servers answer who choose a leader is waited out; any other refusal is told at once."""
    answers: list[Exception | None] = [
        Ambiguous("no answer from $JS.API.STREAM.INFO.JOBS in time"),
        ApiError("$JS.API.STREAM.INFO.JOBS", 503, 10008, "JetStream system temporarily unavailable"),
        None,
        ApiError("$JS.API.STREAM.CREATE.JOBS", 400, 10074, "replicas > 1 not supported in non-clustered mode"),
    ]

    async def answer(bus: Bus, limits: Limits | None = None) -> list[str]:
        if (error := answers.pop(0)) is not None:
            raise error
        return []

    monkeypatch.setattr(streams, "ensure_streams", answer)
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await streams.wait_for_streams(bus)
        assert len(answers) == 1
        with pytest.raises(ApiError, match="replicas > 1"):
            await streams.wait_for_streams(bus)


async def _replicas(bus: Bus) -> dict[str, int]:
    infos = {stream: await stream_info(bus, stream) for stream in STREAMS}
    return {stream: info["config"]["num_replicas"] for stream, info in infos.items() if info}


async def _kill_leader(three: Cluster, bus: Bus, stage: Stage) -> None:
    """Kill -9 the leader of the log in the middle of the load, and bring it back once the others go on without it."""
    await wait_until(lambda: len(stage.hearing.ended) >= DONE_BEFORE, 60)
    name = await three.leader_of(bus, EVENTS)
    victim, begun_s = three.servers[name], time.time()
    victim.kill()
    await victim.wait()
    ended = len(stage.hearing.ended)
    await wait_until(lambda: len(stage.hearing.ended) > ended + 3, 60, what="jobs end without the killed server")
    assert await three.leader_of(bus, EVENTS) != name
    await victim.restart()
    # Calls that were given out by the old leader may come again until their time-out is over.
    stage.injector.injuries.append(Injury(kind="kill server", begun_s=begun_s, ended_s=time.time() + ACK_WAIT_S))


def test_replicas_of_streams_are_chosen_in_the_environment() -> None:
    """One, three or five; anything else is refused with what would be right."""
    assert chosen_limits({}).replicas == 1
    assert chosen_limits({REPLICAS_VARIABLE: "3"}).replicas == 3
    for wrong in ("2", "0", "three", "-1", "30"):
        with pytest.raises(UsageError, match=f"{REPLICAS_VARIABLE} is '{wrong}'"):
            chosen_limits({REPLICAS_VARIABLE: wrong})
