"""Invariant 2 for calls that come late: what a process was given before it was stopped, others have done meanwhile."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from actors.tool_actor import LOOK_NS
from bench.chaos.ledger import LEDGER_VARIABLE, Run, read_ledger
from bus.embedded import EmbeddedServer
from bus.messages import JobCompleted
from tests.stage import Stage, stage
from tests.waiting import wait_until

JOBS = 12


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
