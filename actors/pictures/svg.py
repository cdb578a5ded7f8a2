"""A drawing as SVG that stands alone: no script, no font, no file beside it, and the same bytes for the same drawing.

Colours follow the reader's light or dark setting. A state is always a word too, never a colour alone. For readers of
screens each box and each arrow is an object with a title and a description. Nothing has an id, so that several
pictures can stand in one page.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from actors.pictures.drawing import Drawing, Group, Part, state_text
from actors.pictures.layout import DETAIL_SIZE, LINE_HEIGHT, TITLE_SIZE, TOP, Box, Layout, Route, layout
from actors.pictures.palette import ARROW, DARK, GROUND, INK, LIGHT, Colours, Look
from actors.pictures.text_size import shortened, text_width

MARGIN = 20.0
HEAD_SIZE = 15.0
HEAD_LINE = 22.0
HEAD_LIMIT = 640.0
_TIP = 6.0


def svg(drawing: Drawing) -> str:
    """The picture, with a line's end at its end."""
    return "\n".join(_document(drawing, layout(drawing))) + "\n"


def _document(drawing: Drawing, laid_out: Layout) -> Iterator[str]:
    head = _head(drawing)
    head_width = max(text_width(text, size, is_bold=True) for text, size in head)
    width = max(laid_out.width, head_width) + 2 * MARGIN
    top = MARGIN + HEAD_LINE * len(head) + 8
    height = top + laid_out.height + MARGIN
    size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" class="callboard" role="graphics-document document" {size}>'
    yield f"<title>{_text(drawing.title)}</title>"
    yield f"<desc>{_text(drawing.note or _summary(drawing))}</desc>"
    yield f"<style>{_style(_looks(drawing))}</style>"
    yield f'<rect class="ground" width="{_n(width)}" height="{_n(height)}"/>'
    for number, (text, font_size) in enumerate(head):
        look = ' class="head"' if not number else ""
        y = MARGIN + HEAD_LINE * number + font_size
        yield f'<text{look} x="{_n(MARGIN)}" y="{_n(y)}" font-size="{_n(font_size)}">{_text(text)}</text>'
    left = round((width - laid_out.width) / 2)
    yield f'<g transform="translate({_n(left)} {_n(top)})">'
    for box in laid_out.boxes:
        yield from _box(box)
    for route in laid_out.routes:
        yield from _route(route)
    yield "</g>"
    yield "</svg>"


def _head(drawing: Drawing) -> list[tuple[str, float]]:
    lines = [(shortened(drawing.title, HEAD_LIMIT, HEAD_SIZE, is_bold=True), HEAD_SIZE)]
    if drawing.note:
        lines.append((shortened(drawing.note, HEAD_LIMIT, DETAIL_SIZE), DETAIL_SIZE))
    return lines


def _summary(drawing: Drawing) -> str:
    steps = sum(not (isinstance(part, Group) and part.is_lane) for part in drawing.all_parts())
    return f"A flow chart with {steps} boxes and {len(drawing.edges)} arrows."


# ---- boxes


def _box(box: Box) -> Iterator[str]:
    part, place = box.part, box.place
    kinds = ["box", "group" if isinstance(part, Group) else "node", _look(part)]
    if isinstance(part, Group) and part.is_lane:
        kinds.append("lane")
    role = "graphics-object group" if isinstance(part, Group) else "graphics-symbol img"
    yield f'<g class="{" ".join(kinds)}" role="{role}" data-id={_attribute(part.id)}>'
    yield f"<title>{_text(part.title)}</title>"
    yield f"<desc>{_text(_description(part))}</desc>"
    where = f'x="{_n(place.x)}" y="{_n(place.y)}" width="{_n(place.width)}" height="{_n(place.height)}"'
    yield f'<rect {where} rx="{5 if isinstance(part, Group) else 7}"/>'
    x, y = place.x + place.width / 2, place.y + TOP + LINE_HEIGHT - 4
    for number, line in enumerate(box.lines):
        look = "detail" if number else "name"
        size = DETAIL_SIZE if number else TITLE_SIZE
        at = f'x="{_n(x)}" y="{_n(y + number * LINE_HEIGHT)}" font-size="{_n(size)}"'
        yield f'<text class="{look}" {at} text-anchor="middle">{_text(line)}</text>'
    yield "</g>"


def _look(part: Part) -> Look:
    return part.standing.state if part.standing else "plain"


def _description(part: Part) -> str:
    """All that is known of the part, where a pointer or a reader of screens finds it."""
    said = part.standing.note if part.standing else ""
    return "; ".join(text for text in (part.detail, state_text(part), part.note, said) if text)


# ---- arrows


def _route(route: Route) -> Iterator[str]:
    edge = route.edge
    kind = "arrow detour" if edge.is_detour else "arrow"
    ends = f"data-from={_attribute(edge.source)} data-to={_attribute(edge.target)}"
    yield f'<g class="{kind}" role="graphics-symbol img" {ends}>'
    yield f"<title>{_text(f'{edge.source} to {edge.target}')}</title>"
    yield f"<desc>{_text(edge.text)}</desc>"
    yield f'<path d="{_path(route)}"/>'
    yield f'<polygon points="{_tip(route)}"/>'
    if route.text_place is not None:
        place = route.text_place
        x, y = place.x + place.width / 2, place.y + place.height - 4
        where = f'x="{_n(place.x)}" y="{_n(place.y)}" width="{_n(place.width)}" height="{_n(place.height)}"'
        yield f'<rect class="ground" {where}/>'
        at = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(DETAIL_SIZE)}"'
        yield f'<text class="detail" {at} text-anchor="middle">{_text(route.text)}</text>'
    yield "</g>"


def _path(route: Route) -> str:
    first, *rest = route.stretches
    pieces = [f"M{_n(first.x)} {_n(first.start)}V{_n(first.end)}"]
    x, y = first.x, first.end
    for stretch in rest:
        middle = (y + stretch.start) / 2
        if stretch.x != x:
            pieces.append(f"C{_n(x)} {_n(middle)} {_n(stretch.x)} {_n(middle)} {_n(stretch.x)} {_n(stretch.start)}")
        pieces.append(f"V{_n(stretch.end)}")
        x, y = stretch.x, stretch.end
    return "".join(pieces)


def _tip(route: Route) -> str:
    """An arrow comes to its box straight from above, or from below if it leads back up."""
    last = route.stretches[-1]
    back = -_TIP if route.stretches[0].start < last.end else _TIP
    corners = ((last.x, last.end), (last.x - _TIP / 2, last.end + back), (last.x + _TIP / 2, last.end + back))
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in corners)


# ---- style


def _looks(drawing: Drawing) -> list[Look]:
    used = {_look(part) for part in drawing.all_parts()}
    return [look for look in LIGHT if look in used]


def _style(looks: list[Look]) -> str:
    font = "font-family:ui-sans-serif,system-ui,'Segoe UI',Roboto,'DejaVu Sans',Arial,sans-serif"
    rules = [
        f".callboard text{{{font}}}",
        ".callboard .name,.callboard .head{font-weight:600}",
        ".callboard .box rect{stroke-width:1.5}",
        ".callboard .group rect{fill-opacity:.45}",
        ".callboard .lane rect{fill:none;stroke-dasharray:2 3}",
        ".callboard .skipped rect{stroke-dasharray:5 4}",
        ".callboard .arrow path{fill:none;stroke-width:1.5}",
        ".callboard .detour path{stroke-dasharray:5 4}",
        *_theme("light", LIGHT, looks),
        f"@media(prefers-color-scheme:dark){{{''.join(_theme('dark', DARK, looks))}}}",
    ]
    return "".join(rules)


def _theme(ground: str, colours: dict[Look, Colours], looks: list[Look]) -> Iterator[str]:
    yield f".callboard .ground{{fill:{GROUND[ground]}}}.callboard text{{fill:{INK[ground]}}}"
    yield f".callboard .arrow path{{stroke:{ARROW[ground]}}}.callboard polygon{{fill:{ARROW[ground]}}}"
    for look in looks:
        one = colours[look]
        yield f".callboard .{look} rect{{fill:{one.fill};stroke:{one.line}}}.callboard .{look} text{{fill:{one.text}}}"
    yield ".callboard .lane rect{fill:none}"


# ---- text


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _text(text: str) -> str:
    return escape(_printable(text))


def _attribute(text: str) -> str:
    return quoteattr(_printable(text))


def _printable(text: str) -> str:
    """XML has no way to write control characters and lone halves of a pair, not even escaped."""
    return "".join(letter if _is_xml(ord(letter)) else "\ufffd" for letter in text)


def _is_xml(code: int) -> bool:
    return code in (9, 10, 13) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
