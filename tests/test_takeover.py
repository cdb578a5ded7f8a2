"""Takeover: what a host does with a request for a job that is known, and how fast a dead host's jobs go on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil
import pytest

from actors import App, Job
from actors.hosts.takeover import (
    IN_VAIN_LIMIT,
    IN_VAIN_LIMIT_WAITING,
    Decision,
    Drop,
    Finish,
    Poisoned,
    Refuse,
    Resume,
    Start,
    Withdraw,
    decide,
    redrive_wake,
    redriven_owner,
)
from actors.jobs.journal import CRASH_LOOP_S, Journal
from bus import headers as h
from bus.embedded import EmbeddedServer
from bus.failure import Failure
from bus.messages import (
    CallTool,
    Event,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobRejected,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    Signal,
)
from bus.options import ConnectOptions
from store.log import Recorded
from tests.stage import ROOT, stage
from tests.test_fencing import owned_by, owners
from tests.troupe import check_decisions, troupe
from tests.waiting import wait_until

APP = "tests.apps.core:app"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SUBMITTED = JobSubmitted(job="j", workflow="w", version="1.0.0", input=msgspec.Raw(b'{"a": 1}'))


def owned(request: int, after_s: float = 0) -> JobOwned:
    return JobOwned(job="j", host="h", request=request, at=NOW + timedelta(seconds=after_s))


def decision(
    *events: Event, sequence: int = 7, wake: bool = False, workflow: str = "w", body: bytes = b'{"a":1}',
    redriven: int | None = None,
) -> Decision:  # fmt: skip
    """What is decided about request ``sequence`` when the log holds ``events`` at 1, 2, 3..."""
    journal = Journal()
    journal.read([Recorded(n, event) for n, event in enumerate(events, 1)])
    return decide(journal, sequence=sequence, wake=wake, workflow=workflow, body=body, redriven=redriven)


WAITING, ENDED = JobWaiting(job="j"), JobCompleted(job="j")
FAILED, RETRIED = JobFailed(job="j", failure=Failure(code="x", message="x")), JobRetried(job="j")
REJECTED = JobRejected(job="j", workflow="w", failure=Failure(code="x", message="x"))
CANCELLED, CANCEL, GO = JobCancelled(job="j"), Signal(job="j", name="cancel"), Signal(job="j", name="go")
CASES: list[tuple[str, Decision, Decision]] = [
    ("the log is empty", decision(), Start()),
    ("a wake-up for nothing", decision(wake=True), Drop()),
    ("only rejected before", decision(REJECTED), Start()),
    ("cancelled before it began", decision(CANCELLED), Drop()),
    ("a word to a job that has not begun", decision(CANCEL, wake=True), Withdraw()),
    ("another word to it", decision(GO, wake=True), Drop()),
    ("the word again, and it is cancelled", decision(CANCEL, CANCELLED, wake=True), Withdraw()),
    ("it begins after all that was said", decision(GO, CANCEL), Start()),
    ("its owner died before it claimed", decision(SUBMITTED), Resume(0)),
    ("the owner's own request again", decision(SUBMITTED, owned(7)), Resume(2)),
    ("again after two takeovers", decision(SUBMITTED, owned(7), owned(7)), Resume(3)),
    ("a duplicate of a running job", decision(SUBMITTED, owned(5)), Drop()),
    ("a duplicate of an ended job", decision(SUBMITTED, owned(5), ENDED), Finish()),
    ("its own request, but it has ended", decision(SUBMITTED, owned(7), ENDED), Finish()),
    ("a duplicate of a parked job", decision(SUBMITTED, owned(5), WAITING), Drop()),
    ("the lease of a job that died parking", decision(SUBMITTED, owned(7), WAITING), Resume(2)),
    ("a wake-up of a running job", decision(SUBMITTED, owned(5), wake=True), Drop()),
    ("a wake-up of a parked job", decision(SUBMITTED, owned(5), WAITING, wake=True), Resume(2)),
    ("a wake-up that is the lease", decision(SUBMITTED, owned(5), WAITING, owned(7), wake=True), Resume(4)),
    ("a wake-up of a job woken already", decision(SUBMITTED, owned(5), WAITING, owned(6), wake=True), Drop()),
    ("a wake-up of an ended job", decision(SUBMITTED, owned(5), ENDED, wake=True), Finish()),
    ("a wake-up of a retried job", decision(SUBMITTED, owned(5), FAILED, RETRIED, wake=True), Resume(2)),
    ("its old request, and it is retried", decision(SUBMITTED, owned(7), FAILED, RETRIED), Resume(2)),
    ("a duplicate of a retried job", decision(SUBMITTED, owned(5), FAILED, RETRIED), Drop()),
    ("retried and taken already", decision(SUBMITTED, owned(5), FAILED, RETRIED, owned(6), wake=True), Drop()),
    ("retried and failed again", decision(SUBMITTED, owned(5), FAILED, RETRIED, owned(7), FAILED, wake=True), Finish()),
    ("retried, but it had completed", decision(SUBMITTED, owned(5), ENDED, RETRIED, wake=True), Finish()),
    ("no request left", decision(SUBMITTED, owned(5), wake=True, redriven=2), Resume(2)),
    ("no request left, but another owner", decision(SUBMITTED, owned(5), owned(6), wake=True, redriven=2), Drop()),
    ("no request left, but it has ended", decision(SUBMITTED, owned(5), ENDED, wake=True, redriven=2), Finish()),
    ("re-driven, and it is ours since", decision(SUBMITTED, owned(5), owned(7), wake=True, redriven=2), Resume(3)),
    ("no request left, but parked", decision(SUBMITTED, owned(5), WAITING, wake=True, redriven=2), Resume(2)),
    ("keys in another order, other spaces", decision(SUBMITTED, owned(5), body=b' {"a": 1} '), Drop()),
    ("the owner died before its input was compared", decision(SUBMITTED, owned(7), body=b"{}"), Resume(2)),
]  # fmt: skip


@pytest.mark.parametrize(("decided", "wanted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_table(decided: Decision, wanted: Decision) -> None:
    """Every combination of what came and what the log says has one answer."""
    assert decided == wanted


@pytest.mark.parametrize(("workflow", "body"), [("other", b'{"a": 1}'), ("w", b'{"a": 2}'), ("w", b""), ("w", b"{")])
@pytest.mark.parametrize(
    "events", [(SUBMITTED, owned(5)), (SUBMITTED, owned(5), WAITING), (SUBMITTED, owned(5), ENDED)]
)
def test_another_job_of_the_same_id_is_refused(events: tuple[Event, ...], workflow: str, body: bytes) -> None:
    """Running, parked or ended: an id belongs to one workflow and input."""
    assert isinstance(decision(*events, workflow=workflow, body=body), Refuse)


def test_job_that_waits_for_a_call_is_not_poison() -> None:
    """Its hosts die of other jobs, or of kill -9: it has done nothing in between since there was nothing to do."""
    call = CallTool(job="j", call="x:1", name="x", version=1)
    waits = [SUBMITTED, owned(7), call, *(owned(7, n) for n in range(1, 2 * IN_VAIN_LIMIT))]
    assert isinstance(decision(*waits), Resume)
    answered = ReplyCompleted(job="j", call="x:1")
    assert isinstance(decision(*waits, answered, *(owned(7, 20 + n) for n in range(IN_VAIN_LIMIT))), Poisoned)
    beside = [owned(7, n) for n in range(IN_VAIN_LIMIT_WAITING)]
    assert isinstance(decision(SUBMITTED, owned(7), call, *beside), Poisoned), "a branch beside the call may kill"


def test_poison() -> None:
    """A job that is owned again and again, soon, with nothing done in between, is not run once more."""
    again = [owned(7, n) for n in range(IN_VAIN_LIMIT)]
    assert isinstance(decision(SUBMITTED, *again), Poisoned)
    assert isinstance(decision(SUBMITTED, *again[1:]), Resume)
    call = CallTool(job="j", call="x:1", name="x", version=1)
    assert isinstance(decision(SUBMITTED, *again[1:], call, *again[:1]), Resume), "it has done something"
    slowly = [owned(7, n * (CRASH_LOOP_S + 1)) for n in range(IN_VAIN_LIMIT)]
    assert isinstance(decision(SUBMITTED, *slowly), Resume), "a restart now and then is no crash loop"
    parked = [event for n in range(IN_VAIN_LIMIT) for event in (owned(7, n), WAITING)]
    assert isinstance(decision(SUBMITTED, *parked), Resume), "waking up is no crash"
    retried = [*again, FAILED, RETRIED, *again[: IN_VAIN_LIMIT - 1]]
    assert isinstance(decision(SUBMITTED, *retried), Resume), "a retry begins to count anew"
    assert isinstance(decision(SUBMITTED, *retried, again[-1]), Poisoned)


def test_which_wake_ups_are_for_jobs_without_a_request() -> None:
    """Only a sequence as we write it; anything else is a wake-up like any other."""
    assert redriven_owner(redrive_wake(12)) == 12
    assert redriven_owner(redrive_wake(0)) == 0
    for wake in (
        "",
        "timer",
        "signal.redrive",
        "redrive.",
        "redrive.x",
        "redrive.-1",
        "redrive.²",
        "redrive." + "9" * 20,
    ):
        assert redriven_owner(wake) is None


# ---- requests for one job, on a server

app = App("takeover", version="1.0.0")


@app.job
async def waits(job: Job, name: str) -> str:
    """Wait for a signal."""
    return str(await job.wait_for(name))


async def test_duplicates_run_once(nats_server: EmbeddedServer) -> None:
    """The same request forty times, taken by three hosts, is one job; the others leave the queue."""
    async with troupe(nats_server.url, app, hosts=3) as on:
        for _ in range(40):
            await on.submit("waits", "d", {"name": "go"})

        async def one_left() -> bool:
            return await on.requests_left() == 1

        await wait_until(one_left)
        assert on.in_memory == 1
        await on.signal("waits", "d", "go")
        await on.end("d")
        check_decisions(await on.events("d"))
        assert sum(isinstance(r.event, JobSubmitted) for r in await on.events("d")) == 1


async def test_bad_parent_header_does_not_block(nats_server: EmbeddedServer) -> None:
    """A request whose parent cannot be read is refused with a trace and leaves the queue (invariant 6)."""
    async with troupe(nats_server.url, app) as on:
        for bad in ("{", "[]", '{"job": 1}', '{"workspace":"a","job":"b"}'):
            await on.submit("waits", "bad", {"name": "x"}, **{h.JOB_PARENT: bad})

            async def gone() -> bool:
                return not await on.requests_left()

            await wait_until(gone)
        end = await on.end("bad")
        assert isinstance(end, JobRejected) and end.failure.code == "bad_header"


# ---- dead processes


async def test_host_killed_on_the_same_node(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The restarted host hands back what its predecessor held, and goes on before any lease has run out."""
    async with stage(nats_server.url, tmp_path, APP, env={"CALLBOARD_LEASE_S": "60"}) as on:
        await on.submit("held", "k", {"start": 1})
        await wait_until(lambda: "k/gate:1" in on.effects())
        began_s, before = time.monotonic(), on.pid("host-1")
        os.kill(before, signal.SIGKILL)

        async def resumed() -> bool:
            return len(await owners(on, "k")) == 2

        await wait_until(resumed, 30)
        print(f"resumed on the same node after {time.monotonic() - began_s:.2f} s")
        (tmp_path / "ledger.open").touch()
        assert isinstance(await on.end("k"), JobCompleted)
        check_decisions(await on.events("k"))
        assert Counter(on.effects()) == {"k/step:1": 1, "k/gate:1": 1, "k/step:2": 1}


async def test_host_killed_with_another_node_there(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A host that is gone for good, its lease book with it: another node has its job once the lease is over."""
    env = {"CALLBOARD_LEASE_S": "2"}
    async with stage(nats_server.url, tmp_path, APP, env=env, node="n2", without=("pair",)) as n2:
        os.kill(n2.pid("host-1"), signal.SIGSTOP)
        async with stage(nats_server.url, tmp_path, APP, env=env, only=("held",)) as n1:
            await n1.submit("held", "k", {"start": 1})
            await owned_by(n1, "k", "n1/host-1")
            os.kill(n2.pid("host-1"), signal.SIGCONT)
            await wait_until(lambda: "k/gate:1" in n2.effects())
            os.kill(n1.pid("host-1"), signal.SIGSTOP)
            began_s = time.monotonic()
            await owned_by(n2, "k", "n2/host-1")
            print(f"another node took over after {time.monotonic() - began_s:.2f} s (lease 2 s)")
            os.kill(n1.pid("host-1"), signal.SIGKILL)
            (tmp_path / "ledger.open").touch()
            assert isinstance(await n2.end("k"), JobCompleted)
            check_decisions(await n2.events("k"))


async def _node(url: str, tmp_path: Path, node: str) -> tuple[asyncio.subprocess.Process, list[int]]:
    """A node as a process of its own; the pids of its actors."""
    options = msgspec.json.encode(ConnectOptions(servers=[url])).decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "tests/children/node.py"), node, str(tmp_path), options, APP,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    return process, msgspec.json.decode(line)


async def test_whole_node_killed(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Killed with its supervisor, a node leaves no process behind, and its jobs and calls go on elsewhere."""
    node, pids = await _node(nats_server.url, tmp_path, "n1")
    env = {"CALLBOARD_LEASE_S": "2"}
    async with stage(nats_server.url, tmp_path, APP, env=env, node="n2", only=("pair",)) as on:
        await on.submit("held", "k", {"start": 1})
        await wait_until(lambda: "k/gate:1" in on.effects())
        node.kill()
        await node.wait()
        began_s = time.monotonic()
        await wait_until(lambda: not any(_lives(pid) for pid in pids), 20, what="the node's actors are gone")
        print(f"no process left after {time.monotonic() - began_s:.2f} s")
        (tmp_path / "ledger.open").touch()
        async with stage(nats_server.url, tmp_path, APP, env=env, node="n3") as n3:
            assert isinstance(await n3.end("k"), JobCompleted)
            print(f"job ended {time.monotonic() - began_s:.2f} s after the kill, on a node that was started then")
            check_decisions(await n3.events("k"))
            effects = Counter(n3.effects())
            assert effects["k/step:1"] == 1 and effects["k/step:2"] == 1 and effects["k/gate:1"] <= 2


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
