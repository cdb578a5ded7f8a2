"""Approvals as NATS services: ``api.<workspace>.jobs.approve|reject``, ``api.<workspace>.approvals.list``.

nats req api.default.jobs.approve '{"job": "j1", "by": "ann", "comment": "as agreed"}'
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.clients.approvals import make_answer, send_answer
from bus.approval_events import ApprovalAnswered
from bus.connection import Bus
from bus.event import NULL
from bus.objects import Blobs
from store.job_approvals import OpenApproval, list_approvals

LIST_LIMIT = 500
_MARGIN_BYTES = 16 * 1024


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An unknown field is refused, since it is most likely a misspelt one."""


class _Words(_Body, frozen=True):
    """What somebody says of an approval; without ``step`` of the only one that is open."""

    job: str
    by: str
    step: str = ""
    roles: tuple[str, ...] = ()
    comment: str = ""
    answer: msgspec.Raw = msgspec.field(default_factory=lambda: NULL)


class Approve(_Words, frozen=True):
    """``jobs.approve``; ``edit`` holds the values to change."""

    edit: dict[str, Any] = msgspec.field(default_factory=dict)
    seen: int | None = None


class Reject(_Words, frozen=True):
    """``jobs.reject``."""


class ListApprovals(_Body, frozen=True):
    """``approvals.list``; with ``role`` those that this role may answer."""

    role: str = ""
    job: str = ""
    offset: int = 0
    limit: int = LIST_LIMIT


class ApprovalService:
    """Answers for the gateway. Every method may raise UsageError and BusError."""

    def __init__(self, bus: Bus, blobs: Blobs) -> None:
        self._bus = bus
        self._blobs = blobs

    async def approve(self, workspace: str, body: Approve) -> dict[str, Any]:
        """Somebody approves."""
        answer = make_answer(
            body.job, body.step, approved=True, by=body.by, roles=body.roles, comment=body.comment, answer=body.answer,
            edit=body.edit,
        )  # fmt: skip
        return await self._send(workspace, answer, body.seen)

    async def reject(self, workspace: str, body: Reject) -> dict[str, Any]:
        """Somebody rejects."""
        answer = make_answer(
            body.job, body.step, approved=False, by=body.by, roles=body.roles, comment=body.comment, answer=body.answer
        )
        return await self._send(workspace, answer)

    async def _send(self, workspace: str, answer: ApprovalAnswered, seen: int | None = None) -> dict[str, Any]:
        answered = await send_answer(self._bus, self._blobs, workspace, answer, seen=seen)
        return {"job": answered.job, "step": answered.step, "sequence": answered.sequence}

    async def list(self, workspace: str, body: ListApprovals) -> dict[str, Any]:
        """A page of open approvals, cut so that it fits one message; ``next_offset`` if there is more."""
        found = await list_approvals(self._bus, self._blobs, workspace, datetime.now(UTC), body.role)
        found = [each for each in found if body.job in ("", each.job)]
        offset, page, room = max(0, body.offset), list[OpenApproval](), self._bus.max_body_bytes - _MARGIN_BYTES
        for each in found[offset : offset + max(1, body.limit)]:
            shown = each if len(msgspec.json.encode(each)) < room else _without_bulk(each)
            room -= len(msgspec.json.encode(shown)) + 1
            if page and room < 0:
                break
            page.append(shown)
        answer: dict[str, Any] = {"approvals": page, "total": len(found)}
        return answer | ({"next_offset": offset + len(page)} if offset + len(page) < len(found) else {})


def _without_bulk(approval: OpenApproval) -> OpenApproval:
    """One that is too big for a message, without what it is about."""
    return msgspec.structs.replace(approval, details=NULL, answer=NULL, values={}, answers=(), ignored=())
