"""What a client does about approvals: lists those that are open, and answers them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from actors.clients.approvals import Answered, make_answer, send_answer
from bus.connection import Bus
from bus.objects import Blobs
from store.job_approvals import OpenApproval, list_approvals


class Approving:
    """The part of :class:`~actors.clients.client.Client` that is about approvals."""

    bus: Bus
    blobs: Blobs
    workspace: str

    async def approvals(self, *, role: str = "", job_id: str = "") -> list[OpenApproval]:
        """The approvals that wait for answers, the oldest first; with ``role`` those that this role may answer.

        Reads the events of all approvals of the workspace: for people, not for each request. Raises: BusError.
        """
        found = await list_approvals(self.bus, self.blobs, self.workspace, datetime.now(UTC), role)
        return [each for each in found if job_id in ("", each.job)]

    async def approve(
        self,
        job_id: str,
        step: str = "",
        *,
        by: str,
        roles: Sequence[str] = (),
        comment: str = "",
        answer: Any = None,
        edit: dict[str, Any] | None = None,
        seen: int | None = None,
    ) -> Answered:
        """Approve what a job asks for: the approval ``step``, or the only one that is open.

        ``by`` and ``roles`` say who approves; ``answer`` is what was asked for besides, ``edit`` holds the values to
        change. ``seen``: the ``last_sequence`` of the approval as it was shown; an edit since then refuses the answer.

        Raises: UsageError before anything is written: ``unknown_job``, ``job_ended``, ``unknown_step``, ``which_step``,
        ``no_approval``, ``already_decided``, ``expired``, ``wrong_role``, ``answered_already``, ``bad_answer``,
        ``bad_edit``, ``edited``. BusError.
        """
        event = make_answer(job_id, step, approved=True, by=by, roles=roles, comment=comment, answer=answer, edit=edit)
        return await send_answer(self.bus, self.blobs, self.workspace, event, seen=seen)

    async def reject(
        self, job_id: str, step: str = "", *, by: str, roles: Sequence[str] = (), comment: str = "", answer: Any = None
    ) -> Answered:
        """Reject what a job asks for; one rejection is enough, whatever the quorum. Raises: like :meth:`approve`."""
        event = make_answer(job_id, step, approved=False, by=by, roles=roles, comment=comment, answer=answer)
        return await send_answer(self.bus, self.blobs, self.workspace, event)
