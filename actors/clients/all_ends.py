"""Waiting for the ends of many jobs: they are counted as they are heard, and looked up now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from actors.jobs.ends import read_ends
from bus import subjects
from bus.connection import Bus, Message
from bus.errors import Ambiguous
from bus.subjects import JOB_ENDS, JobEnd

LOOK_S = 10.0
_TELL_S = 0.25
_JOBS_PER_LOOK = 170


async def all_ends(bus: Bus, workspace: str, jobs: Mapping[str, int]) -> AsyncGenerator[dict[str, JobEnd]]:
    """How each job ended, by its id; yields those that are new, until all have ended.

    ``jobs``: by their ids the sequence after which the end comes. The first end of each counts.

    What is heard is only a doorbell that may be missed: the log is looked at before, and every ``LOOK_S`` seconds.
    Raises: BusClosed, BusError.
    """
    left, heard = dict(jobs), dict[str, JobEnd]()

    def hear(msg: Message) -> None:
        _, _, job, kind = msg.subject.split(".", 3)
        if job in left:
            heard.setdefault(job, kind.removeprefix("job."))  # type: ignore[arg-type]

    wanted = [subjects.live(workspace, "*", f"job.{end}") for end in JOB_ENDS]
    subscriptions = [await bus.subscribe(subject, hear) for subject in wanted]
    look_at_s, now = 0.0, asyncio.get_running_loop().time
    try:
        while left:
            if now() >= look_at_s:
                heard.update(await _look(bus, workspace, list(left.items())))
                look_at_s = now() + LOOK_S
            if heard:
                found = {job: heard.pop(job) for job in list(heard)}
                for job in found:
                    left.pop(job, None)
                yield found
            elif left:
                await asyncio.sleep(_TELL_S)
    finally:
        for subscription in subscriptions:
            await subscription.unsubscribe()


async def _look(bus: Bus, workspace: str, jobs: list[tuple[str, int]]) -> dict[str, JobEnd]:
    found: dict[str, JobEnd] = {}
    for start in range(0, len(jobs), _JOBS_PER_LOOK):
        try:
            ends = await read_ends(bus, workspace, jobs[start : start + _JOBS_PER_LOOK])
        except Ambiguous:  # the server is away: the next look is soon enough
            await bus.settle()
            continue
        for job, stored in ends.items():
            found[job] = subjects.parse_event(stored.subject).kind.removeprefix("job.")  # type: ignore[assignment]
    return found
