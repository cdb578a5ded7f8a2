"""Chaos: a short run with every kind of fault, and proof that the verdict would find what it looks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.history import History
from bench.chaos.injury import Injury
from bench.chaos.ledger import Line, Run, fold_lines
from bench.chaos.link import Link
from bench.chaos.orders import SHARES, Fails, Order, Returns, make_order
from bench.chaos.plan import LENGTHS_S, make_plan
from bench.chaos.report import render
from bench.chaos.stage import Settings, set_up
from bench.chaos.verdict import Evidence, Finding, judge, recovery, repeats
from bus import headers as h
from bus import subjects
from bus.failure import Failure
from bus.messages import CallTool, Event, JobCompleted, JobFailed, JobOwned, JobRetried, JobSubmitted, ReplyCompleted
from bus.messages import encode as encode_event
from bus.reader import Stored

SEED = 20
START_S = 1_800_000_000.0


@pytest.mark.timeout(240)
async def test_short_run(tmp_path: Path) -> None:
    """Every kind of fault within some seconds, under load: nothing is lost, wrong, doubled or out of order."""
    settings = Settings(seed=SEED, seconds=18, jobs_per_s=4, gap_s=1.3, quiet_s=90)
    async with set_up(settings, tmp_path) as stage:
        outcome = await stage.run()
    assert not outcome.findings, render(outcome)
    assert len(outcome.evidence.accepted) == 72
    assert len({injury.kind for injury in outcome.evidence.injuries} & set(LENGTHS_S)) >= 8


# ---- the plan


@given(st.integers(), st.floats(10, 600))
def test_plan_follows_from_the_seed(seed: int, seconds: float) -> None:
    """The same seed is the same plan, within the time, and deals every kind as often as any other but for one."""
    plan = make_plan(seed, seconds)
    assert plan == make_plan(seed, seconds)
    assert all(0 < fault.at_s < seconds for fault in plan)
    counts = [sum(fault.kind == kind for fault in plan) for kind in LENGTHS_S]
    assert max(counts) - min(counts) <= 1


def test_load_has_every_kind() -> None:
    """A few hundred orders hold every kind, and the same seed gives the same orders."""
    orders = [make_order(3, number) for number in range(300)]
    assert {order.kind for order in orders} == set(SHARES)
    assert orders == [make_order(3, number) for number in range(300)]


# ---- the verdict: a clean run, and what each broken promise looks like


def stored(sequence: int, event: Event, *, epoch: int | None = None, at_s: float | None = None) -> Stored:
    """An event as the stream holds it, one second after the other."""
    instant = datetime.fromtimestamp(START_S + sequence if at_s is None else at_s, UTC)
    headers = {h.TIME_STAMP: instant.isoformat().replace("+00:00", "Z")}
    if epoch is not None:
        headers[h.EXPECTED_SEQUENCE] = str(epoch)
    return Stored(subjects.event("default", event.job, event.kind), sequence, encode_event(event), headers)


CALL = CallTool(job="j", call="add:1", name="add", version=1)
OWNED = JobOwned(job="j", host="n1/host-1", pid=7)
DONE = JobCompleted(job="j", output=msgspec.Raw(b"2"))
LOG = [
    stored(1, JobSubmitted(job="j", workflow="one", version="1.0.0")), stored(2, OWNED), stored(3, CALL, epoch=2),
    stored(4, ReplyCompleted(job="j", call="add:1")), stored(5, DONE, epoch=2),
]  # fmt: skip
RUN = Run(job="j", call="add:1", attempt=1, pid=9, begun_s=START_S + 3.1, ended_s=START_S + 3.5, outcome="returned")
ORDER = Order("j", "one", {"n": 1}, Returns(2))


def evidence(log: list[Stored] | None = None, **changes: object) -> Evidence:
    """What a clean run of one job leaves, with changes."""
    history, log = History("j"), LOG if log is None else log
    for message in log:
        history.take(message)
    sequences = [message.sequence for message in log]
    clean = Evidence(
        accepted={"j": (ORDER, START_S)}, histories={"j": history} if log else {}, runs=[RUN], injuries=[],
        log=sequences, told=sequences, live=[(m.sequence, m.subject) for m in log],
        subjects={m.sequence: m.subject for m in log},
    )  # fmt: skip
    return replace(clean, **changes)  # type: ignore[arg-type]


def again(after_s: float, **changes: object) -> Run:
    """A second run of the call, so long after the first began."""
    return Run(**{
        "job": "j", "call": "add:1", "attempt": 2, "pid": 10, "begun_s": RUN.begun_s + after_s, **changes,
    })  # type: ignore[arg-type]  # fmt: skip


def kill(pid: int = 9, after_s: float = 0.2) -> Injury:
    """A death of that process, so long after the first run began."""
    at_s = RUN.begun_s + after_s
    return Injury(kind="kill tool", begun_s=at_s, ended_s=at_s, pids=(pid,), fatal=True)


KILLED = Run(job="j", call="add:1", attempt=1, pid=9, begun_s=RUN.begun_s)
CLEAN: dict[str, Callable[[], Evidence]] = {
    "nothing happened": evidence,
    "killed in the middle": lambda: evidence(runs=[KILLED, again(0.5)], injuries=[kill()]),
    "killed before its reply was stored": lambda: evidence(runs=[RUN, again(0.8)], injuries=[kill(after_s=0.6)]),
    "it raised": lambda: evidence(runs=[Run(**{**_fields(RUN), "outcome": "raised"}), again(0.5)]),
    "it killed itself": lambda: evidence(runs=[Run(**{**_fields(RUN), "outcome": "died"}), again(0.5)]),
    "the server was killed": lambda: evidence(
        runs=[KILLED, again(0.5)], injuries=[Injury(kind="kill server", begun_s=RUN.begun_s, ended_s=RUN.begun_s + 1)]
    ),
    "taken over": lambda: evidence([*LOG[:3], stored(4, OWNED), stored(5, DONE, epoch=4)]),
    "retried": lambda: evidence([
        *LOG[:3], stored(4, JobFailed(job="j", failure=Failure(code="x", message="x")), epoch=2),
        stored(5, JobRetried(job="j", calls=("add:1",))), stored(6, OWNED), stored(7, CALL, epoch=6),
        stored(8, DONE, epoch=6),
    ], runs=[]),
    "live missed some": lambda: evidence(live=[(2, LOG[1].subject), (5, LOG[4].subject)]),
}  # fmt: skip


def _fields(run: Run) -> dict[str, object]:
    return {field: getattr(run, field) for field in run.__struct_fields__}


BROKEN: dict[str, tuple[str, Callable[[], Evidence]]] = {
    "not in the log": ("lost", lambda: evidence([], runs=[])),
    "not ended": ("lost", lambda: evidence(LOG[:4])),
    "a child did not end": ("lost", lambda: evidence(histories={**evidence().histories, "j-c": History("j-c")})),
    "wrong result": ("wrong", lambda: evidence(accepted={"j": (replace(ORDER, end=Returns(3)), 0.0)})),
    "completed, was to fail": ("wrong", lambda: evidence(accepted={"j": (replace(ORDER, end=Fails("doomed")), 0.0)})),
    "two ends": ("doubled", lambda: evidence([*LOG, stored(6, DONE, epoch=2)])),
    "a command twice": ("doubled", lambda: evidence([*LOG[:4], stored(5, CALL, epoch=2), stored(6, DONE, epoch=2)])),
    "written by who lost it": ("doubled", lambda: evidence([*LOG[:3], stored(4, OWNED), stored(5, DONE, epoch=2)])),
    "written without a fence": ("doubled", lambda: evidence([*LOG[:4], stored(5, DONE)])),
    "recorded, and run again": (
        "recorded call ran again", lambda: evidence(runs=[RUN, again(4.0)], injuries=[kill(after_s=3.9)]),
    ),
    "run again for no reason": ("ran again without a fault", lambda: evidence(runs=[RUN, again(0.5)])),
    "another process was killed": (
        "ran again without a fault", lambda: evidence(runs=[KILLED, again(0.5)], injuries=[kill(pid=8)]),
    ),
    "killed only afterwards": (
        "ran again without a fault", lambda: evidence(runs=[KILLED, again(0.5)], injuries=[kill(after_s=0.7)]),
    ),
    "the tail missed one": ("order", lambda: evidence(told=[1, 2, 4, 5])),
    "the tail told one twice": ("order", lambda: evidence(told=[1, 2, 2, 3, 4, 5])),
    "live out of order": ("order", lambda: evidence(live=[(3, LOG[2].subject), (2, LOG[1].subject)])),
    "live brought what is not stored": ("order", lambda: evidence(live=[(6, LOG[4].subject)])),
    "a request is left": ("left", lambda: evidence(left=["1 requests on jobs.default.one"])),
}  # fmt: skip


@pytest.mark.parametrize("made", CLEAN.values(), ids=CLEAN.keys())
def test_clean_evidence_is_not_accused(made: Callable[[], Evidence]) -> None:
    """What may happen under faults is no broken promise."""
    assert judge(made()) == []


@pytest.mark.parametrize(("broken", "made"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_promise_is_found(broken: str, made: Callable[[], Evidence]) -> None:
    """Each promise that is broken on purpose is found, and no other one is accused beside it."""
    findings = judge(made())
    assert findings and {finding.broken for finding in findings} == {broken}
    assert all(isinstance(finding, Finding) and finding.evidence for finding in findings)


def test_repeats_name_their_cause_and_recovery_its_time() -> None:
    """A call that ran again is told with the fault that hit it, and with how long it took to run again."""
    known = evidence(runs=[KILLED, again(2.2)], injuries=[kill()])
    assert [repeat.cause for repeat in repeats(known.runs, known.injuries)] == ["kill tool"]
    assert recovery(known).rerun_s == pytest.approx(2.0)
    host = Injury(kind="kill host", begun_s=START_S + 3.5, ended_s=START_S + 3.5, pids=(7,), fatal=True)
    taken = evidence([*LOG[:4], stored(5, OWNED), stored(6, DONE, epoch=5)], injuries=[host])
    assert recovery(taken).takeover_s == pytest.approx(1.5)


def test_ledger_keeps_runs_without_an_end() -> None:
    """A run whose process was killed stands there as one that left no word."""
    lines = [
        Line("a", 1.0, job="j", call="x:1", pid=1),
        Line("b", 2.0, job="j", call="x:1", pid=2),
        Line("b", 3.0, "returned"),
    ]
    assert [(run.pid, run.outcome) for run in fold_lines(lines)] == [(1, "none"), (2, "returned")]


# ---- the link


@pytest.fixture
async def echo() -> asyncio.Server:
    """A server that answers what it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_link_passes_stalls_and_cuts(echo: asyncio.Server) -> None:
    """What goes through a link arrives, in order; a stalled one holds it back, a cut one ends the connection."""
    async with echo, Link("127.0.0.1", echo.sockets[0].getsockname()[1]) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        link.delay_s = 0.05
        writer.write(b"one ")
        writer.write(b"two ")
        assert await reader.readexactly(8) == b"one two "
        link.stall()
        writer.write(b"three")
        waiting = asyncio.create_task(reader.readexactly(5))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done, "nothing comes through a link that stands still"
        link.heal()
        assert await waiting == b"three"
        link.cut()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        again_reader, again_writer = await asyncio.open_connection("127.0.0.1", link.port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await again_reader.readexactly(1)
        again_writer.close()
