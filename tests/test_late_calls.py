"""Invariant 2 for calls that come late: what a process was given before it was stopped, others have done meanwhile."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from actors import App, Job
from actors.tools import tool_actor
from actors.tools.tool_actor import LOOK_NS
from bench.chaos.ledger import LEDGER_VARIABLE, Run, read_ledger
from bench.chaos.link import Link
from bus import mailbox
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.messages import JobCompleted
from bus.options import ConnectOptions
from tests.stage import Stage, stage
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

JOBS = 12

app = App("late", version="1.0.0")
ran: list[int] = []


@app.tool
async def plus(n: int) -> int:
    """Add one, and remember it."""
    ran.append(n)
    return n + 1


@app.job
async def simple(job: Job, n: int) -> int:
    """One call."""
    return await job.call(plus, n=n)


async def finish(on: Stage, jobs: list[str]) -> None:
    """Submit these one-step jobs and wait until they are done."""
    for n, job in enumerate(jobs):
        await on.submit("one", job, {"n": n})
    for job in jobs:
        assert isinstance(await on.end(job), JobCompleted)


async def work_past_the_start(on: Stage) -> None:
    """A tool asks the log about calls that are as old as itself: begin with those that are younger."""
    await finish(on, ["first"])
    begun, number = time.time_ns(), 0
    while time.time_ns() < begun + LOOK_NS:
        number += 1
        await finish(on, [f"first-{number}"])


async def test_stopped_tool_does_not_run_what_others_have_done(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Calls that lay unread in its connection came to another process by their time-out; they are not run again."""
    ledger = tmp_path / "chaos-ledger"

    def runs() -> list[Run]:
        return read_ledger(ledger)

    env = {LEDGER_VARIABLE: str(ledger)}
    async with stage(nats_server.url, tmp_path, "bench.chaos.app:app", env=env, only=("one", "add")) as on:
        await work_past_the_start(on)
        before = len(runs())
        stopped = on.pid("add-1")
        os.kill(stopped, signal.SIGSTOP)
        try:
            await finish(on, [f"meanwhile-{n}" for n in range(JOBS)])
        finally:
            os.kill(stopped, signal.SIGCONT)
        number = 0
        while not any(run.pid == stopped and run.job.startswith("then") for run in runs()):
            number += 1
            await finish(on, [f"then-{number}"])
        assert len({run.job for run in runs()}) == len(runs()) == before + JOBS + number
        await wait_until(lambda: all(run.outcome == "returned" for run in runs()))


async def test_call_on_a_link_that_stood_still(nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that comes out of a link after its time-out, and after its pull was given up, is looked up first."""
    monkeypatch.setattr(tool_actor, "LOOK_NS", 0)
    monkeypatch.setattr(tool_actor, "ACK_WAIT_S", 0.5)
    monkeypatch.setattr(tool_actor, "KEEP_S", 0.1)
    monkeypatch.setattr(mailbox, "HEARTBEAT_S", 0.2)
    ran.clear()
    async with (
        troupe(nats_server.url, app, tools=False) as on,
        Link("127.0.0.1", nats_server.port) as link,
        await Bus.connect(ConnectOptions(servers=[link.url])) as far_bus,
    ):
        far = tool_actor.ToolActor(far_bus, on.blobs, plus, name="far")
        await far.start()
        await on.submit("simple", "a", {"n": 1})
        assert isinstance(await on.end("a"), JobCompleted)
        link.stall()
        await on.submit("simple", "b", {"n": 2})
        await wait_until(lambda: _unacked(on), what="the call is on its way to the far one")
        near = tool_actor.ToolActor(on.bus, on.blobs, plus, name="near")
        await near.start()
        assert isinstance(await on.end("b"), JobCompleted)
        await wait_until(lambda: far._mailbox._was_silent, what="the far one has given its pulls up")
        link.heal()
        await wait_until(
            lambda: far._mailbox.taken >= 2 and not far.running,
            what=lambda: f"the call has arrived late: {far._mailbox.taken} taken, {far.running}",
        )
        assert ran == [1, 2]
        await near.stop(1.0)
        await far.stop(1.0)


async def _unacked(on: Troupe) -> int:
    info = await on.bus.api("CONSUMER.INFO.EVENTS.tool-plus-v1")
    return int(info["num_ack_pending"])
