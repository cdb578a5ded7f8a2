"""A team of real processes, of which some are killed in the middle: nobody is asked twice, nothing is lost."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import msgspec

from actors import TeamResult
from actors.budgets.accounts import Accounts
from bus.embedded import EmbeddedServer
from bus.messages import CallAgent, CallTool, JobCompleted, JobOwned
from tests.stage import Stage, stage
from tests.troupe import check_decisions
from tests.waiting import wait_until

DEADLINE_S = 60


async def test_killed_in_the_middle_a_team_goes_on(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The team's host and the analyst die by kill -9 while both tools are out; each model call is made once."""
    async with stage(nats_server.url, tmp_path, "tests.apps.bureau:app") as on:
        await on.submit("bureau", "b1", {"task": "how is it?"})
        await wait_until(lambda: _looks(on, 2), DEADLINE_S, what="both tools are asked")
        for victim in ("host-1", "analyst-1"):
            os.kill(on.pid(victim), signal.SIGKILL)
        (tmp_path / "gate").touch()
        end = await on.end("b1", deadline_s=DEADLINE_S)
        log = await on.events("b1")
        events = [recorded.event for recorded in log]
        children = [event for event in events if isinstance(event, CallAgent)]
        account = await Accounts(on.bus).read("default.b1")
    assert isinstance(end, JobCompleted), end
    result = msgspec.json.decode(end.output, type=TeamResult)
    assert result.accepted and result.report == "It is so [t1.1, t2.1, t3.1]."
    assert {task.id: task.rounds for task in result.tasks} == {"t1": 1, "t2": 2, "t3": 2}
    assert sum(isinstance(event, JobOwned) for event in events) == 2
    check_decisions(log)
    # planner, three tasks and two again (two calls of the model each), two reviews, the report
    asked = Counter(line for line in on.effects() if line.startswith("model"))
    assert asked.total() == 1 + 5 * 2 + 2 + 1
    assert [child.name for child in children].count("analyst") == 5
    assert Counter(line for line in on.effects() if line.startswith("look")) == Counter(
        {"look part1": 1, "look part2": 2, "look part3": 2}
    )
    assert account is not None and account.spent.turns == asked.total()


async def _looks(on: Stage, count: int) -> bool:
    """Whether so many calls of the tool are out."""
    children = [r.event.child for r in await on.events("b1") if isinstance(r.event, CallAgent)]
    logs = [await on.events(child) for child in children]
    return sum(isinstance(recorded.event, CallTool) for log in logs for recorded in log) == count
