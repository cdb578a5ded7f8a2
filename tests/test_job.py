"""The durable operations: children, branches, and that a replay of any program is the run that it replays."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors import App, CallFailed, Job
from actors.jobs.halts import Halt
from actors.jobs.journal import Journal
from actors.operations.hosting import Hosting, Target
from actors.operations.operations import Operations
from bus import jobid
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.failure import Failure, TerminalError
from bus.messages import (
    CallTool,
    Event,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobSubmitted,
    ReplyCompleted,
    ReplyFailed,
    Signal,
)
from store.log import JobLog, Recorded
from tests.stage import stage
from tests.troupe import check_decisions, troupe
from tests.waiting import wait_until

app = App("programs", version="1.0.0")


@app.tool
async def answer(n: int) -> int:
    """Fail for a negative number."""
    if n < 0:
        raise TerminalError(f"no {n}")
    return n


# ---- random programs on a log in memory


@dataclass(frozen=True)
class Call:
    """A call, which fails if ``n`` is negative."""

    n: int


@dataclass(frozen=True)
class Local:
    """A recorded value, or a recorded failure."""

    n: int


@dataclass(frozen=True)
class Breathe:
    """An await of something that is not durable."""


@dataclass(frozen=True)
class Wait:
    """A wait for the next signal."""


@dataclass(frozen=True)
class Break:
    """The program raises an error of its own."""


@dataclass(frozen=True)
class Row:
    """One after the other."""

    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Branches:
    """Side by side; a call among them is handed to gather as it is."""

    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Try:
    """Something else if it fails."""

    part: Any


Program = Any
leaves = st.one_of(
    st.builds(Call, st.integers(-2, 9)), st.builds(Call, st.integers(0, 9)), st.builds(Local, st.integers(-1, 9)),
    st.just(Breathe()), st.just(Wait()), st.just(Break()),
)  # fmt: skip
programs: st.SearchStrategy[Program] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Row, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Branches, st.lists(inner, max_size=4).map(tuple)),
        st.builds(Try, inner),
    ),
    max_leaves=14,
)


async def perform(job: Job, program: Program, seen: list[Any]) -> Any:
    """Run a program; ``seen`` is a variable that all branches share."""
    match program:
        case Call(n):
            value = await job.call(answer, n=n)
        case Local(n):
            value = await job.local(_local, n)
        case Breathe():
            value = await asyncio.sleep(0)
        case Wait():
            value = await job.wait_for("go")
        case Break():
            raise ValueError("broken")
        case Row(parts):
            value = [await perform(job, part, seen) for part in parts]
        case Branches(parts):
            value = await job.gather(*(_branch(job, part, seen) for part in parts))
        case Try(part):
            try:
                value = await perform(job, part, seen)
            except (CallFailed, ValueError) as error:
                value = [str(error), await job.call(answer, n=len(seen))]
        case _:
            raise AssertionError(program)
    seen.append(repr(value))
    return value


def _local(n: int) -> int:
    if n < 0:
        raise ValueError("local")
    return n


def _branch(job: Job, part: Program, seen: list[Any]) -> Any:
    return job.call(answer, n=part.n) if isinstance(part, Call) else perform(job, part, seen)


class MemoryLog:
    """A log in memory that tells what is stored in its order, as the server does, some at once or one by one."""

    def __init__(self, roll: random.Random, *, at_once: bool) -> None:
        self.job, self.workspace, self.epoch = "j", "default", 1
        self.events: list[Recorded] = []
        self.hear: Callable[[Recorded], None] = lambda _: None
        self._roll = roll
        self._at_once = at_once
        self._acks: dict[int, asyncio.Future[int]] = {}
        self._told = 0

    def store(self, event: Event) -> int:
        self.events.append(Recorded(len(self.events) + 1, event))
        return len(self.events)

    async def append(self, event: Event) -> int:
        sequence = self.store(event)
        ack = self._acks[sequence] = asyncio.get_running_loop().create_future()
        return await ack

    def forget(self) -> None:
        """The host has died: nobody waits for an ack, and all that is stored is read."""
        self._acks.clear()
        self._told = len(self.events)

    def unanswered(self) -> list[CallTool]:
        answered = {r.event.call for r in self.events if isinstance(r.event, ReplyCompleted | ReplyFailed)}
        return [r.event for r in self.events if isinstance(r.event, CallTool) and r.event.call not in answered]

    def work(self) -> None:
        """A tool answers some call, or somebody signals."""
        calls = self.unanswered()
        if calls and self._roll.random() < 0.7:
            self.store(_reply(self._roll.choice(calls)))
        elif self._roll.random() < 0.3:
            self.store(Signal(job="j", name="go", data=msgspec.Raw(b"%d" % self._roll.randrange(100))))

    def tell(self) -> None:
        """Bring what is stored and was not told yet."""
        count = self._roll.randrange(4) if self._at_once else 1
        for recorded in self.events[self._told : self._told + count]:
            self._told += 1
            ack = self._acks.pop(recorded.sequence, None)
            if ack is None:
                self.hear(recorded)
            elif not ack.done():
                ack.set_result(recorded.sequence)


def _reply(call: CallTool) -> Event:
    n = msgspec.json.decode(call.input)["n"]
    if n < 0:
        return ReplyFailed(job="j", call=call.call, failure=Failure(code="terminal", message=f"no {n}"))
    return ReplyCompleted(job="j", call=call.call, output=msgspec.Raw(b"%d" % n))


class _Hosting:
    bus = blobs = None

    def resolve(self, target: Any, kinds: Any) -> Target:
        return Target("tool", target.name, 1, target)

    async def find(self, target: Any, kinds: Any) -> Target:
        return self.resolve(target, kinds)


@dataclass
class Run:
    """One host's run of a program on a log."""

    log: MemoryLog
    program: Program
    seen: list[Any] = field(default_factory=list)

    def start(self) -> asyncio.Task[Any]:
        journal = Journal()
        journal.read(self.log.events)
        self.log.forget()
        submitted = JobSubmitted(job="j", workflow="w", version="1.0.0")

        def halt(reason: Halt) -> None:
            raise AssertionError(reason)

        hosting = cast("Hosting", _Hosting())
        operations = Operations(hosting, cast("JobLog", self.log), journal, submitted, halt)
        self.log.hear = operations.hear
        return asyncio.create_task(perform(Job(operations), self.program, self.seen))

    async def until(self, events: int) -> Any:
        """The outcome of the run, None if it was cut down when the log had grown to ``events``."""
        task = self.start()
        for _ in range(3000):
            for _ in range(1 if self.log._at_once else 60):
                await asyncio.sleep(0)
            if task.done() or len(self.log.events) >= events:
                break
            self.log.work()
            self.log.tell()
        else:
            raise AssertionError("the program does not end")
        return await _outcome(task)


async def _outcome(task: asyncio.Task[Any]) -> Any:
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        return None
    error = task.exception()
    return ("raised", str(error)) if error else ("returned", repr(task.result()))


def commands(log: MemoryLog) -> Counter[str]:
    return Counter(r.event.call for r in log.events if isinstance(r.event, CallTool))


async def run_and_replay(program: Program, seed: int, cuts: list[int], *, at_once: bool) -> None:
    log = MemoryLog(random.Random(seed), at_once=at_once)
    for cut in sorted(cuts):
        await Run(log, program).until(cut)
    run = Run(log, program)
    outcome = await run.until(10_000)
    assert set(commands(log).values()) <= {1}, "a recorded call was given again"
    stored = len(log.events)
    replay = Run(log, program)
    log.work = lambda: None  # type: ignore[method-assign]
    assert await replay.until(stored + 1) == outcome
    assert len(log.events) == stored, "a replay asked for something new"
    if not at_once:
        assert replay.seen == run.seen


quick = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(programs, st.integers(0, 99), st.lists(st.integers(0, 30), max_size=3))
def test_a_replay_is_the_run(program: Program, seed: int, cuts: list[int]) -> None:
    """Cut down anywhere, several times, a program of any shape does what it would have done, and does it once."""
    asyncio.run(run_and_replay(program, seed, cuts, at_once=False))


@quick
@given(programs, st.integers(0, 99), st.lists(st.integers(0, 30), max_size=3))
def test_a_replay_is_the_run_when_much_happens_at_once(program: Program, seed: int, cuts: list[int]) -> None:
    """The same, with several replies in one turn of the loop: the outcome is the same, the first failure too."""
    asyncio.run(run_and_replay(program, seed, cuts, at_once=True))


# ---- children and branches, on a server


@app.job
async def child(job: Job, n: int) -> int:
    """One call, which fails if ``n`` is negative."""
    return await job.call(answer, n=n)


@app.job
async def asks(job: Job, n: int) -> str:
    """A child, and what its failure looks like."""
    try:
        return f"got {await job.call(child, n=n)}"
    except CallFailed as error:
        return f"failed: {error.failure.code}"


@app.job
async def asks_wrongly(job: Job, target: str) -> str:
    """A child by name, with an input that does not fit."""
    try:
        return f"got {await job.call(target, n='no number')}"
    except CallFailed as error:
        return f"failed: {error.failure.code}"


@app.job
async def waits(job: Job, n: int) -> int:
    """Wait for ever."""
    return int(await job.wait_for("never")) + n


@app.job
async def many(job: Job, count: int) -> int:
    """Children side by side."""
    return sum(await job.gather(*(job.call(child, n=n) for n in range(count))))


@app.job
async def keeps(job: Job, n: int) -> int:
    """Start a child that waits, and wait for it."""
    started = await job.start(waits, n=n)
    return await started.result()


@app.job
async def order(job: Job, n: int) -> list[Any]:
    """Results in the order of the branches; the first failure in the log wins and the others are given up."""
    results: list[Any] = list(await job.gather(*(job.call(answer, n=value) for value in range(n))))
    try:
        await job.gather(job.wait_for("never"), job.call(answer, n=-1), job.sleep(3600))
    except CallFailed as error:
        results.append(error.failure.message)
    return results


def shown(end: object) -> str:
    assert isinstance(end, JobCompleted), end
    return bytes(end.output).decode()


async def test_children(nats_server: EmbeddedServer) -> None:
    """A child's result, its failure, and its refusal come back to a parent that runs or is parked."""
    for park_after_s in (3.0, 0.02):
        async with troupe(nats_server.url, app, hosts=2, park_after_s=park_after_s) as on:
            prefix = f"p{park_after_s}".replace(".", "-")
            await on.submit("asks", f"{prefix}-ok", {"n": 4})
            await on.submit("asks", f"{prefix}-bad", {"n": -4})
            assert shown(await on.end(f"{prefix}-ok")) == '"got 4"'
            assert shown(await on.end(f"{prefix}-bad")) == '"failed: terminal"'
            for job in (f"{prefix}-ok", f"{prefix}-bad"):
                check_decisions(await on.events(job))


async def test_refused_child_wakes_its_parked_parent(nats_server: EmbeddedServer) -> None:
    """A child that is refused after its parent has parked still fails the parent's call."""
    other = App("other", version="1.0.0")

    @other.job
    async def strict(job: Job, n: int) -> int:
        """Take a number."""
        return n

    async with troupe(nats_server.url, app, park_after_s=0.02) as on:
        registry = on.hosts[0].hosting.registry
        await registry.register(strict.info())
        await wait_until(lambda: "strict" in registry.names())
        await on.submit("asks_wrongly", "p", {"target": "strict"})

        async def parked() -> bool:
            return [r.event.kind for r in await on.events("p")][-1:] == ["job.waiting"]

        await wait_until(parked)
        async with troupe(nats_server.url, other):
            assert shown(await on.end("p")) == '"failed: invalid_input"'


async def test_cancel_takes_the_children_along(nats_server: EmbeddedServer) -> None:
    """A parent that is cancelled in the run that started its child cancels it, running or parked."""
    async with troupe(nats_server.url, app, hosts=2) as on:
        await on.submit("keeps", "p", {"n": 1})
        started = jobid.child("p", "waits:1")
        await wait_until(lambda: on.in_memory == 2)
        await on.signal("keeps", "p", "cancel")
        assert isinstance(await on.end("p"), JobCancelled)
        assert isinstance(await on.end(started), JobCancelled)
        await wait_until(lambda: on.in_memory == 0)


async def test_a_parent_of_many_asks_for_each_child_once(nats_server: EmbeddedServer) -> None:
    """A parent that parks and wakes for its children's ends does not publish their requests again each time."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=0.02) as on:
        await on.submit("many", "m", {"count": 30})
        assert shown(await on.end("m", deadline_s=60)) == str(sum(range(30)))
        check_decisions(await on.events("m"))
        info = await on.bus.api("CONSUMER.INFO.JOBS.job-child-normal")
        assert info["delivered"]["consumer_seq"] <= 60, "each child's request, some twice"


async def test_gather_orders_results_and_failures(nats_server: EmbeddedServer) -> None:
    """Results come in the order of the branches, and a failure does not wait for branches that never end."""
    async with troupe(nats_server.url, app) as on:
        await on.submit("order", "o", {"n": 5})
        assert shown(await on.end("o")) == '[0,1,2,3,4,"no -1"]'


async def test_local_failures_are_recorded(nats_server: EmbeddedServer) -> None:
    """What a local function raises is in the log: the job's end says it, and a replay would see it again."""
    other = App("locals", version="1.0.0")

    @other.job
    async def careless(job: Job, n: int) -> int:
        """Divide by it."""
        return await job.local(lambda: 1 // n)

    async with troupe(nats_server.url, other) as on:
        await on.submit("careless", "c", {"n": 0})
        end = await on.end("c")
        assert isinstance(end, JobFailed) and "ZeroDivisionError" in end.failure.message
        assert [r.event.kind for r in await on.events("c")][-2:] == ["reply.failed", "job.failed"]


PAIR_POINTS = [
    "host.before.call.job.single.v1:1", "host.after.call.job.single.v1:1", "host.before_request:1",
    "host.before.job.completed:1", "host.after.job.completed:1", "host.before.job.completed:2",
    "host.before_parent_reply:1", "host.after_parent_reply:1",
]  # fmt: skip


@pytest.mark.parametrize("point", PAIR_POINTS)
async def test_host_killed_between_parent_and_child(nats_server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """Killed anywhere between a parent and its child, each of them runs once and the parent gets its answer."""
    marker = tmp_path / "died"
    async with stage(nats_server.url, tmp_path, "tests.apps.core:app", env={VARIABLE: f"{point}:{marker}"}) as on:
        await on.submit("pair", "p", {"start": 1})
        assert shown(await on.end("p")) == "5"
        assert marker.exists(), "the host never came by the crash point"
        assert isinstance(await on.end(jobid.child("p", "single:1")), JobCompleted)
        for job in ("p", jobid.child("p", "single:1")):
            check_decisions(await on.events(job))
        assert set(Counter(on.effects()).values()) == {1} and len(on.effects()) == 2
