"""The fold of a job's log: the same job, however and how often its events are heard."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.journal import ChangedCode, Journal, Pending, Spent, Succeeded
from bus.failure import Failure
from bus.messages import (
    CallJob,
    CallTool,
    Event,
    JobCompleted,
    JobFailed,
    JobOwned,
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


@st.composite
def logs(draw: st.DrawFn) -> list[Recorded]:
    """A log as the server might hold it: any happenings, at rising sequences."""
    events: list[Event] = [
        JobSubmitted(job=JOB, workflow="w", version="1.0.0"),
        *draw(st.lists(happenings, max_size=25)),
    ]
    steps = draw(st.lists(st.integers(1, 3), min_size=len(events), max_size=len(events)))
    return [Recorded(sum(steps[: i + 1]), event) for i, event in enumerate(events)]


def folded(events: list[Recorded]) -> Journal:
    journal = Journal()
    journal.read(events)
    return journal


def facts(journal: Journal) -> tuple[Any, ...]:
    """All that the job core decides by."""
    return (
        {call: (e.op, e.name, e.outcome, e.parked_on, e.asked_at, e.command) for call, e in journal.entries.items()},
        journal.signals, journal.submitted, journal.owner, journal.owned_at, journal.parked, journal.ended,
        journal.owned_in_vain, journal.last_outcome,
    )  # fmt: skip


@given(logs(), st.data())
def test_what_is_heard_again_changes_nothing(log: list[Recorded], data: st.DataObject) -> None:
    """Every event may come again later, in any order, as often as it likes."""
    journal = folded(log)
    before = facts(journal)
    for again in data.draw(st.lists(st.sampled_from(log), max_size=20)):
        assert journal.apply(again) is None
    assert facts(journal) == before


@given(logs(), st.data())
def test_repeats_on_the_way_change_nothing(log: list[Recorded], data: st.DataObject) -> None:
    """A live host hears some events twice while it goes; it sees the job that a replay sees."""
    live: list[Recorded] = []
    for number, event in enumerate(log):
        live.append(event)
        live += data.draw(st.lists(st.sampled_from(log[: number + 1]), max_size=2))
    assert facts(folded(live)) == facts(folded(log))


@given(logs(), st.integers(0, 26))
def test_reading_in_parts_is_reading_at_once(log: list[Recorded], cut: int) -> None:
    """A resumed reading from the last sequence gives what one reading gives."""
    journal = folded(log[:cut])
    journal.read([r for r in log if r.sequence > journal.read_to])
    assert facts(journal) == facts(folded(log))


@given(logs(), key, st.booleans())
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
