"""One approval, folded from its events: who has answered, which answers count, and what follows from them. Pure.

The log's order decides. An answer counts if, at its place in the log, the approval had been asked for, was neither
decided nor expired, and the answer fits what was asked: its roles, the schema, the values that may be edited. What
does not count changes nothing, and is kept with the reason. Each person has one answer. A rejection rejects, whatever
the quorum; as many approvals as the quorum approve. An edit that changes a value voids the approvals before it, since
these were of other values; who gave them may answer again.

Who somebody is, and which roles they have, is what the answer itself claims: NATS permissions say who may write one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from bus.approval_events import ApprovalAnswered, ApprovalAsked, ApprovalEscalated, Escalation
from bus.event import NULL
from store.json_fit import misfit, type_name

ApprovalState = Literal["open", "approved", "rejected", "expired", "closed"]


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One person's answer that counts. ``edited``: the values that it changed; ``void``: a later edit voids it."""

    sequence: int
    by: str
    at: datetime
    approved: bool
    roles: tuple[str, ...] = ()
    comment: str = ""
    answer: Any = None
    edited: dict[str, Any] = msgspec.field(default_factory=dict)
    void: bool = False


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an approval.

    ``answers`` are those that counted, in the log's order; ``edited`` are all values that could be changed, as they
    are now. An approval that ``expired`` is not approved.
    """

    approved: bool
    answers: tuple[Answer, ...] = ()
    edited: dict[str, Any] = msgspec.field(default_factory=dict)
    expired: bool = False

    @property
    def rejection(self) -> Answer | None:
        """The answer that rejected it; None if it was approved, or nobody decided."""
        return next((answer for answer in self.answers if not answer.approved), None)


class Refusal(msgspec.Struct, frozen=True):
    """Why an answer does not count: ``code`` for programs, the rest for people."""

    code: str
    message: str
    path: str = ""
    hint: str = ""


class Ignored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer in the log that does not count."""

    sequence: int
    by: str
    at: datetime
    code: str
    message: str


class ApprovalView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An approval as people see it. ``values`` are those that may be edited, as they are now; ``level`` counts
    escalations; ``roles`` are all that may answer by now. An open one is ``closed`` by the end of its job."""

    step: str
    title: str
    state: ApprovalState
    asked_at: datetime
    expires_at: datetime | None = None
    roles: tuple[str, ...] = ()
    level: int = 0
    quorum: int = 1
    details: msgspec.Raw = NULL
    answer: msgspec.Raw = NULL
    values: dict[str, Any] = msgspec.field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    last_sequence: int = 0


# ---- the fold


@dataclass
class Tally:
    """The answers up to some place in the log. ``verdict``: what follows from them, None while it is open."""

    asked: ApprovalAsked
    roles: tuple[str, ...] = ()
    level: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    verdict: bool | None = None

    @property
    def counting(self) -> list[Answer]:
        """The answers that no edit voids."""
        return [answer for answer in self.answers if not answer.void]

    def add(self, sequence: int, event: ApprovalAnswered | ApprovalEscalated) -> None:
        """The next event in the log's order."""
        if isinstance(event, ApprovalEscalated):
            self._escalate(event)
        elif found := self.refusal(event):
            self.ignore(sequence, event, found)
        else:
            self._count(sequence, event)

    def ignore(self, sequence: int, event: ApprovalAnswered, why: Refusal) -> None:
        """Keep an answer that does not count."""
        self.ignored.append(
            Ignored(sequence=sequence, by=event.by, at=_aware(event.at), code=why.code, message=why.message)
        )

    def _escalate(self, event: ApprovalEscalated) -> None:
        self.level = max(self.level, event.level)
        if self.roles:  # else anybody may answer already
            self.roles = tuple(dict.fromkeys((*self.roles, *event.roles)))

    def _count(self, sequence: int, event: ApprovalAnswered) -> None:
        changed = {k: v for k, v in _object(event.edited).items() if not _same(v, self.values[k])}
        if changed:
            self.values = self.values | changed
            self.answers = [msgspec.structs.replace(answer, void=True) for answer in self.answers]
        self.answers.append(
            Answer(
                sequence=sequence, by=event.by, at=_aware(event.at), approved=event.approved, roles=event.roles,
                comment=event.comment, answer=_value(event.answer), edited=changed,
            )
        )  # fmt: skip
        if not event.approved:
            self.verdict = False
        elif len(self.counting) >= self.asked.quorum:
            self.verdict = True

    # ---- which answers count

    def refusal(self, answer: ApprovalAnswered) -> Refusal | None:
        """Why this answer, were it the next one in the log, would not count."""
        return self._closed(answer) or self._stranger(answer) or self._misfit(answer) or self._bad_edit(answer)

    def _closed(self, answer: ApprovalAnswered) -> Refusal | None:
        if self.verdict is not None:
            said = "approved" if self.verdict else "rejected"
            return Refusal("already_decided", f"it is {said} already, by {', '.join(a.by for a in self.counting)}")
        if self.asked.expires_at and _aware(answer.at) >= _aware(self.asked.expires_at):
            return Refusal("expired", f"it expired at {self.asked.expires_at:%Y-%m-%d %H:%M:%S %Z}")
        return None

    def _stranger(self, answer: ApprovalAnswered) -> Refusal | None:
        if not answer.by.strip():
            return Refusal("no_name", "the answer does not say by whom it is", "by")
        if self.roles and not set(self.roles) & set(answer.roles):
            has = f"has role {', '.join(answer.roles)}" if answer.roles else "has no role"
            return Refusal(
                "wrong_role", f"{answer.by} {has}, and this may be answered by {' or '.join(self.roles)}", "roles"
            )
        if any(answer.by == earlier.by for earlier in self.counting):
            return Refusal("answered_already", f"{answer.by} has answered already", "by")
        return None

    def _misfit(self, answer: ApprovalAnswered) -> Refusal | None:
        """A rejection need not answer anything, but what it answers has to fit too."""
        value = _value(answer.answer)
        if self.asked.answer == NULL or (not answer.approved and value is None):
            return None
        if found := misfit(bytes(self.asked.answer), value):
            path, message, hint = found
            return Refusal("bad_answer", f"the answer, {path}: {message}", "answer", hint)
        return None

    def _bad_edit(self, answer: ApprovalAnswered) -> Refusal | None:
        edited = _value(answer.edited)
        if edited is None:
            return None
        if not isinstance(edited, dict):
            return Refusal("bad_edit", "edited is no object of values", "edited")
        if edited and not answer.approved:
            return Refusal("bad_edit", "a rejection edits nothing", "edited")
        for name, value in edited.items():
            if name not in self.values:
                known = ", ".join(self.values)
                hint = f"the values are {known}" if known else "no value may be edited"
                return Refusal("bad_edit", f"there is no value {name!r} to edit", f"edited.{name}", hint)
            if not _same_type(value, self.values[name]):
                wanted, got = type_name(self.values[name]), type_name(value)
                return Refusal("bad_edit", f"{name} is {wanted}, and the edit gives {got}", f"edited.{name}")
        return None


class Approval:
    """The events of one approval, in any order, any number of times. ``decision``: as its host has recorded it."""

    def __init__(self) -> None:
        self.asked: ApprovalAsked | None = None
        self.asked_at = 0
        self.decision: Decision | None = None
        self._events: dict[int, ApprovalAnswered | ApprovalEscalated] = {}

    def take(self, event: ApprovalAsked | ApprovalAnswered | ApprovalEscalated, sequence: int) -> None:
        """Fold one event in. Of several questions the first one counts."""
        if not isinstance(event, ApprovalAsked):
            self._events[sequence] = event
        elif self.asked is None or sequence < self.asked_at:
            self.asked, self.asked_at = event, sequence

    @property
    def last_sequence(self) -> int:
        """Where its newest event stands."""
        return max(self.asked_at, *self._events, 0)

    def tally(self, to: int | None = None) -> Tally:
        """Its answers, up to the sequence ``to``. It has to have been asked."""
        assert self.asked is not None
        tally = Tally(self.asked, self.asked.roles, values=_object(self.asked.edit))
        for sequence in sorted(self._events):
            event = self._events[sequence]
            if to is not None and sequence > to:
                break
            if sequence > self.asked_at:
                tally.add(sequence, event)
            elif isinstance(event, ApprovalAnswered):
                tally.ignore(sequence, event, Refusal("not_asked", "it was not asked for yet"))
        return tally

    def decide(self, now: datetime) -> Decision | None:
        """What follows from all that is known at ``now``; None while it is open."""
        tally = self.tally()
        expired = tally.verdict is None and self.expires_at is not None and now >= self.expires_at
        if tally.verdict is None and not expired:
            return None
        return Decision(
            approved=tally.verdict is True, answers=tuple(tally.answers), edited=tally.values, expired=expired
        )

    # ---- timers

    @property
    def expires_at(self) -> datetime | None:
        """When it is over without an answer; None for never."""
        return _aware(self.asked.expires_at) if self.asked and self.asked.expires_at else None

    def next_escalation(self) -> tuple[datetime, int, Escalation] | None:
        """When the next roles are asked, their level, and they; None if there is no further escalation."""
        assert self.asked is not None
        level = self.tally().level
        if level >= len(self.asked.escalations):
            return None
        step = self.asked.escalations[level]
        return _aware(self.asked.at) + timedelta(seconds=step.after_s), level + 1, step

    def wakes_at(self) -> datetime | None:
        """The earliest instant at which something is to be done without an answer."""
        step = self.next_escalation()
        return min((at for at in (self.expires_at, step[0] if step else None) if at is not None), default=None)

    # ---- to look at

    def view(self, step: str, *, job_ended: bool = False) -> ApprovalView | None:
        """As people see it; None if it was never asked for."""
        if (asked := self.asked) is None:
            return None
        tally, decision = self.tally(), self.decision
        answers = decision.answers if decision else tuple(tally.answers)
        counted = {answer.sequence for answer in answers}
        return ApprovalView(
            step=step, title=asked.title, state=_state(decision, job_ended=job_ended), asked_at=_aware(asked.at),
            expires_at=self.expires_at, roles=tally.roles, level=tally.level, quorum=asked.quorum,
            details=asked.details, answer=asked.answer, values=decision.edited if decision else tally.values,
            answers=answers, ignored=tuple(each for each in tally.ignored if each.sequence not in counted),
            last_sequence=self.last_sequence,
        )  # fmt: skip


def decision_in(output: msgspec.Raw) -> Decision | None:
    """The decision in a host's record; None if it is none, as in a redacted snapshot."""
    try:
        return msgspec.json.decode(output, type=Decision)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _state(decision: Decision | None, *, job_ended: bool) -> ApprovalState:
    if decision is None:
        return "closed" if job_ended else "open"
    if decision.expired:
        return "expired"
    return "approved" if decision.approved else "rejected"


def _aware(at: datetime) -> datetime:
    """An instant that somebody wrote without a zone is meant in UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _value(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw)


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    value = _value(raw)
    return value if isinstance(value, dict) else {}


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON, where true is not 1."""
    return msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")


def _same_type(one: Any, other: Any) -> bool:
    """Of one JSON type; integers are numbers, and for null any type will do."""
    kinds = [("number" if type(value) in (int, float) else type_name(value)) for value in (one, other)]
    return other is None or kinds[0] == kinds[1]
