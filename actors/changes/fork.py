"""A job is forked: a request for a new job that names where it leaves its source.

The request is one message, so a client that dies has forked or has not. The host that takes it up reads the source's
log, tells it of the fork, and creates the job together with what it brings along, in one event. Nobody but a host
writes results, so a client that may submit jobs cannot make any up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from actors.changes.fork_plan import ForkPlan, copies_before, log_incomplete, plan_fork
from actors.jobs.requests import JobRequest, check_request, find_earlier, publish_request
from actors.jobs.signals import unknown_job
from bus import jobid, subjects
from bus.connection import Bus
from bus.crash import crash_point
from bus.errors import BusError, Unreadable, UsageError
from bus.event import ForkedFrom
from bus.messages import Copy, JobForked, JobSubmitted
from bus.objects import BlobMissing, Blobs
from bus.reader import read_all
from bus.streams import EVENTS
from bus.subjects import PRIORITIES, Priority, check_job_id, check_name
from store.log import Recorded, append_unfenced, recorded

if TYPE_CHECKING:
    from actors.jobs.order import Order

# So many deliveries until what the source's log lacks counts as gone: a replica may lag.
GONE_AFTER = 4


@dataclass(frozen=True)
class Forked:
    """A fork that was asked for. ``existing``: it had been before, under this id.

    ``since``: an earlier request under this id was refused there.
    """

    job: str
    plan: ForkPlan
    existing: bool = False
    since: int = 0


@dataclass(frozen=True)
class Origin:
    """What a host knows of the source when it creates a fork."""

    submitted: JobSubmitted
    copies: tuple[Copy, ...]


# ---- for those who ask


async def look_at_fork(bus: Bus, blobs: Blobs, workspace: str, job: str, step: str) -> ForkPlan:
    """What a fork of ``job`` from ``step`` would reuse and do anew; nothing is done.

    Raises: UsageError ``unknown_job``, ``unknown_step``, ``log_incomplete`` or ``never_ran``, BusError.
    """
    events = await _read_whole(bus, blobs, check_name(workspace, "workspace"), check_job_id(job))
    if not events:
        raise unknown_job(workspace, job)
    return plan_fork(workspace, job, events, step)


async def fork_job(
    bus: Bus, blobs: Blobs, workspace: str, job: str, step: str, *, raw: bytes | None = None, fork: str | None = None
) -> Forked:
    """Ask for a fork of ``job`` from ``step``, with the input ``raw`` (JSON; None: the source's) and the id ``fork``.

    The same id again is the same fork. Raises: as :func:`look_at_fork`, and ``job_id_conflict``, TooLarge, StreamFull.
    """
    plan = await look_at_fork(bus, blobs, workspace, job, step)
    request = check_request(fork_request(plan, workspace, fork or jobid.new(), raw))
    exists, rejected = (False, 0) if fork is None else await find_earlier(bus, blobs, request)
    if not exists:
        await publish_request(bus, blobs, request)
    return Forked(request.job, plan, exists, rejected)


def fork_request(plan: ForkPlan, workspace: str, fork: str, raw: bytes | None) -> JobRequest:
    """The request for a planned fork."""
    return JobRequest(
        workspace=workspace, workflow=plan.submitted.workflow, job=fork, priority=_priority(plan.submitted),
        input=bytes(plan.submitted.input) if raw is None else raw, fork=plan.forked_from,
    )  # fmt: skip


def _priority(submitted: JobSubmitted) -> Priority:
    return next((each for each in PRIORITIES if each == submitted.priority), "normal")


# ---- for the host that takes the request up


async def read_origin(bus: Bus, blobs: Blobs, order: Order, attempt: int) -> Origin:
    """What the fork that ``order`` asks for takes with it. ``attempt`` counts deliveries of the request.

    Raises: UsageError for what can be no fork, BusError.
    """
    fork = order.fork
    assert fork is not None
    _check_source(fork, order)
    try:
        events = await _read_whole(bus, blobs, fork.workspace, fork.job)
        copies = copies_before(fork.job, events, fork.sequence, order.job)
    except UsageError as error:
        if error.code != "log_incomplete" or attempt >= GONE_AFTER:
            raise
        raise BusError(f"{error.args[0]}, on this server") from error
    submitted = next(r.event for r in events if isinstance(r.event, JobSubmitted))
    if submitted.workflow != order.workflow:
        raise UsageError(
            f"job {fork.job} is of workflow {submitted.workflow!r}, not {order.workflow!r}", code="bad_fork",
            path="workflow", hint="a fork is of its source's workflow",
        )  # fmt: skip
    return Origin(submitted, copies)


def _check_source(fork: ForkedFrom, order: Order) -> None:
    """A job of another workspace would show its results to whoever may submit in this one."""
    if fork.workspace != order.workspace:
        raise UsageError(
            f"job {fork.job} is in workspace {fork.workspace}, the request in {order.workspace}", code="bad_fork",
            path="workspace", hint="fork it in its own workspace",
        )  # fmt: skip


async def announce_fork(bus: Bus, blobs: Blobs, order: Order) -> None:
    """Tell the source of its fork, before there is one: so whoever finds the fork finds it told."""
    fork = order.fork
    assert fork is not None
    event = JobForked(job=fork.job, fork=order.job, step=fork.step, point=fork.sequence)
    await append_unfenced(bus, blobs, fork.workspace, event)
    crash_point("host.after_forked")


def forked(submitted: JobSubmitted, order: Order, origin: Origin) -> JobSubmitted:
    """The beginning of a fork: of its source's version, with what it brings along."""
    return msgspec.structs.replace(
        submitted, version=origin.submitted.version, forked_from=order.fork, recorded=origin.copies
    )


async def _read_whole(bus: Bus, blobs: Blobs, workspace: str, job: str) -> list[Recorded]:
    """The job's log. Raises: UsageError ``log_incomplete`` if any of it cannot be read, BusError."""
    events = []
    for stored in await read_all(bus, EVENTS, f"{subjects.log_prefix(workspace, job)}.>"):
        try:
            events.append(await recorded(blobs, stored))
        except (Unreadable, BlobMissing) as error:
            raise log_incomplete(job, str(error)) from error
    return events
