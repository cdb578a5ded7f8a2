"""Which row each box of a list stands in, and in which order: the first half of a layered drawing (Sugiyama's).

Arrows go down. One that would close a circle is turned around for the time of the layout. An arrow over several rows
gets a stand-in in each row between, so that it has a way through; one with a text gets a stand-in of the text's size.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

SWEEPS = 8
# So many boxes without arrows stand in one row; more of them are wrapped.
ROW_LIMIT = 6
WAY_WIDTH = 14.0
# What a walk along the arrows knows of a box: not seen, on the way here, left behind.
_NEW, _OPEN, _DONE = 0, 1, 2
_NONE = -1


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one box to another, by their numbers. ``width`` and ``height`` are of its text; 0 without one.

    Of a circle it is the detours that are turned around.
    """

    source: int
    target: int
    width: float = 0.0
    height: float = 0.0
    is_detour: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Vertices in rows: below ``boxes`` they are boxes, from there on stand-ins of arrows.

    ``ways`` has for each arrow its vertices from top to bottom, ``is_turned`` whether that is from target to source.
    """

    boxes: int
    rows: list[list[int]]
    sizes: list[tuple[float, float]]
    ways: list[list[int]]
    is_turned: list[bool]

    def links(self) -> list[tuple[int, int]]:
        """All pairs of vertices of neighbouring rows that an arrow joins."""
        return [pair for way in self.ways for pair in itertools.pairwise(way)]


def in_rows(sizes: Sequence[tuple[float, float]], arrows: Sequence[Arrow]) -> Rows:
    """Lay boxes of these (width, height) out in rows."""
    boxes = len(sizes)
    turned = _turned(boxes, arrows)
    _turn_detours(boxes, arrows, turned)
    down = [(a.target, a.source) if t else (a.source, a.target) for a, t in zip(arrows, turned, strict=True)]
    ranks = _ranks(boxes, down)
    if any(arrow.width for arrow in arrows):  # a row between any two rows, for texts
        ranks = [2 * rank for rank in ranks]
    made = Rows(boxes, [], list(sizes), [], turned)
    all_ranks = list(ranks)
    for arrow, (top, bottom) in zip(arrows, down, strict=True):
        made.ways.append(_way(made, all_ranks, arrow, top, bottom))
    made.rows.extend([] for _ in range(max(all_ranks, default=-1) + 1))
    for vertex, rank in enumerate(all_ranks):
        made.rows[rank].append(vertex)
    _untangle(made)
    return made


def _way(made: Rows, ranks: list[int], arrow: Arrow, top: int, bottom: int) -> list[int]:
    between = range(ranks[top] + 1, ranks[bottom])
    way = [top]
    for rank in between:
        way.append(len(made.sizes))
        # A text is about what the arrow leads to, so it stands near its end.
        has_text = arrow.width > 0 and rank == (between[-1] if bottom == arrow.target else between[0])
        made.sizes.append((max(arrow.width, WAY_WIDTH), arrow.height) if has_text else (WAY_WIDTH, 0.0))
        ranks.append(rank)
    return [*way, bottom]


# ---- rows


def _turned(boxes: int, arrows: Sequence[Arrow]) -> list[bool]:
    """Which arrows, detours left out, lead back to where a walk along the arrows came from."""
    leaving: list[list[int]] = [[] for _ in range(boxes)]
    for number, arrow in enumerate(arrows):
        if not arrow.is_detour:
            leaving[arrow.source].append(number)
    turned = [False] * len(arrows)
    marks = [_NEW] * boxes
    for start in range(boxes):
        walk = [(start, iter(leaving[start]))] if marks[start] == _NEW else []
        marks[start] = max(marks[start], _OPEN)
        while walk:
            box, rest = walk[-1]
            if (number := next(rest, _NONE)) == _NONE:
                marks[box] = _DONE
                walk.pop()
                continue
            target = arrows[number].target
            turned[number] = marks[target] == _OPEN
            if marks[target] == _NEW:
                marks[target] = _OPEN
                walk.append((target, iter(leaving[target])))
    return turned


def _turn_detours(boxes: int, arrows: Sequence[Arrow], turned: list[bool]) -> None:
    """Turn each detour around that leads to where one can come from there by the arrows before it."""
    below: list[list[int]] = [[] for _ in range(boxes)]
    for arrow, is_turned in zip(arrows, turned, strict=True):
        if not arrow.is_detour:
            below[arrow.target if is_turned else arrow.source].append(arrow.source if is_turned else arrow.target)
    for number, arrow in enumerate(arrows):
        if arrow.is_detour:
            turned[number] = _leads_to(below, arrow.target, arrow.source)
            top, bottom = (arrow.target, arrow.source) if turned[number] else (arrow.source, arrow.target)
            below[top].append(bottom)


def _leads_to(below: list[list[int]], start: int, end: int) -> bool:
    seen, walk = {start}, [start]
    while walk:
        box = walk.pop()
        if box == end:
            return True
        walk += (fresh := set(below[box]) - seen)
        seen |= fresh
    return False


def _ranks(boxes: int, down: Sequence[tuple[int, int]]) -> list[int]:
    """Each box one row below the lowest one that leads to it."""
    below: list[list[int]] = [[] for _ in range(boxes)]
    waits = [0] * boxes
    for top, bottom in down:
        below[top].append(bottom)
        waits[bottom] += 1
    ranks = [0] * boxes
    alone = [box for box in range(boxes) if not waits[box] and not below[box]]
    ready = deque(box for box in range(boxes) if not waits[box])
    while ready:
        box = ready.popleft()
        for bottom in below[box]:
            ranks[bottom] = max(ranks[bottom], ranks[box] + 1)
            waits[bottom] -= 1
            if not waits[bottom]:
                ready.append(bottom)
    if len(alone) > ROW_LIMIT:
        columns = max(ROW_LIMIT, math.isqrt(2 * len(alone)))
        for number, box in enumerate(alone):
            ranks[box] = number // columns
    return ranks


# ---- order in rows


def _untangle(made: Rows) -> None:
    """Order each row by the middle of its neighbours above, then below, and so on; the best order seen is kept."""
    above: list[list[int]] = [[] for _ in made.sizes]
    below: list[list[int]] = [[] for _ in made.sizes]
    for top, bottom in made.links():
        above[bottom].append(top)
        below[top].append(bottom)
    best, fewest = [list(row) for row in made.rows], _crossings(made.rows, below)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        rows, neighbours = (made.rows[1:], above) if sweep % 2 == 0 else (made.rows[-2::-1], below)
        _sweep(made, rows, neighbours)
        if (crossings := _crossings(made.rows, below)) < fewest:
            best, fewest = [list(row) for row in made.rows], crossings
    made.rows[:] = best


def _sweep(made: Rows, rows: list[list[int]], neighbours: list[list[int]]) -> None:
    places = [0.0] * len(made.sizes)
    for row in made.rows:
        places_in(row, places)
    for row in rows:
        middles = {
            vertex: sum(places[each] for each in near) / len(near) if (near := neighbours[vertex]) else places[vertex]
            for vertex in row
        }
        row.sort(key=middles.__getitem__)
        places_in(row, places)


def places_in(row: list[int], places: list[float]) -> None:
    """Note where in its row each vertex stands, from 0 to 1, so that rows of different lengths can be compared."""
    for place, vertex in enumerate(row):
        places[vertex] = (place + 0.5) / len(row)


def _crossings(rows: list[list[int]], below: list[list[int]]) -> int:
    """How many pairs of links cross: inversions of the ends below, taken in the order of the ends above."""
    found = 0
    for row, next_row in itertools.pairwise(rows):
        places = {vertex: place for place, vertex in enumerate(next_row)}
        seen: list[int] = []
        for vertex in row:
            ends = sorted(places[each] for each in below[vertex])
            found += sum(len(seen) - bisect.bisect_right(seen, end) for end in ends)
            for end in ends:
                bisect.insort(seen, end)
    return found
