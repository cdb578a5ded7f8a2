"""What the log says of a call that is delivered again, and which attempt is due.

Attempts are counted from what is recorded. The server's count of deliveries says one thing only: whether the call was
given out once more than the records explain. Then a process took it and left no word; it died. A call that was
given out and never begun, since its process died over another one, is so charged with one death at most.

A job that failed may be retried. Then its failed calls are given out again, as new commands under the same keys, and
what was said before that of the call or of the job's end does not count. A command from before the failure is void: if
it had no answer, its job's host writes it anew as well.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace

from bus import subjects
from bus.connection import Bus
from bus.errors import Unreadable
from bus.messages import CallTool, Event, ReplyCompleted, ReplyFailed, ReplyRetrying, decode
from bus.reader import last_of_each, read_all
from bus.streams import EVENTS

_ENDS = ("job.completed", "job.cancelled")
_FAILED, _RETRIED, _AMENDED = "job.failed", "job.retried", "job.amended"


@dataclass(frozen=True)
class Past:
    """``failed`` counts recorded failed attempts, ``handed_back`` deliveries that were no attempt.

    ``given_out_anew``: the job was retried since, and its host writes this command anew, or has done so.
    ``is_amended``: the job was changed at some time, perhaps in how this call is to be made.
    """

    answered: bool = False
    failed: int = 0
    handed_back: int = 0
    job_over: bool = False
    given_out_anew: bool = False
    is_amended: bool = field(default=False, compare=False)
    last_failed: ReplyRetrying | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Settled:
    """Nothing is left to do: the call is answered or was given out anew, or its job is over."""


@dataclass(frozen=True)
class Superseded:
    """The call was given out again since, to somebody who has written of it: it is theirs, and so is its delivery."""


@dataclass(frozen=True)
class Due:
    """``attempt`` is to be run. ``after_death``: the one before it left no word, and is to be recorded first."""

    attempt: int = 1
    after_death: bool = False


Standing = Settled | Superseded | Due


def fold_past(events: list[tuple[int, Event]], call: str, command: int, *, job_over: bool) -> Past:
    """Pure: what these events, with their sequences, say about the ``call`` that was given out at ``command``.

    Any reply answers it; what was tried before the command was a try of an earlier one.
    """
    replies = [e for _, e in events if isinstance(e, ReplyCompleted | ReplyFailed) and e.call == call]
    retries = [e for at, e in events if isinstance(e, ReplyRetrying) and e.call == call and at > command]
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
    if past.answered or past.job_over or past.given_out_anew:
        return Settled()
    if deliveries <= past.failed + past.handed_back:
        # Each of these records belongs to a delivery before the one that counts. A process that was cut off, or stood
        # still, may hold an old one. (A server that lost its own count says too little: the next delivery says more.)
        return Superseded()
    if deliveries - past.handed_back <= past.failed + 1:
        return Due(past.failed + 1)
    return Due(past.failed + 2, after_death=True)


async def past_attempts(bus: Bus, workspace: str, event: CallTool, sequence: int) -> Past:
    """Read what the log says of the call that was given out at ``sequence``. Raises: BusError."""
    kinds = (*_ENDS, _FAILED, _RETRIED, _AMENDED)
    stored = await last_of_each(bus, EVENTS, [subjects.event(workspace, event.job, kind) for kind in kinds])
    newest = {subjects.parse_event(s.subject).kind: s.sequence for s in stored}
    failed, retried = newest.get(_FAILED, 0), newest.get(_RETRIED, 0)
    if sequence < failed < retried:
        return Past(given_out_anew=True)
    since = retried if failed < retried else sequence
    said = await _replies(bus, workspace, event.job, since=min(since, sequence))
    past = fold_past(said, event.call, sequence, job_over=failed > retried or any(end in newest for end in _ENDS))
    return replace(past, is_amended=_AMENDED in newest)


async def _replies(bus: Bus, workspace: str, job: str, *, since: int) -> list[tuple[int, Event]]:
    events: list[tuple[int, Event]] = []
    for stored in await read_all(bus, EVENTS, subjects.event(workspace, job, "reply.*"), since=since):
        with contextlib.suppress(Unreadable):
            events.append((stored.sequence, decode(stored.body, subject=stored.subject, sequence=stored.sequence)))
    return events
