"""Tools that do what they must not: each failure is recorded with its reason, and the next call is served."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bus.embedded import EmbeddedServer
from bus.failure import Failure
from bus.messages import JobCompleted, JobFailed, ReplyCompleted, ReplyFailed, ReplyRetrying
from tests.stage import Stage, stage
from tests.waiting import wait_until

BAD = "tests.apps.bad:app"


async def ask(on: Stage, job: str, tool: str, mode: str, n: int = 0) -> Any:
    """The end of a job that makes one call."""
    await on.submit("ask", job, {"tool": tool, "mode": mode, "n": n})
    return await on.end(job)


async def failure_of_ask(on: Stage, job: str, tool: str, mode: str) -> Failure:
    """The failure with which such a job ends."""
    end = await ask(on, job, tool, mode)
    assert isinstance(end, JobFailed), end
    return end.failure


async def check_serves(on: Stage, tool: str) -> None:
    """The queue is not blocked: a good job after the bad ones completes."""
    end = await ask(on, f"good-{tool}", tool, "ok")
    assert isinstance(end, JobCompleted), end


async def attempts(on: Stage, job: str) -> list[tuple[int, str]]:
    """(attempt, code) of every recorded failure of the job's one call, the last one being the reply."""
    events = [r.event for r in await on.events(job)]
    return [
        (e.attempt, e.failure.code)
        for e in events
        if isinstance(e, ReplyRetrying | ReplyFailed) and e.failure is not None
    ]


def runs(on: Stage, job: str) -> list[str]:
    """What the tool noted of the job's call."""
    return [line.partition(" ")[2] for line in on.effects() if line.startswith(f"{job}/")]


# ---- what is raised

THRICE, ONCE = 3, 1
RAISED = {
    "retryable": ("retryable", "come again", "RetryableError", THRICE),
    "terminal": ("sold_out", "never", "TerminalError", ONCE),
    "unknown": ("error", "ValueError: a word", "ValueError", THRICE),
    "odd": ("error", "Odd: its text cannot be made", "Odd", THRICE),
    "odd_details": ("error", "TerminalError: look inside", "TerminalError", ONCE),
    "odd_wait": ("error", "RetryableError: soon", "RetryableError", THRICE),
    "surrogate": ("error", "half a \\ud800 character", "ValueError", THRICE),
    "exit": ("exited", "sys.exit('enough') was called", "SystemExit", THRICE),
    "interrupt": ("error", "the function raised KeyboardInterrupt", "Aborted", THRICE),
    "unusual": ("error", "the function raised Unusual", "Aborted", THRICE),
    "cancelled_error": ("error", "function raised CancelledError", "Aborted", THRICE),
    "wrong_type": ("invalid_output", "Expected `int`, got `str`", "InvalidOutput", ONCE),
    "object": ("invalid_output", "a `object` cannot be written as JSON", "InvalidOutput", ONCE),
}


@pytest.mark.parametrize("tool", ["act", "act_sync"])
async def test_whatever_a_tool_raises_is_the_failure_of_its_job(
    nats_server: EmbeddedServer, tmp_path: Path, tool: str
) -> None:
    """Code, message, class and number of attempts are as documented, and no process has died over it."""
    async with stage(nats_server.url, tmp_path, BAD, only=(tool, "ask")) as on:
        await check_serves(on, tool)
        pids = {s.name: s.pid for s in on.supervisor.statuses()}
        failures = await asyncio.gather(*(failure_of_ask(on, mode, tool, mode) for mode in RAISED))
        for mode, failure in zip(RAISED, failures, strict=True):
            code, words, exception, times = RAISED[mode]
            assert (failure.code, failure.exception) == (code, exception), mode
            assert words in failure.message
            assert await attempts(on, mode) == [(n, code) for n in range(1, times + 1)], mode
            assert runs(on, mode) == [str(n) for n in range(1, times + 1)], mode
        assert {s.name: s.pid for s in on.supervisor.statuses()} == pids
        end = await ask(on, "again", tool, "unknown")
        assert "misbehave" in end.failure.traceback


async def test_wait_that_a_tool_asks_for(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """``retry_after_s`` is a lower bound of the delay, and a call that succeeds in the end is a success."""
    async with stage(nats_server.url, tmp_path, BAD, only=("act", "ask")) as on:
        end = await ask(on, "flaky", "act", "flaky")
        assert bytes(end.output) == b"3"
        assert await attempts(on, "flaky") == [(1, "retryable"), (2, "retryable")]
        reply = next(r.event for r in await on.events("flaky") if isinstance(r.event, ReplyCompleted))
        assert reply.attempt == 3
        await ask(on, "waits", "act", "retryable")
        events = [r.event for r in await on.events("waits")]
        delays = [e.delay_s for e in events if isinstance(e, ReplyRetrying)]
        assert len(delays) == 2
        assert min(delays) >= 0.2


async def test_only_the_named_exceptions_are_retried(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """``Retry(on=...)`` covers subclasses, nothing else, and never overrules a word of the author's."""
    async with stage(nats_server.url, tmp_path, BAD, only=("picky", "ask")) as on:
        for mode, times in {"reset": 3, "unknown": 1, "retryable": 3, "exit": 1}.items():
            await failure_of_ask(on, mode, "picky", mode)
            assert len(await attempts(on, mode)) == times, mode
        await check_serves(on, "picky")


async def test_output_without_annotation(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What is no JSON is refused even where any type is allowed."""
    async with stage(nats_server.url, tmp_path, BAD, only=("plain", "ask")) as on:
        failure = await failure_of_ask(on, "object", "plain", "object")
        assert (failure.code, failure.path) == ("invalid_output", "$")
        assert bytes((await ask(on, "text", "plain", "wrong_type")).output) == b'"five"'
        await check_serves(on, "plain")


async def test_what_a_tool_prints(
    nats_server: EmbeddedServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It comes out of the node with the actor's name before each line, and harms nobody."""
    async with stage(nats_server.url, tmp_path, BAD, only=("act", "act_sync", "ask")) as on:
        for tool in ("act", "act_sync"):
            assert isinstance(await ask(on, f"print-{tool}", tool, "print"), JobCompleted)
            await check_serves(on, tool)
    shown = capfd.readouterr().err.splitlines()
    for actor in ("act-1", "act_sync-1"):
        for line in ("a line on stdout", "one on stderr", "no end of line"):
            assert f"[{actor}] {line}" in shown


# ---- what kills the process


@pytest.mark.parametrize(("tool", "mode"), [("act", "segfault"), ("act_sync", "os_exit"), ("act_sync", "segfault")])
async def test_call_that_kills_its_process(nats_server: EmbeddedServer, tmp_path: Path, tool: str, mode: str) -> None:
    """Each death counts as an attempt; at the end the call has failed and the process that came after it serves."""
    async with stage(nats_server.url, tmp_path, BAD, only=(tool, "ask")) as on:
        failure = await failure_of_ask(on, "poison", tool, mode)
        assert failure.code == "process_died"
        assert await attempts(on, "poison") == [(n, "process_died") for n in (1, 2, 3)]
        assert runs(on, "poison") == ["1", "2", "3"]
        await check_serves(on, tool)
        tool_status = next(s for s in on.supervisor.statuses() if s.name == f"{tool}-1")
        assert tool_status.restarts == 3


async def test_neighbours_of_a_call_that_kills(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Calls that were in flight beside it lose one attempt to it at most, and all of them succeed."""
    async with stage(nats_server.url, tmp_path, BAD, only=("act_sync", "ask")) as on:
        names = [f"innocent-{i}" for i in range(12)]
        for i, name in enumerate(names):
            await on.submit("ask", name, {"tool": "act_sync", "mode": "ok"})
            if i in (2, 6):
                await on.submit("ask", f"poison-{i}", {"tool": "act_sync", "mode": "kill"})
        ends = await asyncio.gather(*(on.end(name) for name in names))
        assert all(isinstance(end, JobCompleted) for end in ends)
        for poison in ("poison-2", "poison-6"):
            end = await on.end(poison)
            assert end.failure.code == "process_died"
            assert 2 <= len(runs(on, poison)) <= 3
        assert max(Counter(line.split("/")[0] for line in on.effects() if "innocent" in line).values()) <= 2


# ---- what never returns


@pytest.mark.parametrize(("tool", "mode"), [("slow", "sleep"), ("slow_sync", "obedient")])
async def test_time_out_of_a_call_that_yields(
    nats_server: EmbeddedServer, tmp_path: Path, tool: str, mode: str
) -> None:
    """It is cancelled, or asked to stop, and counts as a failed attempt; the process stays."""
    async with stage(nats_server.url, tmp_path, BAD, only=(tool, "ask")) as on:
        await check_serves(on, tool)
        pid = on.pid(f"{tool}-1")
        failure = await failure_of_ask(on, "late", tool, mode)
        assert failure.code == "timeout"
        assert failure.message == "no result within 0.3 s"
        assert await attempts(on, "late") == [(1, "timeout"), (2, "timeout")]
        assert on.pid(f"{tool}-1") == pid


@pytest.mark.parametrize(("tool", "mode"), [("slow", "swallow"), ("slow_sync", "loop")])
async def test_time_out_of_a_call_that_does_not_yield(
    nats_server: EmbeddedServer, tmp_path: Path, tool: str, mode: str
) -> None:
    """Its process ends with exit code 75 and another one serves the next call."""
    async with stage(nats_server.url, tmp_path, BAD, only=(tool, "ask")) as on:
        failure = await failure_of_ask(on, "stuck", tool, mode)
        assert failure.code == "timeout"
        assert "does not yield" in failure.message
        assert await attempts(on, "stuck") == [(1, "timeout"), (2, "timeout")]
        await check_serves(on, tool)

        def replaced() -> bool:
            status = next(s for s in on.supervisor.statuses() if s.name == f"{tool}-1")
            return status.restarts == 2 and "75" in status.last_exit

        await wait_until(replaced, what=lambda: str(on.supervisor.statuses()))


async def test_call_that_blocks_the_event_loop(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The watchdog ends the process, which counts as its death; the queue goes on."""
    async with stage(nats_server.url, tmp_path, BAD, only=("slow", "ask")) as on:
        failure = await failure_of_ask(on, "block", "slow", "block")
        assert failure.code == "process_died"
        assert await attempts(on, "block") == [(1, "process_died"), (2, "process_died")]
        await check_serves(on, "slow")
        status = next(s for s in on.supervisor.statuses() if s.name == "slow-1")
        assert "75" in status.last_exit


# ---- the same in the code of a job


async def test_whatever_a_job_raises_is_its_failure(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A job's own code may do the same: it fails with the reason, and its host goes on."""
    async with stage(nats_server.url, tmp_path, BAD, only=("wild",)) as on:
        await on.submit("wild", "first", {"mode": "ok"})
        assert isinstance(await on.end("first"), JobCompleted)
        modes = [mode for mode in RAISED if mode not in ("interrupt", "unusual")]
        for mode in modes:
            await on.submit("wild", mode, {"mode": mode})
        for mode in modes:
            end = await on.end(mode)
            assert isinstance(end, JobFailed), mode
            code, words, _, _ = RAISED[mode]
            assert end.failure.code == code, mode
            assert words in end.failure.message
        assert all(status.restarts == 0 for status in on.supervisor.statuses())
