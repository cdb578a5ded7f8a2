"""What could not be undone, said where a job's end is told. Pure."""

from __future__ import annotations

import msgspec

from actors.jobs.halts import Cancelled, Raised
from bus.failure import Failure


def and_not_undone(failure: Failure, left: tuple[str, ...]) -> Failure:
    """The failure, and what of the job could not be undone."""
    if not left:
        return failure
    details = {**(failure.details or {}), "not_undone": list(left)}
    return msgspec.structs.replace(failure, message=said_with(failure.message, left), details=details)


def said_with(reason: str, left: tuple[str, ...]) -> str:
    """A reason, and what could not be undone."""
    return f"{reason}; not undone, since that failed too: {', '.join(left)}" if left else reason


def with_not_undone(end: Cancelled | Raised, left: tuple[str, ...]) -> Cancelled | Raised:
    """How a job ends, and what of it could not be undone."""
    if isinstance(end, Raised):
        return Raised(and_not_undone(end.failure, left))
    return Cancelled(end.by, said_with(end.reason, left))
