"""Invariants 1 to 3: a process killed at any point of a job loses nothing and repeats nothing that was recorded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.messages import CallTool, JobCompleted, JobOwned, ReplyCompleted
from store.log import Recorded
from tests.stage import Stage, stage

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
