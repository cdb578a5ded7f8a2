"""Jobs and calls that wait for their turn: so many at once, so many within a window, of each value of a field."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

import msgspec
import pytest

from actors import App, AtOnce, Job, Rate
from actors.changes.job_retry import retry_job
from actors.components.limit_key import limit_name, value_at
from actors.console.component_page import ComponentRow, schema_page
from actors.console.page import plain_lines
from actors.jobs.requests import publish_wake
from actors.locks.claim import LockName
from actors.locks.lock_store import lock_states
from actors.locks.rate_desk import RateDesk
from actors.testing import replay
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import JobCancelled, JobCompleted, JobFailed, ReplyRetrying
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from tests.troupe import Troupe, check_decisions, troupe
from tests.waiting import wait_until

SOON_S = 0.05
DEADLINE_S = 40.0
app = App("admission", version="1.0.0")
inside: Counter[str] = Counter()
most: Counter[str] = Counter()
began: dict[str, list[float]] = defaultdict(list)


class Order(msgspec.Struct):
    """An order of a customer."""

    customer: str


@app.tool
async def work(customer: str) -> int:
    """Note who works at the same time."""
    inside[customer] += 1
    most[customer] = max(most[customer], inside[customer])
    await asyncio.sleep(0.01)
    inside[customer] -= 1
    return most[customer]


@app.job(at_once=AtOnce(2, key="order.customer"))
async def limited(job: Job, order: Order) -> int:
    """Two for each customer."""
    return await job.call(work, customer=order.customer)


@app.job(at_once=AtOnce(1))
async def single(job: Job, fails: bool = False) -> str:
    """One of all."""
    data = await job.wait_for("go")
    if fails and data != "well":
        raise ValueError("on purpose")
    return str(data)


@app.job(rate=Rate(5, per_s=0.5))
async def paced(job: Job, n: int) -> float:
    """Five each half second."""
    began["jobs"].append(time.time())
    return float(n)


@app.tool(rate=Rate(5, per_s=0.5), concurrency=50)
async def slow_lane(n: int) -> int:
    """A service that takes five calls each half second."""
    began["calls"].append(time.time())
    return n


@app.tool(rate=Rate(1, per_s=1.5, key="to"), concurrency=4)
async def mail(to: str) -> str:
    """One mail to each."""
    began[f"mail {to}"].append(time.time())
    return to


@app.job
async def calls(job: Job, number: int) -> int:
    """Many calls at once."""
    return sum(await job.gather(*(job.call(slow_lane, n=n) for n in range(number))))


@app.job
async def mails(job: Job, to: list[str]) -> list[str]:
    """Mails at once."""
    return list(await job.gather(*(job.call(mail, to=each) for each in to)))


async def output(on: Troupe, job: str) -> Any:
    end = await on.end(job, deadline_s=DEADLINE_S)
    assert isinstance(end, JobCompleted), end
    check_decisions(await on.events(job))
    return json.loads(bytes(end.output))


async def slots(on: Troupe) -> tuple[list[str], list[str]]:
    states = await lock_states(on.bus)
    return [h.claim.job for s in states for h in s.holders], [w.claim.job for s in states for w in s.queue]


def check_rate(instants: list[float], limit: int, per_s: float, slack_s: float = 0.1) -> None:
    """No ``limit`` + 1 within a window; what was held up on its way may be nearer to the next one by that much."""
    instants = sorted(instants)
    assert all(b - a >= per_s - slack_s for a, b in zip(instants, instants[limit:], strict=False)), instants


# ---- at once


async def test_so_many_of_each_value_at_once(nats_server: EmbeddedServer) -> None:
    """Thirty jobs of three customers on two hosts: two of each run at the same time, all of them end."""
    most.clear()
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        jobs = [f"{customer}{n}" for n in range(10) for customer in "abc"]
        for job in jobs:
            await on.submit("limited", job, {"order": {"customer": job[0]}})
        await on.all_end(jobs)
        assert set(most) == set("abc") and max(most.values()) <= 2, most
        await wait_until(lambda: _is(on, [], []), DEADLINE_S)  # the last gives its slot back after its end
        result = await replay(limited, await on.events("a9"))
        assert result.difference is None


async def test_those_over_the_limit_wait_in_order_and_say_for_what(nats_server: EmbeddedServer) -> None:
    """They are parked before their function begins, keep their order, and go with their end."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        for number, job in enumerate("abcd"):
            await on.submit("single", job, {"fails": job == "a"})

            async def placed(wanted: int = number + 1) -> bool:
                return sum(map(len, await slots(on))) == wanted

            await wait_until(placed, DEADLINE_S)
        await wait_until(lambda: on.in_memory == 0, DEADLINE_S)
        waiting = [r.event for r in await on.events("b") if r.event.kind == "job.waiting"]
        assert getattr(waiting[-1], "on", None) == ("slot-single:1",)
        await publish_wake(on.bus, "default", "single", "c", "lock")  # needless
        await on.signal("single", "b", "cancel")
        assert isinstance(await on.end("b", deadline_s=DEADLINE_S), JobCancelled)
        await on.signal("single", "a", "go")
        assert isinstance(await on.end("a", deadline_s=DEADLINE_S), JobFailed)
        await wait_until(lambda: _is(on, ["c"], ["d"]), DEADLINE_S)
        await retry_job(on.bus, on.blobs, "default", "a")
        await wait_until(lambda: _is(on, ["c"], ["d", "a"]), DEADLINE_S)
        for job in "cd":
            await on.signal("single", job, "go", b'"well"')
            assert await output(on, job) == "well"
        # Its turn comes again; what it was told is on record, so it fails again, and gives its slot back again.
        await wait_until(lambda: _failed_twice(on, "a"), DEADLINE_S)
        await wait_until(lambda: _is(on, [], []), DEADLINE_S)


async def _failed_twice(on: Troupe, job: str) -> bool:
    return sum(isinstance(r.event, JobFailed) for r in await on.events(job)) == 2


async def _is(on: Troupe, holders: list[str], queue: list[str]) -> bool:
    return await slots(on) == (holders, queue)


# ---- rates


async def test_the_rate_of_jobs_is_kept_by_all_hosts(nats_server: EmbeddedServer) -> None:
    """Sixteen jobs on two hosts at five each half second: no window holds more, and none is lost."""
    began.clear()
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on:
        jobs = [f"p{n}" for n in range(16)]
        for n, job in enumerate(jobs):
            await on.submit("paced", job, {"n": n})
        await on.all_end(jobs)
        # When it was recorded that each may begin: the last one as its code was run may be a replay.
        assert [await output(on, job) for job in jobs] == [float(n) for n in range(16)]
        due = [json.loads(bytes(r.event.output)) for job in jobs for r in await on.events(job) if _is_turn(r.event)]
        assert len(due) == 16
        check_rate([_seconds(instant) for instant in due], 5, 0.5, slack_s=0.0001)


def _is_turn(event: Any) -> bool:
    return getattr(event, "call", "").startswith("rate-") and event.kind == "reply.completed"


def _seconds(instant: str) -> float:

    return datetime.fromisoformat(instant).timestamp()


async def test_the_rate_of_calls_is_kept_by_all_replicas(nats_server: EmbeddedServer) -> None:
    """Two processes' worth of actors share one rate; calls wait without an attempt spent."""
    began.clear()
    async with troupe(nats_server.url, app) as on, troupe(nats_server.url, app, hosts=0):
        await on.submit("calls", "c", {"number": 16})
        assert await output(on, "c") == sum(range(16))
        check_rate(began["calls"], 5, 0.5)
        assert not any(isinstance(r.event, ReplyRetrying) for r in await on.events("c"))


async def test_a_value_that_waits_does_not_hold_the_others_up(nats_server: EmbeddedServer) -> None:
    """More calls for one value than the tool takes at once: they go back, and the call for another value runs."""
    began.clear()
    async with troupe(nats_server.url, app) as on:
        await on.submit("mails", "m", {"to": ["a"] * 6 + ["b"]})
        assert await output(on, "m") == ["a"] * 6 + ["b"]
        check_rate(began["mail a"], 1, 1.5, slack_s=0.3)
        assert began["mail b"][0] < sorted(began["mail a"])[4]
        retrying = [r.event for r in await on.events("m") if isinstance(r.event, ReplyRetrying)]
        assert retrying and all(event.handed_back for event in retrying)


async def test_many_processes_reserve_together(nats_server: EmbeddedServer) -> None:
    """Three desks of which each asks for many at once give each instant to no more than the rate allows."""
    rate, name = Rate(20, per_s=0.2), LockName("default", "rate", "x")
    options = ConnectOptions(servers=[nats_server.url])
    async with (
        await Bus.connect(options) as one,
        await Bus.connect(options) as two,
        await Bus.connect(options) as three,
    ):
        await ensure_streams(one)
        desks = [RateDesk(bus) for bus in (one, two, three)]
        instants = await asyncio.gather(*(desk.reserve(name, rate) for _ in range(100) for desk in desks))
        check_rate(instants, 20, 0.2, slack_s=1e-6)
        assert max(instants) - min(instants) < 300 / 20 * 0.2 * 1.1
        soon = await RateDesk(one).reserve(name, rate, within_s=0.0)
        again = await RateDesk(two).reserve(name, rate, within_s=0.0)
        assert soon == pytest.approx(again, abs=0.05) and soon > max(instants) - 0.3, "nothing was reserved by asking"


# ---- pure


def test_the_value_of_a_field() -> None:
    """A path through structs and objects; what is missing is null; a value that is long counts by its digest."""
    assert value_at({"order": Order("x")}, "order.customer") == "x"
    assert value_at({"order": {"customer": {"b": 1, "a": 2}}}, "order.customer") == '{"a":2,"b":1}'
    assert value_at({"order": None}, "order.customer") == value_at({}, "n") == "null"
    assert value_at({"n": 7}, "n") == "7"
    assert limit_name("w", "", {}) == "w"
    assert limit_name("w", "n", {"n": 7}) == "w n=7"
    assert limit_name("w", "n", {"n": "x" * 200}) != limit_name("w", "n", {"n": "x" * 201})


def test_a_key_that_is_no_parameter_is_refused() -> None:
    """Seen when the job is declared."""
    with pytest.raises(UsageError) as caught:

        @app.job(at_once=AtOnce(1, key="costumer"))
        async def wrong(job: Job, customer: str) -> None:
            """Never declared."""

    assert caught.value.path == "key" and "customer" in str(caught.value)


def test_limits_are_shown_with_the_component() -> None:
    """``callboard components NAME`` says how many at once, and how often."""
    said = "\n".join(plain_lines(schema_page([ComponentRow(c.info()) for c in (limited, paced, mail)])))
    assert "2 for each order.customer" in said
    assert "5 in 0.5 s" in said and "1 in 1.5 s for each to" in said
