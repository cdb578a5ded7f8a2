"""On which terms a job is to run: how urgent it is, when it begins, and by when it has to have ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.jobs.requests import check_times
from bus.errors import UsageError
from bus.moment import Moment, instant_of
from bus.subjects import Priority


class Terms(msgspec.Struct, frozen=True):
    """``start`` None: at once. Seconds in ``deadline`` count from the planned start, or from now."""

    priority: Priority = "normal"
    start: Moment | None = None
    deadline: Moment | None = None

    def starts_at(self, now: datetime) -> datetime | None:
        """When the job is to begin, None for at once."""
        return None if self.start is None else instant_of(self.start, now)

    def fixed(self, now: datetime) -> Terms:
        """The same with instants, for a request that may reach the queue much later."""
        start = self.starts_at(now)
        deadline = None if self.deadline is None else instant_of(self.deadline, start or now)
        return Terms(self.priority, start, deadline)

    def words(self) -> dict[str, Any]:
        """As ``submit`` and a gateway take them."""
        words: dict[str, Any] = {"priority": self.priority}
        if self.start is not None:
            words["at" if isinstance(self.start, datetime) else "delay_s"] = self.start
        if self.deadline is not None:
            words["deadline_at" if isinstance(self.deadline, datetime) else "deadline_s"] = self.deadline
        return words


def terms_of(
    priority: Priority,
    delay_s: float | None,
    at: datetime | None,
    deadline_s: float | None,
    deadline_at: datetime | None,
) -> Terms:
    """The terms that were given, checked. Raises: UsageError."""
    start = _one("delay_s", delay_s, "at", at)
    deadline = _one("deadline_s", deadline_s, "deadline_at", deadline_at)
    check_times(start, deadline, datetime.now(UTC))
    return Terms(priority, start, deadline)


def _one(in_s: str, seconds: float | None, as_instant: str, instant: datetime | None) -> Moment | None:
    if seconds is not None and instant is not None:
        raise UsageError(f"{in_s} and {as_instant}", code="bad_argument", path=as_instant, hint="give one of them")
    return seconds if instant is None else instant
