"""The agent's process is killed between any two events of a run: nothing that is on record is asked or done again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from actors.budgets.accounts import Accounts
from actors.threads.thread_store import ThreadStore
from bus.embedded import EmbeddedServer
from bus.messages import JobCompleted, JobFailed
from tests.apps.crossed import POINTS
from tests.stage import stage
from tests.troupe import check_decisions
from tests.waiting import wait_until

DEADLINE_S = 60
# What the host records of a run on a thread: the lock wanted and had, its beginning, the answer (4), the thread (5).
THREAD_POINTS = ("after.reply.completed:4", "before.reply.completed:5")
STEPS = ("gather:1.0/step:1", "gather:1.1/step:1", "gather:2.0/step:1")
# What the host appends: the account, the run's beginning, a reservation and an answer for each of three turns, the
# account's end; three calls; the job's end.
CALLED = [f"call.tool.step.v1:{n}" for n in (1, 2, 3)]
APPENDS = [*(f"reply.completed:{n}" for n in range(1, 10)), *CALLED, "job.completed:1"]
# One death in each window between two of them: nothing tells the end of one append from the beginning of the next, but
# for the call of the model, which lies between its reservation and its record.
POINTS_OF_A_RUN = [
    "host.before.reply.completed:1",
    *(f"host.after.{append}" for append in APPENDS),
    "agent.before_model:2",
    *(f"agent.after_model:{n}" for n in (1, 2, 3)),
]
# What was paid for and is not on record yet is paid for again: the one window that nobody can close.
PAID_AGAIN = {f"agent.after_model:{n}": n for n in (1, 2, 3)}
# What may have been paid for by a call that is not on record stays set aside for good.
SET_ASIDE = {*PAID_AGAIN, "agent.before_model:2", *(f"host.after.reply.completed:{n}" for n in (3, 5, 7))}


async def test_killed_anywhere_it_goes_on(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """One job for each point: it ends right, each answer of the model and each call was asked for once."""
    specs = tmp_path / "points"
    specs.mkdir()
    async with stage(nats_server.url, tmp_path, "tests.apps.thinking:app", env={POINTS: str(specs)}) as on:
        for number, point in enumerate(POINTS_OF_A_RUN):
            marker, job = tmp_path / f"died-{number}", f"thinks-{number}"
            (specs / job).write_text(f"{point}:{marker}")
            await on.submit("think", job, {})
            await wait_until(marker.exists, DEADLINE_S, what=f"{point} was reached")
            end = await on.end(job, deadline_s=DEADLINE_S)
            assert isinstance(end, JobCompleted) and bytes(end.output) == b'"done"', (point, end)
            check_decisions(await on.events(job))
            asked = Counter(line for line in on.effects() if line.startswith(f"{job}/"))
            again = f"{job}/model:{PAID_AGAIN[point]}" if point in PAID_AGAIN else ""
            models = {f"{job}/model:{n}": 2 if f"{job}/model:{n}" == again else 1 for n in (1, 2, 3)}
            tools = {f"{job}/{step}": 1 for step in STEPS}
            assert asked == models | tools, point
            account = await Accounts(on.bus).read(f"default.{job}")
            assert account is not None and account.spent.turns == 3, point
            assert len(account.reserved) == (point in SET_ASIDE), point


async def test_a_missing_key_is_said_at_once(
    nats_server: EmbeddedServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The agent's process says it when it starts, and a job that comes all the same fails with what is missing."""
    env = {"ANTHROPIC_API_KEY": ""}
    async with stage(nats_server.url, tmp_path, "tests.apps.keyless:app", env=env) as on:
        await on.submit("mute", "m1", {})
        end = await on.end("m1", deadline_s=DEADLINE_S)
    assert isinstance(end, JobFailed) and end.failure.code == "no_api_key"
    assert "ANTHROPIC_API_KEY" in end.failure.message + end.failure.hint
    assert "agent mute cannot ask its model" in capfd.readouterr().err


async def test_a_thread_has_each_turn_once(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Killed between the answer and the thread, or between the thread and its record: told once, asked for once."""
    specs = tmp_path / "points"
    specs.mkdir()
    async with stage(nats_server.url, tmp_path, "tests.apps.thinking:app", env={POINTS: str(specs)}) as on:
        for number, point in enumerate(THREAD_POINTS):
            marker, job = tmp_path / f"died-{number}", f"recalls-{number}"
            (specs / job).write_text(f"host.{point}:{marker}")
            await on.submit("recall", job, {"thread": "t"})
            await wait_until(marker.exists, DEADLINE_S, what=f"{point} was reached")
            end = await on.end(job, deadline_s=DEADLINE_S)
            assert isinstance(end, JobCompleted) and bytes(end.output) == f'"told {2 * number + 1}"'.encode(), (
                point,
                end,
            )
            assert Counter(on.effects())[f"{job}/model"] == 1
        thread = await ThreadStore(on.bus, on.blobs, "default").whole("t")
        assert [each.job for each in thread.exchanges] == [f"recalls-{n}" for n in range(len(THREAD_POINTS))]
