"""A failed job that goes on: by which calls it failed, and that nothing it has recorded is done again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.changes.job_retry import causes, retry_job
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.hosts.takeover import redrive_wake
from actors.jobs.ends import SHARED_FROM, read_ends
from actors.jobs.journal import Journal
from actors.jobs.requests import publish_wake
from actors.testing import replay
from bus.connection import ApiError
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.failure import Failure
from bus.messages import (
    CallJob,
    CallTool,
    Event,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
)
from store.log import Recorded, append_unfenced
from tests.apps import letters as letters_app
from tests.stage import Stage, stage
from tests.troupe import check_decisions, troupe
from tests.waiting import wait_until

APP = "tests.apps.letters:app"
LIMIT_S = 60.0

# ---- causes: pure

OURS = Failure(code="broken", message="no", exception="TerminalError")
OTHER = Failure(code="error", message="ValueError: x", exception="ValueError")
TIME_UP = Failure(code="timeout", message="the job did not end within 1 s", retryable=False)


def asked(call: str) -> CallTool:
    return CallTool(job="j", call=call, name="t", version=1)


def no(call: str, op: str = "", failure: Failure = OURS) -> ReplyFailed:
    return ReplyFailed(job="j", call=call, failure=failure, op=op)


def yes(call: str, op: str = "") -> ReplyCompleted:
    return ReplyCompleted(job="j", call=call, op=op)


def waits(*on: str) -> JobWaiting:
    return JobWaiting(job="j", on=on)


OWNED, RETRIED = JobOwned(job="j", host="h"), JobRetried(job="j", calls=("a:1",))
END, OTHER_END = JobFailed(job="j", failure=OURS), JobFailed(job="j", failure=OTHER)
CHILD = CallJob(job="j", call="c:1", name="c", version=1, child="x")
HISTORIES: dict[str, tuple[list[Event], tuple[str, ...]]] = {
    "the last call": ([asked("a:1"), no("a:1"), END], ("a:1",)),
    "the job said it in its own words": ([asked("a:1"), no("a:1"), OTHER_END], ("a:1",)),
    "caught, then another call": ([asked("a:1"), no("a:1"), asked("b:1"), no("b:1"), END], ("b:1",)),
    "caught, made good by another call, raised again": ([asked("a:1"), no("a:1"), asked("b:1"), yes("b:1"), END], ()),
    "caught, then a local value": ([asked("a:1"), no("a:1"), yes("now:1", "local"), OTHER_END], ()),
    "caught, then parked on something else": ([asked("a:1"), no("a:1"), waits("signal-x:1"), OTHER_END], ()),
    "parked on it": ([CHILD, no("c:1"), waits("c:1"), END], ("c:1",)),
    "a local function": ([no("f:1", "local"), END], ("f:1",)),
    "the host died in between": ([asked("a:1"), no("a:1"), OWNED, END], ("a:1",)),
    "two branches": (
        [asked("gather:1.0/a:1"), asked("gather:1.1/a:1"), no("gather:1.0/a:1"), no("gather:1.1/a:1"), END],
        ("gather:1.0/a:1", "gather:1.1/a:1"),
    ),
    "another branch went on meanwhile": (
        [asked("gather:1.0/a:1"), no("gather:1.0/a:1"), asked("gather:1.1/b:2"), END], ("gather:1.0/a:1",),
    ),
    "the same branch went on": (
        [asked("gather:1.0/a:1"), no("gather:1.0/a:1"), asked("gather:1.0/b:1"), OTHER_END], (),
    ),
    "another gather came after": (
        [asked("gather:1.0/a:1"), no("gather:1.0/a:1"), asked("gather:2.1/b:1"), OTHER_END], (),
    ),
    "a branch within a branch": (
        [asked("gather:1.0/gather:1.0/a:1"), no("gather:1.0/gather:1.0/a:1"), asked("gather:1.1/b:1"), END],
        ("gather:1.0/gather:1.0/a:1",),
    ),
    "side by side, failed before the other was asked for": ([asked("a:1"), no("a:1"), asked("b:1"), END], ("a:1",)),
    "caught, then another branch failed": (
        [
            asked("gather:1.0/a:1"), no("gather:1.0/a:1"), asked("gather:1.0/b:1"), asked("gather:1.1/c:1"),
            no("gather:1.1/c:1", failure=OTHER), OTHER_END,
        ],
        ("gather:1.1/c:1",),
    ),
    "two sleeps are no branches": ([asked("a:1"), no("a:1"), yes("sleep:1/woke", "timer"), OTHER_END], ()),
    "a late reply of a branch": ([asked("a:1"), asked("b:1"), no("a:1"), END, no("b:1")], ("a:1", "b:1")),
    "its time was up": ([asked("a:1"), no("a:1"), JobFailed(job="j", failure=TIME_UP)], ()),
    "the failure of a call, which has no exception": (
        [asked("a:1"), no("a:1", failure=TIME_UP), JobFailed(job="j", failure=TIME_UP)], ("a:1",),
    ),
    "failed again": ([asked("a:1"), no("a:1"), END, RETRIED, OWNED, asked("a:1"), no("a:1"), END], ("a:1",)),
    "failed again elsewhere": (
        [asked("a:1"), no("a:1"), END, RETRIED, OWNED, asked("a:1"), yes("a:1"), asked("b:1"), no("b:1"), END],
        ("b:1",),
    ),
    "it has not failed": ([asked("a:1"), no("a:1"), JobCancelled(job="j")], ()),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_by_which_calls_a_job_failed(name: str) -> None:
    """Those after which it recorded nothing but its end; a failure that its code survived stands."""
    events, wanted = HISTORIES[name]
    log = numbered([JobSubmitted(job="j", workflow="w", version="1.0.0"), OWNED, *events])
    journal = Journal()
    journal.read(log)
    assert causes(journal, log) == wanted


def numbered(events: Iterable[Event]) -> list[Recorded]:
    return [Recorded(n, event) for n, event in enumerate(events, 1)]


# ---- on a server, with real processes


async def failed(on: Stage, workflow: str, job: str, **inputs: Any) -> JobFailed:
    """Submit such a job and see it fail."""
    await on.submit(workflow, job, inputs)
    end = await on.end(job, deadline_s=LIMIT_S)
    assert isinstance(end, JobFailed), end
    return end


async def next_end(on: Stage, job: str, since: int) -> Event:
    """The event that ended the job after it was retried at ``since``."""

    async def ended() -> Event | None:
        ends = JobCompleted | JobFailed | JobCancelled
        found = [r.event for r in await on.events(job) if r.sequence > since and isinstance(r.event, ends)]
        return found[0] if found else None

    found = await wait_until(ended, LIMIT_S)
    assert found is not None
    return found


async def retried(on: Stage, job: str, **more: Any) -> Event:
    """Retry it, and its new end."""
    retry = await retry_job(on.bus, on.blobs, "default", job, **more)
    return await next_end(on, job, retry.sequence)


def mend(on: Stage, what: str = "broken") -> None:
    Path(f"{on.ledger}.{what}").touch()


async def idle(on: Stage, *tools: str) -> None:
    """Wait until nobody has, or will get, a call of these tools: all are answered, or dropped with their job."""

    async def is_idle() -> bool:
        try:
            infos = [await on.bus.api(f"CONSUMER.INFO.EVENTS.tool-{tool}-v1") for tool in tools]
        except ApiError:  # one of the tools has not started yet, and will then see what was given out before
            return False
        return not any(info["num_ack_pending"] or info["num_pending"] for info in infos)

    await wait_until(is_idle, LIMIT_S)


async def test_a_job_goes_on_from_where_it_failed(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The failed call is made anew under its key, steps before it are not; waiting and looking see the new end only."""
    async with stage(nats_server.url, tmp_path, APP, only=("brittle", "step", "broken")) as on:
        await failed(on, "brittle", "b", start=1)
        async with Client(on.bus) as client:
            with pytest.raises(JobFailedError):
                await client.result("b", timeout_s=LIMIT_S)
            assert (await client.get("b")).state == "failed"
            mend(on)
            handle = await client.retry("b", by="ann")
            assert await handle.result(LIMIT_S) == 14
            assert await client.result("b", timeout_s=LIMIT_S) == 14
            view = await client.get("b")
        assert (view.state, view.retries, view.failure) == ("completed", 1, None)
        assert Counter(on.effects()) == {"b/step:1": 1, "b/broken:1": 1, "b/step:2": 1}
        commands = [r.event.call for r in await on.events("b") if isinstance(r.event, CallTool)]
        assert commands == ["step:1", "broken:1", "broken:1", "step:2"]
        (event,) = [r.event for r in await on.events("b") if isinstance(r.event, JobRetried)]
        assert (event.calls, event.by) == (("broken:1",), "ann")


async def test_retried_in_vain_and_again(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A retry that fails again leaves a failed job, which may be retried again."""
    async with stage(nats_server.url, tmp_path, APP, only=("brittle", "step", "broken")) as on:
        await failed(on, "brittle", "b", start=1)
        for _ in range(2):
            assert isinstance(await retried(on, "b"), JobFailed)
        mend(on)
        assert isinstance(await retried(on, "b"), JobCompleted)
        assert Counter(on.effects()) == {"b/step:1": 1, "b/broken:1": 1, "b/step:2": 1}


async def test_branches_that_failed_go_on_beside_one_that_did_not(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """In a gather all failed branches are made anew; the one that went well is not."""
    async with stage(nats_server.url, tmp_path, APP, only=("beside", "step", "broken")) as on:
        await failed(on, "beside", "g", n=1)

        await idle(on, "step", "broken")
        mend(on)
        end = await retried(on, "g")
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"[2,2,3]"
        assert set(Counter(on.effects()).values()) == {1}


async def test_a_call_that_was_under_way_when_its_job_failed(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Redelivered while the job was over it was dropped unanswered; the retried job asks for it anew, and gets it."""
    async with stage(nats_server.url, tmp_path, APP, only=("with_gate", "gate", "broken")) as on:
        await on.submit("with_gate", "g", {"n": 77})
        await wait_until(lambda: "g/gate:1 began" in on.effects(), LIMIT_S)
        mend(on, "go")
        assert isinstance(await on.end("g", deadline_s=LIMIT_S), JobFailed)
        os.kill(on.pid("gate-1"), signal.SIGKILL)

        await idle(on, "gate")
        mend(on)
        retry = await retry_job(on.bus, on.blobs, "default", "g")
        mend(on, "gate")
        end = await next_end(on, "g", retry.sequence)
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"[78,78]"
        assert Counter(on.effects()) == {"g/gate:1 began": 2, "g/gate:1": 1, "g/broken:1": 1}


async def test_a_call_that_is_under_way_when_its_job_is_retried(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """It may run beside its new self, under the same key; the first answer counts, and the job ends once."""
    async with stage(nats_server.url, tmp_path, APP, only=("with_gate", "gate", "broken")) as on:
        await on.submit("with_gate", "g", {"n": 77})
        await wait_until(lambda: "g/gate:1 began" in on.effects(), LIMIT_S)
        mend(on, "go")
        assert isinstance(await on.end("g", deadline_s=LIMIT_S), JobFailed)
        mend(on)
        retry = await retry_job(on.bus, on.blobs, "default", "g")
        await wait_until(lambda: on.effects().count("g/gate:1 began") == 2, LIMIT_S)
        mend(on, "gate")
        end = await next_end(on, "g", retry.sequence)
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"[78,78]"
        assert set(on.effects()) == {"g/gate:1 began", "g/gate:1", "g/broken:1"}


async def test_a_local_function_that_failed_runs_anew(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What the host itself records as failed is voided as a call is; and the replay kit can replay such a history."""
    async with stage(nats_server.url, tmp_path, APP, only=("locally", "step")) as on:
        await failed(on, "locally", "l", n=1)
        mend(on, "local")
        end = await retried(on, "l")
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"7"
        assert on.effects() == ["l/step:1"]
        history = await on.events("l")
    at = next(n for n, r in enumerate(history) if isinstance(r.event, JobRetried))
    for end_at in (len(history), at + 2, at + 1, at):
        assert (await replay(letters_app.locally, history[:end_at])).ok, f"the first {end_at} events"


async def test_a_failure_that_was_caught_stands_unless_it_is_named(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The way that the job went is not changed behind its back; who wants that names the call."""
    async with stage(nats_server.url, tmp_path, APP, only=("caught", "step", "broken")) as on:
        for job in ("c", "d"):
            await failed(on, "caught", job, n=1)
        mend(on)
        assert isinstance(await retried(on, "c"), JobCompleted)
        assert isinstance(await retried(on, "d", calls=["broken:1"]), JobCompleted)
        assert Counter(on.effects()) == Counter(["c/step:1", "c/broken:2", "d/step:1", "d/broken:1", "d/broken:2"])


async def test_a_child_goes_on_with_its_parent(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Retrying the parent retries the child that it failed by; nothing of either is done twice."""
    async with stage(nats_server.url, tmp_path, APP, only=("parent", "brittle", "step", "broken")) as on:
        await failed(on, "parent", "p", start=1)
        mend(on)
        end = await retried(on, "p")
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"16"
        effects = Counter(on.effects())
        assert len(effects) == 5 and set(effects.values()) == {1}, effects


async def test_a_parent_keeps_its_childs_failure_until_it_is_retried(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """A child that goes on alone does not change its parent; the parent's own retry takes the child's new answer."""
    async with stage(nats_server.url, tmp_path, APP, only=("parent", "brittle", "step", "broken")) as on:
        await failed(on, "parent", "p", start=1)
        (child,) = [r.event.child for r in await on.events("p") if isinstance(r.event, CallJob)]
        mend(on)
        assert isinstance(await retried(on, child), JobCompleted)
        kinds = [r.event.kind for r in await on.events("p")]
        assert "job.completed" not in kinds
        end = await retried(on, "p")
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"16"
        assert set(Counter(on.effects()).values()) == {1}


async def test_a_retried_job_has_its_whole_time_again(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The time-out counts from the retry, and signals reach the job as before."""
    async with stage(nats_server.url, tmp_path, APP, only=("hurried", "step")) as on:
        end = await failed(on, "hurried", "h", name="go")
        assert end.failure.code == "timeout"
        async with Client(on.bus) as client:
            with pytest.raises(UsageError) as caught:
                await client.signal("h", "go", 5)
            assert caught.value.code == "job_ended"
            handle = await client.retry("h")
            await handle.signal("go", 5)
            assert await handle.result(LIMIT_S) == [2, 5]
        assert on.effects() == ["h/step:1"]


@pytest.mark.parametrize(
    ("point", "only"),
    [
        ("host.before.call.tool.broken.v1:1", True),
        ("host.after.call.tool.broken.v1:1", True),
        ("host.before.call.tool.step.v1:1", False),
        ("host.before.job.completed:1", False),
        ("host.after.job.completed:1", False),
    ],
)
async def test_host_killed_at_each_step_of_a_retried_job(
    nats_server: EmbeddedServer, tmp_path: Path, point: str, only: bool
) -> None:
    """Another process goes on; each recorded call ran once, and the job ends once more and right."""
    marker = tmp_path / "died"
    parts = {"only": ("brittle", "step", "broken")}
    async with stage(nats_server.url, tmp_path, APP, **parts) as on:
        await failed(on, "brittle", "b", start=1)
    mend(on)
    env = {VARIABLE: f"{point}:{marker}", "CALLBOARD_LEASE_S": "2"}
    async with stage(nats_server.url, tmp_path, APP, env=env, **parts) as on:
        end = await retried(on, "b")
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"14"
        assert marker.exists(), "the host never came by the crash point"
        assert Counter(on.effects()) == {"b/step:1": 1, "b/broken:1": 1, "b/step:2": 1}
        commands = Counter(r.event.call for r in await on.events("b") if isinstance(r.event, CallTool))
        assert commands == {"step:1": 1, "broken:1": 2, "step:2": 1}


@pytest.mark.parametrize(
    "point",
    [
        "host.before.call.job.brittle.v1:1",
        "host.after.call.job.brittle.v1:1",
        "host.before_request:1",
        "host.before.call.tool.broken.v1:1",
        "host.before_parent_reply:1",
        "host.after_parent_reply:1",
        "retry.before_wake:1",
    ],
)
async def test_host_killed_while_parent_and_child_go_on(
    nats_server: EmbeddedServer, tmp_path: Path, point: str
) -> None:
    """Whatever is half done when the host dies, the child goes on once, and its parent with it."""
    marker = tmp_path / "died"
    parts = {"only": ("parent", "brittle", "step", "broken")}
    async with stage(nats_server.url, tmp_path, APP, **parts) as on:
        await failed(on, "parent", "p", start=1)
    mend(on)
    env = {VARIABLE: f"{point}:{marker}", "CALLBOARD_LEASE_S": "2"}
    async with stage(nats_server.url, tmp_path, APP, env=env, **parts) as on:
        end = await retried(on, "p")
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"16"
        assert marker.exists(), "the host never came by the crash point"
        effects = Counter(on.effects())
        assert len(effects) == 5 and set(effects.values()) == {1}, effects
        (child,) = {r.event.child for r in await on.events("p") if isinstance(r.event, CallJob)}
        assert sum(isinstance(r.event, JobRetried) for r in await on.events(child)) == 1


async def test_a_failure_heard_before_the_retry_is_not_the_result(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A client that hears all ends of its workspace keeps those of its own jobs; a retry makes them void."""
    async with (
        stage(nats_server.url, tmp_path, APP, only=("brittle", "step", "broken")) as on,
        Client(on.bus) as client,
    ):
        waiting = [asyncio.create_task(client.result(f"nobody-{n}")) for n in range(SHARED_FROM + 1)]
        handle = await client.submit(letters_app.brittle, start=1)

        async def has_failed() -> bool:
            return bool(await on.events(handle.id)) and (await handle.view()).state == "failed"

        await wait_until(has_failed, LIMIT_S)
        mend(on)
        await retry_job(on.bus, on.blobs, "default", handle.id)
        assert await handle.result(LIMIT_S) == 14
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_live_owner_is_fenced_by_who_finds_its_job_without_a_request(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Another host takes the job although its owner lives; the owner's copy ends, and nothing is decided twice."""
    async with troupe(nats_server.url, letters_app.app, hosts=2, tools=False) as on:
        await on.submit("with_gate", "g", {"n": 1})

        async def both_called() -> bool:
            return sum(isinstance(r.event, CallTool) for r in await on.events("g")) == 2

        async def taken() -> bool:
            (owned_at,) = [r.sequence for r in await on.events("g") if isinstance(r.event, JobOwned)][-1:]
            await publish_wake(on.bus, "default", "with_gate", "g", redrive_wake(owned_at))
            return sum(isinstance(r.event, JobOwned) for r in await on.events("g")) > 1

        await wait_until(both_called, LIMIT_S)
        await wait_until(taken, LIMIT_S, what="a wake-up has come to the host that does not run the job")
        for call in ("gate:1", "broken:1"):
            await append_unfenced(
                on.bus, on.blobs, "default", ReplyCompleted(job="g", call=call, output=msgspec.Raw(b"2"))
            )
        end = await on.end("g", deadline_s=LIMIT_S)
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"[2,2]"
        check_decisions(await on.events("g"))


async def test_retries_at_once_are_one(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Of many at the same time one is recorded, all others see it; the job goes on once."""
    async with stage(nats_server.url, tmp_path, APP, only=("brittle", "step", "broken")) as on:
        await failed(on, "brittle", "b", start=1)
        mend(on)
        answers = await asyncio.gather(
            *(retry_job(on.bus, on.blobs, "default", "b") for _ in range(8)), return_exceptions=True
        )
        refused = [a for a in answers if isinstance(a, BaseException)]
        assert all(isinstance(a, UsageError) and a.code == "not_failed" for a in refused), refused
        sequences = {a.sequence for a in answers if not isinstance(a, BaseException)}
        assert len(sequences) == 1
        assert isinstance(await next_end(on, "b", sequences.pop()), JobCompleted)
        kinds = Counter(r.event.kind for r in await on.events("b"))
        assert (kinds["job.retried"], kinds["job.completed"]) == (1, 1)
        assert set(Counter(on.effects()).values()) == {1}


async def test_what_cannot_be_retried(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A job that nobody has heard of, that goes on, that completed; a call that has not failed."""
    async with stage(nats_server.url, tmp_path, APP, only=("brittle", "beside", "step", "broken")) as on:
        for job, hint in (("nobody", "check the id"), ("new", "wait for its end")):
            if job == "new":
                submitted = JobSubmitted(job="new", workflow="w", version="1.0.0")
                await append_unfenced(on.bus, on.blobs, "default", submitted)
            with pytest.raises(UsageError) as caught:
                await retry_job(on.bus, on.blobs, "default", job)
            assert hint in caught.value.hint
        await failed(on, "brittle", "b", start=1)
        for call in ("step:1", "step:9"):
            with pytest.raises(UsageError, match="no failed call"):
                await retry_job(on.bus, on.blobs, "default", "b", calls=[call])
        mend(on)
        assert isinstance(await retried(on, "b"), JobCompleted)
        with pytest.raises(UsageError, match="job b is completed; only a failed job can be retried"):
            await retry_job(on.bus, on.blobs, "default", "b")


async def test_a_retry_that_lost_its_wake_up_is_done_by_the_next_one(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Killed between its event and the wake-up, a retry is completed by another, without a second event."""
    async with stage(nats_server.url, tmp_path, APP, only=("brittle", "step", "broken")) as on:
        await failed(on, "brittle", "b", start=1)
        mend(on)
        half = await append_unfenced(on.bus, on.blobs, "default", JobRetried(job="b", calls=("broken:1",)))
        assert await read_ends(on.bus, "default", [("b", 0)]) == {}
        retry = await retry_job(on.bus, on.blobs, "default", "b")
        assert (retry.sequence, retry.calls) == (half, ("broken:1",))
        assert isinstance(await next_end(on, "b", half), JobCompleted)


async def test_a_job_without_a_request_is_resumed(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A wake-up that names its last owner brings it back although it is not parked; one that names another does not."""
    async with stage(nats_server.url, tmp_path, APP, only=("brittle", "step", "broken")) as on:
        mend(on)
        body = msgspec.Raw(b'{"start": 1}')
        await append_unfenced(
            on.bus, on.blobs, "default", JobSubmitted(job="s", workflow="brittle", version="1.0.0", input=body)
        )
        owned = JobOwned(job="s", host="gone", request=999_999)
        owned_at = await append_unfenced(on.bus, on.blobs, "default", owned)
        await publish_wake(on.bus, "default", "brittle", "s", redrive_wake(owned_at - 1))
        await publish_wake(on.bus, "default", "brittle", "s", "signal.x")
        await publish_wake(on.bus, "default", "brittle", "s", redrive_wake(owned_at))
        end = await on.end("s", deadline_s=LIMIT_S)
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"14"
        assert sum(isinstance(r.event, JobOwned) for r in await on.events("s")) == 2
        assert set(Counter(on.effects()).values()) == {1}
