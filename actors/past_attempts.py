"""What the log says of a call that is delivered again, and which attempt is due.

Attempts are counted from what is recorded. The server's count of deliveries says one thing only: whether the call was
given out once more than the records explain. Then a process took it and left no word; it died. A call that was
given out and never begun, since its process died over another one, is so charged with one death at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bus import subjects
from bus.connection import Bus
from bus.errors import Unreadable
from bus.messages import CallTool, Event, ReplyCompleted, ReplyFailed, ReplyRetrying, decode
from bus.reader import last_of_each, read_all
from bus.streams import EVENTS

_ENDS = tuple(f"job.{end}" for end in ("completed", "failed", "cancelled"))


@dataclass(frozen=True)
class Past:
    """``failed`` counts recorded failed attempts, ``handed_back`` deliveries that were no attempt."""

    answered: bool = False
    failed: int = 0
    handed_back: int = 0
    job_over: bool = False
    last_failed: ReplyRetrying | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Settled:
    """Nothing is left to do: the call is answered, or its job is over."""


@dataclass(frozen=True)
class Due:
    """``attempt`` is to be run. ``after_death``: the one before it left no word, and is to be recorded first."""

    attempt: int = 1
    after_death: bool = False


Standing = Settled | Due


def fold_past(events: list[Event], call: str, *, job_over: bool) -> Past:
    """Pure: what these events say about ``call``."""
    replies = [e for e in events if isinstance(e, ReplyCompleted | ReplyFailed) and e.call == call]
    retries = [e for e in events if isinstance(e, ReplyRetrying) and e.call == call]
    failures = [e for e in retries if not e.handed_back]
    return Past(
        answered=bool(replies),
        failed=max((e.attempt for e in failures), default=0),
        handed_back=sum(e.handed_back for e in retries),
        job_over=job_over,
        last_failed=max(failures, key=lambda e: e.attempt, default=None),
    )


def standing(past: Past, deliveries: int) -> Standing:
    """Pure: what to do with a call that was given out ``deliveries`` times, this time included."""
    if past.answered or past.job_over:
        return Settled()
    if deliveries - past.handed_back <= past.failed + 1:
        return Due(past.failed + 1)
    return Due(past.failed + 2, after_death=True)


async def past_attempts(bus: Bus, workspace: str, event: CallTool, sequence: int) -> Past:
    """Read the replies that were stored after the command at ``sequence``. Raises: BusError."""
    stored = await read_all(bus, EVENTS, subjects.event(workspace, event.job, "reply.*"), since=sequence)
    events: list[Event] = []
    for message in stored:
        try:
            events.append(decode(message.body, subject=message.subject, sequence=message.sequence))
        except Unreadable:
            continue
    ends = await last_of_each(bus, EVENTS, [subjects.event(workspace, event.job, kind) for kind in _ENDS])
    return fold_past(events, event.call, job_over=bool(ends))
