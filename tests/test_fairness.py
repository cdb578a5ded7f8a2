"""Who is let in when more wait than may run: weights of priorities, turns of workspaces, and nobody for ever."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import App, Job
from actors.hosts.fair_line import WEIGHTS, FairLine
from actors.hosts.foyer import Places
from bus import headers as h
from bus.embedded import EmbeddedServer
from bus.reader import read_all
from bus.streams import EVENTS
from bus.subjects import PRIORITIES, Priority, job_request, parse_event
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 60.0
CAPACITY = 16
app = App("fair", version="1.0.0")


@app.tool(concurrency=4)
async def work(n: int) -> int:
    """Takes a moment."""
    await asyncio.sleep(0.01)
    return n


@app.job
async def task(job: Job, n: int) -> int:
    """One call."""
    return await job.call(work, n=n)


# ---- pure

waits = st.lists(st.tuples(st.sampled_from(PRIORITIES), st.sampled_from("abc")), max_size=80)


@given(waits, st.lists(st.sampled_from(("pop", *PRIORITIES)), max_size=40))
def test_nothing_is_lost_and_each_workspace_keeps_its_order(first: list[tuple[Priority, str]], then: list[str]) -> None:
    """However puts and pops mix: what was put comes out once, and of one workspace and priority in its order."""
    line = FairLine[tuple[Priority, str, int]]()
    numbers = iter(range(10_000))

    def put(priority: Priority, workspace: str) -> None:
        line.put(priority, workspace, (priority, workspace, next(numbers)))

    for priority, workspace in first:
        put(priority, workspace)
    out: list[tuple[Priority, str, int]] = []
    for what in then:
        if what == "pop":
            out += [found[1]] if (found := line.pop(PRIORITIES)) else []
        else:
            put(what, "a")  # type: ignore[arg-type]
    assert len(line) == sum(line.waiting(priority) for priority in PRIORITIES)
    while found := line.pop(PRIORITIES):
        out.append(found[1])
    assert sorted(n for _, _, n in out) == list(range(next(numbers)))
    for priority in PRIORITIES:
        for workspace in "abc":
            own = [n for p, w, n in out if (p, w) == (priority, workspace)]
            assert own == sorted(own)


@given(st.integers(1, 4), st.sets(st.sampled_from(PRIORITIES), min_size=1))
def test_turns_are_in_proportion(rounds: int, kinds: set[Priority]) -> None:
    """Of those who wait all the time each gets its weight in every round, and each workspace its turn."""
    line = FairLine[tuple[Priority, str]]()
    for priority in kinds:
        for workspace, number in (("flood", 500), ("small", 100)):
            for _ in range(number):
                line.put(priority, workspace, (priority, workspace))
    whole = sum(WEIGHTS[priority] for priority in kinds)
    out = [found[1] for _ in range(rounds * whole) if (found := line.pop(PRIORITIES))]
    assert Counter(priority for priority, _ in out) == {priority: rounds * WEIGHTS[priority] for priority in kinds}
    for priority in kinds:
        turns = Counter(workspace for p, workspace in out if p == priority)
        assert abs(turns["flood"] - turns["small"]) <= 1


def test_only_who_may_begin_is_let_in() -> None:
    """A priority that has no room is passed over, and is not in debt or in credit afterwards."""
    line = FairLine[str]()
    for priority in PRIORITIES:
        line.put(priority, "w", priority)
    assert line.pop(()) is None
    assert line.pop(("low",)) == ("low", "low")
    assert line.pop(("low",)) is None
    assert line.pop(("low", "normal")) == ("normal", "normal")
    assert (line.pop(PRIORITIES), len(line)) == (("high", "high"), 0)


def test_what_is_more_important_finds_room() -> None:
    """Low leaves places for normal, and high has some of its own; what ends makes room again."""
    places = Places(16)

    def fill(priority: Priority) -> int:
        count = 0
        while places.has_room(priority):
            places.take(priority)
            count += 1
        return count

    assert [fill(priority) for priority in ("low", "normal", "high", "low")] == [12, 4, 4, 0]
    places.give_back("high")
    assert (fill("normal"), fill("low"), fill("high")) == (0, 0, 1)
    for _ in range(5):
        places.give_back("low")
    assert (fill("low"), places.taken) == (1, 16)
    assert Places(1).has_room("low")


@settings(deadline=None, max_examples=40)
@given(st.integers(16, 40), st.integers(0, 2**32))
def test_nobody_waits_for_ever(capacity: int, seed: int) -> None:
    """All three wait all the time, and jobs end in any order: each priority gets in again and again."""
    roll = random.Random(seed)
    places, line, let_in = Places(capacity), FairLine[Priority](), Counter[Priority]()
    for priority in PRIORITIES:
        for _ in range(2_000):
            line.put(priority, "w", priority)
    running: list[Priority] = []
    for _ in range(1_000):
        while found := line.pop([p for p in PRIORITIES if places.has_room(p)]):
            places.take(found[0])
            running.append(found[0])
            let_in[found[0]] += 1
        places.give_back(running.pop(roll.randrange(len(running))))
    assert let_in["low"] >= 10 and let_in["normal"] >= 40, let_in


# ---- in a host


async def flood(on: Troupe, workspace: str, priority: Priority, number: int) -> None:
    """So many requests at once; their ids tell whose they are."""
    subject = job_request(workspace, "task", priority)
    appends = [
        on.bus.append(subject, b'{"n": 1}', headers={h.JOB_ID: f"{workspace}-{priority}-{n}"}) for n in range(number)
    ]
    await asyncio.gather(*appends)


async def ends(on: Troupe, number: int) -> list[str]:
    """The jobs in the order of their ends, once all have ended."""
    found: list[str] = []

    async def all_over() -> bool:
        stored = await read_all(on.bus, EVENTS, "log.*.*.job.completed")
        found[:] = [parse_event(each.subject).job for each in stored]
        return len(found) == number

    await wait_until(all_over, DEADLINE_S, what=lambda: f"{len(found)} of {number} have ended")
    return found


async def test_a_flood_of_one_workspace_leaves_room_for_another(
    nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten jobs that come behind five hundred of another workspace end among the first half of them."""
    monkeypatch.setattr("actors.hosts.host.LOOK_S", 0.05)
    async with troupe(nats_server.url, app, capacity=CAPACITY) as on:
        await flood(on, "many", "normal", 500)
        await flood(on, "few", "normal", 10)
        order = await ends(on, 510)
        last = max(n for n, job in enumerate(order) if job.startswith("few"))
        assert last < 250, last
        host = on.hosts[0]
        await wait_until(lambda: not any(mailbox.in_flight for mailbox in host._mailboxes), DEADLINE_S)
        assert [foyer.places.taken for foyer in host._foyers] == [0]
        assert not await on.requests_left()


async def test_high_before_normal_before_low_and_none_for_ever(nats_server: EmbeddedServer) -> None:
    """With all three waiting most of the first are high, few are low, and some low is among them."""
    async with troupe(nats_server.url, app, capacity=CAPACITY) as on:
        for priority in ("low", "normal", "high"):
            await flood(on, "w", priority, 200)
        order = await ends(on, 600)
        middle = {p: sum(order.index(f"w-{p}-{n}") for n in range(200)) / 200 for p in PRIORITIES}
        assert middle["high"] < middle["normal"] < middle["low"], middle
        # While the high ones go through, some normal ones do, and fewer low ones.
        through = max(n for n, job in enumerate(order) if "-high-" in job)
        before = Counter(job.split("-")[1] for job in order[:through])
        assert before["normal"] > before["low"] > 0, before


async def test_a_host_that_stops_hands_back_what_waits_in_it(nats_server: EmbeddedServer) -> None:
    """Requests that it took and did not begin are another host's at once."""
    async with troupe(nats_server.url, app, hosts=2, capacity=CAPACITY) as on:
        await flood(on, "w", "normal", 200)
        await wait_until(lambda: any(len(foyer._line) for foyer in on.hosts[0]._foyers), DEADLINE_S)
        await on.hosts[0].stop()
        assert len(set(await ends(on, 200))) == 200
