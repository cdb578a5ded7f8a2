"""Jobs that are planned: they begin at their time, once; until then they can be seen, told something, and cancelled."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors import App, Job
from actors.clients.client import Client
from actors.clients.outcome import JobCancelledError, JobRejectedError
from actors.jobs.planned import find_planned, list_planned, publish_plan
from bus import headers as h
from bus import subjects
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import JobCancelled, JobCompleted, JobSubmitted
from bus.reader import read_all
from bus.streams import JOBS
from store.view import JobView
from tests.stage import Stage, stage
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 40
HOUR_S = 3600.0
app = App("planned", version="1.0.0")


@app.job
async def echo(job: Job, text: str) -> str:
    """Say it again."""
    return text


@app.job
async def asks(job: Job) -> Any:
    """Wait for a word."""
    return await job.wait_for("word")


async def planned(client: Client, job: str) -> JobView:
    """The job once it is planned."""

    async def look() -> JobView | None:
        try:
            view = await client.get(job)
        except UsageError:
            return None
        return view if view.state == "planned" else None

    return await wait_until(look, DEADLINE_S, what=f"{job} is planned")  # type: ignore[return-value]


async def kinds(on: Stage, job: str) -> list[str]:
    """The job's log."""
    return [r.event.kind for r in await on.events(job)]


async def nothing_left(on: Troupe) -> bool:
    """JOBS is empty: neither requests nor schedules."""
    return not await read_all(on.bus, JOBS, ">")


async def test_a_delayed_job_begins_at_its_time_and_once(nats_server: EmbeddedServer) -> None:
    """It has its id at once and shows as planned; submitted again it is the same job, at the time first said."""
    async with troupe(nats_server.url, app, hosts=2) as on, Client(on.bus) as client:
        asked_at = datetime.now(UTC)
        handle = await client.submit(echo, text="hi", delay_s=2.0, job_id="late", priority="high")
        view = await planned(client, "late")
        assert (view.workflow, view.priority, bytes(view.input)) == ("echo", "high", b'{"text":"hi"}')
        assert view.starts_at is not None and view.starts_at >= asked_at + timedelta(seconds=1.9)
        again = await client.submit(echo, text="hi", delay_s=HOUR_S, job_id="late")
        assert await handle.result(DEADLINE_S) == await again.result(DEADLINE_S) == "hi"
        submitted, *_ = (r.event for r in await on.events("late"))
        assert isinstance(submitted, JobSubmitted) and submitted.priority == "high"
        assert submitted.requested_at is not None and submitted.requested_at >= view.starts_at
        await client.submit(echo, text="hi", delay_s=HOUR_S, job_id="late")
        await wait_until(lambda: nothing_left(on), DEADLINE_S, what="what came twice is dropped")
        assert (await kinds(on, "late")).count("job.submitted") == 1
        assert await client.submit(echo, text="now", at=asked_at) and await find_planned(on.bus, "default", "x") is None


async def test_a_bare_publish_with_a_delay(nats_server: EmbeddedServer) -> None:
    """A header is enough; the id follows from the message id. What cannot be read, or run, is refused at once."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        await on.bus.append(
            "jobs.default.echo.low", b'{"text":"x"}', headers={h.MSG_ID: "m-1", h.JOB_START: "1s", h.JOB_DEADLINE: "1h"}
        )
        await wait_until(lambda: list_planned(on.bus, "default"), DEADLINE_S)
        (waiting,) = await client.find_jobs(states=["planned"])
        assert waiting.state == "planned" and waiting.workflow == "echo" and waiting.starts_at
        assert waiting.job == (await client.find_jobs(verb="cancel"))[0].job
        view = await client.get(waiting.job)
        assert view.deadline_at == waiting.starts_at + timedelta(hours=1)
        assert await client.result(waiting.job, timeout_s=DEADLINE_S) == "x"
        submitted = (await on.events(waiting.job))[0].event
        assert isinstance(submitted, JobSubmitted) and submitted.requested_at and submitted.priority == "low"
        assert submitted.deadline_at == submitted.requested_at + timedelta(hours=1), "counts from its start"
        for job, body, headers in [
            ("no-moment", b'{"text":"x"}', {h.JOB_START: "soon"}),
            ("no-deadline", b'{"text":"x"}', {h.JOB_DEADLINE: "2026-12-01T08:00"}),
            ("no-input", b'{"txt":"x"}', {h.JOB_START: "1h"}),
        ]:
            await on.bus.append("jobs.default.echo", body, headers={h.JOB_ID: job, **headers})
            with pytest.raises(JobRejectedError):
                await client.result(job, timeout_s=DEADLINE_S)
        assert not await list_planned(on.bus, "default")


async def test_an_id_that_is_planned_is_taken(nats_server: EmbeddedServer) -> None:
    """Another job under the id of a planned one is refused with a trace under an id of its own; the plan stands."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        await client.submit(echo, text="one", delay_s=HOUR_S, job_id="taken")
        before = await planned(client, "taken")
        await client.submit(echo, text="two", delay_s=HOUR_S, job_id="taken")

        async def rejected() -> list[Any]:
            return await read_all(on.bus, "EVENTS", "log.default.*.job.rejected")

        (trace,) = await wait_until(rejected, DEADLINE_S)
        assert msgspec.json.decode(trace.body)["requested_job"] == "taken"
        assert await planned(client, "taken") == before
        target = subjects.job_request("default", "asks")
        with pytest.raises(UsageError, match="planned"):
            await publish_plan(on.bus, "default", "taken", target, datetime.now(UTC), b'{"text":"one"}', {})


@pytest.mark.parametrize("word", ["cancel", "terminate"])
async def test_a_planned_job_is_cancelled(nats_server: EmbeddedServer, word: str) -> None:
    """It ends at once, its log says by whom and why; its schedule goes, its result does not hang, it never begins."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        handle = await client.submit(echo, text="hi", delay_s=HOUR_S, job_id="never")
        await (handle.cancel if word == "cancel" else handle.terminate)("changed my mind", by="ann")
        with pytest.raises(JobCancelledError):
            await handle.result(DEADLINE_S)
        await wait_until(lambda: nothing_left(on), DEADLINE_S, what="the schedule is removed")
        assert await kinds(on, "never") == [f"signal.{word}", "job.cancelled"]
        view = await client.get("never")
        assert (view.state, view.workflow, view.ended_by) == ("cancelled", "echo", "ann")
        assert view.reason.endswith("changed my mind") and not await client.find_jobs()
        with pytest.raises(UsageError, match="has ended"):
            await client.cancel("never")
        with pytest.raises(JobCancelledError):
            await (await client.submit(echo, text="hi", job_id="never")).result(DEADLINE_S)
        await on.bus.append("jobs.default.echo", b'{"text":"hi"}', headers={h.JOB_ID: "never", h.JOB_START: "1h"})
        await wait_until(lambda: nothing_left(on), DEADLINE_S, what="the duplicates are dropped")
        assert "job.submitted" not in await kinds(on, "never")


async def test_words_to_a_planned_job_wait_for_it(nats_server: EmbeddedServer) -> None:
    """A signal and a pause are in its log when it begins; many planned jobs are cancelled by a filter."""
    async with troupe(nats_server.url, app, park_after_s=0.1) as on, Client(on.bus) as client:
        handle = await client.submit(asks, delay_s=1.5, job_id="told")
        await planned(client, "told")
        await handle.signal("word", 7)
        await handle.pause()
        await on.parked("told")
        assert (await client.get("told")).state == "paused"
        await client.resume("told")
        assert await handle.result(DEADLINE_S) == 7
        jobs = [(await client.submit(echo, text="x", delay_s=HOUR_S)).id for _ in range(20)]
        await wait_until(lambda: _count(client, 20), DEADLINE_S)
        told = [each async for each in client.tell("cancel", [j.job for j in await client.find_jobs(verb="cancel")])]
        assert {each.job for each in told if not each.error} == set(jobs)
        await wait_until(lambda: nothing_left(on), DEADLINE_S)
        assert not await client.find_jobs()


async def _count(client: Client, number: int) -> bool:
    return len(await client.find_jobs(states=["planned"])) == number


async def test_cancelled_at_the_very_moment_it_begins(nats_server: EmbeddedServer) -> None:
    """Whoever is first in the log wins: the job either never begins, or is cancelled as one that runs; never both."""
    async with troupe(nats_server.url, app, hosts=2) as on, Client(on.bus) as client:
        due_at = datetime.now(UTC) + timedelta(seconds=2.5)
        jobs = [f"tie-{n}" for n in range(60)]
        await asyncio.gather(*(client.submit(asks, at=due_at, job_id=job) for job in jobs))
        await wait_until(lambda: _count(client, len(jobs)), DEADLINE_S)

        async def cancel(number: int, job: str) -> None:
            # They are brought within 250 ms of their time; the words are spread over it.
            await asyncio.sleep((due_at - datetime.now(UTC)).total_seconds() + number * 0.005)
            await client.cancel(job, wait_s=DEADLINE_S)

        await asyncio.gather(*(cancel(number, job) for number, job in enumerate(jobs)))
        await on.all_end(jobs)
        for job in jobs:
            life = [kind for kind in await kinds(on, job) if kind.startswith("job.")]
            assert life.count("job.cancelled") == 1, life
            assert life == ["job.cancelled"] or life[:2] == ["job.submitted", "job.owned"], life
        await wait_until(lambda: nothing_left(on), DEADLINE_S)


# ---- crashes

BEGINS = ["host.before_plan:1", "host.after_plan:1"]


@pytest.mark.parametrize("point", [*BEGINS, "host.after_withdrawal:1"])
async def test_host_killed_while_it_plans(nats_server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """Killed around the schedule, the job begins once at its time; killed while it cancels, it stays cancelled."""
    marker, job = tmp_path / "died", "plan"
    env = {VARIABLE: f"{point}:{marker}"}
    async with stage(nats_server.url, tmp_path, env=env) as on, Client(on.bus) as client:
        delay = "3s" if point in BEGINS else "1h"
        await on.submit("five", job, {"start": 1}, **{h.JOB_START: delay})
        if point in BEGINS:
            await wait_until(marker.exists, DEADLINE_S)
            nats_server.kill()
            await nats_server.restart()
            assert isinstance(await on.end(job, deadline_s=60), JobCompleted)
            assert len(on.effects()) == len(set(on.effects())) == 5
            assert (await kinds(on, job)).count("job.submitted") == 1
            return
        await client.cancel(job, wait_s=DEADLINE_S)
        await wait_until(marker.exists, DEADLINE_S)
        assert isinstance(await on.end(job), JobCancelled)

        async def is_gone() -> bool:
            return await find_planned(on.bus, "default", job) is None

        await wait_until(is_gone, 60, what="the next host removes the schedule")
        assert await kinds(on, job) == ["signal.cancel", "job.cancelled"]
