"""All approvals of one job, and those that are open in a workspace: folds over the log."""

from __future__ import annotations

from datetime import datetime

from bus import subjects
from bus.approval_events import ApprovalAnswered, ApprovalAsked, ApprovalEscalated, ApprovalEvent
from bus.connection import Bus
from bus.errors import Unreadable
from bus.messages import JobSubmitted, ReplyCompleted
from bus.objects import BlobMissing, Blobs
from bus.reader import last_of_each, scan
from bus.streams import EVENTS
from bus.subjects import JOB_ENDS
from store.approval import Approval, ApprovalView, decision_in
from store.log import recorded

_JOBS_PER_READ = 150  # six subjects each, and a read answers for 1,024 at most
LIFE = ("job.submitted", "job.retried", *(f"job.{end}" for end in JOB_ENDS))


class JobApprovals:
    """The approvals of one job, by step: the key of the operation."""

    def __init__(self) -> None:
        self._by_step: dict[str, Approval] = {}

    def add(self, event: ApprovalEvent | ReplyCompleted, sequence: int) -> None:
        """Take in what is said of an approval; any other reply says nothing."""
        if not isinstance(event, ReplyCompleted):
            self._by_step.setdefault(event.call, Approval()).take(event, sequence)
        elif event.op == "approval":
            approval = self._by_step.setdefault(event.call, Approval())
            approval.decision = approval.decision or decision_in(event.output)

    def views(self, *, job_ended: bool = False) -> tuple[ApprovalView, ...]:
        """All that were asked for, the oldest first."""
        asked = sorted(self._by_step.items(), key=lambda item: item[1].asked_at)
        return tuple(view for step, each in asked if (view := each.view(step, job_ended=job_ended)))

    def open_at(self, now: datetime) -> tuple[ApprovalView, ...]:
        """Those that somebody may still answer."""
        return tuple(v for v in self.views() if v.state == "open" and not self._by_step[v.step].decide(now))

    def __getitem__(self, step: str) -> Approval:
        return self._by_step[step]


class OpenApproval(ApprovalView, frozen=True, kw_only=True, omit_defaults=True):
    """An approval that waits for answers, and the job that asked for it."""

    job: str
    workflow: str


async def list_approvals(bus: Bus, blobs: Blobs, workspace: str, now: datetime, role: str = "") -> list[OpenApproval]:
    """What is open in ``workspace``, the oldest first; with ``role`` what somebody with that role may answer.

    Reads the events of all approvals of the workspace: for people, not for each request. Raises: UsageError, BusError.
    """
    jobs = await _asked(bus, blobs, subjects.check_name(workspace, "workspace"))
    waiting = {job: views for job, approvals in jobs.items() if (views := approvals.open_at(now))}
    workflows = await _workflows(bus, blobs, workspace, list(waiting))
    return [
        OpenApproval(job=job, workflow=workflows[job], **{f: getattr(view, f) for f in ApprovalView.__struct_fields__})
        for job, views in waiting.items()
        for view in views
        if job in workflows and (not role or not view.roles or role in view.roles)
    ]


async def _asked(bus: Bus, blobs: Blobs, workspace: str) -> dict[str, JobApprovals]:
    jobs: dict[str, JobApprovals] = {}
    async for page in scan(bus, EVENTS, f"{subjects.log_prefix(workspace, '*')}.approval.*"):
        for stored in page:
            try:
                event = (await recorded(blobs, stored)).event
            except (Unreadable, BlobMissing):  # tail and doctor tell of it
                continue
            if isinstance(event, ApprovalAsked | ApprovalAnswered | ApprovalEscalated):
                job = subjects.parse_event(stored.subject).job
                jobs.setdefault(job, JobApprovals()).add(event, stored.sequence)
    return jobs


async def _workflows(bus: Bus, blobs: Blobs, workspace: str, jobs: list[str]) -> dict[str, str]:
    """The workflow of each of these jobs that has not ended."""
    found: dict[str, dict[str, int]] = {}
    workflows: dict[str, str] = {}
    for start in range(0, len(jobs), _JOBS_PER_READ):
        some = jobs[start : start + _JOBS_PER_READ]
        wanted = [subjects.event(workspace, job, kind) for job in some for kind in LIFE]
        for stored in await last_of_each(bus, EVENTS, wanted):
            place = subjects.parse_event(stored.subject)
            found.setdefault(place.job, {})[place.kind] = stored.sequence
            if place.kind == "job.submitted":
                event = (await recorded(blobs, stored)).event
                workflows[place.job] = event.workflow if isinstance(event, JobSubmitted) else ""
    return {job: name for job, name in workflows.items() if goes_on(found[job])}


def goes_on(life: dict[str, int]) -> bool:
    """Whether a job has not ended, by the newest sequence of each kind of ``LIFE``."""
    return max(life, key=life.__getitem__, default="") in ("job.submitted", "job.retried")
