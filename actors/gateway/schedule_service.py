"""Schedules as NATS services: ``api.<workspace>.schedules.add|list|get|pause|resume|remove|run``.

nats req api.default.schedules.add '{"name": "nightly", "workflow": "order", "cron": "0 2 * * *", "input": {...}}'
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.components.input_check import check_input
from actors.gateway.workflow_choice import WorkflowChoice
from actors.schedules.book import (
    ScheduleView,
    add_schedule,
    get_schedule,
    list_schedules,
    pause_schedule,
    remove_schedule,
    resume_schedule,
    run_schedule,
    view_of,
)
from actors.schedules.schedule import Overlap, Rule, Schedule
from bus.connection import Bus
from bus.moment import check_instant
from bus.objects import Blobs
from bus.subjects import Priority


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An unknown field is refused, since it is most likely a misspelt one."""


class AddSchedule(_Body, frozen=True):
    """``schedules.add``: ``cron`` (in ``time_zone``, else UTC) or ``every_s``; ``replace`` one of that name."""

    name: str
    workflow: str
    cron: str = ""
    time_zone: str = ""
    every_s: float | None = None
    input: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    priority: Priority = "normal"
    overlap: Overlap = "skip"
    deadline_s: float | None = None
    version: str | int | None = None
    replace: bool = False
    by: str = ""


class ListSchedules(_Body, frozen=True):
    """``schedules.list``."""


class NamedSchedule(_Body, frozen=True):
    """``schedules.get``, ``pause``, ``resume`` and ``remove``."""

    name: str
    by: str = ""


class RunSchedule(_Body, frozen=True):
    """``schedules.run``; the same ``at`` again is the same run."""

    name: str
    by: str = ""
    at: datetime | None = None


class ScheduleService:
    """What a gateway does for schedules."""

    def __init__(self, bus: Bus, blobs: Blobs, choice: WorkflowChoice) -> None:
        self._bus = bus
        self._blobs = blobs
        self._choice = choice

    async def add(self, workspace: str, body: AddSchedule) -> ScheduleView:
        """Keep a schedule. Its input is checked like that of a submit."""
        info, version, _ = await self._choice.choose(body.workflow, body.version)
        check_input(info, msgspec.json.decode(body.input))
        rule = Rule(
            name=body.name, cron=body.cron, time_zone=body.time_zone, every_s=body.every_s, overlap=body.overlap,
            by=body.by,
        )  # fmt: skip
        schedule = Schedule(
            workspace=workspace, rule=rule, workflow=info.name, priority=body.priority, input=bytes(body.input),
            deadline_s=body.deadline_s, version=version,
        )  # fmt: skip
        return await add_schedule(self._bus, self._blobs, schedule, replace=body.replace)

    async def list(self, workspace: str, _: ListSchedules) -> dict[str, Any]:
        """All of them."""
        return {"schedules": await list_schedules(self._bus, self._blobs, workspace)}

    async def get(self, workspace: str, body: NamedSchedule) -> ScheduleView:
        """One of them."""
        return await view_of(self._bus, self._blobs, await get_schedule(self._bus, workspace, body.name))

    async def pause(self, workspace: str, body: NamedSchedule) -> ScheduleView:
        """Let it fire no more."""
        return await pause_schedule(self._bus, self._blobs, workspace, body.name, body.by)

    async def resume(self, workspace: str, body: NamedSchedule) -> ScheduleView:
        """Let it fire again."""
        return await resume_schedule(self._bus, self._blobs, workspace, body.name, body.by)

    async def remove(self, workspace: str, body: NamedSchedule) -> dict[str, str]:
        """Take it away."""
        await remove_schedule(self._bus, workspace, body.name)
        return {"removed": body.name}

    async def run(self, workspace: str, body: RunSchedule) -> dict[str, str]:
        """Ask for its job now."""
        at = check_instant(body.at, "at") if body.at else datetime.now(UTC)
        return {"job": await run_schedule(self._bus, self._blobs, workspace, body.name, at, body.by)}
