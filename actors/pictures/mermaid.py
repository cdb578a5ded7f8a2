"""A drawing as Mermaid: for pages that draw it themselves, such as READMEs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from actors.pictures.drawing import STATES, Drawing, Group, Part, State, state_text
from actors.pictures.palette import LIGHT

_ENTITIES = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "|": "#124;", "`": "#96;"}


def mermaid(drawing: Drawing) -> str:
    """The text of the picture, with a line's end at its end."""
    names = _names(drawing)
    states = _states(drawing, names)
    lines = ["flowchart TD"]
    if states:  # without states the picture is of a document, whose page has a heading
        lines[:0] = ["---", f"title: {_title(drawing.title)}", "---"]
    lines += _parts(drawing.parts, names, "  ")
    for edge in drawing.edges:
        text = f"|{_escaped(edge.text)}|" if edge.text else ""
        lines.append(f"  {names[edge.source]} {'-.->' if edge.is_detour else '-->'}{text} {names[edge.target]}")
    for state, members in states.items():
        look = LIGHT[state]
        lines.append(f"  classDef {state} fill:{look.fill},stroke:{look.line},color:{look.text}")
        lines.append(f"  class {','.join(members)} {state}")
    return "\n".join(lines) + "\n"


def _names(drawing: Drawing) -> dict[str, str]:
    """What each box is called: by its id where that can be a name, else by its number."""
    parts = enumerate(drawing.all_parts())
    return {p.id: f"s_{p.id}" if re.fullmatch(r"\w+", p.id, re.ASCII) else f"n{number}" for number, p in parts}


def _states(drawing: Drawing, names: dict[str, str]) -> dict[State, list[str]]:
    found: dict[State, list[str]] = {state: [] for state in STATES}
    for part in drawing.all_parts():
        if part.standing is not None:
            found[part.standing.state].append(names[part.id])
    return {state: members for state, members in found.items() if members}


def _parts(parts: tuple[Part, ...], names: dict[str, str], indent: str) -> Iterator[str]:
    for part in parts:
        if not (isinstance(part, Group) and part.parts):
            yield f"{indent}{names[part.id]}[{_label(part)}]"
            continue
        yield f"{indent}subgraph {names[part.id]} [{_label(part)}]"
        yield from _parts(part.parts, names, indent + "  ")
        yield f"{indent}end"


def _label(part: Part) -> str:
    lines = [f"{part.title}: {part.detail}" if part.detail else part.title, state_text(part)]
    # Mermaid leaves room for one line above the boxes of a box.
    between = ", " if isinstance(part, Group) else "<br/>"
    return '"' + between.join(_entities(line) for line in lines if line) + '"'


def _escaped(text: str) -> str:
    return f'"{_entities(text)}"'


def _entities(text: str) -> str:
    """Mermaid reads entities, written with # for &."""
    return "".join(_ENTITIES.get(letter, letter) for letter in " ".join(text.split())) or " "


def _title(text: str) -> str:
    """A text of the front matter, which is YAML: in quotes, as JSON has them."""
    return json.dumps(" ".join(text.split()))
