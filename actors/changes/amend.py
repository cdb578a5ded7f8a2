"""A job that is under way is amended: a word in its log, and a wake-up in case that it is parked.

Like a signal it may come from anyone who may write there, and the log's order says what it is before and after.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from actors.changes.amendments import check_change, concerns
from actors.jobs.journal import Journal
from actors.jobs.requests import publish_wake
from actors.jobs.signals import unknown_job
from bus import subjects
from bus.amendment import AddSteps, Change, SetPolicy
from bus.connection import Bus
from bus.errors import Unreadable, UsageError
from bus.messages import JobAmended, JobFailed, decode
from bus.objects import Blobs
from bus.reader import read_all
from bus.streams import EVENTS
from bus.subjects import check_job_id, check_name
from store.artifacts import unclaim
from store.log import append_unfenced, read_job

WAKE = "amended"


@dataclass(frozen=True)
class Amended:
    """An amendment that is in the log at ``sequence``.

    ``in_flight`` are calls that it is about and that are out: for them it counts from their next attempt on.
    """

    job: str
    sequence: int
    in_flight: tuple[str, ...] = ()


async def amend_job(bus: Bus, blobs: Blobs, workspace: str, job: str, change: Change, *, by: str = "") -> Amended:
    """Write ``change`` into the job's log, and wake the job if it is parked.

    Raises: UsageError ``bad_change``, ``unknown_job``, ``job_ended`` or ``not_a_document``, BusError.
    """
    check_change(change)
    events = await read_job(bus, blobs, check_name(workspace, "workspace"), check_job_id(job))
    journal = Journal()
    journal.read(events)
    if journal.submitted is None:
        raise unknown_job(workspace, job)
    _check_open(job, journal, change)
    if not isinstance(change, SetPolicy) and not journal.submitted.amendable:
        workflow = journal.submitted.workflow
        raise UsageError(
            f"job {job} has no steps that can be changed: what it does next is in the code of {workflow}",
            code="not_a_document", path="job", hint="change the policy of its calls, fork it, or give it a signal",
        )  # fmt: skip
    if isinstance(change, AddSteps):
        _check_steps(change)
    sequence = await append_unfenced(bus, blobs, workspace, JobAmended(job=job, change=change, by=by))
    if not journal.ended:
        await publish_wake(bus, workspace, journal.submitted.workflow, job, WAKE)
    out = (entry for entry in journal.entries.values() if entry.is_out)
    return Amended(job, sequence, tuple(e.call for e in out if concerns(change, e.call, e.name)))


def _check_steps(change: AddSteps) -> None:
    """What can be told of steps without their job. Later nobody is there to be told."""
    from actors.interpreter.amending import CannotChange, check_steps

    try:
        check_steps(msgspec.json.decode(change.steps))
    except CannotChange as error:
        raise UsageError(f"the steps: {error}", code="bad_change", path="steps", hint=error.hint) from error


def _check_open(job: str, journal: Journal, change: Change) -> None:
    """A job that has failed may be retried, and its calls are then made as they should have been."""
    if journal.ended is None or (isinstance(journal.ended, JobFailed) and isinstance(change, SetPolicy)):
        return
    raise UsageError(
        f"job {job} has ended: {journal.ended.kind}", code="job_ended", path="job", hint="fork it, or submit it anew"
    )


async def read_amendments(bus: Bus, blobs: Blobs, workspace: str, job: str) -> list[Change]:
    """All changes that were made to a job, in the log's order. Raises: BusError."""
    found: list[Change] = []
    for stored in await read_all(bus, EVENTS, subjects.event(workspace, job, "job.amended")):
        try:
            event = decode(stored.body, subject=stored.subject, sequence=stored.sequence)
            event = event if event.blob is None else await unclaim(blobs, event)
        except Unreadable:
            continue
        if isinstance(event, JobAmended) and event.change is not None:
            found.append(event.change)
    return found
