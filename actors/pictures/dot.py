"""A drawing as DOT, the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from actors.pictures.drawing import Drawing, Edge, Group, Part, state_text
from actors.pictures.palette import LIGHT


def dot(drawing: Drawing) -> str:
    """The text of the picture, with a line's end at its end."""
    boxes = {part.id for part in drawing.all_parts() if isinstance(part, Group) and part.parts}
    lines = [
        f"digraph {_quoted(drawing.title)} {{",
        "  compound=true",
        f"  label={_quoted(drawing.title)}",
        "  labelloc=t",
        '  node [shape=box, style="rounded,filled", fillcolor="#f6f8fa", fontname="sans-serif"]',
        '  edge [fontname="sans-serif", fontsize=10]',
        *_parts(drawing.parts, "  "),
        *(_arrow(edge, boxes) for edge in drawing.edges),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _parts(parts: tuple[Part, ...], indent: str) -> Iterator[str]:
    for part in parts:
        if not (isinstance(part, Group) and part.parts):
            yield f"{indent}{_quoted(part.id)} [label={_label(part)}{_look(part)}]"
            continue
        yield f"{indent}subgraph {_quoted(f'cluster_{part.id}')} {{"
        style = "dashed" if part.is_lane else "rounded,filled" if part.standing else "rounded"
        yield f'{indent}  graph [label={_label(part)}, style="{style}", fontname="sans-serif"{_look(part)}]'
        # Graphviz draws arrows between nodes only: this point stands for the box, at whose edge they end.
        yield f'{indent}  {_quoted(part.id)} [shape=point, style=invis, label=""]'
        yield from _parts(part.parts, indent + "  ")
        yield f"{indent}}}"


def _look(part: Part) -> str:
    if part.standing is None:
        return ""
    look = LIGHT[part.standing.state]
    return f', fillcolor="{look.fill}", color="{look.line}", fontcolor="{look.text}"'


def _label(part: Part) -> str:
    lines = [f"{part.title}: {part.detail}" if part.detail else part.title, state_text(part)]
    return '"' + "\\n".join(_escaped(line) for line in lines if line) + '"'


def _arrow(edge: Edge, boxes: set[str]) -> str:
    looks = [f"label={_quoted(edge.text)}"] if edge.text else []
    looks += ["style=dashed"] if edge.is_detour else []
    looks += [f"ltail={_quoted(f'cluster_{edge.source}')}"] if edge.source in boxes else []
    looks += [f"lhead={_quoted(f'cluster_{edge.target}')}"] if edge.target in boxes else []
    return f"  {_quoted(edge.source)} -> {_quoted(edge.target)}" + (f" [{', '.join(looks)}]" if looks else "")


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
