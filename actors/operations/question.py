"""What a job asks people, checked before anything is recorded: a question that nobody could answer is refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from actors.components.schema import output_schema
from actors.operations.values import to_json
from bus.approval_events import ApprovalAsked, Escalation
from bus.errors import UsageError
from bus.event import NULL
from bus.subjects import check_name
from store.json_fit import schema_fault

_LONGEST_S = 10 * 366 * 86_400


@dataclass(frozen=True)
class Question:
    """One approval to be asked for. ``answer_type``: what answers are given back as, None for plain JSON."""

    title: str
    details: msgspec.Raw
    answer: msgspec.Raw
    answer_type: Any
    roles: tuple[str, ...]
    quorum: int
    expires_s: float | None
    escalations: tuple[Escalation, ...]
    edit: msgspec.Raw

    def asked(self, job: str, call: str) -> ApprovalAsked:
        """The event that asks for it now."""
        now = datetime.now(UTC)
        return ApprovalAsked(
            job=job, call=call, at=now, title=self.title, details=self.details, answer=self.answer, roles=self.roles,
            quorum=self.quorum, escalations=self.escalations, edit=self.edit,
            expires_at=now + timedelta(seconds=self.expires_s) if self.expires_s is not None else None,
        )  # fmt: skip


def make_question(
    title: Any, *, details: Any, answer: Any, roles: Sequence[str], quorum: Any, expires_s: float | None,
    escalate: Sequence[Escalation], edit: Any,
) -> Question:  # fmt: skip
    """The question that the arguments of ``Job.approval`` add up to. Raises: UsageError that names the argument."""
    if not isinstance(title, str) or not title.strip():
        raise _bad("an approval has no title", "title", "say in one line what is to be approved")
    if isinstance(quorum, bool) or not isinstance(quorum, int) or quorum < 1:
        raise _bad(f"a quorum of {quorum!r}", "quorum", "how many have to approve: 1 or more")
    if expires_s is not None:
        _check_seconds(expires_s, "expires_s")
    is_type = answer is not None and not isinstance(answer, dict)
    return Question(
        title=title.strip(),
        details=msgspec.Raw(to_json(details, "the details of an approval")),
        answer=_schema(output_schema(answer) if is_type else answer),
        answer_type=answer if is_type else None,
        roles=_roles(roles, "roles"),
        quorum=quorum,
        expires_s=expires_s,
        escalations=_escalations(escalate, expires_s),
        edit=_editable(edit),
    )


def _schema(schema: dict[str, Any] | None) -> msgspec.Raw:
    if not schema:
        return NULL
    raw = to_json(schema, "the schema of an approval's answer")
    if fault := schema_fault(msgspec.json.decode(raw)):
        raise _bad(f"the answer's schema is no JSON Schema: {fault}", "answer", "a JSON Schema (2020-12), or a type")
    return msgspec.Raw(raw)


def _roles(roles: Sequence[str], path: str) -> tuple[str, ...]:
    if isinstance(roles, str):
        raise _bad(f"roles are a sequence of names, not the text {roles!r}", path, f"({roles!r},)")
    return tuple(dict.fromkeys(check_name(role, "role") for role in roles))


def _escalations(steps: Sequence[Escalation], expires_s: float | None) -> tuple[Escalation, ...]:
    for step in steps:
        _check_seconds(step.after_s, "escalate")
        if expires_s is not None and step.after_s >= expires_s:
            raise _bad(f"an escalation after {step.after_s:g} s of an approval that expires after {expires_s:g} s",
                       "escalate", "escalate before it expires")  # fmt: skip
        if not step.roles:
            raise _bad("an escalation without roles", "escalate", "Escalation(after_s, roles=(...))")
    checked = [Escalation(step.after_s, _roles(step.roles, "escalate")) for step in steps]
    return tuple(sorted(checked, key=lambda step: step.after_s))


def _check_seconds(seconds: float, path: str) -> None:
    if not 0 < seconds < _LONGEST_S:
        raise _bad(f"{path} is {seconds!r}", path, "seconds, more than 0 and ten years at most")


def _editable(edit: Any) -> msgspec.Raw:
    raw = to_json(edit, "the values of an approval")
    if edit is not None and not isinstance(msgspec.json.decode(raw), dict):
        raise _bad(f"the values to edit are {type(edit).__name__}", "edit", "a dict or a Struct of values")
    return msgspec.Raw(raw)


def _bad(message: str, path: str, hint: str) -> UsageError:
    return UsageError(message, code="bad_approval", path=path, hint=hint)
