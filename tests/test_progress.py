"""Invariant 8, liveness means progress: who is stopped, blocked or deaf is found and replaced; who works is left alone.

Real processes under a real watch. Bounds are deadlines of waiting, never measured times.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from actors.jobs.requests import publish_wake
from bus.connection import Bus, Message
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import JobCompleted, JobFailed, Signal
from bus.options import ConnectOptions
from store.log import append_unfenced
from supervisor.heartbeat import HEARTBEAT_S, decode
from supervisor.lookout import Lookout
from supervisor.status import NodeStatus, node_statuses
from supervisor.watch import start_allowance_s
from tests.apps.stuck import STALL_S
from tests.stage import Stage
from tests.test_metrics import node_with_metrics
from tests.troupe import check_decisions
from tests.waiting import wait_until
from tests.watched import STUCK, call, failures, replies, runs, status_of, watched

FIVE = "tests.apps.five:app"


async def beats_for(on: Stage, actor: str, span_s: float) -> None:
    """Wait until ``actor`` has been heard over ``span_s`` seconds, from now on."""
    heard: list[float] = []
    sub = await on.bus.subscribe(f"hb.n1.{actor}", lambda _: heard.append(time.monotonic()))
    await wait_until(lambda: heard and heard[-1] - heard[0] >= span_s, 60, what=lambda: f"{len(heard)} heartbeats")
    await sub.unsubscribe()


async def replaced(on: Stage, name: str, pid: int, words: str) -> None:
    """Wait until another process than ``pid`` runs as ``name``, since that one was killed for ``words``."""

    def is_replaced() -> bool:
        status = status_of(on, name)
        return status.state == "running" and status.pid != pid and words in status.last_exit

    await wait_until(is_replaced, 60, what=lambda: str(status_of(on, name)))


# ---- stopped


async def test_stopped_tool_is_replaced_and_its_call_goes_on(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """SIGSTOP while a call runs: the process is killed, the call is told so, and its successor answers it."""
    async with watched(nats_server.url, tmp_path, only=("patient", "ask")) as (on, _):
        await call(on, "frozen", "patient")
        [(_, pid)] = await wait_until(lambda: runs(on, "frozen"), 30)
        await wait_until(lambda: "patient:1 of frozen" in status_of(on, "patient-1").doing, 30)
        os.kill(pid, signal.SIGSTOP)
        await replaced(on, "patient-1", pid, "killed: said nothing for")
        assert "its last words: patient:1 of frozen since" in status_of(on, "patient-1").last_exit
        (tmp_path / "ledger.open").touch()
        end = await on.end("frozen", deadline_s=60)
        assert isinstance(end, JobCompleted)
        assert bytes(end.output) == b"2"
        assert await failures(on, "frozen") == [(1, "process_died")]
        assert await replies(on, "frozen") == ["reply.completed"]


async def test_stopped_host_is_replaced_and_its_jobs_go_on(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """SIGSTOP of the only host with jobs in hand: its successor ends them, and decides nothing a second time."""
    async with watched(nats_server.url, tmp_path, only=("patient", "ask"), stall_s=STALL_S) as (on, _):
        jobs = [f"held-{n}" for n in range(4)]
        for job in jobs:
            await call(on, job, "patient")
        await wait_until(lambda: all(runs(on, job) for job in jobs), 30)
        await wait_until(lambda: status_of(on, "host-1").doing == "4 jobs", 30)
        pid = on.pid("host-1")
        os.kill(pid, signal.SIGSTOP)
        (tmp_path / "ledger.open").touch()
        await replaced(on, "host-1", pid, "killed: said nothing for")
        for job in jobs:
            assert isinstance(await on.end(job, deadline_s=60), JobCompleted)
            check_decisions(await on.events(job))
            assert len(runs(on, job)) == 1, "a call whose tool lives is not run again"


async def test_short_stop_is_left_alone(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A process that is stopped for less than its time goes on with its call, and nobody kills it later."""
    async with watched(nats_server.url, tmp_path, only=("patient", "ask")) as (on, watch):
        await call(on, "paused", "patient")
        [(_, pid)] = await wait_until(lambda: runs(on, "paused"), 30)
        await wait_until(lambda: watch.lookout.last_beat("patient-1"), 30)
        now = asyncio.get_running_loop().time
        os.kill(pid, signal.SIGSTOP)
        try:
            await wait_until(lambda: watch.lookout.ages_s(now())["patient-1"] > STALL_S / 2, 30)
        finally:
            os.kill(pid, signal.SIGCONT)
        await beats_for(on, "patient-1", 1.5 * STALL_S)
        (tmp_path / "ledger.open").touch()
        end = await on.end("paused", deadline_s=60)
        assert bytes(end.output) == b"1"
        assert on.pid("patient-1") == pid


# ---- long, but progressing


@pytest.mark.parametrize("tool", ["patient", "patient_sync"])
async def test_long_call_is_left_alone(nats_server: EmbeddedServer, tmp_path: Path, tool: str) -> None:
    """A call that takes longer than ``stall_s``, awaiting or in a thread, is nobody's business: its process beats."""
    async with watched(nats_server.url, tmp_path, only=(tool, "ask")) as (on, _):
        await call(on, "long", tool)
        [(_, pid)] = await wait_until(lambda: runs(on, "long"), 30)
        await beats_for(on, f"{tool}-1", 2 * STALL_S)
        assert f"{tool}:1 of long" in status_of(on, f"{tool}-1").doing
        (tmp_path / "ledger.open").touch()
        end = await on.end("long", deadline_s=60)
        assert bytes(end.output) == b"1"
        assert (on.pid(f"{tool}-1"), len(runs(on, "long"))) == (pid, 1)


# ---- the server away


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_nobody_is_killed_while_the_server_is_away(nats_server: EmbeddedServer, tmp_path: Path, how: str) -> None:
    """Away for far longer than ``stall_s``, with the connection closed or silently open: no process is ended for it."""
    async with watched(nats_server.url, tmp_path, only=("patient", "ask"), stall_s=STALL_S) as (on, watch):
        await call(on, "before", "patient")
        await wait_until(lambda: runs(on, "before"), 30)
        await wait_until(lambda: all(watch.lookout.last_beat(s.name) for s in on.supervisor.statuses()), 30)
        pids = {status.name: status.pid for status in on.supervisor.statuses()}
        server_pid = nats_server.pid
        back_at = time.monotonic() + 2.5 * STALL_S
        if how == "killed":
            nats_server.kill()
            await wait_until(lambda: time.monotonic() > back_at, 60)
            await nats_server.restart()
        else:
            assert server_pid is not None
            os.kill(server_pid, signal.SIGSTOP)
            try:
                await wait_until(lambda: time.monotonic() > back_at, 60)
            finally:
                os.kill(server_pid, signal.SIGCONT)
        for name in pids:
            await beats_for(on, name, 1.5 * STALL_S)
        (tmp_path / "ledger.open").touch()
        assert isinstance(await on.end("before", deadline_s=60), JobCompleted)
        assert {status.name: status.pid for status in on.supervisor.statuses()} == pids


async def test_node_that_was_stopped_blames_nobody(
    nats_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that was stopped itself, for far longer than ``stall_s``, finds its children as they were."""
    monkeypatch.setenv("CALLBOARD_STALL_S", str(STALL_S))
    chosen = ("--only", "patient", "--only", "ask")
    async with (
        node_with_metrics(nats_server.url, tmp_path, STUCK, *chosen),
        await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus,
    ):

        async def serving() -> NodeStatus | None:
            [status] = await node_statuses(bus) or [None]
            return status if status and all(actor.doing for actor in status.actors) else None

        before = await wait_until(serving, 60)
        assert before is not None
        back_at = time.monotonic() + 2.5 * STALL_S
        os.kill(before.pid, signal.SIGSTOP)
        try:
            await wait_until(lambda: time.monotonic() > back_at, 60)
        finally:
            os.kill(before.pid, signal.SIGCONT)
        pulses: list[float] = []
        sub = await bus.subscribe("hb.n1._node", lambda _: pulses.append(time.monotonic()))
        await wait_until(lambda: pulses and pulses[-1] - pulses[0] > 1.5 * STALL_S, 60)
        await sub.unsubscribe()
        after = await wait_until(serving, 60)
        assert after is not None
        assert [(a.name, a.pid, a.restarts) for a in after.actors] == [(a.name, a.pid, 0) for a in before.actors]


# ---- deaf


async def test_deaf_tool_is_replaced(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """It beats, says that it has room, and has not asked: while a call waits for it, it is found and replaced."""
    (tmp_path / "ledger.deaf").touch()
    lookout = Lookout(deaf_least_s=STALL_S)
    async with watched(nats_server.url, tmp_path, only=("listen", "ask"), lookout=lookout) as (on, watch):
        marker = tmp_path / "ledger.deaf"
        pid = int(await wait_until(marker.read_text, 30))
        await beats_for(on, "listen-1", 1.5 * STALL_S)
        assert on.pid("listen-1") == pid, "as long as no work waits, nobody is deaf"
        await call(on, "heard", "listen")
        await wait_until(lambda: watch.pending.get(("EVENTS", "tool-listen-v1")) == 1, 30)
        await replaced(on, "listen-1", pid, "killed: has room for 8 and took nothing from consumer tool-listen-v1")
        end = await on.end("heard", deadline_s=60)
        assert bytes(end.output) == b"1", "what nobody had taken has lost no attempt"


# ---- a call past its time-out


async def test_calls_that_do_not_yield(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A thread that sleeps or holds the GIL, a coroutine that blocks its loop or swallows its cancellation: each costs
    its process once for each attempt, each attempt is recorded with its reason, and the call ends as failed, once."""
    expected = {"nap": "timeout", "swallow": "timeout", "freeze": "process_died", "hold_gil": "process_died"}
    async with watched(nats_server.url, tmp_path, only=(*expected, "ask")) as (on, _):
        for tool in expected:
            await call(on, tool, tool)
        for tool, code in expected.items():
            end = await on.end(tool, deadline_s=90)
            assert isinstance(end, JobFailed), tool
            assert end.failure.code == code, tool
            assert await failures(on, tool) == [(1, code), (2, code)], tool
            assert await replies(on, tool) == ["reply.failed"], tool
            (first, one), (second, other) = runs(on, tool)
            assert (first, second) == (1, 2)
            assert one != other
        silent = "killed: said nothing"
        for tool, words in (("nap", "exit 75"), ("swallow", "exit 75"), ("freeze", silent), ("hold_gil", silent)):
            await wait_until(lambda tool=tool, words=words: words in status_of(on, f"{tool}-1").last_exit, 30)  # type: ignore[misc]


async def test_busy_loops_that_do_not_yield(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """``while True: pass`` in a thread, and an event loop that is blocked: a third attempt that behaves is answered."""
    async with watched(nats_server.url, tmp_path, only=("spin", "block", "ask")) as (on, _):
        for tool in ("spin", "block"):
            await call(on, tool, tool)
        for tool, code in (("spin", "timeout"), ("block", "process_died")):
            end = await on.end(tool, deadline_s=90)
            assert isinstance(end, JobCompleted), end
            assert bytes(end.output) == b"3"
            assert await failures(on, tool) == [(1, code), (2, code)], tool
            assert len({pid for _, pid in runs(on, tool)}) == 3
            assert "exit 75" in status_of(on, f"{tool}-1").last_exit


async def test_neighbours_of_a_stuck_call_are_handed_over(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Calls beside one that keeps the GIL for ever are run by the successor, each to one answer."""
    async with watched(nats_server.url, tmp_path, only=("beside", "ask")) as (on, _):
        neighbours = [f"beside-{n}" for n in range(3)]
        for job in neighbours:
            await call(on, job, "beside", mode="wait")
        await wait_until(lambda: all(runs(on, job) for job in neighbours), 30)
        await wait_until(lambda: "and 2 more" in status_of(on, "beside-1").doing, 30)
        await call(on, "culprit", "beside", mode="hold")
        for job in [*neighbours, "culprit"]:
            end = await on.end(job, deadline_s=90)
            assert isinstance(end, JobCompleted), end
            assert await replies(on, job) == ["reply.completed"]
            assert await failures(on, job) == [(1, "process_died")]
            assert bytes(end.output) == b"2"
        assert "its last words: beside:1 of beside-" in status_of(on, "beside-1").last_exit


async def test_job_that_blocks_its_host(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A job's own endless loop stops its host: it is replaced, and all its jobs go on from where they were."""
    async with watched(nats_server.url, tmp_path, only=("listen", "hog"), stall_s=STALL_S) as (on, _):
        pid = await wait_until(lambda: status_of(on, "host-1").doing == "idle" and on.pid("host-1"), 30)
        jobs = [f"hog-{n}" for n in range(1, 4)]
        for n, job in enumerate(jobs, 1):
            await on.submit("hog", job, {"n": n})
        await wait_until(lambda: all(runs(on, job) for job in jobs), 30)
        await wait_until(lambda: status_of(on, "host-1").doing == "3 jobs", 30)
        await on.submit("hog", "hog-0", {"n": 0})
        await replaced(on, "host-1", pid, "killed: said nothing for")
        for n, job in enumerate(["hog-0", *jobs]):
            signal_event = Signal(job=job, name="go", data=msgspec.Raw(b"null"))
            await append_unfenced(on.bus, on.blobs, "default", signal_event)
            await publish_wake(on.bus, "default", "hog", job, "signal.go")
            end = await on.end(job, deadline_s=60)
            assert isinstance(end, JobCompleted), end
            assert bytes(end.output) == str(1 + n).encode()
            check_decisions(await on.events(job))
            assert len(runs(on, job)) == 1


# ---- what it costs, and how it is set


async def test_idle_node_is_quiet(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What flows while nothing is to be done, counted over ten heartbeats of the node: a heartbeat each two seconds for
    each actor and the node, a question about each consumer each five seconds, and nothing is written."""
    async with watched(nats_server.url, tmp_path, FIVE, stall_s=15.0) as (on, _):
        await wait_until(lambda: all(status.doing == "idle" for status in on.supervisor.statuses()), 30)
        subjects: list[str] = []
        pulses: list[str] = []

        def count(msg: Message) -> None:
            subjects.append(msg.subject)
            if msg.subject == "hb.n1._node":
                pulses.append(msg.subject)

        sub = await on.bus.subscribe(">", count)
        await wait_until(lambda: len(pulses) >= 10, 60)
        await sub.unsubscribe()
        beats = sum(subject.startswith("hb.") for subject in subjects)
        asked = [subject for subject in subjects if ".CONSUMER.INFO." in subject]
        children = len(on.supervisor.statuses())
        consumers = 1 + 3 * 4
        periods = len(pulses) * HEARTBEAT_S / 5 + 1
        assert 5 * children <= beats <= 13 * (children + 1)
        assert 0 < len(asked) <= consumers * periods
        # The server tells of each question, but only since somebody (this test) listens.
        known = ("hb.", "$JS.API.CONSUMER.INFO.", "_INBOX.", "$JS.EVENT.ADVISORY.API")
        others = [s for s in subjects if not s.startswith(known)]
        assert len(others) <= 10, others
        assert not [s for s in others if s.startswith(("log.", "events.", "jobs.", "timers.", "$KV."))]


async def test_heartbeat_says_what_was_done(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Counts, the last sequence, and each mailbox; ``ps`` has since and sequence from there."""
    async with watched(nats_server.url, tmp_path, FIVE) as (on, watch):
        await on.submit("five", "one", {"start": 1})
        await on.end("one")
        tool = await wait_until(lambda: (beat := watch.lookout.last_beat("step-1")) and beat.handled == 5 and beat, 30)
        [mailbox] = tool.mailboxes
        assert (mailbox.stream, mailbox.consumer, mailbox.taken) == ("EVENTS", "tool-step-v1", 5)
        assert mailbox.room in (7, 8), "it asks again when a quarter is free"
        events = await on.events("one")
        assert tool.sequence in [recorded.sequence for recorded in events]
        assert tool.since is not None
        host = watch.lookout.last_beat("host-1")
        assert host is not None
        assert {m.consumer for m in host.mailboxes} >= {"job-five-normal", "job-five-high", "job-five-low"}
        status = status_of(on, "step-1")
        assert (status.doing, status.since, status.sequence) == ("idle", tool.since, tool.sequence)
        said: list[bytes] = []
        sub = await on.bus.subscribe("hb.n1.step-1", lambda msg: said.append(msg.data))
        await wait_until(lambda: said, 30)
        await sub.unsubscribe()
        assert decode(said[0]).pid == on.pid("step-1")


def test_start_allowance_comes_from_the_environment() -> None:
    """A minute, or what CALLBOARD_START_S says; what is no time is refused with the name of the variable."""
    assert start_allowance_s({}) == 60
    assert start_allowance_s({"CALLBOARD_START_S": "300"}) == 300
    for text in ("0", "-3", "soon", "nan", "inf"):
        with pytest.raises(UsageError, match="CALLBOARD_START_S") as raised:
            start_allowance_s({"CALLBOARD_START_S": text})
        assert text in str(raised.value)
