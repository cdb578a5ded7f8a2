"""Answers to approvals: checked against the log, then written into it, and a wake-up in case that the job is parked.

An answer that would not count is refused before anything is written. It is stored on the condition that nothing was
said of the job's approvals since it was checked; else it is checked again. So of two people who answer at once one
sees what the other has said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from actors.jobs.requests import publish_wake
from actors.jobs.signals import unknown_job
from bus import headers as h
from bus import subjects
from bus.approval_events import ApprovalAnswered, ApprovalEvent
from bus.connection import Bus
from bus.crash import crash_point
from bus.errors import Fenced, UsageError
from bus.event import NULL, utc_now
from bus.messages import JobSubmitted, ReplyCompleted
from bus.objects import Blobs
from store.approval import Approval, ApprovalView, Refusal
from store.job_approvals import LIFE, JobApprovals, goes_on
from store.log import Recorded, append_event, read_job


@dataclass(frozen=True)
class Answered:
    """An answer that is in the log, at ``sequence``."""

    job: str
    step: str
    approved: bool
    sequence: int


class AnswerRefused(UsageError):
    """An answer that would not count, or a step that nobody can answer; ``code`` says why."""


def make_answer(
    job: str, step: str, *, approved: bool, by: str, roles: Sequence[str] = (), comment: str = "", answer: Any = None,
    edit: Any = None,
) -> ApprovalAnswered:  # fmt: skip
    """The event of an answer; an empty ``step`` is the only one that is open. Raises: UsageError."""
    subjects.check_job_id(job)
    roles = (roles,) if isinstance(roles, str) else tuple(roles)
    return ApprovalAnswered(
        job=job, call=step, approved=approved, by=by, roles=tuple(subjects.check_name(r, "role") for r in roles),
        comment=comment, answer=_raw(answer, "answer"), edited=_raw(edit, "edit") if edit else NULL,
    )  # fmt: skip


def _raw(value: Any, what: str) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise UsageError(f"the {what} is no JSON: {error}", code="invalid_data", path=what) from error


async def send_answer(
    bus: Bus, blobs: Blobs, workspace: str, answer: ApprovalAnswered, *, seen: int | None = None
) -> Answered:
    """Give ``answer`` to its approval.

    ``seen``: the last event of the approval that whoever answers has seen; an edit after it refuses the answer, which
    would be to other values. Raises: UsageError ``unknown_job`` or ``job_ended``, AnswerRefused, BusError.
    """
    prefix = subjects.log_prefix(subjects.check_name(workspace, "workspace"), answer.job)
    while True:
        found = _State(workspace, answer.job, await read_job(bus, blobs, workspace, answer.job))
        answer = msgspec.structs.replace(answer, call=found.step(answer.call), at=utc_now())
        approval = found.approvals[answer.call]
        seen = approval.last_sequence if seen is None else seen
        if refusal := _refusal(approval, answer, seen):
            if refusal.code in ("answered_already", "already_decided") and approval.decision is None:
                # Whoever gave that answer may have died before the wake-up.
                await publish_wake(bus, workspace, found.workflow, answer.job, answer.kind)
            raise _refused(answer, refusal)
        condition = {h.EXPECTED_SEQUENCE: str(found.last_said), h.EXPECTED_SUBJECT: f"{prefix}.approval.*"}
        try:
            sequence = await append_event(bus, blobs, prefix, answer, condition, since=found.last_said)
        except Fenced:
            continue  # somebody was faster: look again
        crash_point("approve.before_wake")
        await publish_wake(bus, workspace, found.workflow, answer.job, answer.kind)
        return Answered(answer.job, answer.call, answer.approved, sequence)


def _refusal(approval: Approval, answer: ApprovalAnswered, seen: int) -> Refusal | None:
    tally = approval.tally()
    if found := tally.refusal(answer):
        return found
    if answer.approved and approval.tally(to=seen).values != tally.values:
        editor = next(each.by for each in reversed(tally.answers) if each.edited)
        return Refusal("edited", f"{editor} has edited the values meanwhile", hint="look at them again")
    return None


def _refused(answer: ApprovalAnswered, why: Refusal) -> AnswerRefused:
    message = f"{answer.call} of job {answer.job}: {why.message}"
    return AnswerRefused(message, code=why.code, path=why.path, hint=why.hint)


class _State:
    """What the log says of a job's approvals."""

    def __init__(self, workspace: str, job: str, events: list[Recorded]) -> None:
        self.approvals = JobApprovals()
        self.workflow = ""
        self.last_said = 0
        self._job = job
        life: dict[str, int] = {}
        for recorded in events:
            event, sequence = recorded.event, recorded.sequence
            if isinstance(event, ApprovalEvent | ReplyCompleted):
                self.approvals.add(event, sequence)
                self.last_said = sequence if isinstance(event, ApprovalEvent) else self.last_said
            elif event.kind in LIFE:
                life[event.kind] = sequence
            if isinstance(event, JobSubmitted):
                self.workflow = self.workflow or event.workflow
        if not self.workflow:
            raise unknown_job(workspace, job)
        self._ended = "" if goes_on(life) else max(life, key=life.__getitem__)

    def step(self, wanted: str) -> str:
        """The approval that is meant, by its key or by the step of a document. Raises: UsageError, AnswerRefused."""
        if self._ended:
            raise UsageError(f"job {self._job} has ended: {self._ended}", code="job_ended", path="job",
                             hint="nothing can be approved any more")  # fmt: skip
        views = {view.step: view for view in self.approvals.views()}
        waiting = [view for view in views.values() if view.state == "open"]
        of_step = [view for view in views.values() if view.step.rpartition("/")[0] == wanted]
        if wanted and of_step:  # it may have been asked for more than once: the step was gone back to
            return self._undecided(next((view for view in of_step if view.state == "open"), of_step[-1]))
        if wanted in views or (not wanted and len(waiting) == 1):
            return self._undecided(views[wanted or waiting[0].step])
        hint = f"open: {_steps(waiting)}" if waiting else "it has asked for none that is open"
        if wanted:
            raise AnswerRefused(f"job {self._job} has asked for no approval {wanted}", code="unknown_step", path="step",
                                hint=hint)  # fmt: skip
        if waiting:
            raise AnswerRefused(f"job {self._job} waits for {len(waiting)} approvals", code="which_step", path="step",
                                hint=hint)  # fmt: skip
        raise AnswerRefused(f"job {self._job} waits for no approval", code="no_approval", path="step",
                            hint=f"asked for until now: {_steps(list(views.values())) or 'none'}")  # fmt: skip

    def _undecided(self, view: ApprovalView) -> str:
        if view.state == "open":
            return view.step
        who = ", ".join(answer.by for answer in view.answers if not answer.void)
        raise AnswerRefused(
            f"{view.step} of job {self._job} is {view.state} already{f', by {who}' if who else ''}",
            code="expired" if view.state == "expired" else "already_decided", path="step",
        )  # fmt: skip


def _steps(views: list[ApprovalView]) -> str:
    return ", ".join(f"{view.step} ({view.title})" for view in views)
