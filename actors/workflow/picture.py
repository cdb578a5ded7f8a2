"""A document as a picture in text: Mermaid for pages, DOT for Graphviz. Steps inside of others are boxes in boxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from actors.workflow.document import Document, Goto, ParallelStep, SwitchStep
from actors.workflow.outline import Entry, Outline, Scope, outline

PictureFormat = Literal["mermaid", "dot"]


def picture(document: Document, format_: PictureFormat) -> str:
    """The text of a picture, with a line's end at its end."""
    laid_out = outline(document)
    if format_ == "mermaid":
        lines = ["flowchart TD", *_mermaid(laid_out.top, "  "), *_mermaid_arrows(laid_out)]
    else:
        head = [f"digraph {_quoted(document.name)} {{", "  compound=true", "  node [shape=box]"]
        lines = [*head, *_dot(laid_out.top, "  "), *_dot_arrows(laid_out), "}"]
    return "\n".join(lines) + "\n"


def _label(entry: Entry) -> str:
    kind, run = str(entry.step.__struct_config__.tag), getattr(entry.step, "run", "")
    return f"{entry.step.id}: {kind} {run}".rstrip()


def _case_labels(entry: Entry) -> list[str]:
    """What each inner list is called; the only list of a map or a loop has no name."""
    step = entry.step
    if isinstance(step, SwitchStep):
        return [*(case.when for case in step.cases), *(["else"] if step.else_ else [])]
    return list(step.branches) if isinstance(step, ParallelStep) else [""] * len(entry.inner)


def _arrows(laid_out: Outline) -> Iterator[tuple[str, str, str]]:
    """(from, to, text) of what comes after what."""
    for entry in laid_out.entries:
        step = entry.step
        joined = step.join.of if step.join and not isinstance(step, ParallelStep) else ()
        for name in dict.fromkeys((*step.needs, *joined)):
            if name in entry.scope.by_id:
                yield name, step.id, _join_text(entry) if name in joined else step.when or ""
        if isinstance(step.on_error, Goto) and step.on_error.goto in entry.scope.by_id:
            yield step.id, step.on_error.goto, "on error"


def _join_text(entry: Entry) -> str:
    join = entry.step.join
    return f"{join.n or len(join.of)} of {len(join.of)}" if join else ""


# ---- Mermaid


def _mermaid(scope: Scope, indent: str) -> Iterator[str]:
    for entry in scope.entries:
        if not entry.inner:
            yield f"{indent}s_{entry.step.id}[{_escaped(_label(entry))}]"
            continue
        yield f"{indent}subgraph s_{entry.step.id} [{_escaped(_label(entry))}]"
        for number, (inner, label) in enumerate(zip(entry.inner, _case_labels(entry), strict=True)):
            if label:
                yield f"{indent}  subgraph s_{entry.step.id}_{number}_ [{_escaped(label)}]"
                yield from _mermaid(inner, indent + "    ")
                yield f"{indent}  end"
            else:
                yield from _mermaid(inner, indent + "  ")
        yield f"{indent}end"


def _mermaid_arrows(laid_out: Outline) -> Iterator[str]:
    for before, after, text in _arrows(laid_out):
        arrow = "-.->" if text == "on error" else "-->"
        yield f"  s_{before} {arrow}{f'|{_escaped(text)}|' if text else ''} s_{after}"


def _escaped(text: str) -> str:
    """A label in quotes; Mermaid reads entities, written with # for &."""
    entities = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "|": "#124;"}
    return '"' + "".join(entities.get(letter, letter) for letter in " ".join(text.split())) + '"'


# ---- DOT


def _dot(scope: Scope, indent: str) -> Iterator[str]:
    for entry in scope.entries:
        if not entry.inner:
            yield f"{indent}{_quoted(entry.step.id)} [label={_quoted(_label(entry))}]"
            continue
        yield f"{indent}subgraph {_quoted(f'cluster_{entry.step.id}')} {{"
        yield f"{indent}  label={_quoted(_label(entry))}"
        # Graphviz draws arrows between nodes only: this point stands for the box.
        yield f'{indent}  {_quoted(entry.step.id)} [shape=point, label=""]'
        for number, (inner, label) in enumerate(zip(entry.inner, _case_labels(entry), strict=True)):
            yield f"{indent}  subgraph {_quoted(f'cluster_{entry.step.id}_{number}_')} {{"
            yield f"{indent}    label={_quoted(label)}"
            yield from _dot(inner, indent + "    ")
            yield f"{indent}  }}"
        yield f"{indent}}}"


def _dot_arrows(laid_out: Outline) -> Iterator[str]:
    for before, after, text in _arrows(laid_out):
        style = ", style=dashed" if text == "on error" else ""
        yield f"  {_quoted(before)} -> {_quoted(after)} [label={_quoted(text)}{style}]"


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"') + '"'
