"""A job as it stands, from its log; or from its schedule while it is only planned."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from actors.jobs.planned import Planned, find_planned, list_planned
from actors.jobs.signals import unknown_job
from bus import headers as h
from bus import subjects
from bus.connection import Bus
from bus.errors import UsageError
from bus.moment import instant_of, parse_moment
from bus.objects import Blobs
from bus.schedule_events import ScheduleFired, ScheduleSkipped
from store.job_fold import fold_view
from store.job_list import ListedJob, Wanted, list_jobs
from store.log import Recorded, read_job
from store.view import JobView


async def view_of(bus: Bus, blobs: Blobs, workspace: str, job: str) -> JobView:
    """The job as it stands. Raises: UsageError ``unknown_job``, BusError."""
    subjects.check_job_id(job)
    events: list[Recorded] = []
    for _ in range(2):  # it may begin between the look at its log and the one at its schedule
        events = await read_job(bus, blobs, workspace, job)
        if any(recorded.event.kind.startswith("job.") for recorded in events):
            return fold_view(workspace, events)
        if planned := await find_planned(bus, workspace, job):
            return await _planned_view(blobs, planned, events)
    if any(not isinstance(recorded.event, ScheduleFired | ScheduleSkipped) for recorded in events):
        return fold_view(workspace, events)
    raise unknown_job(workspace, job)


async def _planned_view(blobs: Blobs, planned: Planned, events: list[Recorded]) -> JobView:
    sha256 = planned.headers.get(h.JOB_BLOB)
    body = await blobs.get(sha256) if sha256 else planned.input
    view = fold_view(planned.workspace, events) if events else JobView(workspace=planned.workspace, job=planned.job)
    return msgspec.structs.replace(
        view, state="planned", workflow=planned.workflow, priority=planned.priority, starts_at=planned.starts_at,
        requested_at=planned.planned_at, deadline_at=_deadline_at(planned), input=msgspec.Raw(body or b"{}"),
    )  # fmt: skip


def _deadline_at(planned: Planned) -> datetime | None:
    """A deadline in seconds counts from the planned start."""
    try:
        text = planned.headers.get(h.JOB_DEADLINE)
        return instant_of(parse_moment(text, h.JOB_DEADLINE), planned.starts_at) if text else None
    except UsageError:  # the host that takes the request refuses it
        return None


async def find_jobs(bus: Bus, workspace: str, wanted: Wanted) -> list[ListedJob]:
    """The jobs that have not ended or have failed and are ``wanted``, the oldest first; planned ones come first.

    Raises: UsageError, BusError.
    """
    now = datetime.now(UTC)
    begun = await list_jobs(bus, workspace, wanted, now)
    if wanted.states and "planned" not in wanted.states:
        return begun
    known = {job.job for job in begun}
    planned = [_listed(each) for each in await list_planned(bus, workspace) if each.job not in known]
    return [job for job in planned if wanted.fits(job, now)] + begun


def _listed(planned: Planned) -> ListedJob:
    return ListedJob(
        job=planned.job, workflow=planned.workflow, state="planned", submitted_at=planned.planned_at,
        starts_at=planned.starts_at,
    )  # fmt: skip
