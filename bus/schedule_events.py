"""Events of schedules, in the log of the workspace; the schedule's name stands in the place of the job."""

from __future__ import annotations

from datetime import datetime

from bus.event import BaseEvent


class ScheduleFired(BaseEvent, frozen=True, tag="schedule.fired"):
    """The schedule's time ``due_at`` has come: the job ``run`` is asked for. ``by`` somebody, before its time."""

    run: str
    workflow: str
    due_at: datetime
    by: str = ""


class ScheduleSkipped(BaseEvent, frozen=True, tag="schedule.skipped"):
    """Nothing was asked for at ``due_at``: ``running`` had not ended, or a later time has come meanwhile."""

    due_at: datetime
    reason: str
    running: str = ""


ScheduleEvent = ScheduleFired | ScheduleSkipped
