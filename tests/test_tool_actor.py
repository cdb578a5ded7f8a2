"""A tool actor's calls: cancelled with their job, reported on, handed back when it stops, and called directly."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.jobs.requests import publish_wake
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import (
    CallTool,
    JobCancelled,
    JobCompleted,
    ReplyCompleted,
    ReplyFailed,
    ReplyProgress,
    ReplyRetrying,
    Signal,
)
from bus.service import ServiceFailed, ask
from store.log import append_unfenced
from tests.stage import Stage, stage
from tests.waiting import wait_until

BAD = "tests.apps.bad:app"


async def begin(on: Stage, job: str, tool: str, mode: str) -> None:
    """Submit a job of one call, and wait until its function runs."""
    await on.submit("ask", job, {"tool": tool, "mode": mode})
    await wait_until(lambda: any(line.startswith(f"{job}/") for line in on.effects()))


async def cancel(on: Stage, job: str) -> None:
    """Cancel a job, as any client does."""
    await append_unfenced(on.bus, on.blobs, "default", Signal(job=job, name="cancel", by="test"))
    await publish_wake(on.bus, "default", "ask", job, "signal.cancel")


async def reply(on: Stage, job: str) -> ReplyCompleted | ReplyFailed:
    """The answer to the job's one call, once it is there."""
    found: list[Any] = []

    async def answered() -> bool:
        found[:] = [r.event for r in await on.events(job) if isinstance(r.event, ReplyCompleted | ReplyFailed)]
        return bool(found)

    await wait_until(answered)
    return found[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("tool", ["patient", "waiting"])
async def test_cancelled_job_cancels_its_running_call(nats_server: EmbeddedServer, tmp_path: Path, tool: str) -> None:
    """A thread sees it through its context, a coroutine is cancelled; the reply says so, once; nothing is retried."""
    async with stage(nats_server.url, tmp_path, BAD, only=(tool, "ask")) as on:
        await begin(on, "first", tool, "ok")
        await on.end("first")
        pid = on.pid(f"{tool}-1")
        await begin(on, "gone", tool, "wait")
        await cancel(on, "gone")
        assert isinstance(await on.end("gone"), JobCancelled)
        answer = await reply(on, "gone")
        assert isinstance(answer, ReplyFailed)
        assert (answer.failure.code, answer.failure.retryable) == ("cancelled", False)
        # The coroutine's ``finally`` ran; in the thread ``check_cancelled`` raised.
        assert (f"gone/{tool}:1 ended" in on.effects()) == (tool == "waiting")
        await begin(on, "next", tool, "ok")
        assert isinstance(await on.end("next"), JobCompleted)
        assert on.pid(f"{tool}-1") == pid
        events = [r.event for r in await on.events("gone")]
        assert sum(isinstance(e, ReplyFailed | ReplyRetrying) for e in events) == 1


async def test_call_of_a_job_that_was_cancelled_before_is_not_run(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What waited in the queue while its job was cancelled never begins."""
    async with stage(nats_server.url, tmp_path, BAD, only=("ask",)) as on:
        await on.submit("ask", "early", {"tool": "act", "mode": "ok"})

        async def called() -> bool:
            return any(isinstance(r.event, CallTool) for r in await on.events("early"))

        await wait_until(called)
        await cancel(on, "early")
        assert isinstance(await on.end("early"), JobCancelled)
        async with stage(nats_server.url, tmp_path, BAD, only=("act", "ask"), node="n2"):
            await on.submit("ask", "late", {"tool": "act", "mode": "ok"})
            assert isinstance(await on.end("late"), JobCompleted)
        assert on.effects() == ["late/act:1 1"]


async def test_progress_is_recorded_now_and_then(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Hundreds of reports a second become two, the newest each time; what cannot be written harms nobody."""
    async with stage(nats_server.url, tmp_path, BAD, only=("patient", "ask")) as on:
        await begin(on, "works", "patient", "wait")

        async def reports() -> list[ReplyProgress]:
            return [r.event for r in await on.events("works") if isinstance(r.event, ReplyProgress)]

        async def three() -> bool:
            return len(await reports()) >= 3

        await wait_until(three)
        await cancel(on, "works")
        await reply(on, "works")
        found = await reports()
        done = [report.done for report in found]
        assert done == sorted(set(done))
        assert done[1] - done[0] > 1
        assert {(report.total, report.note, report.attempt) for report in found} == {(1000, "working", 1)}
        assert min((b.at - a.at).total_seconds() for a, b in pairwise(found)) > 0.4


async def test_stopping_tool_hands_its_calls_back(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A call in flight goes to the successor, under the same key, and the hand-back is no attempt."""
    async with stage(nats_server.url, tmp_path, BAD, only=("waiting", "ask")) as on:
        await begin(on, "moves", "waiting", "wait")
        os.kill(on.pid("waiting-1"), signal.SIGTERM)
        await wait_until(lambda: on.effects().count("moves/waiting:1 began") == 2, deadline_s=20)
        events = [r.event for r in await on.events("moves")]
        retries = [e for e in events if isinstance(e, ReplyRetrying)]
        assert [(e.attempt, e.handed_back, e.failure) for e in retries] == [(1, True, None)]
        await cancel(on, "moves")
        answer = await reply(on, "moves")
        assert answer.attempt == 1


async def test_thread_that_does_not_yield_does_not_keep_its_process(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """On SIGTERM the process ends by itself, although Python would wait for the thread."""
    async with stage(nats_server.url, tmp_path, BAD, only=("slow_sync", "ask")) as on:
        await begin(on, "stays", "slow_sync", "loop")
        os.kill(on.pid("slow_sync-1"), signal.SIGTERM)

        def replaced() -> bool:
            return next(s for s in on.supervisor.statuses() if s.name == "slow_sync-1").restarts > 0

        await wait_until(replaced, deadline_s=15)
        await begin(on, "next", "slow_sync", "ok")
        assert isinstance(await on.end("next"), JobCompleted)


async def test_direct_call(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The micro service's endpoint answers with the output or the failure, and survives what the function raises."""
    async with stage(nats_server.url, tmp_path, BAD, only=("act", "act_sync", "ask")) as on:
        for tool in ("act", "act_sync"):
            await begin(on, f"up-{tool}", tool, "ok")
            subject = f"tool.{tool}.v1.call"
            assert await ask(on.bus, subject, b'{"mode": "ok"}') == b"1"
            for mode, words in {"exit": "sys.exit", "unknown": "a word", "interrupt": "KeyboardInterrupt"}.items():
                with pytest.raises(ServiceFailed, match=words):
                    await ask(on.bus, subject, msgspec.json.encode({"mode": mode}))
            with pytest.raises(UsageError, match=r"\$.mood: unknown field `mood` .did you mean `mode`"):
                await ask(on.bus, subject, b'{"mode": "ok", "mood": 1}')
        assert all(status.restarts == 0 for status in on.supervisor.statuses())


async def test_two_replicas_share_the_calls(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Every call runs once, whichever process takes it."""
    async with stage(nats_server.url, tmp_path, BAD, only=("act", "ask"), replicas={"act": 2}) as on:
        names = [f"job-{i}" for i in range(30)]
        for name in names:
            await on.submit("ask", name, {"tool": "act", "mode": "ok"})
        ends = await asyncio.gather(*(on.end(name) for name in names))
        assert all(isinstance(end, JobCompleted) for end in ends)
        assert sorted(on.effects()) == sorted(f"{name}/act:1 1" for name in names)
