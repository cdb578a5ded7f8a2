"""Whoever dies around an approval, and whenever: one question, one decision, and nothing before it runs again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from actors.clients.client import Client
from bus.approval_events import ApprovalAnswered, ApprovalAsked, ApprovalEscalated
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.messages import JobCompleted, JobWaiting, ReplyCompleted
from store.approval import Decision
from store.log import append_unfenced
from tests.apps.crossed import POINTS
from tests.stage import ROOT, Stage, stage
from tests.troupe import check_decisions
from tests.waiting import wait_until

DEADLINE_S = 60
WAKE = "approve.before_wake"
# Every append of the host from the question to the decision, before and after. A job of its own for each.
ASKING = [f"host.{side}.{kind}:1" for kind in ("approval.asked", "job.waiting", "approval.escalated")
          for side in ("before", "after")]  # fmt: skip
DECIDING = [f"host.{side}.{kind}" for kind in ("job.waiting:2", "reply.completed:1") for side in ("before", "after")]


async def logged(on: Stage, job: str, kind: type, times: int = 1) -> None:
    """Wait until the log holds so many events of that kind."""

    async def there() -> bool:
        return sum(isinstance(r.event, kind) for r in await on.events(job)) >= times

    await wait_until(there, DEADLINE_S, what=f"{times} {kind.__name__} of {job}")


async def parked(on: Stage, job: str) -> bool:
    return isinstance((await on.events(job))[-1].event, JobWaiting)


async def check(on: Stage, job: str, point: str) -> None:
    """It ended right; each event of the approval is there once, and each step ran once."""
    end = await on.end(job, deadline_s=DEADLINE_S)
    assert isinstance(end, JobCompleted) and bytes(end.output) == b"12", (point, end)
    events = [r.event for r in await on.events(job)]
    check_decisions(await on.events(job))
    for kind in (ApprovalAsked, ApprovalEscalated):
        assert sum(isinstance(event, kind) for event in events) == 1, (point, kind)
    made = [e.output for e in events if isinstance(e, ReplyCompleted) and e.op == "approval"]
    (decision,) = [msgspec.json.decode(output, type=Decision) for output in made]
    assert [(a.by, a.edited) for a in decision.answers] == [("ann", {"n": 11})], point
    effects = Counter(line for line in on.effects() if line.startswith(f"{job}/"))
    assert effects == {f"{job}/step:1": 1, f"{job}/step:2": 1}, point


@pytest.mark.parametrize("points", [ASKING, DECIDING], ids=["asking", "deciding"])
async def test_host_killed_around_an_approval(nats_server: EmbeddedServer, tmp_path: Path, points: list[str]) -> None:
    """The next host takes over where the log is, whatever was stored last; the server dies too, each other time."""
    specs = tmp_path / "points"
    specs.mkdir()
    env = {POINTS: str(specs), "CALLBOARD_PARK_AFTER_S": "0.2"}
    async with stage(nats_server.url, tmp_path, "tests.apps.asking:app", env=env) as on, Client(on.bus) as client:
        for number, point in enumerate(points):
            marker, job = tmp_path / f"died-{number}", f"asks-{number}"
            (specs / job).write_text(f"{point}:{marker}")
            await on.submit("ask", job, {"start": 1})
            if "reply" not in point:
                await wait_until(marker.exists, DEADLINE_S, what=f"{point} was reached")
                if number % 2:
                    nats_server.kill()
                    await nats_server.restart()
                    await on.bus.settle()
            await logged(on, job, ApprovalEscalated)
            await client.approve(job, by="ann", roles=["head"], edit={"n": 11})
            await check(on, job, point)
            assert marker.exists(), point


async def test_killed_while_parked_and_answered_twice(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Parked, the job outlives its host; whoever answers and dies before the wake-up only has to say it once more."""
    env = {"CALLBOARD_PARK_AFTER_S": "0.2"}
    async with stage(nats_server.url, tmp_path, "tests.apps.asking:app", env=env) as on:
        for job in ("k1", "k2"):
            await on.submit("ask", job, {"start": 1})
        for job in ("k1", "k2"):
            await logged(on, job, ApprovalEscalated)
            await wait_until(lambda job=job: parked(on, job), DEADLINE_S)  # type: ignore[misc]
        os.kill(on.pid(next(s.name for s in on.supervisor.statuses() if s.name.startswith("host"))), signal.SIGKILL)
        answer = ApprovalAnswered(job="k1", call="approval:1", approved=True, by="ann", roles=("head",),
                                  edited=msgspec.Raw(b'{"n":11}'))  # fmt: skip
        await append_unfenced(on.bus, on.blobs, "default", answer)
        await append_unfenced(on.bus, on.blobs, "default", answer)
        async with Client(on.bus) as client:
            refused = await asyncio.gather(client.approve("k1", by="ann", roles=["head"]), return_exceptions=True)
            assert getattr(refused[0], "code", "") == "already_decided"
            await check(on, "k1", "parked")
            assert [each.code for each in (await client.get("k1")).approvals[0].ignored] == ["already_decided"]
        marker = tmp_path / "died"
        assert await approve(nats_server.url, {VARIABLE: f"{WAKE}:1:{marker}"}) == -signal.SIGKILL
        assert marker.exists() and await parked_on_an_answer(on, "k2")
        assert await approve(nats_server.url, {}) == 2
        await check(on, "k2", "answered")


async def parked_on_an_answer(on: Stage, job: str) -> bool:
    """The answer is the last that happened: nobody was woken."""
    return isinstance((await on.events(job))[-1].event, ApprovalAnswered)


async def approve(url: str, env: dict[str, str]) -> int:
    """``callboard approve``, as a process that may die; its exit code."""
    words = ["approve", "k2", "--as", "ann", "--role", "head", "--edit", "n=11", "--nats", url]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", *words, cwd=ROOT, env={**os.environ, **env}
    )
    return await process.wait()
