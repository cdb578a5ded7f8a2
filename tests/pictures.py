"""Hypothesis strategies for drawings, and the geometry of a layout as numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from actors.pictures.drawing import STATES, Count, Drawing, Edge, Group, Node, Part, Standing
from actors.pictures.layout import Rectangle, Route

_texts = st.text(max_size=12) | st.sampled_from(
    ["quote", "a < b && c", 'say "hi"', "]]>", "--> x", "\x00\ud800", "数据"]
)
_standings = st.none() | st.builds(
    Standing,
    state=st.sampled_from(STATES),
    duration_s=st.none() | st.floats(0, 1e6),
    count=st.none() | st.builds(Count, st.integers(0, 9), st.none() | st.integers(9, 99)),
    note=_texts,
)


@st.composite
def drawings(draw: Callable[[Any], Any]) -> Drawing:
    """Boxes in boxes with arrows between neighbours, also in circles, double, and over many rows."""
    made = _Maker(draw)
    parts = made.parts(depth=0)
    return Drawing(title=draw(_texts), note=draw(_texts), parts=parts, edges=tuple(made.edges))


class _Maker:
    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self._draw = draw
        self._count = 0
        self.edges: list[Edge] = []

    def parts(self, depth: int) -> tuple[Part, ...]:
        """One list and its arrows."""
        parts = tuple(self._part(depth) for _ in range(self._draw(st.integers(0 if depth else 1, 9 if depth else 12))))
        ids = [part.id for part in parts]
        if len(ids) > 1:
            ends = st.lists(st.sampled_from(ids), min_size=2, max_size=2, unique=True)
            for source, target in self._draw(st.lists(ends, max_size=14)):
                self.edges.append(Edge(source, target, self._draw(_texts), self._draw(st.booleans())))
        return parts

    def _part(self, depth: int) -> Part:
        self._count += 1
        facts = {
            "id": f"{self._draw(st.sampled_from(['a', 'b/', 'ü']))}{self._count}", "title": self._draw(_texts),
            "detail": self._draw(_texts), "note": self._draw(_texts), "standing": self._draw(_standings),
        }  # fmt: skip
        if depth < 2 and self._draw(st.integers(0, 4)) == 0:
            return Group(**facts, parts=self.parts(depth + 1), is_lane=self._draw(st.booleans()))
        return Node(**facts)


def points(route: Route) -> Iterator[tuple[float, float]]:
    """The arrow's way as many points."""
    stretches = route.stretches
    for one, other in itertools.pairwise(stretches):
        yield from _line(one.x, one.start, one.end)
        yield from _bend((one.x, one.end), (other.x, other.start))
    yield from _line(stretches[-1].x, stretches[-1].start, stretches[-1].end)


def _line(x: float, start: float, end: float) -> Iterator[tuple[float, float]]:
    yield from ((x, start + (end - start) * part / 8) for part in range(9))


def _bend(start: tuple[float, float], end: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """The cubic curve whose handles stand half-way between the rows."""
    middle = (start[1] + end[1]) / 2
    for part in range(17):
        t = part / 16
        a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
        yield (a + b) * start[0] + (c + d) * end[0], a * start[1] + (b + c) * middle + d * end[1]


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Whether they have more than an edge in common."""
    return (
        min(one.x + one.width, other.x + other.width) - max(one.x, other.x) > 0
        and min(one.y + one.height, other.y + other.height) - max(one.y, other.y) > 0
    )


def holds(outer: Rectangle, inner: Rectangle) -> bool:
    """Whether ``inner`` is within ``outer``."""
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )


def is_within(x: float, y: float, place: Rectangle) -> bool:
    """Whether a point is inside of a box, not on its line."""
    return place.x < x < place.x + place.width and place.y + 0.01 < y < place.y + place.height - 0.01
