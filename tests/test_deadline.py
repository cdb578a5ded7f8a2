"""Deadlines: a job that has not ended by then fails with code ``deadline``, wherever it is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import App, Job
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.jobs.deadline import deadline_of, time_limit
from actors.jobs.journal import Journal
from bus import headers as h
from bus import jobid
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.failure import Failure
from bus.messages import JobFailed, JobPaused, JobRetried, JobSubmitted
from store.log import Recorded
from tests.troupe import troupe
from tests.waiting import wait_until

DEADLINE_S = 40
NOW = datetime(2026, 1, 1, tzinfo=UTC)
app = App("deadlines", version="1.0.0")
RAN: list[str] = []
OPEN = asyncio.Event()


@app.tool
async def blocks(name: str) -> str:
    """Wait for the test."""
    await OPEN.wait()
    return name


@app.job
async def calls(job: Job, name: str) -> str:
    """One call."""
    RAN.append(name)
    return await job.call(blocks, name=name)


@app.job
async def waits(job: Job) -> Any:
    """A signal."""
    return await job.wait_for("go")


@app.job
async def family(job: Job) -> Any:
    """A child that waits for a grandchild that waits."""
    return await job.call(middle)


@app.job
async def middle(job: Job) -> Any:
    """A child that waits."""
    return await job.call(waits)


@app.job
async def napping(job: Job) -> str:
    """A child after a sleep."""
    await job.sleep(0.3)
    child = await job.start(waits)
    await job.wait_for("on")
    return child.id


async def test_wherever_the_job_is(nats_server: EmbeddedServer) -> None:
    """Queued, running, parked, paused, or one of a family: it fails with code deadline, not before its time."""
    async with troupe(nats_server.url, app, park_after_s=0.1) as on, Client(on.bus) as client:
        past = {h.JOB_ID: "queued", h.JOB_DEADLINE: "2026-01-01T00:00Z"}
        await on.bus.append("jobs.default.calls", b'{"name":"queued"}', headers=past)
        deadline_at = datetime.now(UTC) + timedelta(seconds=2)
        terms: dict[str, Any] = {"deadline_at": deadline_at}
        handles = {
            "running": await client.submit(calls, name="running", job_id="running", deadline_s=2.0),
            "parked": await client.submit(waits, job_id="parked", **terms),
            "paused": await client.submit(waits, job_id="paused", **terms),
            "family": await client.submit(family, job_id="family", **terms),
        }
        await handles["paused"].pause()
        for handle in (client.handle("queued"), *handles.values()):
            with pytest.raises(JobFailedError) as caught:
                await handle.result(DEADLINE_S)
            assert caught.value.failure.code == "deadline", handle
        assert RAN == ["running"], "what is over is never run"
        child = jobid.child("family", "middle:1")
        grandchild = jobid.child(child, "waits:1")
        await on.all_end([child, grandchild])
        for job in ("parked", "paused", "family", child, grandchild):
            events = [r.event for r in await on.events(job)]
            submitted, end = events[0], next(event for event in events if isinstance(event, JobFailed))
            assert isinstance(submitted, JobSubmitted) and submitted.deadline_at == deadline_at, job
            assert end.at >= deadline_at and end.failure.code == "deadline", job
        assert any(isinstance(r.event, JobPaused) for r in await on.events("paused"))
        assert (await client.get("parked")).deadline_at == deadline_at


async def test_a_retry_after_the_deadline_has_none(nats_server: EmbeddedServer) -> None:
    """Who lets the job go on later means it: neither it nor the children that it then starts have a deadline."""
    async with troupe(nats_server.url, app, park_after_s=0.1) as on, Client(on.bus) as client:
        handle = await client.submit(napping, job_id="again", deadline_s=0.2)
        with pytest.raises(JobFailedError, match="deadline"):
            await handle.result(DEADLINE_S)
        await handle.retry()
        await handle.signal("on")
        child = await handle.result(DEADLINE_S)

        async def begun() -> list[Recorded]:
            return await on.events(child)

        submitted = (await wait_until(begun, DEADLINE_S))[0].event
        assert isinstance(submitted, JobSubmitted) and submitted.deadline_at is None
        await client.cancel(child)


async def test_a_deadline_that_is_over_is_refused(nats_server: EmbeddedServer) -> None:
    """Before anything is sent: such a job could only fail."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        for words in (
            {"deadline_s": 0.0}, {"deadline_at": NOW}, {"deadline_s": 1.0, "deadline_at": NOW},
            {"delay_s": 60.0, "deadline_at": datetime.now(UTC) + timedelta(seconds=30)}, {"delay_s": -1.0},
            {"at": NOW.replace(tzinfo=None)}, {"delay_s": 1.0, "at": NOW},
        ):  # fmt: skip
            with pytest.raises(UsageError):
                await client.submit(waits, **words)  # type: ignore[call-overload]
        assert not await on.requests_left()


# ---- the rule

seconds = st.none() | st.integers(1, 1000)


@given(deadline_s=seconds, timeout_s=seconds, retried_s=seconds)
def test_what_comes_first_counts(deadline_s: int | None, timeout_s: int | None, retried_s: int | None) -> None:
    """The earlier of deadline and time-out; a retry begins the time-out anew, and ends a deadline that had passed."""
    deadline_at = None if deadline_s is None else NOW + timedelta(seconds=deadline_s)
    submitted = JobSubmitted(job="j", workflow="w", version="1.0.0", at=NOW, deadline_at=deadline_at)
    journal, events = Journal(), [Recorded(1, submitted)]
    began_s = 0
    if retried_s is not None:
        failed = JobFailed(job="j", failure=Failure(code="x", message="x"))
        events += [Recorded(2, failed), Recorded(3, JobRetried(job="j", at=NOW + timedelta(seconds=retried_s)))]
        began_s = retried_s
    journal.read(events)
    counts = deadline_s is not None and (retried_s is None or retried_s < deadline_s)
    assert (deadline_of(journal) is not None) == counts
    ends = [deadline_s] if counts and deadline_s is not None else []
    ends += [] if timeout_s is None else [began_s + timeout_s]
    limit = time_limit(submitted, journal, timeout_s)
    assert (None if limit is None else (limit.at - NOW).total_seconds()) == min(ends, default=None)
    assert msgspec.json.decode(msgspec.json.encode(submitted), type=JobSubmitted).deadline_at == deadline_at
