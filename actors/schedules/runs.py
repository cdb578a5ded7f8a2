"""The runs of a schedule, in the log: each is claimed on the condition that the last one is the one that was seen.

So of two hosts that are brought the same tick, or two ticks, one after the other decides, and knows what the other did.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from actors.schedules.schedule import Schedule
from bus import headers as h
from bus import subjects
from bus.connection import Bus
from bus.errors import Fenced
from bus.objects import Blobs
from bus.reader import last, read_all
from bus.schedule_events import ScheduleFired, ScheduleSkipped
from bus.streams import EVENTS
from store.log import append_event, append_unfenced, recorded

FIRED, SKIPPED = "schedule.fired", "schedule.skipped"


@dataclass(frozen=True)
class LastRun:
    """The newest run, and where it stands in the log; 0 and None if there was none."""

    sequence: int = 0
    event: ScheduleFired | None = None

    @property
    def run(self) -> str:
        """Its job's id, empty if there was none."""
        return self.event.run if self.event else ""


async def last_run(bus: Bus, blobs: Blobs, workspace: str, name: str) -> LastRun:
    """The newest run of a schedule. Raises: BusError."""
    stored = await last(bus, EVENTS, subjects.event(workspace, name, FIRED))
    if stored is None:
        return LastRun()
    event = (await recorded(blobs, stored)).event
    assert isinstance(event, ScheduleFired)
    return LastRun(stored.sequence, event)


async def last_skip(bus: Bus, blobs: Blobs, workspace: str, name: str) -> ScheduleSkipped | None:
    """The newest time at which nothing was run. Raises: BusError."""
    stored = await last(bus, EVENTS, subjects.event(workspace, name, SKIPPED))
    event = None if stored is None else (await recorded(blobs, stored)).event
    return event if isinstance(event, ScheduleSkipped) else None


async def has_run(bus: Bus, blobs: Blobs, workspace: str, name: str, run: str) -> bool:
    """Whether that run was claimed, however long ago. Raises: BusError."""
    for stored in await read_all(bus, EVENTS, subjects.event(workspace, name, FIRED)):
        event = (await recorded(blobs, stored)).event
        if isinstance(event, ScheduleFired) and event.run == run:
            return True
    return False


async def claim_run(
    bus: Bus, blobs: Blobs, schedule: Schedule, run: str, due_at: datetime, after: LastRun, *, by: str = ""
) -> bool:
    """Record a run after the one that was seen last; False if another was recorded meanwhile. Raises: BusError."""
    name = schedule.rule.name
    prefix = subjects.log_prefix(schedule.workspace, name)
    condition = {h.EXPECTED_SEQUENCE: str(after.sequence), h.EXPECTED_SUBJECT: f"{prefix}.{FIRED}"}
    event = ScheduleFired(job=name, run=run, workflow=schedule.workflow, due_at=due_at, by=by)
    try:
        await append_event(bus, blobs, prefix, event, condition, since=after.sequence)
    except Fenced:
        return False
    return True


async def skip_run(bus: Bus, blobs: Blobs, workspace: str, event: ScheduleSkipped) -> None:
    """Record that nothing was run. Raises: BusError."""
    await append_unfenced(bus, blobs, workspace, event)
