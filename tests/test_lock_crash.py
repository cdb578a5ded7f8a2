"""A host that is killed before or after any write to a lock: one holder at a time, and nobody waits for ever."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actors.jobs.signals import make_signal, send_signal
from actors.locks.lock_store import lock_states
from bus.embedded import EmbeddedServer
from bus.messages import JobCancelled, JobCompleted
from tests.apps.crossed import POINTS
from tests.stage import ROOT, Stage, stage
from tests.troupe import check_decisions
from tests.waiting import wait_until

# Few at a time: a process that dies again and again is started ever more slowly.
CRASHES = {
    "taking and waiting": [
        "lock.before.write:1",
        "lock.after.write:1",
        "lock.before.enqueue:1",
        "lock.after.enqueue:1",
        "lock.after.enqueue:2",
    ],
    "giving back": ["lock.before.write:2", "lock.after.write:2", "lock.before.write:3", "lock.after.write:3"],
    "passing on": [
        "lock.before.tell:1",
        "lock.before.wake:1",
        "lock.after.wake:1",
        "lock.before.remove:1",
        "lock.after.remove:1",
    ],
}


@pytest.mark.parametrize("points", CRASHES.values(), ids=CRASHES)
async def test_host_killed_around_each_write(nats_server: EmbeddedServer, tmp_path: Path, points: list[str]) -> None:
    """Three jobs want one lock, and their host dies on the way: each goes through its section alone and ends."""
    specs = tmp_path / "points"
    specs.mkdir()
    env = {POINTS: str(specs), "CALLBOARD_PARK_AFTER_S": "0.05"}
    async with stage(nats_server.url, tmp_path, "tests.apps.locked:app", env=env) as on:
        for number, point in enumerate(points):
            marker, jobs = tmp_path / f"died-{number}", [f"{name}{number}" for name in "abc"]
            (specs / jobs[0]).write_text(f"{point}:{marker}")
            for job in jobs:
                await on.submit("section", job, {"lock": f"lock {number}"})
            tokens = [await _token(on, job) for job in jobs]
            assert marker.exists(), f"{point} was never reached"
            assert len(set(tokens)) == 3, point
            _check_alone([line for line in on.effects() if line.split()[0] in jobs])
            assert await lock_states(on.bus) == [], point


async def _token(on: Stage, job: str) -> int:
    end = await on.end(job, deadline_s=60)
    assert isinstance(end, JobCompleted), end
    check_decisions(await on.events(job))
    return int(bytes(end.output))


def _check_alone(effects: list[str]) -> None:
    """Who goes in comes out before another goes in, and each does so once."""
    pairs = list(zip(effects[::2], effects[1::2], strict=True))
    assert [(a.split()[1], b.split()[1]) for a, b in pairs] == [("in", "out")] * 3, effects
    assert all(a.split()[0] == b.split()[0] for a, b in pairs), effects


async def test_host_killed_before_the_lock_of_a_cancelled_job_is_dropped(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """The end is in the log and the host dies: whoever gets the request again passes the lock on."""
    specs, marker = tmp_path / "points", tmp_path / "died"
    specs.mkdir()
    (specs / "s").write_text(f"host.before_drop:1:{marker}")
    async with stage(nats_server.url, tmp_path, "tests.apps.locked:app", env={POINTS: str(specs)}) as on:
        await on.submit("stuck", "s", {"lock": "x"})
        await wait_until(on.effects, 30)
        await on.submit("section", "after", {"lock": "x"})

        async def waits() -> bool:
            states = await lock_states(on.bus)
            return bool(states and states[0].queue)

        await wait_until(waits, 30)
        await send_signal(on.bus, on.blobs, "default", make_signal("s", "cancel"))
        await _token(on, "after")
        assert marker.exists()
        assert isinstance(await on.end("s"), JobCancelled)


def test_every_write_of_a_lock_is_crossed() -> None:
    """No crash point of the locks is left out above."""
    code = (ROOT / "actors/locks/lock_store.py").read_text()
    named = {f"{place}.{what}" for place, what in re.findall(r'crash_point\("(lock\.\w+)", "(\w+)"\)', code)}
    assert named and named == {point.rpartition(":")[0] for points in CRASHES.values() for point in points}
