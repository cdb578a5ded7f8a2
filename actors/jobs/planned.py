"""Jobs that are planned: a message schedule of the server brings the request into the queue at its time.

The schedule is all there is of such a job. It stands at a subject of the job's own and is stored only if there is none
yet, so a job is planned once, however often it is asked for. It goes when it has fired, or when the job is cancelled:
who cancels writes a signal into the job's log and wakes the job, as always, and the host that takes the wake-up ends
the job before it removes the schedule (``actors.hosts.planning``).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from actors.jobs.requests import JobRequest, check_request, message_of, same_json
from bus import headers as h
from bus import subjects
from bus.connection import ApiError, Bus, NoResponder
from bus.errors import Ambiguous, BusError, Fenced, StreamFull, UsageError
from bus.moment import check_instant, instant_of, rfc3339
from bus.objects import Blobs
from bus.reader import Stored, last, scan
from bus.streams import JOBS
from bus.subjects import Priority

log = logging.getLogger("callboard.planned")

_AT = "@at "
# What the request keeps when it is planned; its id is written out, and its start is the schedule's.
_KEPT = (h.JOB_PARENT, h.JOB_BLOB, h.JOB_VERSION, h.TRACEPARENT, h.JOB_DEADLINE)


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is to begin at ``starts_at``. ``sequence`` and ``planned_at`` are its schedule's."""

    workspace: str
    job: str
    workflow: str
    priority: Priority
    starts_at: datetime
    planned_at: datetime
    sequence: int
    input: bytes
    headers: dict[str, str]


async def plan_request(bus: Bus, blobs: Blobs, request: JobRequest) -> bool:
    """Have the server bring ``request`` at its ``start``; False if the job was planned already, then nothing changes.

    Raises: UsageError ``job_id_conflict`` (planned, and another job), and as ``publish_request``.
    """
    assert request.start is not None
    check_request(request)
    body, headers = await message_of(blobs, request)
    target = subjects.job_request(request.workspace, request.workflow, request.priority)
    starts_at = instant_of(request.start, datetime.now(UTC))
    return await publish_plan(bus, request.workspace, request.job, target, starts_at, body, headers)


async def publish_plan(
    bus: Bus, workspace: str, job: str, target: str, starts_at: datetime, body: bytes, headers: Mapping[str, str]
) -> bool:
    """Store the schedule of a request with these ``headers`` and ``body`` for subject ``target``, unless there is one.

    False if there is one for the same job. Raises: UsageError ``job_id_conflict``, PermissionRefused, BusClosed.
    """
    kept = {name: headers[name] for name in _KEPT if name in headers}
    schedule = {h.SCHEDULE: f"{_AT}{rfc3339(starts_at)}", h.SCHEDULE_TARGET: target, h.JOB_ID: job, **kept}
    subject = subjects.start_timer(workspace, job)
    wait_s = 0.1
    while True:
        try:
            await bus.append(subject, body, headers={**schedule, h.EXPECTED_SEQUENCE: "0"})
            return True
        except Fenced:
            _check_same(job, await last(bus, JOBS, subject), schedule, body)
            return False
        except (Ambiguous, NoResponder, StreamFull) as error:
            log.warning("planning job %s: %s; trying again", job, error)
        await bus.settle()
        await asyncio.sleep(random.random() * wait_s)
        wait_s = min(2.0, wait_s * 2)


def _check_same(job: str, earlier: Stored | None, schedule: Mapping[str, str], body: bytes) -> None:
    if earlier is None:  # its time has just come
        return
    same = all(earlier.headers.get(name) == schedule.get(name) for name in (h.SCHEDULE_TARGET, h.JOB_BLOB))
    if not (same and same_json(earlier.body, body)):
        raise UsageError(f"job id {job!r} belongs to another job that is planned", code="job_id_conflict",
                         path="job_id", hint="use another job id, or the same workflow and input")  # fmt: skip


# ---- looking


async def find_planned(bus: Bus, workspace: str, job: str) -> Planned | None:
    """The job as it is planned, None if it is not, or not any more. Raises: BusError."""
    stored = await last(bus, JOBS, subjects.start_timer(workspace, job))
    return None if stored is None else planned_in(stored)


async def list_planned(bus: Bus, workspace: str) -> list[Planned]:
    """All planned jobs of the workspace, the next one first. Raises: BusError."""
    found = [
        planned
        async for page in scan(bus, JOBS, subjects.start_timer(workspace, "*"))
        for stored in page
        if (planned := planned_in(stored))
    ]
    return sorted(found, key=lambda planned: (planned.starts_at, planned.sequence))


def planned_in(stored: Stored) -> Planned | None:
    """The planned job that a schedule is; None for a schedule that somebody made by hand, and wrongly."""
    schedule, target = stored.headers.get(h.SCHEDULE, ""), stored.headers.get(h.SCHEDULE_TARGET, "")
    _, workspace, job, _ = stored.subject.split(".")
    try:
        _, workflow, priority = subjects.parse_request(target)
        starts_at = check_instant(datetime.fromisoformat(schedule.removeprefix(_AT)), h.SCHEDULE)
    except (UsageError, ValueError):
        return None
    return Planned(
        workspace=workspace, job=job, workflow=workflow, priority=priority, starts_at=starts_at, planned_at=stored.at,
        sequence=stored.sequence, input=stored.body, headers=stored.headers,
    )  # fmt: skip


async def remove_planned(bus: Bus, planned: Planned) -> None:
    """Take the schedule away; that it has gone already is no error. Raises: BusError."""
    try:
        await bus.api(f"STREAM.MSG.DELETE.{JOBS}", {"seq": planned.sequence, "no_erase": True})
    except ApiError as error:
        if await last(bus, JOBS, subjects.start_timer(planned.workspace, planned.job)) is not None:
            raise BusError(f"the schedule of job {planned.job} cannot be removed: {error}") from error
