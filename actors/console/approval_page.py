"""Approvals: those that are open (``callboard approvals``), and one of them whole, as it is asked and answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from actors.console.amount import ago, plural
from actors.console.page import Block, Column, Page, SheetBuilder, Span, Style, facts, line, one_line
from bus.subjects import DEFAULT_WORKSPACE
from store.approval import Answer, ApprovalView
from store.job_approvals import OpenApproval

STATE_STYLES: dict[str, Style] = {
    "open": "busy", "approved": "good", "rejected": "bad", "expired": "warn", "closed": "dim"
}  # fmt: skip
_VALUE_LIMIT = 300


def approvals_page(found: Sequence[OpenApproval], now: datetime, workspace: str = DEFAULT_WORKSPACE) -> Page:
    """A table of open approvals, the oldest first, and how to answer one."""
    if not found:
        return [line("no approval is open")]
    columns = ("job", "step", "workflow", "title", "asked", "expires", "who may answer", "approved")
    builder = SheetBuilder([Column(name, shrink=name in ("title", "who may answer")) for name in columns])
    for each in found:
        builder.add(
            Span(one_line(each.job), "name"), one_line(each.step), one_line(each.workflow), one_line(each.title),
            ago(each.asked_at, now), ago(each.expires_at, now), _whom(each), _count(each),
        )  # fmt: skip
    first = found[0]
    place = "" if workspace == DEFAULT_WORKSPACE else f" --workspace {workspace}"
    command = f"callboard approve {one_line(first.job)} {one_line(first.step)}{place}"
    note = line(Span("next: ", "dim"), command, Span("   or reject; it shows the details first", "dim"))
    return [builder.sheet(plural(len(found), "approval")), note]


def approval_blocks(approval: ApprovalView, now: datetime) -> list[Block]:
    """One approval: what is asked, of whom, and what was answered."""
    title = line(
        Span(approval.state, STATE_STYLES[approval.state]), "  ", Span(one_line(approval.title, 300), "strong"), "  ",
        Span(one_line(approval.step), "dim"),
    )  # fmt: skip
    edited = {name for answer in approval.answers for name in answer.edited}
    values = [(one_line(name, 60), _json(value) + (" (edited)" if name in edited else ""))
              for name, value in approval.values.items()]  # fmt: skip
    pairs = [
        ("asked", ago(approval.asked_at, now)),
        ("expires", ago(approval.expires_at, now) if approval.state == "open" else ""),
        ("who may answer", _whom(approval) if approval.state == "open" else ""),
        ("approved", _count(approval) if approval.quorum > 1 else ""),
        ("details", _raw(approval.details)),
        ("answer", _raw(approval.answer)),
        *((f"value {name}", value) for name, value in values),
    ]
    return [title, facts(pairs), *_answers(approval, now)]


def _answers(approval: ApprovalView, now: datetime) -> list[Block]:
    if not (approval.answers or approval.ignored):
        return []
    builder = SheetBuilder([Column("by"), Column("when"), Column("said"), Column("", shrink=True)])
    for answer in approval.answers:
        builder.add(one_line(answer.by), ago(answer.at, now), _said(answer), _words(answer))
    for ignored in approval.ignored:
        why = Span(one_line(f"{ignored.code}: {ignored.message}"), "warn")
        builder.add(one_line(ignored.by), ago(ignored.at, now), Span("ignored", "warn"), why)
    return [builder.sheet()]


def _said(answer: Answer) -> Span:
    if answer.void:
        return Span("approved before an edit", "dim")
    return Span("approved", "good") if answer.approved else Span("rejected", "bad")


def _words(answer: Answer) -> str:
    edited = ", ".join(f"{name}={_json(value)}" for name, value in answer.edited.items())
    said = "" if answer.answer is None else _json(answer.answer)
    return "  ".join(part for part in (one_line(answer.comment), edited, said) if part)


def _whom(approval: ApprovalView) -> str:
    escalated = f"  (escalated {plural(approval.level, 'time')})" if approval.level else ""
    return (one_line(", ".join(approval.roles)) or "anybody") + escalated


def _count(approval: ApprovalView) -> str:
    approved = sum(answer.approved and not answer.void for answer in approval.answers)
    return f"{approved} of {approval.quorum}"


def _json(value: object) -> str:
    return one_line(msgspec.json.encode(value).decode(), _VALUE_LIMIT)


def _raw(raw: msgspec.Raw) -> str:
    text = bytes(memoryview(raw)[: _VALUE_LIMIT * 8]).decode(errors="replace")
    return "" if text == "null" else one_line(text, _VALUE_LIMIT)
