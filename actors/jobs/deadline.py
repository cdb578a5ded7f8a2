"""When a job's time is up: at its deadline, or when its component's time-out is over. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from actors.jobs.journal import Journal
from bus.failure import Failure
from bus.messages import JobSubmitted
from bus.moment import rfc3339


class TimeLimit(NamedTuple):
    """The job fails with ``failure`` if it has not ended at ``at``."""

    at: datetime
    failure: Failure


def deadline_of(journal: Journal) -> datetime | None:
    """The job's deadline, which its children inherit.

    Who retries a job after its deadline wants it to go on: then there is none any more.
    """
    submitted, retried = journal.submitted, journal.retried
    if submitted is None or submitted.deadline_at is None:
        return None
    return None if retried is not None and retried.at >= submitted.deadline_at else submitted.deadline_at


def time_limit(submitted: JobSubmitted, journal: Journal, timeout_s: float | None) -> TimeLimit | None:
    """What comes first; None if the job may take for ever. A time-out begins anew when the job is retried."""
    limits = []
    if (deadline_at := deadline_of(journal)) is not None:
        message = f"the job did not end by its deadline, {rfc3339(deadline_at)}"
        limits.append(TimeLimit(deadline_at, Failure(code="deadline", message=message, retryable=False)))
    if timeout_s is not None:
        began_at = journal.retried.at if journal.retried else submitted.at
        message = f"the job did not end within {timeout_s:g} s"
        failure = Failure(code="timeout", message=message, retryable=False)
        limits.append(TimeLimit(began_at + timedelta(seconds=timeout_s), failure))
    return min(limits, key=lambda limit: limit.at, default=None)
