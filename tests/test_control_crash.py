"""A host killed at any point of a pause or a resume: the job stays as the log says, and nothing is done twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from actors.clients.client import Client
from bus import jobid
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.messages import CallTool, JobCompleted, JobPaused, JobResumed, ReplyCompleted
from tests.apps.held import OPEN
from tests.stage import Stage, stage
from tests.test_control import check_held, commands
from tests.waiting import wait_until

DEADLINE_S = 60
# Hit 1 is the parent or the child, hit 2 the other one.
KINDS = ("job.paused", "job.waiting", "job.resumed")
POINTS = [
    *(f"host.{side}.{kind}:{hit}" for kind in KINDS for side in ("before", "after") for hit in (1, 2)),
    "host.after_child_word:1",
    "host.after_child_word:2",
]
# Where the server is killed at the same moment: the first is passed by a pause, the second by a resume.
CROSSED = ["host.after_child_word:1", "host.after_child_word:2"]


async def logged(on: Stage, job: str, kind: type, times: int = 1) -> None:
    """Wait until the log holds so many events of that kind."""

    async def there() -> bool:
        return sum(isinstance(r.event, kind) for r in await on.events(job)) >= times

    await wait_until(there, DEADLINE_S, what=f"{times} {kind.__name__} of {job}")


async def parked(on: Stage, job: str) -> bool:
    return (await on.events(job))[-1].event.kind == "job.waiting"


async def server_killed(server: EmbeddedServer, on: Stage, marker: Path) -> None:
    """Once the host is dead the server dies too, and comes back on its store."""
    await wait_until(marker.exists, DEADLINE_S, what="the host came by the crash point")
    server.kill()
    await server.restart()
    await on.bus.settle()


@pytest.mark.parametrize(("point", "with_server"), [*((p, False) for p in POINTS), *((p, True) for p in CROSSED)])
async def test_host_killed_while_pausing_and_resuming(
    nats_server: EmbeddedServer, tmp_path: Path, point: str, with_server: bool
) -> None:
    """Calls in flight are kept, a paused family stays paused over the crash, and after the resume it ends right."""
    marker, job = tmp_path / "died", f"held-{tmp_path.name}"
    child = jobid.child(job, "pair:1")
    env = {VARIABLE: f"{point}:{marker}", "CALLBOARD_PARK_AFTER_S": "0.2"}
    async with stage(nats_server.url, tmp_path, "tests.apps.held:app", env=env) as on, Client(on.bus) as client:
        await on.submit("family", job, {"start": 1})
        for each in (job, child):
            await logged(on, each, CallTool)
        await client.pause(job, by="ann")
        if with_server and point == CROSSED[0]:
            await server_killed(nats_server, on, marker)
        for each in (job, child):
            await logged(on, each, JobPaused)
        (tmp_path / OPEN).touch()
        for each in (job, child):
            await logged(on, each, ReplyCompleted)
            await wait_until(lambda each=each: parked(on, each), DEADLINE_S)  # type: ignore[misc]
            assert (await client.get(each)).state == "paused"
        assert [len(commands(await on.events(each))) for each in (job, child)] == [2, 1]
        await client.resume(job)
        if with_server and point == CROSSED[1]:
            await server_killed(nats_server, on, marker)
        end = await on.end(job, deadline_s=DEADLINE_S)
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"[3,3]"
        assert marker.exists(), "the host never came by the crash point"
        for each in (job, child):
            events = await on.events(each)
            check_held(events)
            assert any(isinstance(r.event, JobResumed) for r in events)
        assert set(Counter(on.effects()).values()) == {1} and len(on.effects()) == 4
