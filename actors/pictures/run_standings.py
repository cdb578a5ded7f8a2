"""What became of the steps of a document in a job: of those that ran once, and in sums of those that ran many times.

The machine says which state a step is in, the log when its operations were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from actors.interpreter.frame import Frame, Run
from actors.interpreter.retrace import Trace
from actors.pictures.drawing import Count, Standing, State
from actors.pictures.recorded_operations import Operation
from actors.workflow.document import (
    ApprovalStep,
    Document,
    LoopStep,
    MapStep,
    ParallelStep,
    SleepStep,
    SwitchStep,
    WaitStep,
)
from actors.workflow.outline import Entry, outline

# The state of a step that ran many times: the first of these that is among them.
_WEIGHT: tuple[State, ...] = ("running", "waiting", "failed", "cancelled", "compensated", "completed", "skipped")
_OPEN: frozenset[State] = frozenset({"running", "waiting"})
_UNDO = "undo"
# The limit of a step's time is a sleep beside it, which goes on in the log when the step is through.
_LIMIT = "timeout"


@dataclass(frozen=True, slots=True)
class _Fact:
    """What is known of one run of a step; ``state`` is None if it has not begun and still may."""

    state: State | None
    begun_at: datetime | None
    ended_at: datetime | None
    count: Count | None
    note: str


@dataclass(slots=True)
class _Times:
    """Operations of the steps by their places, each with the role that it was asked for in."""

    now: datetime
    is_over: bool
    own: dict[str, list[tuple[str, Operation]]] = field(default_factory=dict)


def standings(
    document: Document, trace: Trace, operations: Sequence[Operation], now: datetime, *, is_over: bool
) -> dict[str, Standing]:
    """The standing of each step of the document by its id, but for those that have not begun and still may.

    ``is_over``: the job has ended.
    """
    facts: dict[str, list[_Fact]] = {}
    times = _Times(now, is_over)
    places = {run.place for run in _all_runs(trace, trace.top)}
    for operation in operations:
        place, role = _place_of(operation.key, places)
        times.own.setdefault(place, []).append((role, operation))
    _note(trace, trace.top, times, facts)
    found: dict[str, Standing] = {}
    for entry in outline(document).entries:
        known = facts.get(entry.step.id)
        standing = _sum(known, now) if known else _unopened(entry, facts, found, is_over)
        if standing is not None:
            found[entry.step.id] = standing
    return found


def _all_runs(trace: Trace, frame: Frame) -> Iterator[Run]:
    for run in frame.runs.values():
        yield run
        for inner in trace.inside.get(run, ()):
            yield from _all_runs(trace, inner)


def _place_of(key: str, places: set[str]) -> tuple[str, str]:
    """The place of the step that an operation is of, and its role; what is nobody's is at the top."""
    pieces = key.split("/")
    for end in range(len(pieces) - 1, 0, -1):
        if (place := "/".join(pieces[:end])) in places:
            return place, pieces[end] if end < len(pieces) - 1 else ""
    return "", ""


def _note(trace: Trace, frame: Frame, times: _Times, facts: dict[str, list[_Fact]]) -> list[_Fact]:
    """Note what is known of all steps of a list; gives that of the list's own steps."""
    found: list[_Fact] = []
    for run in frame.runs.values():
        frames = trace.inside.get(run, [])
        inside = [fact for inner in frames for fact in _note(trace, inner, times, facts)]
        fact = _fact(run, frames, inside, times)
        facts.setdefault(run.id, []).append(fact)
        found.append(fact)
    return found


def _fact(run: Run, frames: list[Frame], inside: list[_Fact], times: _Times) -> _Fact:
    own = times.own.get(run.place, [])
    done = [one for role, one in own if role not in (_UNDO, _LIMIT)]
    is_undone = any(role == _UNDO and one.standing.state == "completed" for role, one in own)
    state = _state(run, is_undone=is_undone, is_over=times.is_over)
    begun = [*(one.begun_at for one in done), *(fact.begun_at for fact in inside)]
    ended = [*(one.ended_at for one in done), *(fact.ended_at for fact in inside)]
    notes = [run.failure.message if run.failure else "", *(one.standing.note for one in done)]
    note = "; ".join(dict.fromkeys(note for note in notes if note))
    begun_at, ended_at = min(filter(None, begun), default=None), max(filter(None, ended), default=None)
    return _Fact(state, begun_at, ended_at, _count(run, frames), note)


def _state(run: Run, *, is_undone: bool, is_over: bool) -> State | None:
    match run.status:
        case "waiting":
            return "skipped" if is_over or run.frame.is_over else None
        case "running" if is_over:
            return "cancelled"
        case "running":
            waits = isinstance(run.plan.step, WaitStep | ApprovalStep | SleepStep)
            return "waiting" if waits else "running"
        case "completed":
            return "compensated" if is_undone else "completed"
        case status:
            return status


def _count(run: Run, frames: list[Frame]) -> Count | None:
    """Instances and branches that have completed, and rounds that there were."""
    match run.plan.step:
        case MapStep() | ParallelStep() if run.items:
            return Count(sum(run.ended.values()), len(run.items))
        case LoopStep() if frames:
            return Count(len(frames))
        case _:
            return None


# ---- sums


def _sum(facts: list[_Fact], now: datetime) -> Standing | None:
    states = {fact.state for fact in facts}
    if states == {None}:
        return None
    state = next(state for state in _WEIGHT if state in states)
    if None in states and state not in _OPEN:
        state = "running"
    begun_at = min((fact.begun_at for fact in facts if fact.begun_at), default=None)
    ended_at = now if state in _OPEN else max((fact.ended_at for fact in facts if fact.ended_at), default=None)
    passed_s = (ended_at - begun_at).total_seconds() if begun_at and ended_at else None
    note = next((fact.note for fact in facts if fact.note), "")
    return Standing(state=state, duration_s=max(0.0, passed_s or 0.0) or None, count=_counts(facts), note=note)


def _counts(facts: list[_Fact]) -> Count | None:
    counts = [fact.count for fact in facts if fact.count is not None]
    if len(facts) == 1 or counts:
        totals = [count.total for count in counts if count.total is not None]
        return Count(sum(count.done for count in counts), sum(totals) if totals else None) if counts else None
    return Count(sum(fact.state in ("completed", "compensated") for fact in facts), len(facts))


def _unopened(
    entry: Entry, facts: dict[str, list[_Fact]], found: dict[str, Standing], is_over: bool
) -> Standing | None:
    """A step whose list never began: it may still, unless what it is inside of is through or went another way."""
    owner = entry.scope.owner
    around = found.get(owner.step.id) if owner else None
    others = (inner.step.id for scope in owner.inner for inner in scope.entries) if owner else ()
    went_elsewhere = (
        owner is not None and isinstance(owner.step, SwitchStep) and any(other in facts for other in others)
    )
    is_past = is_over or went_elsewhere or (around is not None and around.state not in _OPEN)
    return Standing(state="skipped") if is_past else None
