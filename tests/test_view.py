"""The fold of a job's events into what people see."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.approval_events import ApprovalAsked
from bus.errors import UsageError
from bus.failure import Failure
from bus.messages import (
    CallAgent,
    CallJob,
    CallTool,
    DeadDropped,
    DeadKept,
    DeadRedriven,
    Emitted,
    Ended,
    Event,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobPaused,
    JobRejected,
    JobResumed,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
    ReplyProgress,
    ReplyRetrying,
    Signal,
)
from store.approval import ApprovalView
from store.job_fold import JobFold, fold_view
from store.log import Recorded
from store.view import ENDED, JobView
from tests.strategies import EVENT_TYPES, events_of

T0 = datetime(2026, 1, 2, 12, tzinfo=UTC)
BOOM = Failure(code="error", message="boom")
REPLIES = (ReplyCompleted, ReplyFailed, ReplyRetrying, ReplyProgress)


def numbered(events: Iterable[Event], *, start: int = 1) -> list[Recorded]:
    """Events with the sequences that a log would have given them, with holes between."""
    return [Recorded(start + 2 * i, event) for i, event in enumerate(events)]


def at(after_s: float) -> datetime:
    """The instant that many seconds after the start."""
    return T0 + timedelta(seconds=after_s)


def of(*events: Event) -> JobView:
    """The view of a job with these events."""
    return fold_view("shop", numbered(events))


def begun() -> list[Event]:
    """A job that a host has taken up."""
    submitted = JobSubmitted(
        job="j", at=at(0), workflow="order", version="1.2.0", app="shop", input=msgspec.Raw(b'{"sku":"A1"}')
    )
    return [submitted, JobOwned(job="j", at=at(0), host="n1")]


def command(call: str, after_s: float) -> CallTool:
    """A call of the tool quote."""
    return CallTool(job="j", at=at(after_s), call=call, name="quote", version=1)


def test_a_job_that_went_well() -> None:
    """State, times, host, input, output and the calls with their durations are those of the log."""
    view = of(
        *begun(),
        command("quote:1", 1),
        ReplyCompleted(job="j", at=at(3), call="quote:1", output=msgspec.Raw(b"7"), attempt=2, actor="n1/quote#1"),
        JobCompleted(job="j", at=at(4), output=msgspec.Raw(b'{"total":7}')),
    )
    assert (view.workspace, view.job, view.workflow, view.version, view.app) == ("shop", "j", "order", "1.2.0", "shop")
    assert (view.state, view.host, view.owners, view.last_sequence) == ("completed", "n1", 1, 9)
    assert (view.submitted_at, view.ended_at, view.duration_s) == (at(0), at(4), 4.0)
    assert (bytes(view.input), bytes(view.output)) == (b'{"sku":"A1"}', b'{"total":7}')
    (call,) = view.calls
    assert (call.call, call.kind, call.name, call.version, call.state) == ("quote:1", "tool", "quote", 1, "completed")
    assert (call.started_at, call.ended_at, call.duration_s, call.attempts) == (at(1), at(3), 2.0, 2)
    assert (call.actor, bytes(call.output)) == ("n1/quote#1", b"7")


def test_no_events_is_no_job() -> None:
    """A job that nobody has heard of is an error with a code of its own, not an empty job."""
    with pytest.raises(UsageError) as caught:
        fold_view("shop", [])
    assert caught.value.code == "no_such_job"


def test_the_first_reply_of_a_call_counts() -> None:
    """A reply that comes after another one, as after a redelivery, changes nothing."""
    view = of(
        *begun(),
        command("quote:1", 1),
        ReplyCompleted(job="j", at=at(2), call="quote:1", output=msgspec.Raw(b"1")),
        ReplyFailed(job="j", at=at(3), call="quote:1", failure=BOOM),
    )
    assert (view.calls[0].state, bytes(view.calls[0].output), view.calls[0].failure) == ("completed", b"1", None)


def test_retries_and_progress_of_a_running_call() -> None:
    """A call that is being retried shows the last failure; progress of the next attempt shows it running again."""
    events = [*begun(), command("quote:1", 1), ReplyRetrying(job="j", call="quote:1", attempt=1, failure=BOOM)]
    assert of(*begun(), command("quote:1", 1)).calls[0].attempts == 0
    retrying = of(*events).calls[0]
    assert (retrying.state, retrying.attempts, retrying.failure) == ("retrying", 1, BOOM)
    running = of(*events, ReplyProgress(job="j", call="quote:1", attempt=2, done=3, total=10, note="files")).calls[0]
    assert (running.state, running.attempts) == ("running", 2)
    assert running.progress is not None
    assert (running.progress.done, running.progress.total, running.progress.note) == (3, 10, "files")


def test_a_call_that_was_handed_back_did_not_run() -> None:
    """An actor that stops gives calls back unbegun; that is no attempt."""
    view = of(*begun(), command("q:1", 1), ReplyRetrying(job="j", call="q:1", attempt=1, handed_back=True))
    assert (view.calls[0].state, view.calls[0].attempts) == ("retrying", 0)


def test_what_the_host_recorded_itself_has_no_command() -> None:
    """Local work and signals are calls of their own kind, under the name in their key."""
    view = of(
        *begun(), ReplyCompleted(job="j", at=at(2), call="gather:1.0/now:1", op="local", output=msgspec.Raw(b"5"))
    )
    (call,) = view.calls
    assert (call.kind, call.name, call.state, bytes(call.output)) == ("local", "now", "completed", b"5")


def test_a_sleep_ends_when_it_is_due() -> None:
    """A sleep is recorded when it begins, with the instant of its end: that is its duration."""
    due = msgspec.Raw(msgspec.json.encode(at(62)))
    call = of(*begun(), ReplyCompleted(job="j", at=at(2), call="sleep:1", op="sleep", output=due)).calls[0]
    assert (call.kind, call.started_at, call.ended_at, call.duration_s) == ("sleep", at(2), at(62), 60.0)


def test_a_reply_without_its_command_is_shown_all_the_same() -> None:
    """A hole in the log hides nothing that is still in it."""
    call = of(*begun(), ReplyFailed(job="j", at=at(2), call="quote:1", failure=BOOM)).calls[0]
    assert (call.kind, call.name, call.state, call.failure) == ("unknown", "quote", "failed", BOOM)


def test_waiting_ends_when_the_host_goes_on() -> None:
    """A parked job says what it waits for, until it is owned again or its host writes something."""
    parked = [*begun(), JobWaiting(job="j", on=("signal.approve",), until=at(90))]
    assert (of(*parked).state, of(*parked).waiting_on, of(*parked).waiting_until) == (
        "waiting", ("signal.approve",), at(90),
    )  # fmt: skip
    signal = Signal(job="j", name="approve", by="ann", data=msgspec.Raw(b"true"))
    assert of(*parked, signal).state == "waiting"
    for woken in (JobOwned(job="j", host="n2"), command("quote:1", 5), ReplyCompleted(job="j", call="s", op="signal")):
        view = of(*parked, signal, woken)
        assert (view.state, view.waiting_on, view.waiting_until) == ("running", (), None)
    assert of(*parked, signal, JobOwned(job="j", host="n2")).owners == 2
    assert (view.signals[0].name, view.signals[0].by, bytes(view.signals[0].data)) == ("approve", "ann", b"true")


def test_a_pause_outlives_its_host() -> None:
    """A paused job stays paused when another host takes it up, until it is resumed or ends."""
    paused = [*begun(), JobPaused(job="j"), JobOwned(job="j", host="n2")]
    assert of(*paused).state == "paused"
    assert of(*paused, JobResumed(job="j")).state == "running"
    assert of(*paused, JobCancelled(job="j", by="ann", reason="stop")).state == "cancelled"


def test_the_ways_to_end() -> None:
    """A failure, a cancellation and a rejection each keep what is known of them; a second end changes nothing."""
    failed = of(*begun(), JobFailed(job="j", at=at(2), failure=BOOM), JobCompleted(job="j", at=at(3)))
    assert (failed.state, failed.failure, failed.duration_s, failed.has_ended) == ("failed", BOOM, 2.0, True)
    cancelled = of(*begun(), JobCancelled(job="j", by="ann", reason="no need"))
    assert (cancelled.state, cancelled.ended_by, cancelled.reason) == ("cancelled", "ann", "no need")
    rejected = of(JobRejected(job="j", at=at(1), workflow="ordr", failure=BOOM, input=msgspec.Raw(b"{}")))
    assert (rejected.state, rejected.workflow, rejected.failure) == ("rejected", "ordr", BOOM)
    assert (rejected.submitted_at, rejected.duration_s, bytes(rejected.input)) == (None, 0.0, b"{}")


def test_a_request_taken_up_after_a_rejection_begins_anew() -> None:
    """An id that was refused may be asked for again: nothing of the rejection stays."""
    view = of(JobRejected(job="j", workflow="ordr", failure=BOOM), *begun())
    assert view == msgspec.structs.replace(of(*begun()), last_sequence=view.last_sequence)


def test_a_child_names_its_job() -> None:
    """The call of a workflow says which job answers it."""
    view = of(*begun(), CallJob(job="j", call="ship:1", name="ship", version=1, child="c42"))
    assert (view.calls[0].kind, view.calls[0].child) == ("job", "c42")


def test_the_view_crosses_the_wire() -> None:
    """What the gateway sends is what the CLI shows."""
    view = of(
        *begun(),
        command("q:1", 1),
        ReplyRetrying(job="j", call="q:1", attempt=1, failure=BOOM),
        Signal(job="j", name="x"),
    )
    assert msgspec.json.decode(msgspec.json.encode(view), type=JobView) == view


# ---- retries and dead letters


def failed_by(call: str) -> list[Event]:
    """A job that failed by one call, beside one that went well."""
    return [
        *begun(),
        command("ok:1", 1),
        ReplyCompleted(job="j", at=at(2), call="ok:1", output=msgspec.Raw(b"1")),
        command(call, 3),
        ReplyFailed(job="j", at=at(4), call=call, failure=BOOM, attempt=3),
        JobFailed(job="j", at=at(5), failure=BOOM),
    ]


def test_a_failed_job_that_is_retried_goes_on() -> None:
    """Its end is void, the call that it failed by runs anew from its new command, and what went well stays."""
    retried = [*failed_by("q:1"), JobRetried(job="j", at=at(60), calls=("q:1",), by="ann")]
    view = of(*retried)
    assert (view.state, view.failure, view.ended_at, view.duration_s, view.retries) == (
        "submitted",
        None,
        None,
        None,
        1,
    )
    ok, call = view.calls
    assert (ok.state, bytes(ok.output)) == ("completed", b"1")
    assert (call.state, call.attempts, call.failure, call.started_at) == ("running", 0, None, at(3))
    anew = [*retried, JobOwned(job="j", at=at(61), host="n2"), command("q:1", 62)]
    assert (of(*anew).state, of(*anew).calls[1].started_at) == ("running", at(62))
    done = of(*anew, ReplyCompleted(job="j", at=at(63), call="q:1"), JobCompleted(job="j", at=at(64)))
    assert (done.state, done.calls[1].state, done.calls[1].duration_s) == ("completed", "completed", 1.0)


@pytest.mark.parametrize("end", [JobCompleted(job="j"), JobCancelled(job="j"), None])
def test_only_a_failed_job_can_be_retried(end: Event | None) -> None:
    """The event changes nothing in any other job."""
    events = [*begun(), *([end] if end else [])]
    view = of(*events, JobRetried(job="j", calls=("q:1",)))
    assert view == msgspec.structs.replace(of(*events), last_sequence=view.last_sequence)


def letter(sequence: int) -> DeadKept:
    """The dead letter of a message of EVENTS."""
    return DeadKept(job="j", failure=BOOM, subject="s", stream="EVENTS", stream_sequence=sequence, deliveries=3)


def test_dead_letters_are_shown_until_somebody_has_seen_to_them() -> None:
    """By their ids; one message has one letter, however often it was written."""
    events: list[Event] = [*begun(), letter(7), letter(7), letter(9)]
    assert of(*events).letters == (5, 9)
    assert of(*events, DeadRedriven(job="j", letter=5)).letters == (9,)
    assert of(*events, DeadDropped(job="j", letter=9)).letters == (5,)


# ---- any log at all

calls = st.sampled_from(["a:1", "b:1", "gather:1.0/a:2"])
any_event = st.sampled_from(EVENT_TYPES).flatmap(lambda t: events_of(t, job=st.just("j"), call=calls))
logs = st.lists(any_event, min_size=1, max_size=25).map(numbered)


@given(logs, st.data())
def test_incremental_is_the_whole(log: list[Recorded], data: st.DataObject) -> None:
    """Folding in pieces, looking in between and feeding parts twice ends where folding all at once does."""
    fold = JobFold("shop")
    cut = data.draw(st.integers(0, len(log)))
    again = data.draw(st.integers(0, cut))
    for recorded in log[:cut]:
        fold.add(recorded)
        assert fold.view().last_sequence == recorded.sequence
    for recorded in log[again:]:
        fold.add(recorded)
    assert fold.view() == fold_view("shop", log)


@given(logs, st.data())
def test_later_replies_of_an_answered_call_change_nothing(log: list[Recorded], data: st.DataObject) -> None:
    """Whatever anyone says about a call after its first answer leaves it as it is."""
    view = fold_view("shop", log)
    answered = [call for call in view.calls if call.state in ("completed", "failed")]
    reply = data.draw(st.sampled_from(REPLIES).flatmap(lambda t: events_of(t, job=st.just("j"), op=st.just(""))))
    for call in answered:
        late = Recorded(view.last_sequence + 1, msgspec.structs.replace(reply, call=call.call))
        after = fold_view("shop", [*log, late])
        assert msgspec.structs.replace(after, last_sequence=view.last_sequence) == view


@given(logs, any_event)
def test_an_ended_job_stays_ended(log: list[Recorded], event: Any) -> None:
    """Only a request that is taken up after a rejection leaves an end, and a retry a failure."""
    view = fold_view("shop", log)
    after = fold_view("shop", [*log, Recorded(view.last_sequence + 1, event)])
    left = {"rejected": JobSubmitted, "failed": JobRetried}
    if view.state in ENDED and not isinstance(event, left.get(view.state, ())):
        assert (after.state, after.ended_at, after.output, after.failure) == (
            view.state, view.ended_at, view.output, view.failure,
        )  # fmt: skip


@given(logs)
def test_any_log_makes_a_view_that_crosses_the_wire(log: list[Recorded]) -> None:
    """No order of events breaks the fold, and every view can be sent."""
    view = fold_view("shop", log)
    assert msgspec.json.decode(msgspec.json.encode(view), type=JobView) == view
    assert len({call.call for call in view.calls}) == len(view.calls)
    assert all(call.duration_s is None or call.duration_s >= 0 for call in view.calls)


@given(logs, st.lists(calls, unique=True, max_size=2).map(tuple), logs)
def test_a_retried_history_is_one_without_what_is_void(
    before: list[Recorded], named: tuple[str, ...], after: list[Recorded]
) -> None:
    """The end, the failed calls that a retry names, and what has no answer might never have been."""
    first = [*begun(), *(r.event for r in before if not isinstance(r.event, (*Ended, *NOT_IN_BETWEEN)))]
    since = [r.event for r in after if not isinstance(r.event, NOT_IN_BETWEEN)]
    void = {c.call for c in of(*first).calls if c.state != "completed" and (c.state != "failed" or c.call in named)}
    kept = [e for e in first if not (isinstance(e, (*REPLIES, CallTool, CallAgent, CallJob)) and e.call in void)]
    anew = [JobOwned(job="j", host="n2"), *(command(call, 9) for call in sorted(void))]
    end = [JobFailed(job="j", failure=BOOM), JobRetried(job="j", calls=named)]
    assert same(of(*first, *end, *anew, *since)) == same(of(*kept, *anew, *since))


# An approval that is open stays open over a retry; no job emits under the key of a call.
NOT_IN_BETWEEN = (JobSubmitted, JobRetried, DeadKept, DeadRedriven, DeadDropped, ApprovalAsked, Emitted)


def same(view: JobView) -> JobView:
    """What two histories have to agree on: not sequences, nor the order in which calls were first heard of."""
    signals = tuple(msgspec.structs.replace(signal, sequence=0) for signal in view.signals)
    amendments = tuple(msgspec.structs.replace(amendment, sequence=0) for amendment in view.amendments)
    calls = tuple(sorted(view.calls, key=lambda call: call.call))
    approvals = tuple(sorted(map(unnumbered, view.approvals), key=lambda approval: approval.step))
    return msgspec.structs.replace(
        view, signals=signals, amendments=amendments, calls=calls, approvals=approvals, last_sequence=0, retries=0
    )


def unnumbered(approval: ApprovalView) -> ApprovalView:
    """Without sequences."""
    none: dict[str, Any] = {"sequence": 0}
    return msgspec.structs.replace(
        approval, last_sequence=0, answers=tuple(msgspec.structs.replace(a, **none) for a in approval.answers),
        ignored=tuple(msgspec.structs.replace(i, **none) for i in approval.ignored),
    )  # fmt: skip
