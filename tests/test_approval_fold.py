"""What follows from the answers to an approval: pure, by the log's order, however they are heard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.operations.question import make_question
from bus.approval_events import ApprovalAnswered, ApprovalAsked, ApprovalEscalated, Escalation
from bus.errors import UsageError
from bus.event import NULL
from store.approval import Approval, Decision
from tests.strategies import instants, json_values, names, raws

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATE = AT + timedelta(days=1)
STEP = "approval:1"


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def question(**changes: Any) -> ApprovalAsked:
    """An approval that anybody may answer."""
    return ApprovalAsked(**({"job": "j", "call": STEP, "title": "May I?", "at": AT} | changes))


def said(by: str, approved: bool = True, **changes: Any) -> ApprovalAnswered:
    """An answer, a second after it was asked."""
    fields = {"job": "j", "call": STEP, "approved": approved, "by": by, "at": AT + timedelta(seconds=1)}
    return ApprovalAnswered(**(fields | changes))


def of(asked: ApprovalAsked, *answers: ApprovalAnswered | ApprovalEscalated) -> Approval:
    """The fold of these events in this order."""
    approval = Approval()
    for sequence, event in enumerate((asked, *answers), 1):
        approval.take(event, sequence)
    return approval


def codes(approval: Approval) -> list[str]:
    return [ignored.code for ignored in approval.tally().ignored]


def decided(approval: Approval, now: datetime = AT) -> Decision:
    decision = approval.decide(now)
    assert decision is not None
    return decision


# ---- rules


def test_quorum_and_rejection() -> None:
    """So many different people approve, or one rejects; what comes after that changes nothing."""
    two = of(question(quorum=2), said("ann"), said("ann"))
    assert two.decide(LATE) is None and codes(two) == ["answered_already"]
    two.take(said("bob"), 9)
    two.take(said("cid", approved=False), 10)
    assert decided(two).approved and [a.by for a in decided(two).answers] == ["ann", "bob"]
    assert codes(two) == ["answered_already", "already_decided"]
    rejected = of(question(quorum=2), said("ann"), said("bob", approved=False), said("cid"))
    assert not decided(rejected).approved and not decided(rejected).expired


def test_an_edit_voids_the_approvals_before_it() -> None:
    """Who approved other values has not approved these, and may say so again; an edit to the same value is none."""
    asked = question(quorum=2, edit=raw({"amount": 10, "to": None}))
    same = of(asked, said("ann"), said("bob", edited=raw({"amount": 10})))
    assert decided(same).edited == {"amount": 10, "to": None}
    assert all(not answer.void and not answer.edited for answer in decided(same).answers)
    other = of(asked, said("ann"), said("bob", edited=raw({"amount": 9, "to": {"who": "x"}})))
    assert other.decide(LATE) is None
    other.take(said("ann"), 9)
    assert decided(other).approved and decided(other).edited == {"amount": 9, "to": {"who": "x"}}
    assert [(a.by, a.void, a.edited) for a in decided(other).answers] == [
        ("ann", True, {}), ("bob", False, {"amount": 9, "to": {"who": "x"}}), ("ann", False, {}),
    ]  # fmt: skip


SCHEMA = raw({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


@pytest.mark.parametrize(
    ("asked", "answer", "code"),
    [
        (question(), said(" "), "no_name"),
        (question(roles=("head",)), said("ann"), "wrong_role"),
        (question(roles=("head", "chief")), said("ann", roles=("clerk",)), "wrong_role"),
        (question(answer=SCHEMA), said("ann"), "bad_answer"),
        (question(answer=SCHEMA), said("ann", answer=raw({"n": "1"})), "bad_answer"),
        (question(answer=SCHEMA), said("ann", approved=False, answer=raw({})), "bad_answer"),
        (question(), said("ann", edited=raw({"a": 1})), "bad_edit"),
        (question(edit=raw({"a": 1})), said("ann", edited=raw({"a": "1"})), "bad_edit"),
        (question(edit=raw({"a": 1})), said("ann", edited=raw({"a": True})), "bad_edit"),
        (question(edit=raw({"a": 1})), said("ann", edited=raw([1])), "bad_edit"),
        (question(edit=raw({"a": 1})), said("ann", approved=False, edited=raw({"a": 2})), "bad_edit"),
        (question(expires_at=AT), said("ann"), "expired"),
        (question(expires_at=AT), said("ann", at=AT.replace(tzinfo=None)), "expired"),
    ],
)  # fmt: skip
def test_what_does_not_count(asked: ApprovalAsked, answer: ApprovalAnswered, code: str) -> None:
    """An answer that does not fit what was asked changes nothing, and is kept with the reason."""
    approval = of(asked, answer)
    assert codes(approval) == [code]
    assert not approval.tally().answers and approval.tally().verdict is None


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (question(roles=("head", "chief")), said("ann", roles=("clerk", "chief"))),
        (question(answer=SCHEMA), said("ann", answer=raw({"n": 1}))),
        (question(answer=SCHEMA), said("ann", approved=False)),
        (question(edit=raw({"a": 1})), said("ann", edited=raw({"a": 1.5}))),
        (question(expires_at=LATE), said("ann")),
        (question(answer=raw({"type": 7})), said("ann")),
    ],
)
def test_what_counts(asked: ApprovalAsked, answer: ApprovalAnswered) -> None:
    """A role among several, a rejection without an answer, a number of another kind, a schema that is none."""
    assert decided(of(asked, answer)).approved is answer.approved


def test_before_it_was_asked() -> None:
    """An answer that stands before the question is of no question."""
    approval = Approval()
    approval.take(said("ann"), 3)
    assert approval.view(STEP) is None
    approval.take(question(), 5)
    assert codes(approval) == ["not_asked"] and approval.decide(LATE) is None


def test_timers() -> None:
    """It wakes for each escalation and for its end; escalated roles may answer from there on."""
    steps = (Escalation(60, ("head",)), Escalation(120, ("chief",)))
    asked = question(roles=("clerk",), escalations=steps, expires_at=AT + timedelta(seconds=90))
    approval = of(asked)
    assert approval.wakes_at() == AT + timedelta(seconds=60)
    assert approval.next_escalation() == (AT + timedelta(seconds=60), 1, steps[0])
    approval.take(said("eve", roles=("head",)), 2)
    approval.take(ApprovalEscalated(job="j", call=STEP, level=1, roles=("head",)), 3)
    assert approval.wakes_at() == AT + timedelta(seconds=90)
    assert approval.decide(AT + timedelta(seconds=89)) is None
    expired = decided(approval, AT + timedelta(seconds=90))
    assert expired.expired and not expired.approved
    approval.take(said("eve", roles=("head",)), 4)
    assert decided(approval, AT + timedelta(seconds=90)).approved, "it was in time"
    assert codes(approval) == ["wrong_role"] and approval.tally().roles == ("clerk", "head")


# ---- any order, any number of times

people = st.sampled_from(["ann", "bob", "cid"])
answers = st.builds(
    said, people, st.booleans(), roles=st.lists(st.sampled_from(["clerk", "head"]), max_size=2).map(tuple),
    answer=st.sampled_from([NULL, raw({"n": 1}), raw("no")]),
    edited=st.sampled_from([NULL, raw({"a": 2}), raw({"a": 1}), raw({"b": 1}), raw(3)]),
    at=st.sampled_from([AT, LATE]),
)  # fmt: skip
escalated = st.builds(ApprovalEscalated, job=st.just("j"), call=st.just(STEP), level=st.integers(1, 2),
                      roles=st.just(("head",)))  # fmt: skip
asked_for = st.builds(
    question, quorum=st.integers(1, 3), roles=st.sampled_from([(), ("clerk",)]), answer=st.sampled_from([NULL, SCHEMA]),
    edit=st.sampled_from([NULL, raw({"a": 1})]), expires_at=st.sampled_from([None, LATE]),
)  # fmt: skip
words = st.lists(answers | escalated, max_size=7)


@given(asked_for, words, st.data())
def test_however_it_is_heard(asked: ApprovalAsked, said_then: list[Any], data: st.DataObject) -> None:
    """Events in any order, any number of times, make the same decision, which later events never change."""
    log = list(enumerate([asked, *said_then], 1))
    straight = of(asked, *said_then)
    heard = Approval()
    for sequence, event in data.draw(st.permutations(log + data.draw(st.lists(st.sampled_from(log), max_size=4)))):
        heard.take(event, sequence)
    assert heard.view(STEP) == straight.view(STEP)
    assert heard.decide(LATE) == straight.decide(LATE)
    verdicts = [of(asked, *said_then[:n]).decide(AT) for n in range(len(said_then) + 1)]
    first = next((n for n, verdict in enumerate(verdicts) if verdict), len(verdicts))
    assert all(verdict == verdicts[first] for verdict in verdicts[first:])


@given(asked_for, words)
def test_a_decision_is_well_founded(asked: ApprovalAsked, said_then: list[Any]) -> None:
    """Approved: a quorum of different people approves the very values that come out. Each answer is accounted for."""
    approval = of(asked, *said_then)
    tally = approval.tally()
    assert len(tally.answers) + len(tally.ignored) == sum(isinstance(e, ApprovalAnswered) for e in said_then)
    counting = [a.by for a in tally.counting]
    assert len(counting) == len(set(counting))
    if tally.verdict:
        assert len(counting) == asked.quorum and all(a.approved for a in tally.counting)
        first = min(a.sequence for a in tally.counting)
        assert approval.tally(to=first).values == tally.values
    decision = approval.decide(AT)
    if decision:
        assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


@given(st.builds(question, details=raws, answer=raws, edit=raws, roles=st.lists(names, max_size=2).map(tuple)),
       st.lists(st.builds(said, names, st.booleans(), answer=raws, edited=raws, at=instants), max_size=3))  # fmt: skip
def test_no_event_breaks_the_fold(asked: ApprovalAsked, said_then: list[Any]) -> None:
    """Whatever is in them, they can be shown."""
    approval = of(asked, *said_then)
    view = approval.view(STEP)
    assert view is not None and msgspec.json.encode(view)


# ---- questions


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"title": " "}, "title"), ({"title": None}, "title"), ({"quorum": 0}, "quorum"), ({"quorum": True}, "quorum"),
        ({"expires_s": 0}, "expires_s"), ({"expires_s": float("nan")}, "expires_s"), ({"expires_s": 1e12}, "expires_s"),
        ({"roles": "head"}, "roles"), ({"roles": ["a.b"]}, "role"), ({"answer": {"type": "integr"}}, "answer"),
        ({"edit": [1]}, "edit"), ({"details": object()}, ""), ({"escalate": [Escalation(5, ())]}, "escalate"),
        ({"escalate": [Escalation(5, ("head",))], "expires_s": 5}, "escalate"),
        ({"escalate": [Escalation(-1, ("head",))]}, "escalate"),
    ],
)  # fmt: skip
def test_a_question_that_nobody_could_answer_is_refused(changes: dict[str, Any], path: str) -> None:
    """The job's author is told which argument is wrong, before anything is in the log."""
    with pytest.raises(UsageError) as caught:
        make_question(**(defaults() | changes))
    assert caught.value.path == path


def defaults() -> dict[str, Any]:
    return {"title": "May I?", "details": None, "answer": None, "roles": (), "quorum": 1, "expires_s": None,
            "escalate": (), "edit": None}  # fmt: skip


@given(json_values)
def test_the_event_of_a_question(details: Any) -> None:
    """It holds what was given: details as they are, a type as its schema, escalations in order, a Struct's values."""

    class Terms(msgspec.Struct):
        limit: int

    steps = [Escalation(9, ("chief",)), Escalation(3, ("head", "head"))]
    made = make_question(**(defaults() | {"details": details, "answer": Terms, "escalate": steps, "expires_s": 10.0,
                                          "edit": Terms(3)}))  # fmt: skip
    asked = made.asked("j", STEP)
    assert msgspec.json.decode(asked.details) == msgspec.json.decode(msgspec.json.encode(details))
    assert msgspec.json.decode(asked.answer)["properties"] == {"limit": {"type": "integer"}}
    assert asked.escalations == (Escalation(3, ("head",)), Escalation(9, ("chief",)))
    assert asked.edit == raw({"limit": 3})
    assert asked.expires_at == asked.at + timedelta(seconds=10)
