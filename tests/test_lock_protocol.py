"""The protocol of locks over a store in memory: every order of steps, and deaths between any two of them."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Generator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.locks.claim import Claim, Head, Held, LockName, Waiting, check_lock, token_of
from actors.locks.protocol import Moved, acquire, drop, release, withdraw
from bus.errors import UsageError

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Step:
    """One message to the server: here another process may go on, or this one may die."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class World:
    """The server, and the logs of the jobs. It checks each write of the head."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sequence = 0
        self.head = (Head(name="x"), 0)
        self.queue: dict[int, Claim] = {}
        self.granted: dict[str, int] = {}
        self.over: set[str] = set()  # left, or its end is in the log
        self.leaving: set[str] = set()  # all that it did in its section is in the log
        self.tokens: list[int] = []

    def next(self) -> int:
        self.sequence += 1
        return self.sequence

    def check(self, head: Head, revision: int) -> None:
        held = [h.claim.job for h in head.holders]
        assert len(held) == len(set(held)) <= self.limit, held
        before = {h.claim.job for h in self.head[0].holders}
        for new in head.holders:
            if new.claim.job in before:
                continue
            self.tokens.append(revision)
            waiting = [place for place, claim in self.queue.items() if claim.job not in held]
            assert not new.place or not waiting or new.place < min(waiting), "first come, first served"
            assert new.claim.job not in self.over or new.place, "it is over, and did not wait"


class MemoryStore:
    """What one process sees of the world; each method is one step."""

    def __init__(self, world: World) -> None:
        self.world = world

    def now(self) -> datetime:
        return AT

    async def head(self) -> tuple[Head, int]:
        await Step()
        return self.world.head

    async def write(self, head: Head, revision: int) -> int:
        await Step()
        if self.world.head[1] != revision:
            raise Moved("moved")
        new = self.world.next()
        self.world.check(head, new)
        self.world.head = (head, new)
        await Step()
        return new

    async def first(self) -> Waiting | None:
        await Step()
        queue = self.world.queue
        return Waiting(queue[min(queue)], min(queue)) if queue else None

    async def of_job(self, job: str) -> list[Waiting]:
        await Step()
        return [Waiting(claim, place) for place, claim in sorted(self.world.queue.items()) if claim.job == job]

    async def enqueue(self, claim: Claim, revision: int) -> None:
        await Step()
        if self.world.head[1] != revision:
            raise Moved("moved")
        self.world.queue[self.world.next()] = claim
        await Step()

    async def remove(self, place: int) -> None:
        await Step()
        self.world.queue.pop(place, None)
        await Step()

    async def tell(self, held: Held) -> None:
        await Step()
        self.world.granted.setdefault(held.claim.job, held.token)
        await Step()


async def _ours() -> None:
    await Step()


def claim_of(world: World, job: str) -> Claim:
    return Claim(lock="x", job=job, call="lock-x:1", workflow="w", limit=world.limit, asked_at=AT)


async def life(world: World, job: str, patience: int, end_after: int) -> None:
    """One job, from wherever its log says that it has come to. After ``end_after`` steps in its section it ends."""
    store, claim = MemoryStore(world), claim_of(world, job)
    if job in world.over:
        await drop(store, job, 0)
        return
    if job not in world.granted and (token := await acquire(store, claim, _ours)) is not None:
        world.granted.setdefault(job, token)
    waited = 0
    while job not in world.granted:
        await Step()
        waited += 1
        if patience and waited > patience:
            token = await withdraw(store, claim, _ours)
            if token is None:
                world.over.add(job)
                return
            world.granted.setdefault(job, token)
    assert job in world.leaving or claim_is_held(world, claim), "it goes into its section without the lock"
    if end_after == 0:  # it ends inside of the section; whoever finishes it drops the lock
        world.over.add(job)
        await drop(store, job, 0)
        return
    for _ in range(0 if job in world.leaving else end_after):
        await Step()
        assert claim_is_held(world, claim), "it lost the lock in the middle of its section"
    world.leaving.add(job)
    await release(store, claim, _ours)
    world.over.add(job)


def claim_is_held(world: World, claim: Claim) -> bool:
    return world.head[0].find(claim) is not None


def play(world: World, plans: list[tuple[int, int]], seed: int, steps: int, deaths: float) -> None:
    """Let the jobs take so many steps in any order, with deaths; then to the end without."""
    jobs = {f"j{n}": plan for n, plan in enumerate(plans)}
    running: dict[str, Coroutine[Any, Any, None]] = {job: life(world, job, *plan) for job, plan in jobs.items()}

    def step(job: str) -> None:
        try:
            running[job].send(None)
        except StopIteration:
            del running[job]

    roll = random.Random(seed)
    for _ in range(steps):
        if not running:
            break
        job = roll.choice(sorted(running))
        if roll.random() < deaths:
            running[job].close()
            running[job] = life(world, job, *jobs[job])
        else:
            step(job)
    for _ in range(2_000):
        for job in list(running):
            step(job)
        if not running:
            break
    assert not running, f"they wait for ever: {sorted(running)}, {world.head}, {world.queue}"


@settings(max_examples=600, deadline=None)
@given(
    st.integers(1, 2),
    st.lists(st.tuples(st.sampled_from((0, 0, 3, 9)), st.integers(0, 3)), min_size=1, max_size=5),
    st.integers(0, 2**32),
    st.integers(0, 400),
    st.sampled_from((0.0, 0.01, 0.03, 0.1)),
)
def test_no_order_of_steps_and_deaths_breaks_a_lock(
    limit: int, plans: list[tuple[int, int]], seed: int, steps: int, deaths: float
) -> None:
    """Never more holders than the limit, the queue in its order, everyone gets through, and nothing is left behind."""
    world = World(limit)
    play(world, plans, seed, steps, deaths)
    assert world.head[0].holders == ()
    assert world.queue == {}
    assert world.tokens == sorted(set(world.tokens)), "tokens rise"


@given(st.text(max_size=40), st.text(max_size=40))
def test_names_stay_apart(one: str, other: str) -> None:
    """Any text is one token of a subject, and two texts are two tokens."""
    assert (token_of(one) == token_of(other)) == (one == other)
    key = LockName("w", "lock", one or "x").key
    assert key.count(".") == 2 and not set(key) & set(" *>\t\n"), key


def test_long_names_end_in_their_digest() -> None:
    """Names that begin alike for long stay apart, and short enough for a subject."""
    one, other = token_of("é" * 200), token_of("é" * 199 + "e")
    assert one != other and len(one) == len(other) <= 96


@pytest.mark.parametrize(
    ("name", "limit", "path"),
    [
        ("", 1, "name"),
        (7, 1, "name"),
        ("x" * 600, 1, "name"),
        ("x", 0, "limit"),
        ("x", True, "limit"),
        ("x", 1.0, "limit"),
    ],
)
def test_what_is_no_lock_is_refused(name: object, limit: object, path: str) -> None:
    """A name is a text of some bytes, a limit a whole number."""
    with pytest.raises(UsageError) as caught:
        check_lock(name, limit)
    assert caught.value.path == path


def test_a_stale_message_in_the_queue_is_told_and_not_granted_twice() -> None:
    """A claim that was written into the queue twice, by a host and its successor, holds the lock once."""
    world = World(2)
    claim = claim_of(world, "j0")
    world.queue = {1: claim}
    world.sequence = 1
    world.head = (Head(name="x").grant(claim, AT), 2)
    world.sequence = 2
    play(world, [(0, 1), (0, 1)], 0, 0, 0.0)
    assert world.queue == {}
