"""Forks: what is recorded before the step is reused and never run again, whatever state the source is in."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors import App, CallFailed, Job, Retry, TerminalError, ToolContext
from actors.changes.fork_plan import belongs, copies_before, plan_fork
from actors.clients.client import Client
from actors.clients.outcome import JobRejectedError
from actors.components.codec import InvalidInput
from actors.components.component import Component
from actors.components.registry import Registry
from actors.jobs.journal import Journal
from actors.jobs.undo_key import is_undo
from actors.testing import replay
from bench.chaos.pieces import app_of
from bus import headers as h
from bus import subjects
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.event import ForkedFrom
from bus.messages import (
    CallJob,
    CallTool,
    Event,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobForked,
    JobOwned,
    JobRejected,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    Signal,
)
from bus.streams import EVENTS
from examples import approval, shop, survey
from examples.workflows.app import app as workflows
from store.job_fold import fold_view
from store.log import Recorded
from store.snapshot import decode_snapshot, encode_snapshot, take_snapshot
from tests.record_histories import HISTORIES, PIECE
from tests.troupe import Troupe, check_decisions, troupe
from tests.waiting import wait_until

DEADLINE_S = 40
SOON_S = 0.05
APPS = (shop.app, survey.app, approval.app, workflows, *(app_of(piece, PIECE) for piece in ("everything", "errand")))
JOBS: dict[str, Component[..., Any]] = {c.name: c for app in APPS for c in app.components if c.kind == "job"}


# ---- pure


def history(*events: Event) -> list[Recorded]:
    """These events at 1, 2, 3 ..."""
    return [Recorded(number, event) for number, event in enumerate(events, 1)]


SUBMITTED = JobSubmitted(job="j", workflow="w", version="1.0.0", input=msgspec.Raw(b"{}"))


def asked(call: str) -> CallTool:
    return CallTool(job="j", call=call, name="t", version=1)


def child(call: str, job: str) -> CallJob:
    return CallJob(job="j", call=call, name="w", version=1, child=job)


def yes(call: str, op: str = "") -> ReplyCompleted:
    return ReplyCompleted(job="j", call=call, op=op, output=msgspec.Raw(b'"x"'))


PARALLEL = history(
    SUBMITTED,
    asked("gather:1.0/a:1"),
    asked("gather:1.1/b:1"),
    yes("gather:1.0/a:1"),
    asked("gather:1.0/c:1"),
    yes("gather:1.1/b:1"),
    yes("now:1", "local"),
    child("w:1", "c1"),
    child("w:2", "c2"),
    yes("w:1"),
    yes("signal-go:1/timer", "timer"),
    JobWaiting(job="j", on=("paused", "signal-go:1", "w:2")),
)


@pytest.mark.parametrize(
    ("step", "point", "reused"),
    [
        ("gather:1", 2, []),
        ("gather:1.0/c:1", 5, ["gather:1.0/a:1"]),
        ("gather:1.0/c", 5, ["gather:1.0/a:1"]),
        ("now", 7, ["gather:1.0/a:1", "gather:1.1/b:1"]),
        ("w:2", 9, ["gather:1.0/a:1", "gather:1.1/b:1", "now:1"]),
        ("signal-go:1", 11, ["gather:1.0/a:1", "gather:1.1/b:1", "now:1", "w:1"]),
    ],
)
def test_the_point_of_a_step(step: str, point: int, reused: list[str]) -> None:
    """A step is the earliest place of what belongs to it; what had its outcome before that place is reused."""
    plan = plan_fork("default", "j", PARALLEL, step)
    assert (plan.forked_from, list(plan.reused)) == (ForkedFrom("default", "j", point, step), reused)
    assert not set(plan.reused) & set(plan.anew)
    copies = copies_before("j", PARALLEL, point, "f")
    assert [copy.event.call for copy in copies if isinstance(copy.event, ReplyCompleted)] == reused
    assert all(copy.sequence < point for copy in copies)


def test_a_child_that_had_not_ended_becomes_the_forks_own() -> None:
    """Its command keeps its place and gets the fork's child; one that had ended keeps the source's."""
    copies = {c.event.call: c.event for c in copies_before("j", PARALLEL, 11, "f") if isinstance(c.event, CallJob)}
    assert (copies["w:1"].child, copies["w:1"].job) == ("c1", "j")
    assert copies["w:2"].child not in ("c2", "") and copies["w:2"].job == "f"


@pytest.mark.parametrize(
    ("key", "step", "is_part"),
    [
        ("quote:1", "quote:1", True), ("quote:1", "quote", True), ("quote/quote:1", "quote", True),
        ("each.3/quote:1", "each", True), ("quote:10", "quote:1", False), ("requote:1", "quote", False),
        ("quote:1", "", False), ("signal-go:1/timer", "signal-go:1", True),
    ],
)  # fmt: skip
def test_what_belongs_to_a_step(key: str, step: str, *, is_part: bool) -> None:
    """Itself, and what its key is the beginning of, at a border between names."""
    assert belongs(key, step) == is_part


@pytest.mark.parametrize(
    ("events", "code"),
    [
        (PARALLEL[1:], "log_incomplete"),
        ([PARALLEL[0], *PARALLEL[2:]], "log_incomplete"),
        (PARALLEL, "unknown_step"),
        (history(JobRejected(job="j", workflow="w", failure=None)), "never_ran"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_forked(events: list[Recorded], code: str) -> None:
    """A log without its beginning or without a command, a job that never ran, a step that there is not."""
    with pytest.raises(UsageError) as caught:
        plan_fork("default", "j", events, "nothing" if code == "unknown_step" else "now:1")
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("file", sorted(HISTORIES.glob("*.json")), ids=lambda file: file.stem)
async def test_every_fork_of_every_recorded_history_replays(file: Path) -> None:
    """From each operation: the code of the examples goes the recorded way up to it, and the view shows the copies."""
    whole = decode_snapshot(file.read_bytes(), file.name).history()
    source = next(r.event for r in whole if isinstance(r.event, JobSubmitted))
    journal = Journal()
    journal.read(whole)
    for step in journal.entries:
        plan = plan_fork("default", source.job, whole, step)
        copies = copies_before(source.job, whole, plan.forked_from.sequence, "f")
        fork = msgspec.structs.replace(source, job="f", forked_from=plan.forked_from, recorded=copies)
        forked = [Recorded(whole[-1].sequence + 1, fork)]
        result = await replay(JOBS[source.workflow], forked)
        result.check()
        # A lock that was held is waited for anew, so the replay ends before what was done under it and after it.
        if not any("/lock/" in key for key in set(journal.entries) - set(plan.reused)):
            # What undoes the work of a function is asked for by its host, once the function has ended.
            assert {call for call in plan.reused if not is_undo(call)} <= set(result.asked), step
        view = fold_view("default", forked)
        assert {call.call for call in view.calls if call.copied} == set(plan.reused)
        again = plan_fork("default", "f", [*forked, Recorded(whole[-1].sequence + 2, SUBMITTED)], step) if (
            step in plan.reused) else plan  # fmt: skip
        assert again.reused == plan.reused


# ---- live

app = App("forks", version="1.0.0")
EFFECTS: list[str] = []
GATE = asyncio.Event()
BROKEN: set[str] = set()


@app.tool
async def double(ctx: ToolContext, n: int) -> int:
    """Twice that, on the record."""
    EFFECTS.append(ctx.idempotency_key)
    return 2 * n


@app.tool
async def swell(ctx: ToolContext, n: int) -> str:
    """Something big."""
    EFFECTS.append(ctx.idempotency_key)
    return "x" * n


@app.tool
async def gated(ctx: ToolContext, n: int) -> int:
    """Once the test lets it through."""
    EFFECTS.append(ctx.idempotency_key)
    await GATE.wait()
    return n


@app.tool(retry=Retry(attempts=1))
async def breaks(ctx: ToolContext, name: str) -> str:
    """Fails while it is told to."""
    EFFECTS.append(ctx.idempotency_key)
    if name in BROKEN:
        raise TerminalError("as told")
    return name


@app.job
async def row(job: Job, n: int, name: str = "row") -> dict[str, Any]:
    """A big value, a call, what is not deterministic, a failure that is caught, two branches, and a last call."""
    big = await job.call(swell, n=300_000)
    first = await job.call(double, n=n)
    ticket = str(await job.uuid())
    try:
        await job.call(breaks, name="always")
    except CallFailed:
        first += 1
    two = await job.gather(job.call(double, n=first), job.call(double, n=10 * first))
    last = await job.call(breaks, name=name)
    return {"n": n, "big": len(big), "ticket": ticket, "two": two, "last": last}


@app.job
async def waits(job: Job, n: int) -> str:
    """A call, two signals, a call."""
    value = await job.call(double, n=n)
    first = await job.wait_for("go")
    second = await job.wait_for("go", timeout_s=600)
    return f"{n} {value} {first} {second} {await job.call(double, n=value)}"


@app.job
async def locked(job: Job, n: int) -> list[int]:
    """Two calls in a section of a lock, and one after it."""
    async with job.lock("forks", limit=1) as lease:
        values = [await job.call(double, n=n), await job.call(gated, n=n)]
    return [*values, await job.call(double, n=0), lease.token]


@app.job
async def small(job: Job, n: int, *, slow: bool) -> int:
    """One call."""
    return await job.call(gated if slow else double, n=n)


@app.job
async def parent(job: Job, n: int) -> list[Any]:
    """A child that ends, a child that takes long, and a call."""
    quick = await job.start(small, n=n, slow=False)
    slow = await job.start(small, n=n + 1, slow=True)
    first = await quick.result()
    return [first, quick.id, await job.call(double, n=first), await slow.result()]


def effects(job: str) -> Counter[str]:
    """What the tools did for a job, by call."""
    return Counter(line.partition("/")[2] for line in EFFECTS if line.startswith(f"{job}/"))


async def log_of(on: Troupe, job: str) -> list[Recorded]:
    events = await on.events(job)
    if not any(isinstance(r.event, JobRetried) for r in events):
        check_decisions(events)
    return events


async def has(on: Troupe, job: str, kind: type[Any]) -> None:
    """Wait until the job's log holds an event of that kind."""

    async def there() -> bool:
        return any(isinstance(r.event, kind) for r in await on.events(job))

    await wait_until(there, DEADLINE_S, what=f"{kind} in {job}")


async def check_replays(on: Troupe, job: str, component: Component[..., Any]) -> None:
    """The fork's own history fits the code, from the log and from its snapshot."""
    (await replay(component, await log_of(on, job))).check()
    taken = await take_snapshot(on.bus, on.blobs, "default", job)
    (await replay(component, decode_snapshot(encode_snapshot(taken), "fork").recorded_values())).check()


async def test_forks_of_jobs_that_ended(nats_server: EmbeddedServer) -> None:
    """Completed and failed jobs, a fork of a fork and a fork that is retried: nothing recorded runs a second time."""
    BROKEN.update({"always", "row"})
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        await on.submit("row", "s", {"n": 1})
        assert isinstance(await on.end("s"), JobFailed)
        before = Counter(EFFECTS)
        last = await client.fork("s", from_="breaks:2", new_id="retried")
        with pytest.raises(Exception, match="as told"):
            await last.result(DEADLINE_S)
        assert effects("retried") == {"breaks:2": 1}
        BROKEN.discard("row")
        await last.retry()
        value = await last.result(DEADLINE_S)
        assert effects("retried") == {"breaks:2": 2}
        assert value["two"] == [6, 60] and value["big"] == 300_000
        other = await client.fork("s", from_="breaks:2", input={"n": 5, "name": "other"}, new_id="other")
        assert await other.result(DEADLINE_S) == value | {"n": 5, "last": "other"}
        assert effects("other") == {"breaks:2": 1}
        deep = await client.fork("other", from_="double:3", new_id="deep")
        assert (await deep.result(DEADLINE_S))["ticket"] == value["ticket"]
        beside = {"double:2": 1, "double:3": 1}  # neither had an answer when the other was asked for
        assert effects("deep") == beside | {"breaks:2": 1}
        fresh = await client.fork("other", from_="uuid", new_id="fresh")
        assert (await fresh.result(DEADLINE_S))["ticket"] != value["ticket"]
        assert effects("fresh") == {"breaks:1": 1, "double:2": 1, "double:3": 1, "breaks:2": 1}
        assert {line.partition("/")[0] for line in Counter(EFFECTS) - before} == {"retried", "other", "deep", "fresh"}
        for job in ("retried", "other", "deep", "fresh"):
            await check_replays(on, job, row)
        await check_lineage(on, client)
        await check_ids(client)


async def check_lineage(on: Troupe, client: Client) -> None:
    """Both sides of a fork tell of it, and the copies are marked."""
    source, fork = await client.get("s"), await client.get("other")
    assert source.forks == ("retried", "other")
    assert fork.forked_from is not None and (fork.forked_from.job, fork.forked_from.step) == ("s", "breaks:2")
    assert [call.call for call in fork.calls if not call.copied] == ["breaks:2"]
    submitted = (await log_of(on, "other"))[0].event
    assert isinstance(submitted, JobSubmitted) and submitted.version == "1.0.0" and submitted.parent is None
    assert [c.event.call for c in submitted.recorded if isinstance(c.event, ReplyCompleted) and c.event.op] == [
        "uuid:1"
    ]


async def check_ids(client: Client) -> None:
    """The same id again is the same fork; for anything else it is taken."""
    before = len(EFFECTS)
    again = await client.fork("s", from_="breaks:2", input={"name": "other", "n": 5}, new_id="other")
    assert (await again.result(DEADLINE_S))["last"] == "other"
    for words in ({"from_": "double:3"}, {"from_": "breaks:2", "input": {"n": 6}}):
        with pytest.raises(UsageError) as caught:
            await client.fork("s", new_id="other", **words)  # type: ignore[arg-type]
        assert caught.value.code == "job_id_conflict"
    assert len(EFFECTS) == before


async def test_forks_of_jobs_under_way(nats_server: EmbeddedServer) -> None:
    """Parked, cancelled and running jobs; a signal that was taken is copied, one that was not is left."""
    GATE.clear()
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on, Client(on.bus) as client:
        await on.submit("waits", "w", {"n": 3})
        await on.parked("w")
        from_start = await client.fork("w", from_="signal-go:1", new_id="w1")
        await client.signal("w", "go", "first")
        await has(on, "w", ReplyCompleted)
        await wait_until(lambda: grown(on, "w", "signal-go:1"), DEADLINE_S)
        await on.parked("w")
        await client.cancel("w")
        assert isinstance(await on.end("w"), JobCancelled)
        assert (await client.plan_fork("w", from_="signal-go:1")).signals_left == 1
        plan = await client.plan_fork("w", from_="signal-go:2")
        assert (plan.reused, plan.signals_left) == (("double:1", "signal-go:1"), 0)
        second = await client.fork("w", from_="signal-go:2", new_id="w2")
        for handle, words in ((from_start, ["a", "b"]), (second, ["c"])):
            for word in words:
                await handle.signal("go", word)
        assert await from_start.result(DEADLINE_S) == "3 6 a b 12"
        assert await second.result(DEADLINE_S) == "3 6 first c 12"
        assert effects("w1") == effects("w2") == {"double:2": 1}
        await on.submit("small", "r", {"n": 1, "slow": True})
        await wait_until(lambda: effects("r"), DEADLINE_S)
        running = await client.fork("r", from_="gated:1", input={"n": 2, "slow": True}, new_id="r1")
        await wait_until(lambda: effects("r1"), DEADLINE_S)
        GATE.set()
        assert await running.result(DEADLINE_S) == 2
        assert (await client.result("r", timeout_s=DEADLINE_S), effects("r"), effects("r1")) == (
            1, {"gated:1": 1}, {"gated:1": 1},
        )  # fmt: skip
        for job in ("w1", "w2", "r1"):
            await check_replays(on, job, waits if job[0] == "w" else small)


async def grown(on: Troupe, job: str, call: str) -> bool:
    return any(isinstance(r.event, ReplyCompleted) and r.event.call == call for r in await on.events(job))


async def test_a_lock_that_was_held_is_not_the_forks(nats_server: EmbeddedServer) -> None:
    """Forked within a section the fork waits until the source has left it; forked after it, it takes nothing."""
    GATE.clear()
    async with troupe(nats_server.url, app, park_after_s=SOON_S) as on, Client(on.bus) as client:
        await on.submit("locked", "l", {"n": 1})
        await wait_until(lambda: effects("l")["gated:1"], DEADLINE_S)
        inside = await client.fork("l", from_="gated:1", new_id="l1")
        await wait_until(lambda: waits_for_lock(on, "l1"), DEADLINE_S)
        assert not effects("l1")
        GATE.set()
        source = await client.result("l", timeout_s=DEADLINE_S)
        after = await client.fork("l", from_="double:2", new_id="l2")
        assert await after.result(DEADLINE_S) == source
        *values, token = await inside.result(DEADLINE_S)
        assert (values, token > source[-1]) == (source[:-1], True)
        assert (effects("l1"), effects("l2")) == ({"gated:1": 1, "double:2": 1}, {"double:2": 1})
        for job in ("l1", "l2"):
            await check_replays(on, job, locked)


async def waits_for_lock(on: Troupe, job: str) -> bool:
    return any(isinstance(r.event, JobWaiting) for r in await on.events(job))


async def test_children_of_a_fork(nats_server: EmbeddedServer) -> None:
    """A child that had ended is reused; one that had not is the fork's own: cancelled with it, and not the source's."""
    GATE.clear()
    async with troupe(nats_server.url, app, hosts=2) as on, Client(on.bus) as client:
        await on.submit("parent", "p", {"n": 4})
        await wait_until(lambda: effects("p"), DEADLINE_S)
        children = [r.event.child for r in await on.events("p") if isinstance(r.event, CallJob)]
        await wait_until(lambda: effects(children[1]), DEADLINE_S)
        doomed = await client.fork("p", from_="double:1", new_id="doomed")
        fork = await client.fork("p", from_="double:1", new_id="p1")
        await wait_until(lambda: effects("p1"), DEADLINE_S)
        await wait_until(lambda: sum(line.endswith("gated:1") for line in EFFECTS) >= 3, DEADLINE_S)
        await doomed.cancel()
        assert isinstance(await on.end("doomed", deadline_s=DEADLINE_S), JobCancelled)
        own = [c.event.child for c in first(await on.events("doomed")).recorded if isinstance(c.event, CallJob)]
        assert own[0] == children[0] and own[1] != children[1]
        assert isinstance(await on.end(own[1], deadline_s=DEADLINE_S), JobCancelled)
        assert not [r for r in await on.events(children[1]) if isinstance(r.event, Signal)]
        GATE.set()
        expected = [8, children[0], 16, 5]
        assert await fork.result(DEADLINE_S) == expected
        assert await client.result("p", timeout_s=DEADLINE_S) == expected
        assert effects(children[0]) == {"double:1": 1}
        await check_replays(on, "p1", parent)


def first(events: list[Recorded]) -> JobSubmitted:
    assert isinstance(events[0].event, JobSubmitted)
    return events[0].event


async def test_what_a_host_refuses(nats_server: EmbeddedServer) -> None:
    """A bare request may name anything: a job of another workspace, of another workflow, or one whose log is gone."""
    BROKEN.update({"always"})
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        await on.submit("small", "s", {"n": 1, "slow": False})
        await on.end("s")
        events = await on.events("s")
        point = next(r.sequence for r in events if isinstance(r.event, CallTool))
        good = ForkedFrom("default", "s", point, "double:1")
        bad = {
            "no-json": "nonsense", "no-id": ForkedFrom("default", "a.b", point, "x"),
            "elsewhere": ForkedFrom("other", "s", point, "double:1"), "late": ForkedFrom("default", "s", 10**9, "x"),
            "nobody": ForkedFrom("default", "none", point, "x"),
        }  # fmt: skip
        for job, fork in bad.items():
            header = fork if isinstance(fork, str) else msgspec.json.encode(fork).decode()
            await on.submit("small", job, {"n": 1, "slow": False}, **{h.JOB_FORK: header})
        await on.submit("row", "of-another", {"n": 1}, **{h.JOB_FORK: msgspec.json.encode(good).decode()})
        for job in (*bad, "of-another"):
            assert isinstance(await on.end(job, deadline_s=DEADLINE_S), JobRejected), job
        assert not [r for r in await on.events("s") if isinstance(r.event, JobForked)]
        fork = await client.fork("s", from_="double:1", new_id="good")
        assert await fork.result(DEADLINE_S) == 2
        with pytest.raises(UsageError, match="a fork of s"):
            await client.submit(small, n=1, slow=False, job_id="good")
        wrong = await client.fork("s", from_="double:1", input={"m": 1})
        with pytest.raises(JobRejectedError, match="m"):
            await wrong.result(DEADLINE_S)
        await Registry(on.bus).register(small.info())
        with pytest.raises(InvalidInput, match="missing required field `n`"):
            await client.fork("s", from_="double:1", input={"m": 1})
        await on.bus.api(f"STREAM.PURGE.{EVENTS}", {"filter": subjects.event("default", "s", "job.submitted")})
        with pytest.raises(UsageError, match="not whole") as caught:
            await client.fork("s", from_="double:1")
        assert caught.value.code == "log_incomplete"
        with pytest.raises(UsageError, match="has no job"):
            await client.fork("unheard-of", from_="double:1")
        owned = [r for job in bad for r in await on.events(job) if isinstance(r.event, JobOwned)]
        assert not owned
        assert isinstance(await on.end("s"), JobCompleted)
