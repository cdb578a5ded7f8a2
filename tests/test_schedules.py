"""Schedules on a real server: each time makes one job, under an id of its own, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from actors import App, Job
from actors.clients.client import Client
from actors.components.registry import Registry
from actors.gateway.gateway import Gateway
from actors.jobs.order import Order
from actors.schedules.book import add_schedule
from actors.schedules.cron import cron_times
from actors.schedules.firing import fire
from actors.schedules.schedule import Rule, Schedule, schedule_in, schedule_subject
from bus import headers as h
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.mailbox import Delivery
from bus.messages import JobCompleted, JobSubmitted
from bus.reader import Stored, read_all
from bus.schedule_events import ScheduleFired, ScheduleSkipped
from bus.streams import EVENTS, JOBS
from tests.stage import Stage, stage
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 60
app = App("scheduled", version="1.0.0")


@app.job
async def tick(job: Job, text: str = "hi") -> str:
    """Say it."""
    return text


@app.job
async def slow(job: Job) -> Any:
    """Wait for a word."""
    return await job.wait_for("go")


@contextlib.asynccontextmanager
async def place(server: EmbeddedServer, **words: Any) -> AsyncIterator[tuple[Troupe, Client]]:
    """Hosts, and a gateway that knows the app."""
    async with troupe(server.url, app, **words) as on:
        registry = Registry(on.bus)
        await registry.start()
        for component in app.components:
            await registry.register(component.info())
        gateway = Gateway(on.bus, registry)
        await gateway.start()
        async with Client(on.bus) as client:
            yield on, client
        await gateway.stop()
        await registry.stop()


async def fired(on: Stage, name: str) -> list[ScheduleFired]:
    """The runs of a schedule."""
    return [r.event for r in await on.events(name) if isinstance(r.event, ScheduleFired)]


async def skipped(on: Stage, name: str) -> list[ScheduleSkipped]:
    """The times at which nothing was run."""
    return [r.event for r in await on.events(name) if isinstance(r.event, ScheduleSkipped)]


async def at_least(on: Stage, name: str, number: int) -> list[ScheduleFired]:
    """So many runs."""

    async def enough() -> list[ScheduleFired]:
        runs = await fired(on, name)
        return runs if len(runs) >= number else []

    return cast("list[ScheduleFired]", await wait_until(enough, DEADLINE_S, what=f"{number} runs of {name}"))


async def test_each_time_makes_one_job(nats_server: EmbeddedServer) -> None:
    """By period and by cron: ids from schedule and instant, one job each, with input, priority and deadline."""
    async with place(nats_server, hosts=2) as (on, client):
        view = await client.schedules.add(
            "often", "tick", every_s=1, input={"text": "a"}, priority="high", deadline_s=60, by="ann"
        )
        assert len(view.next_at) == 5 and view.by == "ann"
        cron = await client.schedules.add("two", "tick", cron="*/2 * * * * *", time_zone="Europe/Berlin")
        runs = await at_least(on, "often", 4)
        assert [run.due_at for run in runs] == [runs[0].due_at + timedelta(seconds=n) for n in range(len(runs))]
        by_cron = await at_least(on, "two", 2)
        assert by_cron[0].due_at in cron.next_at and by_cron[0].due_at.second % 2 == 0
        assert by_cron[1].due_at == cron_times("*/2 * * * * *", "", by_cron[0].due_at, 1)[0]
        await client.schedules.remove("often")
        await client.schedules.remove("two")
        every = [*await fired(on, "often"), *await fired(on, "two")]
        assert all(run.run == f"{run.job}-{run.due_at:%Y%m%dT%H%M%SZ}" for run in every)
        await on.all_end(run.run for run in every)
        stored = await read_all(on.bus, EVENTS, "log.default.*.job.submitted")
        assert sorted(each.subject.split(".")[2] for each in stored) == sorted(run.run for run in every)
        first = (await on.events(runs[0].run))[0].event
        assert isinstance(first, JobSubmitted) and first.priority == "high" and bytes(first.input) == b'{"text":"a"}'
        assert first.deadline_at is not None and first.requested_at is not None
        assert 50 < (first.deadline_at - first.requested_at).total_seconds() <= 60
        assert not await client.schedules.list() and not await client.find_jobs()
        with pytest.raises(UsageError, match="no job often"):
            await client.get("often")


async def test_what_is_done_to_a_schedule(nats_server: EmbeddedServer) -> None:
    """Paused, resumed, replaced, run now, removed; what cannot be meant is refused with a reason."""
    async with place(nats_server) as (on, client):
        schedules = client.schedules
        added = await schedules.add("yearly", "tick", cron="@yearly", input={"text": "x"})
        again = await schedules.add("yearly", "tick", cron="@yearly", input={"text": "x"}, by="bob")
        assert again.by == "" and again.next_at == added.next_at, "nothing was changed"
        with pytest.raises(UsageError) as caught:
            await schedules.add("yearly", "tick", cron="@monthly")
        assert caught.value.code == "schedule_exists"
        changed = await schedules.add("yearly", "tick", cron="@monthly", replace=True, overlap="queue")
        assert (changed.cron, changed.overlap) == ("@monthly", "queue") and len(await schedules.list()) == 1
        paused = await schedules.pause("yearly", by="ann")
        assert paused.is_paused and paused.by == "ann" and not paused.next_at
        assert (await schedules.pause("yearly", by="bob")).by == "ann", "it was paused already"
        job = await schedules.run("yearly", by="ann")
        assert job.startswith("yearly-") and await client.result(job, timeout_s=DEADLINE_S) == "hi"
        view = await schedules.get("yearly")
        assert view.last_run == job and (await fired(on, "yearly"))[0].by == "ann"
        assert (await schedules.resume("yearly")).next_at == changed.next_at
        daily: dict[str, Any] = {"cron": "@daily"}
        for words, code in [
            ({"cron": "0 25 * * *"}, "bad_cron"), (daily | {"time_zone": "Mars"}, "bad_time_zone"),
            ({"every_s": 0.1}, "bad_every"), ({}, "bad_schedule"), (daily | {"input": {"txt": 1}}, "invalid_input"),
            (daily | {"deadline_s": -1}, "bad_duration"), (daily | {"workflow": "no"}, "unknown_workflow"),
        ]:  # fmt: skip
            with pytest.raises(UsageError) as caught:
                await schedules.add("wrong", **({"workflow": "tick"} | words))
            assert caught.value.code == code, words
        await schedules.remove("yearly")
        for call in (schedules.get, schedules.pause, schedules.resume, schedules.remove, schedules.run):
            with pytest.raises(UsageError) as caught:
                await call("yearly")
            assert caught.value.code == "unknown_schedule"
        assert not await read_all(on.bus, JOBS, schedule_subject("default", "*"))


async def test_while_the_last_run_goes_on(nats_server: EmbeddedServer) -> None:
    """Skip leaves times out and says so, queue lets the next run begin when the last one ends, allow runs all."""
    async with place(nats_server, park_after_s=0.1) as (on, client):
        for overlap in ("skip", "queue", "allow"):
            await client.schedules.add(overlap, "slow", every_s=1, overlap=overlap)
        await at_least(on, "allow", 4)

        async def some_skipped() -> bool:
            return len(await skipped(on, "skip")) >= 2

        await wait_until(some_skipped, DEADLINE_S)
        (only,), (first,) = await fired(on, "skip"), await fired(on, "queue")
        assert {skip.running for skip in await skipped(on, "skip")} == {only.run}
        assert (await client.schedules.get("skip")).skipped_for == "overlap"
        await client.signal(first.run, "go", wait_s=DEADLINE_S)
        await client.signal(only.run, "go", wait_s=DEADLINE_S)
        assert (await at_least(on, "queue", 2))[1].due_at > first.due_at
        await at_least(on, "skip", 2)
        for overlap in ("skip", "queue", "allow"):
            await client.schedules.remove(overlap)


def message(run_of: Rule, next_at: datetime, acks: list[str]) -> tuple[Order, Delivery]:
    """A tick as a host gets it."""
    headers = {
        h.SCHEDULER: schedule_subject("default", run_of.name), h.JOB_SCHEDULE: msgspec.json.encode(run_of).decode(),
        h.SCHEDULE_NEXT: next_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip

    async def ack() -> None:
        acks.append("ack")

    async def nak(delay_s: float) -> None:
        acks.append("nak")

    order = Order(workspace="default", workflow="tick", priority="normal", job="unused", body=b"{}")
    return order, cast("Delivery", SimpleNamespace(headers=headers, stored_at=next_at, ack=ack, nak=nak))


async def test_a_tick_that_comes_twice_is_one_run(nats_server: EmbeddedServer) -> None:
    """At once, after a later one, and long after: one job for each instant; what is overtaken is told."""
    async with troupe(nats_server.url, app) as on:
        acks: list[str] = []
        soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
        rule = Rule(name="twice", every_s=60.0)
        ticks = [message(rule, soon + timedelta(seconds=60 * n), acks) for n in range(3)]
        for order, lease in (ticks[0], ticks[0], ticks[1]):
            await fire(on.bus, on.blobs, order, lease)
            await on.all_end([run.run for run in await fired(on, "twice")])
        await asyncio.gather(*(fire(on.bus, on.blobs, *each) for each in (ticks[0], ticks[2], ticks[2])))
        runs = await fired(on, "twice")
        assert len(runs) == len({run.run for run in runs}) == 3 and acks == ["ack"] * 6
        await on.all_end([run.run for run in runs])
        await fire(on.bus, on.blobs, *message(rule, datetime.now(UTC) - timedelta(hours=1), acks))
        assert [skip.reason for skip in await skipped(on, "twice")] == ["overtaken"]
        assert len(await read_all(on.bus, EVENTS, "log.default.*.job.submitted")) == 3


async def test_host_and_server_are_killed(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A host that dies between the record of a run and its job: the next one asks for it, once. Times while the server
    is away are left out, and then it goes on."""
    marker = tmp_path / "died"
    env = {VARIABLE: f"schedule.after_fired:2:{marker}"}
    async with stage(nats_server.url, tmp_path, env=env) as on:
        rule = Rule(name="crash", every_s=1.0, overlap="allow")
        schedule = Schedule(workspace="default", rule=rule, workflow="five", input=b'{"start":1}')
        await add_schedule(on.bus, on.blobs, schedule)
        await wait_until(marker.exists, DEADLINE_S)
        before = len(await at_least(on, "crash", 2))
        nats_server.kill()
        await nats_server.restart()
        await on.bus.settle()
        await at_least(on, "crash", before + 3)
        await on.bus.api("STREAM.PURGE.JOBS", {"filter": schedule_subject("default", "crash")})

        async def all_is_done() -> bool:
            return not await read_all(on.bus, JOBS, ">")

        await wait_until(all_is_done, DEADLINE_S)
        runs = [run.run for run in await fired(on, "crash")]
        for run in runs:
            assert isinstance(await on.end(run, deadline_s=DEADLINE_S), JobCompleted)
        assert len(runs) == len(set(runs))
        # A call that was in flight when the server died may run twice, under the same key.
        assert set(on.effects()) == {f"{run}/step:{n}" for run in runs for n in range(1, 6)}


def test_schedules_made_by_hand() -> None:
    """A message that is no schedule of ours is passed over."""
    stored = Stored(
        "timers.default.x.schedule", 1, b"{}", {h.SCHEDULE: "@every 1s", h.TIME_STAMP: "2026-01-01T00:00:00Z"}
    )
    assert schedule_in(stored) is None
