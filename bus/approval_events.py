"""Events of approvals: what people are asked in the name of a job, what they say, and who is asked when they do not.

The decision that follows is the reply to the operation: ``reply.completed`` with ``op`` "approval".
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from bus.event import NULL, BaseEvent


class Escalation(msgspec.Struct, frozen=True):
    """``after_s`` seconds after an approval was asked for without a decision, ``roles`` may answer it too."""

    after_s: float
    roles: tuple[str, ...]


class ApprovalAsked(BaseEvent, frozen=True, tag="approval.asked"):
    """People are asked; written by the job's host.

    ``answer`` is the JSON Schema of what an approval has to say (null: anything), ``roles`` who may answer (empty:
    anybody), ``quorum`` how many have to approve, ``edit`` an object of values that whoever approves may change.
    """

    call: str
    title: str
    details: msgspec.Raw = NULL
    answer: msgspec.Raw = NULL
    roles: tuple[str, ...] = ()
    quorum: int = 1
    expires_at: datetime | None = None
    escalations: tuple[Escalation, ...] = ()
    edit: msgspec.Raw = NULL


class ApprovalAnswered(BaseEvent, frozen=True, tag="approval.answered"):
    """Somebody's answer; anyone may write it, so ``by`` and ``roles`` are what the writer claims.

    ``edited`` is an object of those values that are changed. Whoever appends this publishes a wake-up request after it.
    """

    call: str
    approved: bool
    by: str = ""
    roles: tuple[str, ...] = ()
    comment: str = ""
    answer: msgspec.Raw = NULL
    edited: msgspec.Raw = NULL


class ApprovalEscalated(BaseEvent, frozen=True, tag="approval.escalated"):
    """Nobody has decided in time: ``roles`` are asked too. ``level`` counts from 1; written by the job's host."""

    call: str
    level: int
    roles: tuple[str, ...] = ()


ApprovalEvent = ApprovalAsked | ApprovalAnswered | ApprovalEscalated
