"""Where everything of a drawing stands, in units of a screen's pixel: boxes, boxes in boxes, arrows and their texts.

No two boxes overlap unless one holds the other, and no arrow goes through a box: between rows it bends, within a row it
goes straight down where it has a place of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from actors.pictures.columns import centers
from actors.pictures.drawing import Drawing, Edge, Group, Part, state_text
from actors.pictures.layers import Arrow, Rows, in_rows
from actors.pictures.text_size import shortened, text_width

TITLE_SIZE, DETAIL_SIZE = 13.0, 11.0
LINE_HEIGHT = 16.0
TEXT_LIMIT, EDGE_TEXT_LIMIT = 260.0, 200.0
SIDE, TOP = 12.0, 9.0
LEAST_WIDTH = 64.0
ROW_GAP, TEXT_GAP = 36.0, 18.0
GROUP_PADDING = 16.0


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A place; x goes right and y goes down."""

    x: float
    y: float
    width: float
    height: float

    def moved(self, right: float, down: float) -> Rectangle:
        """The same one elsewhere."""
        return Rectangle(self.x + right, self.y + down, self.width, self.height)


@dataclass(frozen=True, slots=True)
class Box:
    """A part and its place. ``depth`` counts the boxes around it; the first of ``lines`` is the title."""

    part: Part
    place: Rectangle
    lines: tuple[str, ...]
    depth: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A straight piece of an arrow, down or up at ``x``; to the next one it bends."""

    x: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Route:
    """An arrow's way from its source to its target, and the place of its text."""

    edge: Edge
    stretches: tuple[Stretch, ...]
    text: str = ""
    text_place: Rectangle | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """All of it. An outer box stands before those in it."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    routes: tuple[Route, ...]


def layout(drawing: Drawing) -> Layout:
    """Lay a drawing out; the same drawing gives the same layout, to the last digit."""
    edges: dict[str, list[Edge]] = {}
    for edge in drawing.edges:
        edges.setdefault(edge.source, []).append(edge)
    return _list(drawing.parts, edges, depth=0)


def _list(parts: tuple[Part, ...], edges: dict[str, list[Edge]], depth: int) -> Layout:
    inner = [_part(part, edges, depth) for part in parts]
    numbers = {part.id: number for number, part in enumerate(parts)}
    ours = [edge for part in parts for edge in edges.get(part.id, ())]
    arrows = [_arrow(edge, numbers) for edge in ours]
    made = in_rows([(one.width, one.height) for one in inner], arrows)
    columns = centers(made)
    bands = _bands(made)
    row_of = {vertex: bands[number] for number, row in enumerate(made.rows) for vertex in row}
    places = [_place(columns[v], row_of[v], made.sizes[v]) for v in range(len(made.sizes))]
    routes = [
        _route(edge, way, is_turned, places, row_of, len(parts))
        for edge, way, is_turned in zip(ours, made.ways, made.is_turned, strict=True)
    ]
    moved = [_moved(one, place.x, place.y) for one, place in zip(inner, places, strict=False)]
    return Layout(
        max((place.x + place.width for place in places), default=0.0),
        bands[-1][1] if bands else 0.0,
        tuple(box for one in moved for box in one.boxes),
        (*routes, *(route for one in moved for route in one.routes)),
    )


# ---- one part


def _part(part: Part, edges: dict[str, list[Edge]], depth: int) -> Layout:
    lines = _lines(part)
    head_width = max(LEAST_WIDTH, *(_line_width(line, at) + 2 * SIDE for at, line in enumerate(lines)))
    head_height = len(lines) * LINE_HEIGHT + 2 * TOP
    if not isinstance(part, Group):
        place = Rectangle(0.0, 0.0, _even(head_width), head_height)
        return Layout(place.width, place.height, (Box(part, place, lines, depth),), ())
    inside = _list(part.parts, edges, depth + 1)
    width = _even(max(head_width, inside.width + 2 * GROUP_PADDING))
    height = head_height + inside.height + GROUP_PADDING if part.parts else head_height
    inside = _moved(inside, round((width - inside.width) / 2), head_height)
    box = Box(part, Rectangle(0.0, 0.0, width, height), lines, depth)
    return Layout(width, height, (box, *inside.boxes), inside.routes)


def _lines(part: Part) -> tuple[str, ...]:
    below = (text for text in (part.detail, state_text(part)) if text)
    return (
        shortened(part.title, TEXT_LIMIT, TITLE_SIZE, is_bold=True),
        *(shortened(text, TEXT_LIMIT, DETAIL_SIZE) for text in below),
    )


def _line_width(line: str, at: int) -> float:
    return text_width(line, DETAIL_SIZE) if at else text_width(line, TITLE_SIZE, is_bold=True)


def _even(width: float) -> float:
    """So that the middle is a whole number."""
    return 2.0 * math.ceil(width / 2)


def _moved(one: Layout, right: float, down: float) -> Layout:
    return replace(
        one,
        boxes=tuple(replace(box, place=box.place.moved(right, down)) for box in one.boxes),
        routes=tuple(_moved_route(route, right, down) for route in one.routes),
    )


def _moved_route(route: Route, right: float, down: float) -> Route:
    return replace(
        route,
        stretches=tuple(Stretch(s.x + right, s.start + down, s.end + down) for s in route.stretches),
        text_place=route.text_place and route.text_place.moved(right, down),
    )


# ---- a list


def _arrow(edge: Edge, numbers: dict[str, int]) -> Arrow:
    source, target = numbers[edge.source], numbers[edge.target]
    if not (text := _edge_text(edge)):
        return Arrow(source, target, is_detour=edge.is_detour)
    return Arrow(source, target, _even(text_width(text, DETAIL_SIZE) + 8), LINE_HEIGHT, edge.is_detour)


def _edge_text(edge: Edge) -> str:
    return shortened(edge.text, EDGE_TEXT_LIMIT, DETAIL_SIZE)


def _bands(made: Rows) -> list[tuple[float, float]]:
    """Top and bottom of each row; a row of nothing but ways is no higher than its texts."""
    bands: list[tuple[float, float]] = []
    bottom = 0.0
    for row in made.rows:
        has_boxes = any(vertex < made.boxes for vertex in row)
        gap = ROW_GAP if has_boxes and not _has_texts(made) else TEXT_GAP
        top = bottom + gap if bands else 0.0
        bottom = top + max((made.sizes[vertex][1] for vertex in row), default=0.0)
        bands.append((top, bottom))
    return bands


def _has_texts(made: Rows) -> bool:
    return any(height for _, height in made.sizes[made.boxes :])


def _place(center: float, band: tuple[float, float], size: tuple[float, float]) -> Rectangle:
    width, height = size
    return Rectangle(center - width / 2, band[0], width, height)


def _route(
    edge: Edge,
    way: list[int],
    is_turned: bool,
    places: list[Rectangle],
    rows: dict[int, tuple[float, float]],
    boxes: int,
) -> Route:
    first, *between, last = way
    middles = [places[v].x + places[v].width / 2 for v in way]
    down = [
        Stretch(middles[0], places[first].y + places[first].height, rows[first][1]),
        *(Stretch(x, *rows[v]) for x, v in zip(middles[1:-1], between, strict=True)),
        Stretch(middles[-1], rows[last][0], places[last].y),
    ]
    stretches = [Stretch(s.x, s.end, s.start) for s in reversed(down)] if is_turned else down
    text_place = next((places[v] for v in between if v >= boxes and places[v].height), None)
    return Route(edge, tuple(stretches), _edge_text(edge) if text_place else "", text_place)
