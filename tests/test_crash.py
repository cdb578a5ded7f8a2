"""Invariants 1 to 3: a process killed at any point of a job loses nothing and repeats nothing that was recorded."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from actors.dead_letters.dead_letters import list_letters
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.messages import CallJob, CallTool, JobCompleted, JobFailed, JobOwned, ReplyCompleted
from store.log import Recorded
from tests.apps.crossed import POINTS
from tests.stage import ROOT, Stage, stage
from tests.troupe import check_decisions
from tests.waiting import wait_until

# Every append of the host in job `five`, before and after: the calls one by one, the local value, the end.
HOST_POINTS = [
    *(f"host.{side}.call.tool.step.v1:{hit}" for side in ("before", "after") for hit in range(1, 6)),
    "host.before.reply.completed:1",
    "host.after.reply.completed:1",
    "host.before.job.completed:1",
    "host.after.job.completed:1",
]
TOOL_POINTS = [f"tool.{side}_reply:{hit}" for side in ("before", "after") for hit in (1, 3, 5)]
RESULT = 1 + 2 + 101 + 111 + 1


def check_log(events: list[Recorded]) -> None:
    """No decision twice: each command once, each call answered, one end, and owners only ever in turn."""
    commands = Counter(r.event.call for r in events if isinstance(r.event, CallTool))
    assert len(commands) == 5
    assert set(commands.values()) == {1}, commands
    answered = {r.event.call for r in events if isinstance(r.event, ReplyCompleted)}
    assert set(commands) <= answered
    assert sum(isinstance(r.event, JobCompleted) for r in events) == 1


async def run_five(on: Stage, job: str) -> list[Recorded]:
    """Submit job `five`, and return its log once it has ended with the right result."""
    await on.submit("five", job, {"start": 1})
    end = await on.end(job)
    assert isinstance(end, JobCompleted)
    assert bytes(end.output) == str(RESULT).encode()
    events = await on.events(job)
    check_log(events)
    return events


@pytest.mark.parametrize("point", HOST_POINTS)
async def test_host_killed_at_every_append(nats_server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """The job ends right, the next host takes over, and no call whose reply was recorded runs a second time."""
    marker = tmp_path / "died"
    async with stage(nats_server.url, tmp_path, env={VARIABLE: f"{point}:{marker}"}) as on:
        events = await run_five(on, f"crash-{tmp_path.name}")
        assert marker.exists(), "the host never came by the crash point"
        owners = [r for r in events if isinstance(r.event, JobOwned)]
        assert len(owners) == (1 if point == "host.after.job.completed:1" else 2)
        assert Counter(on.effects()) == Counter({f"crash-{tmp_path.name}/step:{n}": 1 for n in range(1, 6)})


@pytest.mark.parametrize("point", TOOL_POINTS)
async def test_tool_killed_around_its_reply(nats_server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """Killed before its reply the call runs once more under the same key; killed after it, never."""
    marker = tmp_path / "died"
    job = f"crash-{tmp_path.name}"
    async with stage(nats_server.url, tmp_path, env={VARIABLE: f"{point}:{marker}"}) as on:
        await run_five(on, job)
        assert marker.exists(), "the tool never came by the crash point"
        effects = Counter(on.effects())
        assert set(effects) == {f"{job}/step:{n}" for n in range(1, 6)}
        # Two calls run side by side, so both may have been in flight when the process died.
        assert sum(effects.values()) - 5 <= (2 if "before" in point else 1)
        if point.startswith("tool.after_reply:1"):
            assert sum(effects.values()) == 5


# ---- the same with the server killed at that moment

# Few points at a time: a process that dies again and again is started ever more slowly.
CROSSED = {
    "before calls": [("five", point) for point in HOST_POINTS if point.startswith("host.before.call")],
    "after calls": [("five", point) for point in HOST_POINTS if point.startswith("host.after.call")],
    "values and ends": [("five", point) for point in HOST_POINTS if "call.tool" not in point]
    + [("waiter", f"host.{side}.job.waiting:1") for side in ("before", "after")],
    "children": [
        ("parent", "host.before.call.job.child.v1:1"),
        ("parent", "host.after.call.job.child.v1:1"),
        ("parent", "host.before_request:1"),
        ("parent", "host.before_parent_reply:1"),
        ("parent", "host.after_parent_reply:1"),
    ],
    "tools": [("five", point) for point in TOOL_POINTS],
}
RESULTS = {"five": RESULT, "parent": 1 + 2, "waiter": 3}
STEPS = {"five": 5, "parent": 1, "waiter": 2}


@pytest.mark.parametrize("points", CROSSED.values(), ids=CROSSED)
async def test_process_and_server_killed_at_once(
    nats_server: EmbeddedServer, tmp_path: Path, points: list[tuple[str, str]]
) -> None:
    """At each crash point the process dies, and the server with it: the job ends right, and decides everything once."""
    specs = tmp_path / "points"
    specs.mkdir()
    env = {POINTS: str(specs), "CALLBOARD_PARK_AFTER_S": "0.2"}
    async with stage(nats_server.url, tmp_path, "tests.apps.crossed:app", env=env) as on:
        for number, (workflow, point) in enumerate(points):
            marker, job = tmp_path / f"died-{number}", f"crossed-{number}"
            (specs / job).write_text(f"{point}:{marker}")
            await on.submit(workflow, job, {"start": 1})
            await wait_until(marker.exists, 30, what=f"{point} was reached")
            nats_server.kill()
            await nats_server.restart()
            await on.bus.settle()
            await check_crossed(on, workflow, job, point)


async def check_crossed(on: Stage, workflow: str, job: str, point: str) -> None:
    """Right result, each command once; what ran a second time was in flight in a process that died."""
    end = await on.end(job, deadline_s=60)
    assert isinstance(end, JobCompleted), (point, end)
    assert bytes(end.output) == str(RESULTS[workflow]).encode(), point
    events = await on.events(job)
    check_decisions(events)
    commands = {r.event.call for r in events if isinstance(r.event, CallTool | CallJob)}
    assert commands <= {r.event.call for r in events if isinstance(r.event, ReplyCompleted)}, point
    children = [r.event.child for r in events if isinstance(r.event, CallJob)]
    expected = {f"{job}/step:{n}" for n in range(1, STEPS[workflow] + 1)} | {f"{child}/step:1" for child in children}
    effects = Counter(line for line in on.effects() if line.split("/")[0] in (job, *children))
    assert set(effects) == expected, point
    assert effects.total() - len(effects) <= repeats(point), (point, effects)


def repeats(point: str) -> int:
    """How many calls may run a second time: those in flight in the tool's process, of which two run side by side."""
    if point.startswith("host."):
        return 0
    return 2 if point.startswith("tool.before_reply") else 1


# ---- dead letters

LETTER_POINTS = ["dead.before_kept:1", "dead.after_kept:1"]
CLIENT_POINTS = ["dead.before_redriven:1", "retry.before_wake:1"]


@pytest.mark.parametrize("point", [*LETTER_POINTS, *CLIENT_POINTS])
async def test_dead_letter_and_server_killed_at_once(nats_server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """Whoever keeps a letter, or gives it out again, dies together with the server: one letter, and one new end."""
    specs, marker = tmp_path / "points", tmp_path / "died"
    specs.mkdir()
    if point in LETTER_POINTS:
        (specs / "at-start").write_text(f"{point}:{marker}")
    async with stage(nats_server.url, tmp_path, "tests.apps.crossed:app", env={POINTS: str(specs)}) as on:
        await on.submit("deadly", "d1", {"start": 1})
        if point in CLIENT_POINTS:
            await on.end("d1")
            (specs / "repaired").touch()
            await redrive(nats_server.url, {VARIABLE: f"{point}:{marker}"})
        await wait_until(marker.exists, 60, what=f"{point} was reached")
        nats_server.kill()
        await nats_server.restart()
        await on.bus.settle()
        assert isinstance(await on.end("d1", deadline_s=60), JobFailed)
        assert [letter.call for letter in await list_letters(on.bus, "default", job="d1", closed=True)] == ["anvil:1"]
        (specs / "repaired").touch()
        await redrive(nats_server.url, {})
        await wait_until(lambda: ended_well(on, "d1"), 60)
        assert Counter(on.effects()) == {"d1/step:1": 1, "d1/anvil:1": 3}, "two attempts died, one was re-driven"
        kinds = Counter(r.event.kind for r in await on.events("d1"))
        assert (kinds["job.retried"], kinds["job.failed"], kinds["job.completed"]) == (1, 1, 1), kinds


async def ended_well(on: Stage, job: str) -> bool:
    """The job has completed."""
    return any(isinstance(r.event, JobCompleted) for r in await on.events(job))


async def redrive(url: str, env: dict[str, str]) -> None:
    """``callboard dead redrive``, as a process that may die."""
    command = [sys.executable, "-m", "cli", "dead", "redrive", "--job", "d1", "--nats", url]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**os.environ, **env})
    code = await process.wait()
    assert code == (-signal.SIGKILL if env else 0)


def test_every_crash_point_is_crossed() -> None:
    """No point is named in the code that the test above leaves out."""
    code = "".join(file.read_text() for part in ("actors", "bus", "store") for file in (ROOT / part).rglob("*.py"))
    named = set(re.findall(r'crash_point\("([\w.]+)"', code))
    crossed = [point for points in CROSSED.values() for _, point in points] + LETTER_POINTS + CLIENT_POINTS
    # Passed only while the server is away, by a call that is tried again, a pause, a planned job, a lock, a fork: these
    # have tests of their own.
    homes = (
        "held_results",
        "retry_schedule",
        "control_crash",
        "planned",
        "schedules",
        "submit_many",
        "lock_crash",
        "fork_crash",
        "approvals_crash",
        "agent_crash",
    )
    elsewhere = "".join((ROOT / "tests" / f"test_{test}.py").read_text() for test in homes)
    named -= {name for name in named if f'"{name}' in elsewhere}
    assert not {name for name in named if not any(point.startswith((f"{name}.", f"{name}:")) for point in crossed)}
