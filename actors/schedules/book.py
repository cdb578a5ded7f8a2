"""The schedules of a workspace, in stream JOBS: made, changed, paused and removed, each change on the condition that
nobody was faster.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.jobs.requests import JobRequest, publish_request
from actors.schedules.runs import claim_run, last_run, last_skip
from actors.schedules.schedule import (
    Overlap,
    Rule,
    Schedule,
    check_rule,
    headers_of,
    next_times,
    run_id,
    schedule_in,
    schedule_subject,
)
from bus import headers as h
from bus.connection import ApiError, Bus
from bus.errors import Fenced, UsageError
from bus.objects import Blobs
from bus.reader import last, scan
from bus.streams import JOBS
from bus.subjects import Priority
from store.artifacts import CLAIM_BYTES

SHOWN_TIMES = 5
_BAD_PATTERN, _BAD_ZONE = 10189, 10223


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule as it stands. ``next_at`` is empty while it is paused; ``last_run`` is the id of its newest job."""

    name: str
    workflow: str
    version: str = ""
    cron: str = ""
    time_zone: str = ""
    every_s: float | None = None
    overlap: Overlap = "skip"
    priority: Priority = "normal"
    deadline_s: float | None = None
    is_paused: bool = False
    by: str = ""
    changed_at: datetime | None = None
    next_at: tuple[datetime, ...] = ()
    last_run: str = ""
    last_due_at: datetime | None = None
    skipped_at: datetime | None = None
    skipped_for: str = ""
    input: msgspec.Raw = msgspec.Raw(b"null")


async def add_schedule(bus: Bus, blobs: Blobs, schedule: Schedule, *, replace: bool = False) -> ScheduleView:
    """Keep a new schedule, or with ``replace`` another one under its name; the very same again changes nothing.

    Raises: UsageError (a bad rule, ``schedule_exists``), BusError.
    """
    check_rule(schedule.rule)
    if len(schedule.input) > CLAIM_BYTES:
        schedule = msgspec.structs.replace(schedule, blob=await blobs.put(schedule.input), input=b"")
    found = await find_schedule(bus, schedule.workspace, schedule.rule.name)
    if found is not None and _is_same(found, schedule):
        return await view_of(bus, blobs, found)
    if found is not None and not replace:
        raise UsageError(f"there is a schedule {schedule.rule.name!r} already", code="schedule_exists", path="name",
                         hint="another name, or replace it")  # fmt: skip
    return await _store(bus, blobs, schedule, found.sequence if found else 0)


def _is_same(one: Schedule, other: Schedule) -> bool:
    def bare(schedule: Schedule) -> Schedule:
        rule = msgspec.structs.replace(schedule.rule, by="")
        return msgspec.structs.replace(schedule, rule=rule, sequence=0, changed_at=None)

    return bare(one) == bare(other)


async def _store(bus: Bus, blobs: Blobs, schedule: Schedule, expected: int) -> ScheduleView:
    headers = {**headers_of(schedule), h.EXPECTED_SEQUENCE: str(expected)}
    try:
        sequence = await bus.append(schedule.subject, schedule.input, headers=headers)
    except Fenced:
        raise UsageError(f"schedule {schedule.rule.name!r} was changed meanwhile", code="schedule_changed",
                         path="name", hint="look at it, and try again") from None  # fmt: skip
    except ApiError as error:
        raise _refusal(schedule.rule, error) from error
    stored = msgspec.structs.replace(schedule, sequence=sequence, changed_at=datetime.now(UTC))
    return await view_of(bus, blobs, stored)


def _refusal(rule: Rule, error: ApiError) -> Exception:
    if error.err_code == _BAD_PATTERN:
        return UsageError(f"the server cannot fire by {rule.cron or rule.every_s!r}", code="bad_cron", path="cron",
                          hint="numbers, names, '*', lists, ranges and steps")  # fmt: skip
    if error.err_code == _BAD_ZONE:
        hint = "the server needs the list of time zones (tzdata) on its machine"
        return UsageError(f"the server knows no time zone {rule.time_zone!r}", code="bad_time_zone", path="time_zone",
                          hint=hint)  # fmt: skip
    return error


async def find_schedule(bus: Bus, workspace: str, name: str) -> Schedule | None:
    """The schedule of that name, None if there is none. Raises: BusError."""
    stored = await last(bus, JOBS, schedule_subject(workspace, name))
    return None if stored is None else schedule_in(stored)


async def get_schedule(bus: Bus, workspace: str, name: str) -> Schedule:
    """The schedule of that name. Raises: UsageError ``unknown_schedule``, BusError."""
    if (found := await find_schedule(bus, workspace, name)) is None:
        raise UsageError(f"workspace {workspace} has no schedule {name!r}", code="unknown_schedule", path="name",
                         hint="see 'callboard schedules list'")  # fmt: skip
    return found


async def list_schedules(bus: Bus, blobs: Blobs, workspace: str) -> list[ScheduleView]:
    """All of them, by name. Raises: BusError."""
    pages = [page async for page in scan(bus, JOBS, schedule_subject(workspace, "*"))]
    found = [schedule for page in pages for stored in page if (schedule := schedule_in(stored))]
    return [await view_of(bus, blobs, schedule) for schedule in sorted(found, key=lambda each: each.rule.name)]


async def pause_schedule(bus: Bus, blobs: Blobs, workspace: str, name: str, by: str) -> ScheduleView:
    """Let it fire no more until it is resumed. Raises: UsageError, BusError."""
    return await _hold(bus, blobs, workspace, name, by, is_paused=True)


async def resume_schedule(bus: Bus, blobs: Blobs, workspace: str, name: str, by: str) -> ScheduleView:
    """Let it fire again; what was due meanwhile is not made up for. Raises: UsageError, BusError."""
    return await _hold(bus, blobs, workspace, name, by, is_paused=False)


async def _hold(bus: Bus, blobs: Blobs, workspace: str, name: str, by: str, *, is_paused: bool) -> ScheduleView:
    schedule = await get_schedule(bus, workspace, name)
    if schedule.rule.is_paused == is_paused:
        return await view_of(bus, blobs, schedule)
    rule = msgspec.structs.replace(schedule.rule, is_paused=is_paused, by=by)
    return await _store(bus, blobs, msgspec.structs.replace(schedule, rule=rule), schedule.sequence)


async def remove_schedule(bus: Bus, workspace: str, name: str) -> None:
    """Take it away; jobs that it has asked for go on. Raises: UsageError ``unknown_schedule``, BusError."""
    schedule = await get_schedule(bus, workspace, name)
    try:
        await bus.api(f"STREAM.MSG.DELETE.{JOBS}", {"seq": schedule.sequence, "no_erase": True})
    except ApiError:
        if await find_schedule(bus, workspace, name) is not None:
            raise


async def run_schedule(bus: Bus, blobs: Blobs, workspace: str, name: str, at: datetime, by: str) -> str:
    """Ask for its job now, also if it is paused or its last run goes on; the job's id.

    The same ``at`` again is the same run. Raises: UsageError, BusError.
    """
    schedule = await get_schedule(bus, workspace, name)
    at = at.replace(microsecond=max(1000, at.microsecond // 1000 * 1000))  # no scheduled run has milliseconds
    run = run_id(name, at)
    while (last_one := await last_run(bus, blobs, workspace, name)).run != run:
        if await claim_run(bus, blobs, schedule, run, at, last_one, by=by):
            break
    body = await blobs.get(schedule.blob) if schedule.blob else schedule.input
    request = JobRequest(
        workflow=schedule.workflow, job=run, input=body, workspace=workspace, priority=schedule.priority,
        deadline=schedule.deadline_s, version=schedule.version,
    )  # fmt: skip
    await publish_request(bus, blobs, request)
    return run


async def view_of(bus: Bus, blobs: Blobs, schedule: Schedule) -> ScheduleView:
    """A schedule with what the log says of its runs. Raises: BusError."""
    rule = schedule.rule
    fired = await last_run(bus, blobs, schedule.workspace, rule.name)
    skipped = await last_skip(bus, blobs, schedule.workspace, rule.name)
    event = fired.event
    body: Any = schedule.input if not schedule.blob else msgspec.json.encode({"blob": schedule.blob})
    times = next_times(schedule, datetime.now(UTC), event.due_at if event else None, SHOWN_TIMES)
    return ScheduleView(
        version=schedule.version,
        name=rule.name, workflow=schedule.workflow, cron=rule.cron, time_zone=rule.time_zone, every_s=rule.every_s,
        overlap=rule.overlap, priority=schedule.priority, deadline_s=schedule.deadline_s, is_paused=rule.is_paused,
        by=rule.by, changed_at=schedule.changed_at, next_at=tuple(times), last_run=event.run if event else "",
        last_due_at=event.due_at if event else None, skipped_at=skipped.due_at if skipped else None,
        skipped_for=skipped.reason if skipped else "", input=msgspec.Raw(body or b"{}"),
    )  # fmt: skip
