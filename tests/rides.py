"""A load of jobs of quick and slow steps (``tests.apps.crew``), and whether all of it came out right."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bus.messages import JobOwned, ReplyRetrying
from tests.nodes import Town
from tests.waiting import wait_until

DEADLINE_S = 90.0


async def submit_rides(here: Town, count: int) -> dict[str, int]:
    """Jobs of a few quick and slow steps."""
    jobs = {f"ride-{n}": n for n in range(count)}
    for job, n in jobs.items():
        await here.submit("ride", job, {"n": n})
    return jobs


async def keep_riding(here: Town, *, until: Callable[[], bool]) -> dict[str, int]:
    """Submit jobs, so that some thirty are always under way, until this is true; the jobs."""
    jobs: dict[str, int] = {}

    async def is_over() -> bool:
        while len(jobs) * 5 - len(here.effects()) < 100:
            number = len(jobs)
            await here.submit("ride", f"ride-{number}", {"n": number})
            jobs[f"ride-{number}"] = number
        return until()

    await wait_until(is_over, 3 * DEADLINE_S)
    return jobs


async def check_rides(here: Town, jobs: dict[str, int], nodes: set[str], *, owners_may_return: bool = False) -> int:
    """Each job is right, each effect happened once, each call was retried only because it was handed back, and each
    job was owned once by each of ``nodes`` at most (``owners_may_return``: or by several hosts of a node in turn).
    Returns how many jobs had more than one owner.
    """
    handed_over = 0
    for job, n in jobs.items():
        end = await here.end(job, deadline_s=DEADLINE_S)
        assert end.kind == "job.completed", end
        assert msgspec.json.decode(end.output) == 2 * (n + 2) + 2
        events = [r.event for r in await here.events(job)]
        assert [e for e in events if isinstance(e, ReplyRetrying) and not e.handed_back] == []
        owners = [e.host.partition("/")[0] for e in events if isinstance(e, JobOwned)]
        assert set(owners) <= nodes, owners
        assert owners_may_return or len(owners) == len(set(owners)), owners
        handed_over += len(owners) > 1
    effects = here.effects()
    assert len(effects) == len(set(effects)) == 5 * len(jobs)
    return handed_over
