"""The fold of a job's log: the same job, however and how often its events are heard."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.jobs.journal import ChangedCode, Journal, Pending, Spent, Succeeded
from bus.failure import Failure
from bus.messages import (
    CallJob,
    CallTool,
    Event,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
    ReplyProgress,
    ReplyRetrying,
    Signal,
)
from store.log import Recorded

JOB = "j"
KEYS = ("a:1", "a:2", "gather:1.0/b:1")


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


FAILURE = Failure(code="error", message="no")
key = st.sampled_from(KEYS)
happenings: st.SearchStrategy[Event] = st.one_of(
    st.builds(lambda host: JobOwned(job=JOB, host=host, request=1), st.sampled_from("AB")),
    st.builds(lambda on: JobWaiting(job=JOB, on=tuple(on)), st.lists(key, max_size=2)),
    st.builds(lambda call: CallTool(job=JOB, call=call, name=call[-3:-2], version=1), key),
    st.builds(lambda call, n: ReplyCompleted(job=JOB, call=call, output=raw(n)), key, st.integers(0, 9)),
    st.builds(lambda call: ReplyFailed(job=JOB, call=call, failure=FAILURE), key),
    st.builds(lambda call: ReplyRetrying(job=JOB, call=call, attempt=1), key),
    st.builds(lambda call: ReplyProgress(job=JOB, call=call, attempt=1, done=1.0), key),
    st.builds(lambda name: Signal(job=JOB, name=name), st.sampled_from(("go", "no"))),
    st.builds(
        lambda call, taken: ReplyCompleted(job=JOB, call=f"signal-go:{call}", op="signal",
                                           output=raw({"sequence": taken, "data": None})),
        st.integers(1, 3), st.integers(1, 30),
    ),
    st.just(JobCompleted(job=JOB)),
    st.just(JobFailed(job=JOB, failure=FAILURE)),
)  # fmt: skip


retries = st.builds(lambda calls: JobRetried(job=JOB, calls=tuple(calls)), st.lists(key, max_size=2))


def _alone(event: Event) -> list[Event]:
    return [event]


@st.composite
def logs(draw: st.DrawFn, *, retried: bool = False) -> list[Recorded]:
    """A log as the server might hold it: any happenings, at rising sequences."""
    failed = st.tuples(st.just(JobFailed(job=JOB, failure=FAILURE)), retries).map(list)
    parts = st.one_of(happenings.map(_alone), *((retries.map(_alone), failed) if retried else ()))
    drawn = [event for part in draw(st.lists(parts, max_size=25)) for event in part]
    events: list[Event] = [JobSubmitted(job=JOB, workflow="w", version="1.0.0"), *drawn]
    steps = draw(st.lists(st.integers(1, 3), min_size=len(events), max_size=len(events)))
    return [Recorded(sum(steps[: i + 1]), event) for i, event in enumerate(events)]


def folded(events: list[Recorded]) -> Journal:
    journal = Journal()
    journal.read(events)
    return journal


def facts(journal: Journal) -> tuple[Any, ...]:
    """All that the job core decides by."""
    entries = journal.entries.items()
    return (
        {c: (e.op, e.name, e.outcome, e.parked_on, e.asked_at, e.command, e.void_to) for c, e in entries},
        journal.signals, journal.submitted, journal.owner, journal.owned_at, journal.parked, journal.ended,
        journal.owned_in_vain, journal.last_outcome, journal.retried, journal.retried_at,
    )  # fmt: skip


@given(logs(retried=True), st.data())
def test_what_is_heard_again_changes_nothing(log: list[Recorded], data: st.DataObject) -> None:
    """Every event may come again later, in any order, as often as it likes."""
    journal = folded(log)
    before = facts(journal)
    for again in data.draw(st.lists(st.sampled_from(log), max_size=20)):
        assert journal.apply(again) is None
    assert facts(journal) == before


@given(logs(retried=True), st.data())
def test_repeats_on_the_way_change_nothing(log: list[Recorded], data: st.DataObject) -> None:
    """A live host hears some events twice while it goes; it sees the job that a replay sees."""
    live: list[Recorded] = []
    for number, event in enumerate(log):
        live.append(event)
        live += data.draw(st.lists(st.sampled_from(log[: number + 1]), max_size=2))
    assert facts(folded(live)) == facts(folded(log))


@given(logs(retried=True), st.integers(0, 51))
def test_reading_in_parts_is_reading_at_once(log: list[Recorded], cut: int) -> None:
    """A resumed reading from the last sequence gives what one reading gives."""
    journal = folded(log[:cut])
    journal.read([r for r in log if r.sequence > journal.read_to])
    assert facts(journal) == facts(folded(log))


@given(logs(retried=True), key, st.booleans())
def test_later_replies_change_nothing(log: list[Recorded], call: str, fails: bool) -> None:
    """The first reply in the log is the call's outcome, whatever anybody says after it."""
    journal = folded(log)
    entry = journal.entries.get(call)
    if entry is None or isinstance(entry.outcome, Pending):
        return
    before = entry.outcome
    late: Event = (
        ReplyFailed(job=JOB, call=call, failure=FAILURE)
        if fails
        else ReplyCompleted(job=JOB, call=call, output=raw("x"))
    )
    assert journal.apply(Recorded(10_000, late)) is None
    assert journal.entries[call].outcome == before


@given(logs())
def test_the_first_reply_wins(log: list[Recorded]) -> None:
    """Each outcome is that of the lowest sequence, as the plain definition says."""
    first: dict[str, Succeeded | Spent] = {}
    for r in log:
        match r.event:
            case ReplyCompleted(call=call, output=output):
                first.setdefault(call, Succeeded(output, r.sequence))
            case ReplyFailed(call=call, failure=failure):
                first.setdefault(call, Spent(failure, r.sequence))
    outcomes = {c: e.outcome for c, e in folded(log).entries.items() if not isinstance(e.outcome, Pending)}
    assert outcomes == first


@given(logs())
def test_a_signal_is_there_until_it_is_taken(log: list[Recorded]) -> None:
    """The signals that may still be taken are those in the log that no recorded wait has taken."""
    taken = {
        msgspec.json.decode(r.event.output)["sequence"]
        for n, r in enumerate(log)
        if isinstance(r.event, ReplyCompleted) and r.event.op == "signal"
        and not any(isinstance(e.event, ReplyCompleted) and e.event.call == r.event.call for e in log[:n])
    }  # fmt: skip
    assert set(folded(log).signals) == {r.sequence for r in log if isinstance(r.event, Signal)} - taken


@given(logs(), st.lists(key, unique=True), logs())
def test_a_retried_history_is_one_without_what_is_void(
    first: list[Recorded], named: list[str], second: list[Recorded]
) -> None:
    """The end and the failures that a retry names might never have been; all else stands as it was recorded."""
    before = [r for r in first if not isinstance(r.event, JobCompleted | JobFailed)]
    void = {c for c, e in folded(before).entries.items() if isinstance(e.outcome, Spent) and c in named}
    after = [Recorded(r.sequence + 1000, r.event) for r in second if not isinstance(r.event, JobSubmitted)]
    retry = [
        Recorded(900, JobFailed(job=JOB, failure=FAILURE)),
        Recorded(901, JobRetried(job=JOB, calls=tuple(named))),
    ]
    real, plain = folded([*before, *retry, *after]), folded([r for r in before if not answers(r, void)] + after)
    assert outcomes(real) == outcomes(plain)
    assert (real.ended, real.signals, real.owner, real.owned_at) == (
        plain.ended, plain.signals, plain.owner, plain.owned_at,
    )  # fmt: skip
    assert real.retried is not None


def answers(recorded: Recorded, calls: set[str]) -> bool:
    return isinstance(recorded.event, ReplyCompleted | ReplyFailed) and recorded.event.call in calls


def outcomes(journal: Journal) -> dict[str, Any]:
    return {c: e.outcome for c, e in journal.entries.items() if not isinstance(e.outcome, Pending)}


def test_what_is_void_is_asked_for_once_more() -> None:
    """A failed call that a retry names, and one that has no answer: until the new command stands, and then no more."""
    log = [
        Recorded(1, CallTool(job=JOB, call="a:1", name="a", version=1)),
        Recorded(2, CallTool(job=JOB, call="a:2", name="a", version=1)),
        Recorded(3, CallTool(job=JOB, call="b:1", name="b", version=1)),
        Recorded(4, CallJob(job=JOB, call="c:1", name="c", version=1, child="x")),
        Recorded(5, ReplyFailed(job=JOB, call="a:1", failure=FAILURE)),
        Recorded(6, ReplyFailed(job=JOB, call="b:1", failure=FAILURE)),
        Recorded(7, JobFailed(job=JOB, failure=FAILURE)),
    ]
    retried = Recorded(8, JobRetried(job=JOB, calls=("a:1",)))
    journal = folded([*log, retried])
    assert (journal.ended, journal.parked) == (None, True)
    assert [c for c, e in journal.entries.items() if e.is_void] == ["a:1", "a:2"], "a child answers whenever it ends"
    assert isinstance(journal.entries["b:1"].outcome, Spent), "it was not named"
    journal.apply(Recorded(9, CallTool(job=JOB, call="a:1", name="a", version=1, input=raw("new"))))
    entry = journal.entries["a:1"]
    assert (entry.is_void, entry.asked_at) == (False, 9)
    assert entry.command is not None and bytes(entry.command.input) == b'"new"'
    assert journal.apply(log[4]) is None and isinstance(entry.outcome, Pending)
    assert journal.apply(Recorded(10, ReplyFailed(job=JOB, call="a:1", failure=FAILURE))) == "a:1"
    assert not folded([*log[:-1], Recorded(8, JobCompleted(job=JOB)), Recorded(9, retried.event)]).parked


def test_an_operation_of_another_kind_is_changed_code() -> None:
    """The error names the key, what is recorded there, and what the present code asks for."""
    journal = folded([Recorded(1, CallTool(job=JOB, call="quote:1", name="quote", version=1))])
    for op, name in (("job", "quote"), ("tool", "price"), ("local", "quote")):
        with pytest.raises(ChangedCode) as caught:
            journal.recall("quote:1", op, name)
        assert caught.value.code == "changed_code"
        assert caught.value.details == {"call": "quote:1", "recorded": "tool quote", "present": f"{op} {name}"}
    assert journal.recall("quote:1", "tool", "quote") is not None
    assert journal.recall("quote:2", "tool", "quote") is None


def test_a_child_that_the_job_has_parked_on_was_asked_for() -> None:
    """Only then its request need not be published again on a resume."""
    call = CallJob(job=JOB, call="c:1", name="c", version=1, child="x")
    assert not folded([Recorded(1, call)]).entries["c:1"].parked_on
    assert folded([Recorded(1, call), Recorded(2, JobWaiting(job=JOB, on=("c:1",)))]).entries["c:1"].parked_on


def test_a_gap_is_seen_by_the_servers_count() -> None:
    """The previous message of a subject must have been heard or read."""
    journal = Journal(read_to=10)
    assert not journal.has_gap("s", 10)
    assert journal.has_gap("s", 11)
    journal.heard["s"] = 11
    assert not journal.has_gap("s", 11)
    assert journal.has_gap("other", 11)
