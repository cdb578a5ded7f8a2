"""A stage whose children are watched, as those of a node are; with what tests ask of such children."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bus.messages import ReplyCompleted, ReplyFailed, ReplyRetrying
from supervisor.child import ChildStatus
from supervisor.lookout import Lookout
from supervisor.watch import Watch
from tests.stage import Stage, stage

STUCK = "tests.apps.stuck:app"


@contextlib.asynccontextmanager
async def watched(
    url: str, tmp_path: Path, target: str = STUCK, *, lookout: Lookout | None = None, **choice: Any
) -> AsyncIterator[tuple[Stage, Watch]]:
    """The app's processes, watched."""
    async with stage(url, tmp_path, target, **choice) as on:
        watch = Watch(on.bus, choice.get("node", "n1"), on.supervisor, lookout=lookout)
        await watch.start()
        try:
            yield on, watch
        finally:
            await watch.stop()


def status_of(on: Stage, name: str) -> ChildStatus:
    """One actor as ``ps`` shows it."""
    return next(status for status in on.supervisor.statuses() if status.name == name)


async def call(on: Stage, job: str, tool: str, **arguments: Any) -> None:
    """Submit a job that makes one call."""
    await on.submit("ask", job, {"tool": tool, "arguments": arguments})


def runs(on: Stage, job: str) -> list[tuple[int, int]]:
    """(attempt, pid) of every time that the tool began the job's call."""
    lines = [line.split() for line in on.effects() if line.startswith(f"{job}/")]
    return [(int(attempt), int(pid)) for _, attempt, pid in lines]


async def failures(on: Stage, job: str) -> list[tuple[int, str]]:
    """(attempt, code) of every recorded failure of the job's one call, the final reply included."""
    events = [recorded.event for recorded in await on.events(job)]
    kinds = ReplyRetrying | ReplyFailed
    return [(e.attempt, e.failure.code) for e in events if isinstance(e, kinds) and e.failure is not None]


async def replies(on: Stage, job: str) -> list[str]:
    """The kinds of the final replies of the job's call: there is one."""
    events = [recorded.event for recorded in await on.events(job)]
    return [e.kind for e in events if isinstance(e, ReplyCompleted | ReplyFailed)]
