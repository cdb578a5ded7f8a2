"""A document as a drawing: a box for each step, steps of steps in their box, arrows for what comes after what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from actors.pictures.drawing import Drawing, Edge, Group, Node, Part, Standing
from actors.workflow.document import (
    AddStep,
    Document,
    EmitStep,
    EndStep,
    Goto,
    GotoStep,
    Join,
    LoopStep,
    MapStep,
    ParallelStep,
    SleepStep,
    Step,
    SwitchStep,
    WaitStep,
)
from actors.workflow.outline import Entry, Scope, counts_inside, outline

Standings = Mapping[str, Standing]
_NOBODY: Standings = MappingProxyType({})


def draw_document(document: Document, standings: Standings = _NOBODY, *, title: str = "", note: str = "") -> Drawing:
    """The steps of a document, in ``standings`` by their ids what has become of them in a job."""
    laid_out = outline(document)
    return Drawing(
        title=title or f"{document.name} {document.version}",
        note=note or document.description,
        parts=_parts(laid_out.top, standings),
        edges=tuple(edge for entry in laid_out.entries for edge in _edges(entry)),
    )


def _parts(scope: Scope, standings: Standings) -> tuple[Part, ...]:
    return tuple(_part(entry, standings) for entry in scope.entries)


def _part(entry: Entry, standings: Standings) -> Part:
    step, standing = entry.step, standings.get(entry.step.id)
    said = (step.description, f"when {step.when}" if step.when else "", f"lock {step.lock}" if step.lock else "")
    note = "; ".join(text for text in said if text)
    if not entry.inner:
        return Node(id=step.id, title=step.id, detail=_detail(entry), note=note, standing=standing)
    inner = tuple(_lane(entry, number, label, standings) for number, label in enumerate(lane_names(entry)))
    if isinstance(step, MapStep | LoopStep):  # the only list of a map or a loop has no name
        inner = _parts(entry.inner[0], standings)
    return Group(id=step.id, title=step.id, detail=_detail(entry), note=note, standing=standing, parts=inner)


def _lane(entry: Entry, number: int, name: str, standings: Standings) -> Part:
    parts = _parts(entry.inner[number], standings)
    return Group(id=f"{entry.step.id}/{number}", title=name, parts=parts, is_lane=True)


def lane_names(entry: Entry) -> list[str]:
    """What the inner lists of a step are called; empty if it has one list, which has no name."""
    step = entry.step
    if isinstance(step, SwitchStep):
        return [*(case.when for case in step.cases), *(["else"] if step.else_ else [])]
    return list(step.branches) if isinstance(step, ParallelStep) else []


def _detail(entry: Entry) -> str:
    """What the step runs or goes by, and its condition if no arrow can carry that."""
    step = entry.step
    condition = f"if {step.when}" if step.when and not _before(entry) else ""
    join = f"{_of(step.join, _inside(entry))}" if step.join and counts_inside(step) else ""
    return " ".join(text for text in (str(step.__struct_config__.tag), step_object(step), join, condition) if text)


def step_object(step: Step) -> str:
    """What the step runs, goes over or waits for, as it stands in the document."""
    match step:
        case MapStep():
            return f"{step.as_} in {step.over}"
        case LoopStep():
            return f"until {step.until}"
        case GotoStep() | AddStep():
            return step.to
        case EndStep():
            return step.status
        case WaitStep():
            return step.signal
        case SleepStep():
            return step.for_s if isinstance(step.for_s, str) else f"{step.for_s:g} s"
        case EmitStep():
            return step.event
        case _:
            return str(getattr(step, "run", ""))


def _inside(entry: Entry) -> str:
    step = entry.step
    of = len(step.join.of) if step.join else 0
    return str(of or len(step.branches)) if isinstance(step, ParallelStep) else "all"


def _of(join: Join, total: str) -> str:
    return f"{join.n} of {total}" if join.n is not None else f"{total} of {total}"


def _before(entry: Entry) -> list[str]:
    """The steps that it waits for, by needs and then by its join."""
    names = dict.fromkeys((*entry.step.needs, *_joined(entry)))
    return [name for name in names if name in entry.scope.by_id and name != entry.step.id]


def _joined(entry: Entry) -> tuple[str, ...]:
    step = entry.step
    return step.join.of if step.join and not counts_inside(step) else ()


def _edges(entry: Entry) -> Iterator[Edge]:
    step, joined = entry.step, _joined(entry)
    for name in _before(entry):
        yield Edge(name, step.id, _join_text(entry) if name in joined else step.when or "")
    for name, text in _detours(entry):
        if name in entry.scope.by_id and name != step.id:
            yield Edge(step.id, name, text, is_detour=True)


def _detours(entry: Entry) -> Iterator[tuple[str, str]]:
    """What the step may do to others of its list beside letting them start."""
    step = entry.step
    if isinstance(step.on_error, Goto):
        yield step.on_error.goto, "on error"
    if isinstance(step, GotoStep):
        yield step.to, "go on at"
    if isinstance(step, AddStep):
        yield step.to, "adds to"
    yield from ((name, "cancels") for name in step.cancels)
    yield from ((name, "completes") for name in step.completes)


def _join_text(entry: Entry) -> str:
    join, when = entry.step.join, entry.step.when
    text = _of(join, str(len(join.of))) if join else ""
    return f"{text}, {when}" if when else text
