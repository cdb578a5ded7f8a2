"""Pictures: the layout keeps its promises whatever is drawn, and the formats are what their readers take."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.pictures.columns import rising
from actors.pictures.document_drawing import draw_document
from actors.pictures.drawing import STATES, Count, Drawing, Edge, Group, Node, Part, Standing
from actors.pictures.layout import Layout, Rectangle, layout
from actors.pictures.palette import DARK, INK, LIGHT, Look
from actors.pictures.picture import PictureFormat, picture
from actors.pictures.svg import svg
from actors.pictures.text_size import shortened, text_width
from actors.workflow.document import Document
from actors.workflow.outline import outline
from bus.errors import UsageError
from tests.documents import documents
from tests.pictures import drawings, holds, is_within, overlap, points

SVG = "{http://www.w3.org/2000/svg}"
unhurried = settings(deadline=60_000, max_examples=40)


def places(laid_out: Layout) -> dict[str, Rectangle]:
    """Where each box stands, by its id."""
    return {box.part.id: box.place for box in laid_out.boxes}


def owners(parts: tuple[Part, ...], owner: str = "") -> dict[str, str]:
    """Which box each box is in."""
    found: dict[str, str] = {}
    for part in parts:
        found[part.id] = owner
        found |= owners(part.parts, part.id) if isinstance(part, Group) else {}
    return found


# ---- layout


@unhurried
@given(drawings())
def test_boxes_are_once_apart_and_in_their_boxes(drawing: Drawing) -> None:
    """Every box is drawn once, in the box that it belongs to, and overlaps none of its neighbours."""
    laid_out = layout(drawing)
    assert Counter(box.part.id for box in laid_out.boxes) == Counter(part.id for part in drawing.all_parts())
    found, owner_of = places(laid_out), owners(drawing.parts)
    whole = Rectangle(0, 0, laid_out.width, laid_out.height)
    for name, owner in owner_of.items():
        assert holds(found[owner] if owner else whole, found[name])
    for one, other in itertools.combinations(found, 2):
        if owner_of[one] == owner_of[other]:
            assert not overlap(found[one], found[other])


@unhurried
@given(drawings())
def test_arrows_lead_where_they_should_and_through_no_box(drawing: Drawing) -> None:
    """An arrow begins at its source's edge, ends at its target's, and passes between its neighbours."""
    laid_out = layout(drawing)
    found, owner_of = places(laid_out), owners(drawing.parts)
    assert Counter(route.edge for route in laid_out.routes) == Counter(drawing.edges)
    for route in laid_out.routes:
        way = list(points(route))
        for (x, y), name in ((way[0], route.edge.source), (way[-1], route.edge.target)):
            place = found[name]
            assert x == place.x + place.width / 2 and y in (place.y, place.y + place.height)
        owner = owner_of[route.edge.source]
        near = [place for name, place in found.items() if owner_of[name] == owner]
        assert not [point for point in way for place in near if is_within(*point, place)]


@unhurried
@given(drawings())
def test_texts_of_arrows_have_a_place_of_their_own(drawing: Drawing) -> None:
    """The text of an arrow covers no neighbour and no other text of the same list."""
    laid_out = layout(drawing)
    found, owner_of = places(laid_out), owners(drawing.parts)
    texts = [(owner_of[r.edge.source], r.text_place) for r in laid_out.routes if r.text_place is not None]
    assert len(texts) == sum(bool(shortened(edge.text, 200, 11)) for edge in drawing.edges)
    for (owner, one), (other_owner, other) in itertools.combinations(texts, 2):
        assert owner != other_owner or not overlap(one, other)
    for owner, place in texts:
        assert not [name for name, box in found.items() if owner_of[name] == owner and overlap(place, box)]


@given(st.lists(st.tuples(st.floats(-99, 99), st.floats(0.1, 9)), min_size=1, max_size=12))
def test_the_nearest_rising_numbers(pairs: list[tuple[float, float]]) -> None:
    """They rise, their weighted sum is that of the goals, and no single block can be shifted to come nearer."""
    goals, weights = [goal for goal, _ in pairs], [weight for _, weight in pairs]
    found = rising(goals, weights)
    assert all(one <= other + 1e-9 for one, other in itertools.pairwise(found))
    assert sum(f * w for f, w in zip(found, weights, strict=True)) == pytest.approx(
        sum(g * w for g, w in zip(goals, weights, strict=True)), abs=1e-6
    )
    for value, block in itertools.groupby(range(len(found)), key=found.__getitem__):
        members = list(block)
        mean = sum(goals[i] * weights[i] for i in members) / sum(weights[i] for i in members)
        assert value == pytest.approx(mean, abs=1e-6)


def test_the_flow_goes_down_and_a_way_back_goes_up() -> None:
    """What comes later stands lower; an arrow that closes a circle is drawn upwards."""
    parts = tuple(Node(id=name, title=name) for name in "abc")
    edges = (Edge("a", "b"), Edge("b", "c"), Edge("c", "a", "again", is_detour=True))
    laid_out = layout(Drawing(title="t", parts=parts, edges=edges))
    found = places(laid_out)
    assert found["a"].y < found["b"].y < found["c"].y
    back = next(route for route in laid_out.routes if route.edge == edges[2])
    assert back.stretches[0].start == found["c"].y
    assert back.stretches[-1].end == found["a"].y + found["a"].height


def test_many_boxes_without_arrows_are_wrapped() -> None:
    """A hundred branches make a field, not a line of a hundred."""
    laid_out = layout(Drawing(title="t", parts=tuple(Node(id=f"n{n}", title="x") for n in range(100))))
    assert 0.3 < laid_out.width / laid_out.height < 4


def test_a_drawing_checks_itself() -> None:
    """Two boxes with one id, and arrows out of a list or to nowhere, are refused."""
    a, b = Node(id="a", title="a"), Node(id="b", title="b")
    inside = Group(id="g", title="g", parts=(b,))
    wrong: list[tuple[tuple[Part, ...], tuple[Edge, ...]]] = [
        ((a, a), ()), ((a, inside), (Edge("a", "b"),)), ((a,), (Edge("a", "none"),)), ((a,), (Edge("a", "a"),)),
    ]  # fmt: skip
    for parts, edges in wrong:
        with pytest.raises(UsageError):
            Drawing(title="t", parts=parts, edges=edges)


# ---- documents


@settings(unhurried, max_examples=30)
@given(documents())
def test_every_step_is_drawn_once(value: dict[str, Any]) -> None:
    """A document's picture has each step once, in its step, and an arrow for each need, join and goto."""
    document = msgspec.convert(value, Document)
    drawing = draw_document(document)
    entries = outline(document).entries
    lanes = {part.id for part in drawing.all_parts() if isinstance(part, Group) and part.is_lane}
    drawn = owners(drawing.parts)
    assert drawn.keys() - lanes == {entry.step.id for entry in entries}
    for entry in entries:
        owner = drawn[entry.step.id].partition("/")[0]
        assert owner == (entry.scope.owner.step.id if entry.scope.owner else "")
    expected = {(before.step.id, entry.step.id) for entry in entries for before in entry.comes_after}
    assert {(edge.source, edge.target) for edge in drawing.edges if not edge.is_detour} <= expected
    assert {(edge.source, edge.target) for edge in drawing.edges} >= expected


def test_what_leads_elsewhere_is_dashed() -> None:
    """Ways back, failures, cancelled regions and added instances are detours, and the flow still goes down."""
    inner = [{"id": "i", "kind": "sleep", "for_s": 1}]
    steps = [
        {"id": "a", "kind": "tool", "run": "a", "on_error": {"goto": "sorry"}},
        {"id": "m", "kind": "map", "over": "input.x", "join": {"n": 2}, "steps": inner},
        {"id": "more", "kind": "add", "to": "m", "items": "input.y"},
        {
            "id": "back",
            "kind": "goto",
            "to": "a",
            "needs": ["m"],
            "when": "true",
            "cancels": ["more"],
            "completes": ["m"],
        },
        {"id": "sorry", "kind": "end", "status": "failed"},
    ]
    drawing = draw_document(msgspec.convert({"name": "w", "version": "1.0.0", "steps": steps}, Document))
    assert {(e.source, e.target, e.text) for e in drawing.edges if e.is_detour} == {
        ("a", "sorry", "on error"), ("more", "m", "adds to"), ("back", "a", "go on at"), ("back", "more", "cancels"),
        ("back", "m", "completes"),
    }  # fmt: skip
    assert {part.id: part.detail for part in drawing.all_parts()} == {
        "a": "tool a", "m": "map item in input.x 2 of all", "i": "sleep 1 s", "more": "add m", "back": "goto a",
        "sorry": "end failed",
    }  # fmt: skip
    found = places(layout(drawing))
    assert found["m"].y < found["back"].y


# ---- formats


@unhurried
@given(drawings())
def test_svg_is_xml_that_tells_everything(drawing: Drawing) -> None:
    """Any drawing is well-formed, the same bytes each time, and each box and arrow has a title and a description."""
    text = svg(drawing)
    assert text == svg(drawing)
    root = ET.fromstring(text)
    groups = [group for group in root.iter(f"{SVG}g") if group.get("class")]
    boxes = [group.get("data-id") for group in groups if "box" in str(group.get("class"))]
    assert Counter(boxes) == Counter(part.id for part in drawing.all_parts())
    assert len(groups) - len(boxes) == len(drawing.edges)
    for group in groups:
        assert [child.tag for child in group][:2] == [f"{SVG}title", f"{SVG}desc"] and group.get("role")
    assert root.find(f"{SVG}title") is not None and not [each for each in root.iter() if each.get("id")]


@settings(unhurried, max_examples=30)
@given(drawings(), st.sampled_from(["mermaid", "dot"]))
def test_text_formats_have_balanced_boxes_and_quotes(drawing: Drawing, format_: PictureFormat) -> None:
    """Whatever texts hold, they stay in their quotes; every box that is opened is closed."""
    text = picture(drawing, format_)
    assert text == picture(drawing, format_)
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text) if format_ == "dot" else re.sub(r'"[^"]*"', '""', text)
    assert '"' not in bare.replace('""', "")
    groups = sum(isinstance(part, Group) and bool(part.parts) for part in drawing.all_parts())
    assert bare.count("subgraph") == groups
    closed = bare.count("}") - 1 if format_ == "dot" else len(re.findall(r"^ *end$", bare, re.MULTILINE))
    assert closed == groups


STATED = Drawing(
    title="order, job 1",
    note="completed in 3.2 s",
    parts=(
        Node(id="quote", title="quote", detail="tool quote", standing=Standing(state="completed", duration_s=1.25)),
        Group(
            id="each", title="each", detail="map", standing=Standing(state="running", count=Count(7, 10)),
            parts=(Node(id="each/ship", title="ship <a> & b", standing=Standing(state="failed", note="no stock")),),
        ),
    ),
    edges=(Edge("quote", "each", "if x"),),
)  # fmt: skip


def test_states_durations_and_counts_are_in_every_format() -> None:
    """A state is a colour and a word; how long it took and how many are done stand beside it."""
    for format_ in ("mermaid", "dot", "svg"):
        text = picture(STATED, format_)
        assert "completed, 1.2 s" in text and "running, 7 of 10" in text, format_
        assert LIGHT["failed"].fill in text and LIGHT["waiting"].fill not in text, format_
    assert "  class s_quote completed\n" in picture(STATED, "mermaid")
    assert 'title: "order, job 1"' in picture(STATED, "mermaid")
    assert "no stock" in picture(STATED, "svg") and DARK["failed"].fill in picture(STATED, "svg")
    assert '"quote" -> "each" [label="if x", lhead="cluster_each"]' in picture(STATED, "dot")


def luminance(colour: str) -> float:
    """How light a colour is, as WCAG defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("look", ["plain", *STATES])
def test_texts_can_be_read_on_their_colours(look: Look) -> None:
    """Each text has a contrast of 4.5 or more on its box, in light and dark, and each state looks different."""
    for theme in (LIGHT, DARK):
        light, dark = sorted((luminance(theme[look].fill), luminance(theme[look].text)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
        assert len({colours.line for colours in theme.values()}) == len(theme)
    assert INK["light"] != INK["dark"]


@given(st.text(max_size=80), st.floats(20, 300))
def test_texts_are_cut_to_their_room(text: str, limit: float) -> None:
    """What is cut ends with an ellipsis and fits; what fits is not cut."""
    cut = shortened(text, limit, 11)
    assert text_width(cut, 11) <= limit
    assert cut == " ".join(text.split()) or cut.endswith("…")
