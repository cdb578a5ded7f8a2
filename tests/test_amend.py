"""Amendments: how the calls of a job under way are made can be changed, and replays stay what they were."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import App, Job, Retry, ToolContext
from actors.changes.amendments import amended_command, amended_policy, check_change, concerns
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.jobs.call_policy import CallPolicy
from actors.jobs.journal import Journal
from actors.testing import record_history, replay
from bus.amendment import AddItems, AddSteps, Change, FinishMap, SetPolicy, SkipStep, in_words
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import CallTool, JobAmended, JobCompleted, JobFailed, JobSubmitted, ReplyRetrying
from store.job_fold import fold_view
from store.log import Recorded
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 40
SOON_S = 0.05
OWN = Retry(attempts=2, backoff_s=0.25)
LIST = msgspec.Raw(b'[{"id": "x"}]')

# ---- pure

policies = st.builds(
    SetPolicy,
    target=st.sampled_from(["quote", "quote:1", "each", "ship"]),
    retry=st.none() | st.fixed_dictionaries({}, optional={"attempts": st.integers(1, 9), "backoff_s": st.floats(0, 9)}),
    timeout_s=st.none() | st.floats(0.1, 9),
    on_open=st.sampled_from([None, "wait", "fail"]),
)


@given(st.lists(policies, max_size=5))
def test_changes_may_be_applied_twice(changes: list[Change]) -> None:
    """A host that knew of some of them, and a tool that knows of all, come to the same as one who applies all once."""
    command = CallTool(job="j", call="each.1/quote/quote:1", name="quote", version=1)
    once = amended_command(command, changes, OWN)
    assert amended_command(once, changes, OWN) == once
    for known in range(len(changes)):
        assert amended_command(amended_command(command, changes[:known], OWN), changes, OWN) == once
    if not any(concerns(change, command.call, command.name) for change in changes):
        assert once is command


def test_the_newest_word_counts_on_each_point() -> None:
    """It outranks the code, what is not said stays as it is, and fields of the retry are laid over the tool's own."""
    changes: list[Change] = [
        SetPolicy("quote", retry={"attempts": 5}, timeout_s=3),
        SetPolicy("quote:2", timeout_s=9),
        SetPolicy("quote", on_open="fail"),
        SkipStep("quote"),
    ]
    policy = amended_policy(CallPolicy(timeout_s=1), changes, "quote:1", "quote", OWN)
    assert policy == CallPolicy(Retry(attempts=5, backoff_s=0.25), 3, "fail")
    assert amended_policy(CallPolicy(), changes, "quote:2", "quote", None).timeout_s == 9
    assert amended_policy(CallPolicy(timeout_s=1), changes, "ship:1", "ship", OWN) == CallPolicy(timeout_s=1)
    nonsense = SetPolicy("quote", retry={"attempts": "many"}, on_open="never")
    assert amended_policy(CallPolicy(), [nonsense], "quote:1", "quote", OWN) == CallPolicy(OWN)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (SetPolicy("quote"), "change"), (SetPolicy("", timeout_s=1), "target"),
        (SetPolicy("quote", retry={"tries": 3}), "retry"), (SetPolicy("quote", retry={"attempts": 0}), "attempts"),
        (SetPolicy("quote", timeout_s=0), "timeout_s"), (SetPolicy("quote", on_open="never"), "on_open"),
        (AddSteps(msgspec.Raw(b"[]")), "steps"), (AddSteps(msgspec.Raw(b'[{"tool": "x"}]')), "steps"),
        (AddItems("each", msgspec.Raw(b'"x"')), "items"), (AddItems("", LIST), "step"), (FinishMap(""), "step"),
    ],
)  # fmt: skip
def test_changes_that_cannot_be(change: Change, path: str) -> None:
    """What means nothing is refused with its place and what would be right."""
    with pytest.raises(UsageError) as caught:
        check_change(change)
    assert caught.value.path == path and caught.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (SetPolicy("quote", {"attempts": 9}, 3, "fail"), "quote: attempts 9, timeout_s 3, on_open fail"),
        (AddSteps(LIST), "new steps"), (AddSteps(LIST, "each"), "new steps in each"),
        (AddItems("each", LIST), "new items for each"),
        (FinishMap("each"), "each is finished"), (SkipStep("ship"), "ship is skipped"),
    ],
)  # fmt: skip
def test_changes_in_words(change: Change, words: str) -> None:
    """Each that can be has its line, without its data."""
    assert in_words(check_change(change)) == words


def test_the_journal_keeps_them_in_the_logs_order() -> None:
    """Heard in any order and twice; a fork's copies stand before what is its own."""
    first, second = SetPolicy("a", timeout_s=1), FinishMap("each")
    journal = Journal()
    for sequence, change in ((9, second), (4, first), (9, second)):
        journal.apply(Recorded(sequence, JobAmended(job="j", change=change)))
    assert journal.amendments == [(4, first), (9, second)]


# ---- live

app = App("amended", version="1.0.0")
TRIED: list[str] = []
GATES: dict[str, asyncio.Event] = {}
BROKEN = {"sturdy", "later", "last"}


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


@app.tool(retry=Retry(attempts=2, backoff_s=0.3, jitter=False))
async def flaky(ctx: ToolContext, name: str) -> int:
    """Fails up to its fourth attempt, for some names; others wait for the test first."""
    TRIED.append(ctx.idempotency_key)
    await gate(name).wait()
    if name in BROKEN and ctx.attempt < 4:
        raise RuntimeError("not yet")
    return ctx.attempt


@app.tool(timeout_s=30)
async def slow(name: str) -> str:
    """Takes its time."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(gate(f"never-{name}").wait(), 20)
    return name


@app.job
async def calls(job: Job, names: list[str]) -> list[int]:
    """One call after the other."""
    return [await job.call(flaky, name=name) for name in names]


@app.job
async def waits(job: Job, name: str) -> str:
    """A signal, then a call that takes too long."""
    await job.wait_for("go")
    return await job.call(slow, name=name)


def tries(job: str) -> Counter[str]:
    return Counter(key.partition("/")[2] for key in TRIED if key.startswith(f"{job}/"))


def open_gates(*names: str) -> None:
    for name in names:
        gate(name).set()


async def retrying(on: Troupe, job: str) -> bool:
    return any(isinstance(r.event, ReplyRetrying) for r in await on.events(job))


async def test_calls_are_made_as_it_was_said_last(nats_server: EmbeddedServer) -> None:
    """A call in its retry wait, one on its last attempt, calls to come, and those of a failed job that is retried."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        open_gates("sturdy", "later")
        await on.submit("calls", "wait", {"names": ["sturdy", "later"]})
        await wait_until(lambda: retrying(on, "wait"), DEADLINE_S)
        amended = await client.set_policy("wait", "flaky", retry={"attempts": 6, "backoff_s": 0.01}, by="ann")
        assert amended.in_flight == ("flaky:1",)
        assert await client.result("wait", timeout_s=DEADLINE_S) == [4, 4]
        assert tries("wait") == {"flaky:1": 4, "flaky:2": 4}
        commands = {r.event.call: r.event for r in await on.events("wait") if isinstance(r.event, CallTool)}
        assert commands["flaky:1"].retry is None
        assert msgspec.convert(commands["flaky:2"].retry, Retry) == Retry(attempts=6, backoff_s=0.01, jitter=False)
        view = await client.get("wait")
        assert [(a.sequence, a.by) for a in view.amendments] == [(amended.sequence, "ann")]
        (await replay(calls, await record_history(client, "wait"))).check()

        await on.submit("calls", "last", {"names": ["last"]})
        await wait_until(lambda: tries("last"), DEADLINE_S)
        await client.set_policy("last", "flaky:1", retry=Retry(attempts=5, backoff_s=0), timeout_s=15)
        open_gates("last")
        assert await client.result("last", timeout_s=DEADLINE_S) == [4]

        await on.submit("calls", "failed", {"names": ["sturdy"]})
        with pytest.raises(JobFailedError):
            await client.result("failed", timeout_s=DEADLINE_S)
        await client.set_policy("failed", "flaky", retry={"attempts": 4, "backoff_s": 0})
        assert await (await client.retry("failed")).result(DEADLINE_S) == [4]
        assert tries("failed") == {"flaky:1": 2 + 4}
        fork = await client.fork("wait", from_="flaky:2", new_id="fork")
        assert await fork.result(DEADLINE_S) == [4, 4]
        assert [a.change for a in (await fork.view()).amendments] == [a.change for a in view.amendments]


async def test_a_parked_job_is_amended(nats_server: EmbeddedServer) -> None:
    """It is woken and parks again; what it asks for later is asked as it was said, on whichever host."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on, Client(on.bus) as client:
        await on.submit("waits", "w", {"name": "w"})
        await on.parked("w")
        owners = (await client.get("w")).owners
        await client.set_policy("w", "slow", retry={"attempts": 1}, timeout_s=0.2)
        await wait_until(lambda: taken_up(client, "w", owners), DEADLINE_S)
        await on.parked("w")
        await client.signal("w", "go")
        end = await on.end("w", deadline_s=DEADLINE_S)
        assert isinstance(end, JobFailed) and "0.2 s" in end.failure.message
        (await replay(waits, await record_history(client, "w"))).check()


async def taken_up(client: Client, job: str, owners: int) -> bool:
    return (await client.get(job)).owners > owners


async def test_what_is_refused(nats_server: EmbeddedServer) -> None:
    """Steps of a function, a job that has ended or that nobody knows; nothing is written then."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        await on.submit("calls", "r", {"names": ["open"]})
        await wait_until(lambda: tries("r"), DEADLINE_S)
        for refused in (
            client.add_steps("r", [{"id": "x", "tool": "slow"}]), client.add_items("r", "each", [1]),
            client.finish_map("r", "each"), client.skip_step("r", "each"),
        ):  # fmt: skip
            assert await code_of(refused) == "not_a_document"
        assert await code_of(client.add_items("r", "each", [object()])) == "bad_change"
        assert await code_of(client.set_policy("nobody", "flaky", timeout_s=1)) == "unknown_job"
        open_gates("open")
        assert isinstance(await on.end("r"), JobCompleted)
        assert await code_of(client.set_policy("r", "flaky", timeout_s=1)) == "job_ended"
        events = await on.events("r")
        assert not [r for r in events if isinstance(r.event, JobAmended)]
        assert isinstance(events[0].event, JobSubmitted) and not events[0].event.amendable
        assert not fold_view("default", events).amendments


async def code_of(refused: Any) -> str:
    with pytest.raises(UsageError) as caught:
        await refused
    return caught.value.code
