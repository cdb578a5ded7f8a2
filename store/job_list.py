"""Which jobs a workspace has: a fold over the lifecycle events of all of them.

There is no index: each listing reads ``log.<workspace>.*.job.*`` from its beginning, a few small events a job. Jobs
that have completed or were cancelled are dropped on the way, so what is kept is what one may still want to control.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, get_args

import msgspec

from bus import subjects
from bus.connection import Bus
from bus.errors import Unreadable, UsageError
from bus.messages import (
    Event,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobPaused,
    JobResumed,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    decode,
)
from bus.reader import scan
from bus.streams import EVENTS

ListedState = Literal["planned", "submitted", "running", "waiting", "paused", "failed"]
STATES: tuple[ListedState, ...] = get_args(ListedState)


class ListedJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job that has not ended, or has failed. ``parent`` is its parent's id, empty if it has none.

    A planned job is to begin at ``starts_at``; its ``submitted_at`` is when it was planned.
    """

    job: str
    workflow: str
    state: ListedState
    submitted_at: datetime
    parent: str = ""
    paused_by: str = ""
    starts_at: datetime | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs: an empty field asks for nothing. ``older_than_s`` counts from when the job was taken up."""

    workflow: str = ""
    states: tuple[ListedState, ...] = ()
    older_than_s: float | None = None

    def fits(self, job: ListedJob, now: datetime) -> bool:
        """Whether the job is one of those asked for."""
        is_old = self.older_than_s is None or now - job.submitted_at > timedelta(seconds=self.older_than_s)
        return is_old and self.workflow in ("", job.workflow) and (not self.states or job.state in self.states)


def check_state(text: str) -> ListedState:
    """The state that ``text`` names. Raises: UsageError."""
    for state in STATES:
        if text == state:
            return state
    raise UsageError(f"jobs cannot be picked by state {text!r}", code="bad_state", hint=f"one of {', '.join(STATES)}")


class JobList:
    """The fold. ``add`` events in the order of the stream."""

    def __init__(self) -> None:
        self._jobs: dict[str, ListedJob] = {}
        self._paused: dict[str, str] = {}

    def jobs(self) -> list[ListedJob]:
        """The jobs as they stand, the oldest first. A job that has failed is not paused, whatever was said to it."""
        return [self._as_it_stands(job) for job in self._jobs.values()]

    def _as_it_stands(self, job: ListedJob) -> ListedJob:
        if job.state == "failed" or job.job not in self._paused:
            return job
        return msgspec.structs.replace(job, state="paused", paused_by=self._paused[job.job])

    def add(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case JobSubmitted(job=job):
                parent = event.parent.job if event.parent else ""
                self._jobs[job] = ListedJob(
                    job=job, workflow=event.workflow, state="submitted", submitted_at=event.at, parent=parent
                )
            case JobCompleted(job=job) | JobCancelled(job=job):
                self._jobs.pop(job, None)
                self._paused.pop(job, None)
            case JobPaused(job=job, by=by):
                self._paused[job] = by
            case JobResumed(job=job):
                self._paused.pop(job, None)
            case JobFailed(job=job):
                self._set(job, "failed")
            case JobRetried(job=job):
                self._set(job, "submitted")
            case JobOwned(job=job):
                self._set(job, "running", unless="failed")
            case JobWaiting(job=job):
                self._set(job, "waiting", unless="failed")
            case _:
                pass

    def _set(self, job: str, state: ListedState, *, unless: str = "") -> None:
        listed = self._jobs.get(job)
        if listed is not None and listed.state not in (state, unless):
            self._jobs[job] = msgspec.structs.replace(listed, state=state)


async def list_jobs(bus: Bus, workspace: str, wanted: Wanted, now: datetime) -> list[ListedJob]:
    """The jobs of ``workspace`` that are ``wanted`` at ``now``, the oldest first. Raises: UsageError, BusError."""
    found = JobList()
    everything = f"{subjects.log_prefix(subjects.check_name(workspace, 'workspace'), '*')}.job.*"
    async for page in scan(bus, EVENTS, everything):
        for stored in page:
            try:
                found.add(decode(stored.body, subject=stored.subject, sequence=stored.sequence))
            except Unreadable:  # tail and doctor tell of it
                continue
    return [job for job in found.jobs() if wanted.fits(job, now)]
