"""When a failed call is tried again is in the log, and holds whatever dies while the next attempt is awaited."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.tools.retry_wait import rest_of_wait_s
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.event import utc_now
from bus.messages import JobCompleted, JobFailed, ReplyCompleted, ReplyFailed, ReplyRetrying
from store.log import Recorded
from tests.apps.retries import ASKED_S
from tests.stage import Stage, stage
from tests.waiting import wait_until

APP = "tests.apps.retries:app"
# Clocks are read in two processes; an attempt that begins before its time by more is one that begins too early.
EARLY_S = 0.05
JOBS = 5
FAILS = 2
POINT = "tool.before_nak"


@pytest.fixture
async def on(nats_server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[Stage]:
    """The tools and their job in real processes."""
    async with stage(nats_server.url, tmp_path, APP) as running:
        yield running


def begun(on: Stage, job: str) -> list[tuple[int, float]]:
    """(attempt, instant in seconds) of each attempt that the tool noted."""
    rows = [line.split() for line in on.effects()]
    return [(int(attempt), float(at_s)) for name, attempt, at_s in rows if name == job]


async def retries(on: Stage, job: str) -> list[ReplyRetrying]:
    """The recorded failures of attempts that were not the last."""
    events = [r.event for r in await on.events(job)]
    return [e for e in events if isinstance(e, ReplyRetrying) and not e.handed_back]


async def check_schedule(on: Stage, job: str, delays: list[float]) -> None:
    """Each failed attempt is recorded once with its delay, and no attempt began before the delay was over."""
    recorded = await retries(on, job)
    assert [(e.attempt, e.delay_s) for e in recorded] == list(enumerate(delays, 1))
    attempts = begun(on, job)
    assert [attempt for attempt, _ in attempts] == list(range(1, len(delays) + 2))
    for failed, (attempt, at_s) in zip(recorded, attempts[1:], strict=True):
        assert at_s >= failed.at.timestamp() + failed.delay_s - EARLY_S, (job, attempt)


# ---- what dies while the next attempt is awaited


async def kill_tool(on: Stage, server: EmbeddedServer) -> None:
    """The process that failed, and would get the call again."""
    del server
    os.kill(on.pid("flaky-1"), signal.SIGKILL)


async def kill_host(on: Stage, server: EmbeddedServer) -> None:
    """The process that waits for the reply."""
    del server
    os.kill(on.pid("host-1"), signal.SIGKILL)


async def kill_server(on: Stage, server: EmbeddedServer) -> None:
    """The server, which holds the delay."""
    server.kill()
    await server.restart()
    await on.bus.settle()


async def kill_all(on: Stage, server: EmbeddedServer) -> None:
    """Everything at once."""
    await kill_tool(on, server)
    await kill_host(on, server)
    await kill_server(on, server)


@pytest.mark.parametrize("kill", [kill_tool, kill_host, kill_server, kill_all])
async def test_schedule_survives(on: Stage, nats_server: EmbeddedServer, kill: Any) -> None:
    """Killed while five calls wait for their second attempt: delays and attempts are as the policy says."""
    jobs = [f"waits-{n}" for n in range(JOBS)]
    await asyncio.gather(*(on.submit("ask", job, {"tool": "flaky", "fails": FAILS}) for job in jobs))

    async def all_wait() -> bool:
        return all([await retries(on, job) for job in jobs])

    await wait_until(all_wait, 30)
    await kill(on, nats_server)
    for job in jobs:
        end = await on.end(job, deadline_s=60)
        assert isinstance(end, JobCompleted)
        assert bytes(end.output) == b"3"
        await check_schedule(on, job, [1.5, 2.25])


@pytest.mark.parametrize("server_too", [False, True])
async def test_tool_killed_before_the_server_knows_the_delay(
    nats_server: EmbeddedServer, tmp_path: Path, server_too: bool
) -> None:
    """The failure is recorded and the call not yet handed back: its successor gets it at once, and keeps the wait."""
    marker = tmp_path / "died"
    async with stage(nats_server.url, tmp_path, APP, env={VARIABLE: f"{POINT}:1:{marker}"}) as on:
        await on.submit("ask", "early", {"tool": "patient"})
        await wait_until(marker.exists, 30)
        if server_too:
            await kill_server(on, nats_server)
        assert bytes((await on.end("early", deadline_s=60)).output) == b"2"
        await check_schedule(on, "early", [4.0])


# ---- what the policy says, end to end


async def replies(on: Stage, job: str) -> list[Recorded]:
    """What ended the call."""
    return [r for r in await on.events(job) if isinstance(r.event, ReplyCompleted | ReplyFailed)]


async def test_the_other_side_says_when(on: Stage) -> None:
    """``retry_after_s`` is recorded as the delay, and kept."""
    await on.submit("ask", "throttled", {"tool": "throttled"})
    assert bytes((await on.end("throttled")).output) == b"2"
    await check_schedule(on, "throttled", [ASKED_S])


async def test_terminal_error_stops_at_once(on: Stage) -> None:
    """One attempt, and its code is that of the job's failure."""
    await on.submit("ask", "hopeless", {"tool": "hopeless"})
    end = await on.end("hopeless")
    assert isinstance(end, JobFailed)
    assert (end.failure.code, end.failure.retryable) == ("sold_out", False)
    await check_schedule(on, "hopeless", [])


async def test_unknown_errors_get_a_small_budget(on: Stage) -> None:
    """Three attempts, each on record with its failure; the last one is the reply."""
    await on.submit("ask", "unknown", {"tool": "unknown"})
    end = await on.end("unknown")
    assert isinstance(end, JobFailed)
    assert [attempt for attempt, _ in begun(on, "unknown")] == [1, 2, 3]
    recorded = await retries(on, "unknown")
    assert [(e.attempt, e.failure.exception) for e in recorded if e.failure] == [(1, "ValueError"), (2, "ValueError")]
    assert [r.event.attempt for r in await replies(on, "unknown") if isinstance(r.event, ReplyFailed)] == [3]


async def test_the_callers_policy_goes_over_that_of_the_tool(on: Stage) -> None:
    """Two attempts a tenth of a second apart, where the tool's own policy has four with longer waits."""
    await on.submit("ask", "own", {"tool": "flaky", "fails": 3, "attempts": 2})
    end = await on.end("own")
    assert isinstance(end, JobFailed)
    await check_schedule(on, "own", [0.1])
    await on.submit("ask", "theirs", {"tool": "flaky", "fails": 1})
    assert isinstance(await on.end("theirs"), JobCompleted)
    await check_schedule(on, "theirs", [1.5])


def test_rest_of_a_wait() -> None:
    """What is left of the recorded delay, never more than all of it, and nothing once it is over."""
    now = utc_now()
    failed = ReplyRetrying(job="j", call="c", attempt=1, delay_s=2.0, at=now)
    assert rest_of_wait_s(None, now) == 0
    assert rest_of_wait_s(failed, now + timedelta(seconds=0.5)) == 1.5
    assert rest_of_wait_s(failed, now + timedelta(seconds=1.99)) == 0
    assert rest_of_wait_s(failed, now + timedelta(seconds=3)) == 0
    assert rest_of_wait_s(failed, now - timedelta(seconds=100)) == 2.0
