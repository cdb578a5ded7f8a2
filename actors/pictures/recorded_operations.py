"""What the log of a job says of its operations: when each began and ended by the log's order, and what became of it.

Keys are read as ``actors.operations.operation_core`` gives them: ``gather:1.0/quote:2`` is an operation in branch 0 of
a gather, ``each.3/ship/ship:1`` one of step ``ship`` in instance 3 of a map. What is recorded below an operation (the
timer of a wait for a signal) is part of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from actors.changes.fork_plan import with_copies
from actors.jobs.hold import HOLD
from actors.pictures.drawing import Standing, State
from bus.messages import CallAgent, CallJob, CallTool, Emitted, JobRetried, JobWaiting, ReplyCompleted, ReplyFailed
from store.log import Recorded
from store.view import CallView, JobView

_OPERATION = re.compile(r"[^/]*:\d+")
_LANE = re.compile(r"(.+)\.([0-9]{1,9})")


class Place(NamedTuple):
    """A piece of a key: of ``gather:1.0`` the ``name`` is ``gather:1`` and the ``lane`` 0."""

    name: str
    lane: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation. ``begun`` and ``ended`` are sequences of the log; infinite while it has not ended."""

    key: str
    kind: str
    begun: float
    ended: float
    standing: Standing
    begun_at: datetime | None = None
    ended_at: datetime | None = None


def places(key: str) -> tuple[tuple[Place, ...], str]:
    """Where an operation is, and the key of the operation itself without what is recorded below it."""
    outer: list[Place] = []
    pieces = key.split("/")
    if not all(pieces):  # no key of ours
        return (), key
    for number, piece in enumerate(pieces):
        if number == len(pieces) - 1 or _OPERATION.fullmatch(piece):
            return tuple(outer), "/".join(pieces[: number + 1])
        lane = _LANE.fullmatch(piece)
        outer.append(Place(lane[1], int(lane[2])) if lane else Place(piece))
    return (), key


def operations(view: JobView, history: Sequence[Recorded], now: datetime) -> list[Operation]:
    """The operations of a job in the order in which they began, and those that it waits for."""
    spans = _spans(history)
    calls: dict[str, list[CallView]] = {}
    for call in view.calls:
        calls.setdefault(places(call.call)[1], []).append(call)
    waits = _waits(history)
    found = [_operation(view, key, parts, spans, waits, now) for key, parts in calls.items()]
    last = float(view.last_sequence)
    waiting = dict.fromkeys(places(key)[1] for key in view.waiting_on if key != HOLD)
    waited = [key for key in waiting if key not in calls]
    found += [_awaited(key, last + 1 + number, waits[key], now) for number, key in enumerate(waited)]
    return sorted(found, key=lambda one: one.begun)


def _waits(history: Iterable[Recorded]) -> dict[str, datetime]:
    """Since when the job waited for each key; what it has done with it is recorded only when it came."""
    waits: dict[str, datetime] = {}
    for recorded in history:
        if isinstance(recorded.event, JobWaiting):
            for key in recorded.event.on:
                waits.setdefault(places(key)[1], recorded.event.at)
    return waits


def _awaited(key: str, begun: float, begun_at: datetime, now: datetime) -> Operation:
    standing = Standing(state="waiting", duration_s=max(0.0, (now - begun_at).total_seconds()) or None)
    return Operation(key=key, kind=_kind(key), begun=begun, ended=math.inf, standing=standing, begun_at=begun_at)


def _kind(key: str) -> str:
    """What kind of operation is only waited for: a sleep, or a signal."""
    return key.rpartition("/")[2].partition("-")[0].partition(":")[0]


def _spans(history: Iterable[Recorded]) -> dict[str, tuple[float, float]]:
    """(first sequence, sequence of the outcome) of each recorded key; a retry makes outcomes void."""
    spans: dict[str, tuple[float, float]] = {}
    for recorded in with_copies(history):
        match recorded.event:
            case CallTool(call=call) | CallAgent(call=call) | CallJob(call=call):
                spans.setdefault(call, (recorded.sequence, math.inf))
            case ReplyCompleted(call=call) | ReplyFailed(call=call) | Emitted(call=call):
                begun, ended = spans.get(call, (recorded.sequence, math.inf))
                spans[call] = (begun, min(ended, recorded.sequence))
            case JobRetried(calls=calls):
                spans |= {call: (spans[call][0], math.inf) for call in calls if call in spans}
            case _:
                pass
    return spans


def _operation(
    view: JobView,
    key: str,
    calls: list[CallView],
    spans: dict[str, tuple[float, float]],
    waits: dict[str, datetime],
    now: datetime,
) -> Operation:
    """``calls``: the operation's own record, and what is recorded below it."""
    own = next((call for call in calls if call.call == key), None)
    first, last = calls[0], own or calls[-1]
    state = _state(view, key, own, now)
    known = [spans[call.call] for call in calls if call.call in spans]
    begun = min((span[0] for span in known), default=0.0)
    ended = max((span[1] for span in known), default=math.inf) if state not in ("running", "waiting") else math.inf
    ended_at = _ended_at(view, calls, now) if own else None
    begun_at = min(first.started_at, waits.get(key, first.started_at))
    standing = Standing(state=state, duration_s=_duration_s(view, own, begun_at, state, now), note=_note(last))
    return Operation(
        key=key, kind=own.kind if own else _kind(key), begun=begun, ended=ended, standing=standing,
        begun_at=begun_at, ended_at=ended_at,
    )  # fmt: skip


def _ended_at(view: JobView, calls: list[CallView], now: datetime) -> datetime | None:
    """When an operation was over. A sleep and the time limit of a wait are recorded when they begin, with their end."""
    ends = [call.ended_at for call in calls if call.ended_at and not call.call.endswith("/timer")]
    return min(max(ends), view.ended_at or now) if ends else None


def _state(view: JobView, key: str, own: CallView | None, now: datetime) -> State:
    """An operation without an outcome ended with its job; a sleep is recorded when it begins, with its end."""
    if own is not None and own.state == "failed":
        return "failed"
    if own is not None and own.state == "completed":
        due_at = own.ended_at
        still = own.kind == "sleep" and due_at is not None and due_at > (view.ended_at or now)
        return ("cancelled" if view.has_ended else "waiting") if still else "completed"
    if view.has_ended:
        return "cancelled"
    return "waiting" if own is None or (key in view.waiting_on and own.kind not in ("job", "agent")) else "running"


def _duration_s(view: JobView, own: CallView | None, begun_at: datetime, state: State, now: datetime) -> float | None:
    end = own.ended_at if own is not None and state in ("completed", "failed") else view.ended_at or now
    # What the host recorded at once took a time that the log does not say.
    return max(0.0, (end - begun_at).total_seconds()) or None if end else None


def _note(call: CallView) -> str:
    words = [call.failure.message if call.failure else "", f"job {call.child}" if call.child else ""]
    words.append(f"{call.attempts} attempts" if call.attempts > 1 else "")
    words.append("had from the job that this one was forked from" if call.copied else "")
    return "; ".join(word for word in words if word)
