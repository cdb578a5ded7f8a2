"""A job that failed goes on from where it failed: its end is void, and so are the failures that it failed by.

``job.retried`` is stored only if nothing was said of the job's life since it was read, so two retries at once are one
retry. The wake-up comes after it; a crash in between leaves a job that a second retry wakes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from actors.changes.fork_plan import with_copies
from actors.jobs.hold import HOLD
from actors.jobs.journal import Entry, Journal, Spent
from actors.jobs.requests import publish_wake
from actors.jobs.sections import LEFT
from actors.jobs.signals import unknown_job
from actors.jobs.undo_key import is_undo
from bus import headers as h
from bus import subjects
from bus.approval_events import ApprovalAsked
from bus.connection import Bus
from bus.crash import crash_point
from bus.errors import Fenced, UsageError
from bus.failure import Failure
from bus.messages import (
    CallAgent,
    CallJob,
    CallTool,
    JobFailed,
    JobRetried,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
)
from bus.objects import Blobs
from store.log import Recorded, append_event, read_job

WAKE = "retried"


@dataclass(frozen=True)
class Retried:
    """A job that goes on. ``calls`` are made anew; ``sequence`` is where its ``job.retried`` stands."""

    job: str
    calls: tuple[str, ...]
    sequence: int


async def retry_job(
    bus: Bus, blobs: Blobs, workspace: str, job: str, *, calls: Iterable[str] = (), by: str = ""
) -> Retried:
    """Let the failed ``job`` go on from where it failed; what it has recorded is not done again.

    Made anew are the calls by which it failed (:func:`causes`), and those named in ``calls``. A call in flight when the
    job failed is made anew too, unless its answer came meanwhile: it may run twice, under the same idempotency key.
    A child job that failed goes on with its parent. A parent that has its child's failure keeps it until it is retried
    itself: retry the parent, not the child. A job with a time-out has its whole time again. Retrying twice is harmless.
    Raises: UsageError ``unknown_job``, ``not_failed`` or ``no_such_call``, BusError.
    """
    prefix = subjects.log_prefix(subjects.check_name(workspace, "workspace"), subjects.check_job_id(job))
    named, known = tuple(calls), sys.maxsize
    while True:
        events = await read_job(bus, blobs, workspace, job)
        journal = Journal()
        journal.read(events)
        if journal.submitted is None:
            raise unknown_job(workspace, job)
        retried = _retried_already(journal, known)
        if retried is None:
            event = JobRetried(job=job, calls=_calls_of(journal, events, named), by=by)
            known = max(r.sequence for r in events if r.event.kind.startswith("job."))
            condition = {h.EXPECTED_SEQUENCE: str(known), h.EXPECTED_SUBJECT: f"{prefix}.job.*"}
            try:
                sequence = await append_event(bus, blobs, prefix, event, condition, since=known)
            except Fenced:
                continue  # somebody was faster, or a host claimed it late: look again
            retried = Retried(job, event.calls, sequence)
        crash_point("retry.before_wake")
        await publish_wake(bus, workspace, journal.submitted.workflow, job, WAKE)
        return retried


def _retried_already(journal: Journal, known: int) -> Retried | None:
    """The retry that no host has taken up yet, or that was faster than ours: stored after ``known``."""
    if journal.retried is None or journal.ended:
        return None
    if journal.owned_at > journal.retried_at and not journal.retried_at > known:
        return None
    return Retried(journal.retried.job, journal.retried.calls, journal.retried_at)


def _calls_of(journal: Journal, events: list[Recorded], named: tuple[str, ...]) -> tuple[str, ...]:
    """What is to be made anew. Raises: UsageError."""
    _check_failed(journal)
    failed = {call for call, entry in journal.entries.items() if isinstance(entry.outcome, Spent)}
    for call in named:
        if call not in failed:
            raise UsageError(f"the job has no failed call {call!r}", code="no_such_call", path="calls",
                             hint=f"failed: {', '.join(sorted(failed)) or 'none'}")  # fmt: skip
    return tuple(dict.fromkeys((*causes(journal, events), *named)))


def _check_failed(journal: Journal) -> None:
    if isinstance(journal.ended, JobFailed):
        _check_not_undone(journal)
        return
    hint = "it was retried, and goes on" if journal.retried else "cancel it, or wait for its end"
    if journal.ended:
        hint = "submit it again under another id"
    state = journal.ended.kind.removeprefix("job.") if journal.ended else "not at its end"
    assert journal.submitted is not None
    raise UsageError(f"job {journal.submitted.job} is {state}; only a failed job can be retried", code="not_failed",
                     path="job", hint=hint)  # fmt: skip


def _check_not_undone(journal: Journal) -> None:
    """What was undone cannot be gone on with."""
    undone = [call for call in journal.entries if is_undo(call)]
    if undone:
        assert journal.submitted is not None
        message = f"job {journal.submitted.job} has undone what it did ({undone[0]} and so on); it cannot be retried"
        raise UsageError(message, code="undone", path="job", hint="submit it again under another id")


# ---- by which calls a job failed: pure


def causes(journal: Journal, events: list[Recorded]) -> tuple[str, ...]:
    """The failed calls after which a failed job recorded nothing but its end.

    A failure that the job's code caught has something after it: another call, a wait. It stands, and a retry does not
    change the way that the job went. What runs beside it is no sign of that: other branches of a gather, and a call
    that had no answer when the job ended with this very failure. When the host ended the job (time-out, poison,
    changed code) no call was the cause.
    """
    if not isinstance(journal.ended, JobFailed):
        return ()
    events = with_copies(events)
    failed = [e for e in journal.entries.values() if isinstance(e.outcome, Spent)]
    if of_step := _calls_of_step(journal.ended.failure, failed):
        return of_step
    if _is_hosts(journal.ended.failure, failed):
        return ()
    return tuple(entry.call for entry in failed if not any(_went_on(journal, entry, r) for r in events))


def _calls_of_step(failure: Failure, failed: list[Entry]) -> tuple[str, ...]:
    """The failed calls of the step that a workflow document failed by; it names the step."""
    step = (failure.details or {}).get("step")
    return tuple(entry.call for entry in failed if entry.call.rpartition("/")[0] == step) if step else ()


def _is_hosts(failure: Failure, failed: list[Entry]) -> bool:
    """Whether the job was ended from outside of its code, which always raises some exception."""
    is_some_calls = any(_failure_of(entry) == failure for entry in failed)
    return failure.code == "changed_code" or (not failure.exception and not is_some_calls)


def _failure_of(entry: Entry) -> Failure | None:
    return entry.outcome.failure if isinstance(entry.outcome, Spent) else None


def _went_on(journal: Journal, entry: Entry, recorded: Recorded) -> bool:
    """Whether this event shows that the job's code knew of the entry's failure and did not end by it."""
    if recorded.sequence <= entry.sequence:
        return False
    match recorded.event:
        case CallTool(call=call) | CallAgent(call=call) | CallJob(call=call) | ApprovalAsked(call=call):
            return not _is_beside(call, entry.call) and not _may_be_beside(journal, entry, call)
        case ReplyCompleted(op=op) if op == LEFT:
            return False  # the exception came by a section's end
        case ReplyCompleted(call=call, op=op) | ReplyFailed(call=call, op=op) if op:
            return call != entry.call and not _is_beside(call, entry.call)
        case JobWaiting(on=on):
            # A paused job may be parked with the failure in its hands, before its code could do anything about it.
            return on != (HOLD,) and entry.call not in on and not any(_is_beside(call, entry.call) for call in on)
        case _:
            return False


def _may_be_beside(journal: Journal, entry: Entry, call: str) -> bool:
    """``gather(job.call(a), job.call(b))``: no key says that they were side by side, and ``a`` may fail very soon."""
    assert isinstance(journal.ended, JobFailed)
    other = journal.entries[call]
    was_awaited = 0 < other.sequence < journal.ended_at
    return _failure_of(entry) == journal.ended.failure and not was_awaited


def _is_beside(one: str, other: str) -> bool:
    """Whether two keys are in different branches of one gather: ``gather:1.0/a:1`` and ``gather:1.1/b:1``."""
    for mine, its in zip(one.split("/")[:-1], other.split("/")[:-1], strict=False):
        if mine != its:
            gather = mine.rpartition(".")[0]
            return gather != "" and gather == its.rpartition(".")[0]
    return False
