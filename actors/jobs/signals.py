"""A word to a job: written into its log, and a wake-up in case that the job is parked."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from actors.jobs.planned import find_planned
from actors.jobs.requests import publish_wake
from bus import subjects
from bus.connection import Bus
from bus.errors import UsageError
from bus.messages import JobSubmitted, Signal, decode
from bus.objects import Blobs
from bus.reader import Stored, last_of_each
from bus.streams import EVENTS
from bus.subjects import JOB_ENDS, check_job_id, check_name
from store.log import append_unfenced

CANCEL, TERMINATE, PAUSE, RESUME = "cancel", "terminate", "pause", "resume"
# What the system itself acts on; a job cannot wait for them.
RESERVED = frozenset({CANCEL, TERMINATE, PAUSE, RESUME})
_LOOK_S = 0.05


def make_signal(job: str, name: str, data: Any = None, by: str = "") -> Signal:
    """A signal with ``data`` as JSON. Raises: UsageError for a name that is no token, or data that is no JSON."""
    check_job_id(job)
    check_name(name, "signal")
    try:
        raw = msgspec.json.encode(data)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise UsageError(
            f"the data of signal {name!r} is no JSON: {error}", code="invalid_data", path="data"
        ) from error
    return Signal(job=job, name=name, data=msgspec.Raw(raw), by=by)


async def send_signal(bus: Bus, blobs: Blobs, workspace: str, signal: Signal, *, wait_s: float = 0.0) -> int:
    """Give ``signal`` to its job; the sequence at which it stands in the log.

    A planned job has it in its log when it begins; cancel and terminate end it at once.
    ``wait_s``: how long to wait for a job that no host has taken up yet.
    Raises: UsageError ``unknown_job`` or ``job_ended``, BusError.
    """
    workflow = await _workflow_of(bus, check_name(workspace, "workspace"), signal.job, wait_s)
    sequence = await append_unfenced(bus, blobs, workspace, signal)
    await publish_wake(bus, workspace, workflow, signal.job, signal.kind)
    return sequence


async def _workflow_of(bus: Bus, workspace: str, job: str, wait_s: float) -> str:
    kinds = ["job.submitted", "job.retried", *(f"job.{end}" for end in JOB_ENDS)]
    wanted = [subjects.event(workspace, job, kind) for kind in kinds]
    deadline = asyncio.get_running_loop().time() + wait_s
    while not (found := await last_of_each(bus, EVENTS, wanted)):
        if planned := await find_planned(bus, workspace, job):
            return planned.workflow
        if asyncio.get_running_loop().time() >= deadline:
            raise unknown_job(workspace, job)
        await asyncio.sleep(_LOOK_S)
    return _workflow_in(job, sorted(found, key=lambda stored: stored.sequence))


def _workflow_in(job: str, found: list[Stored]) -> str:
    """The workflow of a job that goes on. Raises: UsageError."""
    newest = subjects.parse_event(found[-1].subject).kind
    if newest not in ("job.submitted", "job.retried"):
        raise UsageError(
            f"job {job} has ended: {newest}", code="job_ended", path="job", hint="it takes no more signals"
        )
    submitted = next(stored for stored in found if stored.subject.endswith(".job.submitted"))
    event = decode(submitted.body, subject=submitted.subject, sequence=submitted.sequence)
    assert isinstance(event, JobSubmitted)
    return event.workflow


def reason_in(signal: Signal) -> str:
    """The reason that came with a cancel or terminate."""
    data = msgspec.json.decode(signal.data)
    return str(data.get("reason", "")) if isinstance(data, dict) else ""


def unknown_job(workspace: str, job: str) -> UsageError:
    """The error for an id that the log does not hold."""
    return UsageError(
        f"workspace {workspace} has no job {job}",
        code="unknown_job",
        path="job",
        hint="check the id and the workspace; a job is known once a host has taken it up",
    )
