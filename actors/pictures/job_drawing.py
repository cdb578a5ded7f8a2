"""A job as a drawing, from its log alone: its operations in boxes of their branches, coloured by what became of them.

What a function does next is known when it does it, so arrows say what came after what: from an operation to those that
began once it had ended, with none between. Operations that were under way at the same time stand side by side.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from actors.console.amount import duration
from actors.pictures.drawing import Count, Drawing, Edge, Group, Node, Part, Standing, State
from actors.pictures.recorded_operations import Operation, operations, places
from store.log import Recorded
from store.view import JobState, JobView

# So many boxes of one list are drawn; of more, those at both ends and those that are not done.
LIST_LIMIT = 40
_ENDS, _UNDONE = 10, 20
_JOB_STATES: dict[JobState, State] = {
    "submitted": "waiting", "running": "running", "waiting": "waiting", "paused": "waiting", "completed": "completed",
    "failed": "failed", "cancelled": "cancelled", "rejected": "failed",
}  # fmt: skip
# The state of a box of boxes: the first of these that is in it.
_WEIGHT: tuple[State, ...] = ("running", "waiting", "failed", "cancelled", "compensated", "completed", "skipped")


@dataclass(frozen=True, slots=True)
class _Span:
    """A part of the drawing and when it was, in sequences of the log and by the clock; the arrows within it."""

    part: Part
    begun: float
    ended: float
    begun_at: datetime | None = None
    ended_at: datetime | None = None
    edges: tuple[Edge, ...] = ()

    @property
    def state(self) -> State:
        return self.part.standing.state if self.part.standing else "completed"


@dataclass(slots=True)
class _Tree:
    """What is recorded at one place: operations, and places within it by name and lane."""

    prefix: str = ""
    found: list[Operation] = field(default_factory=list)
    inner: dict[str, dict[int | None, _Tree]] = field(default_factory=dict)

    def within(self, name: str, lane: int | None) -> _Tree:
        """The place of that name in this one."""
        piece = name if lane is None else f"{name}.{lane}"
        return self.inner.setdefault(name, {}).setdefault(lane, _Tree(f"{self.prefix}{piece}/"))


def draw_job(view: JobView, history: Sequence[Recorded], now: datetime, *, is_whole: bool = False) -> Drawing:
    """The job as it stands at ``now``; ``is_whole``: every operation, however many."""
    tree = _Tree()
    for operation in operations(view, history, now):
        where = tree
        for place in places(operation.key)[0]:
            where = where.within(*place)
        where.found.append(operation)
    spans = _shortened(_listed(tree, is_whole=is_whole), "", is_whole=is_whole)
    parts = tuple(span.part for span in spans) or (_nothing(view),)
    edges = (*_arrows(spans), *_within(spans))
    return Drawing(title=job_title(view), note=job_note(view, now), parts=parts, edges=edges)


def job_title(view: JobView) -> str:
    """Workflow, version and id."""
    return f"{' '.join(word for word in (view.workflow, view.version) if word)}, job {view.job}".lstrip(", ")


def job_note(view: JobView, now: datetime) -> str:
    """Its state, how long it took or has taken, and why it failed or was cancelled."""
    since = view.submitted_at or view.requested_at
    passed_s = view.duration_s if view.has_ended else (now - since).total_seconds() if since else None
    took = f" {'after' if view.has_ended else 'for'} {duration(max(0.0, passed_s))}" if passed_s is not None else ""
    why = view.failure.message if view.failure else view.reason
    forked = f", forked from {view.forked_from.job}" if view.forked_from else ""
    return f"{view.state}{took}{forked}" + (f": {why}" if why else "")


def _nothing(view: JobView) -> Node:
    standing = Standing(state=_JOB_STATES[view.state])
    return Node(id="job", title=view.workflow or view.job, detail="no operation is recorded", standing=standing)


# ---- lists


def _listed(tree: _Tree, *, is_whole: bool) -> list[_Span]:
    """The parts of one place in the order in which they began."""
    spans = [_single(one, one.key.removeprefix(tree.prefix)) for one in tree.found]
    spans += [_boxed(tree, name, lanes, is_whole=is_whole) for name, lanes in tree.inner.items()]
    return sorted(spans, key=lambda span: span.begun)


def _single(one: Operation, title: str) -> _Span:
    # The ids of boxes around operations begin with an empty piece; a key that has one is no key of ours.
    id_ = one.key if all(one.key.split("/")) else f"?{one.key}"
    node = Node(id=id_, title=title, detail=one.kind, standing=one.standing)
    return _Span(node, one.begun, one.ended, one.begun_at, one.ended_at)


def _boxed(outer: _Tree, name: str, lanes: dict[int | None, _Tree], *, is_whole: bool) -> _Span:
    """A gather, a map, a loop or a step; a step that holds one operation only is drawn as that operation."""
    own, id_ = lanes.get(None, _Tree()), f"/{outer.prefix}{name}"
    if list(lanes) == [None] and len(own.found) == 1 and not own.inner:
        return _single(own.found[0], name)
    spans = _listed(own, is_whole=is_whole)
    numbered = [_lane(name, lane, tree, is_whole=is_whole) for lane, tree in sorted(_numbered(lanes))]
    shown = _shortened(sorted([*spans, *numbered], key=lambda span: span.begun), id_, is_whole=is_whole)
    is_gather = name.startswith("gather:")
    # Rounds of a loop come one after the other; the branches of a gather only may.
    edges = () if is_gather else _in_turn(shown) if numbered else _arrows(shown)
    count = Count(sum(span.state == "completed" for span in numbered), len(numbered)) if numbered else None
    group = Group(id=id_, title=name, detail="gather" if is_gather else "", parts=tuple(span.part for span in shown))
    return _around(group, shown, tuple(edges), count)


def _numbered(lanes: dict[int | None, _Tree]) -> Iterator[tuple[int, _Tree]]:
    yield from ((number, tree) for number, tree in lanes.items() if number is not None)


def _lane(name: str, number: int, tree: _Tree, *, is_whole: bool) -> _Span:
    inner = _listed(tree, is_whole=is_whole)
    if len(inner) == 1 and isinstance(inner[0].part, Node):
        return inner[0]
    id_ = f"/{tree.prefix.removesuffix('/')}"
    shown = _shortened(inner, id_, is_whole=is_whole)
    title = f"branch {number}" if name.startswith("gather:") else f"{name}.{number}"
    parts = tuple(span.part for span in shown)
    group = Group(id=id_, title=title, parts=parts, is_lane=True)
    return _around(group, shown, tuple(_arrows(shown)), None)


def _around(group: Group, spans: list[_Span], edges: tuple[Edge, ...], count: Count | None) -> _Span:
    """A box around parts, with the sum of what became of them."""
    state = _sum_state(spans)
    begun_at = min((span.begun_at for span in spans if span.begun_at), default=None)
    ended_at = max((span.ended_at for span in spans if span.ended_at), default=None)
    passed_s = None
    if begun_at is not None and ended_at is not None and state not in ("running", "waiting"):
        passed_s = max(0.0, (ended_at - begun_at).total_seconds())
    whole = replace(group, standing=Standing(state=state, duration_s=passed_s, count=count))
    return _Span(whole, *_extent(spans), begun_at, ended_at, (*edges, *_within(spans)))


def _sum_state(spans: list[_Span]) -> State:
    states = {span.state for span in spans}
    return next(state for state in _WEIGHT if state in states)


def _extent(spans: list[_Span]) -> tuple[float, float]:
    return min(span.begun for span in spans), max(span.ended for span in spans)


def _within(spans: list[_Span]) -> Iterator[Edge]:
    return (edge for span in spans for edge in span.edges)


# ---- long lists


def _shortened(spans: list[_Span], owner: str, *, is_whole: bool) -> list[_Span]:
    """Both ends of a long list and what is not done in it; the rest is told in sums."""
    if is_whole or len(spans) <= LIST_LIMIT:
        return spans
    undone = [place for place, span in enumerate(spans) if span.state != "completed"][:_UNDONE]
    kept = {*range(_ENDS), *range(len(spans) - _ENDS, len(spans)), *undone}
    runs = itertools.groupby(enumerate(spans), key=lambda pair: pair[0] if pair[0] in kept else -1)
    found: list[_Span] = []
    for place, run in runs:
        members = list(run)
        found.append(members[0][1] if place >= 0 else _sum([span for _, span in members], f"{owner}//{members[0][0]}"))
    return found


def _sum(run: list[_Span], id_: str) -> _Span:
    states = Counter(span.state for span in run)
    told = ", ".join(f"{count} {state}" for state, count in states.items()) if len(states) > 1 else ""
    node = Node(id=id_, title=f"{len(run)} more", detail=told, standing=Standing(state=_sum_state(run)))
    return _Span(node, *_extent(run))


# ---- arrows


def _arrows(spans: list[_Span]) -> Iterator[Edge]:
    """From each part to those that began after it had ended, unless another one was in between."""
    by_end = sorted((span for span in spans if span.ended < math.inf), key=lambda span: (span.ended, span.begun))
    ends = [span.ended for span in by_end]
    latest = list(itertools.accumulate((span.begun for span in by_end), max))
    for span in spans:
        before = bisect.bisect_left(ends, span.begun)
        first = bisect.bisect_left(ends, latest[before - 1], 0, before) if before else 0
        yield from (Edge(one.part.id, span.part.id) for one in by_end[first:before] if one is not span)


def _in_turn(spans: list[_Span]) -> Iterator[Edge]:
    in_order = sorted(spans, key=lambda span: span.begun)
    pairs = list(itertools.pairwise(in_order))
    if all(one.ended < other.begun for one, other in pairs):
        yield from (Edge(one.part.id, other.part.id) for one, other in pairs)
