"""A fork crossed with kill -9: it appears whole or not at all, and what is recorded is not run again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from actors.clients.client import Client
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.messages import JobForked, JobSubmitted
from tests.stage import stage
from tests.test_crash import RESULT, run_five
from tests.troupe import check_decisions

# When the source was told and the fork is not there yet; at its first call, which is the sixth of the host; at its end.
POINTS = ["host.after_forked:1", "host.before.call.tool.step.v1:6", "host.before.job.completed:2"]


@pytest.mark.parametrize("point", POINTS)
async def test_host_killed_while_it_forks(nats_server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """The next host makes the same fork, or goes on with it: one beginning, one end, three calls of its own."""
    marker = tmp_path / "died"
    async with stage(nats_server.url, tmp_path, env={VARIABLE: f"{point}:{marker}"}) as on, Client(on.bus) as client:
        await run_five(on, "source")
        assert not marker.exists()
        fork = await client.fork("source", from_="step:3", new_id="fork")
        assert await fork.result(60) == RESULT
        assert marker.exists(), "the host never came by the crash point"
        events = await on.events("fork")
        check_decisions(events)
        assert sum(isinstance(r.event, JobSubmitted) for r in events) == 1
        own = Counter(line for line in on.effects() if line.startswith("fork/"))
        assert own == {f"fork/step:{n}": 1 for n in (3, 4, 5)}
        assert len(on.effects()) == 5 + 3
        told = [r.event.fork for r in await on.events("source") if isinstance(r.event, JobForked)]
        assert set(told) == {"fork"}
        assert (await client.get("source")).forks == ("fork",)
