"""A document made ready to run: who follows whom, and every expression compiled. Made once, shared by all its jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.interpreter.formula import Formula, FormulaFailed, Template, formulas_of
from actors.workflow.document import (
    AddStep,
    CallStep,
    Document,
    Join,
    LoopStep,
    MapStep,
    Param,
    Step,
    SwitchStep,
)
from actors.workflow.outline import Entry, Outline, Scope, counts_inside, outline
from bus.errors import UsageError

# Values of a step that are computed when it begins, by the names that they have in the struct.
_AT_START = ("with_", "title", "details", "edit", "for_s", "data", "values", "message", "result", "lock")


@dataclass(slots=True, eq=False)
class StepPlan:
    """A step. ``after``: what it waits for. ``starts``: by itself, and not only when some step goes on at it.

    ``given`` is computed when it begins, ``output`` and ``until`` when what is inside of it is through.
    """

    step: Step
    after: tuple[str, ...]
    join: Join | None
    starts: bool = True
    when: Formula | None = None
    given: dict[str, Template | Formula] = field(default_factory=dict)
    cases: tuple[Formula, ...] = ()
    n: Template | None = None
    output: Template | None = None
    until: Formula | None = None
    undo: Template | None = None
    lists: tuple[ListPlan, ...] = ()
    clock_first: bool = False
    clock_last: bool = False

    @property
    def id(self) -> str:
        """Its id."""
        return self.step.id


@dataclass(slots=True, eq=False)
class ListPlan:
    """A list of steps. ``followers``: who waits for a step."""

    steps: dict[str, StepPlan]
    followers: dict[str, tuple[str, ...]]


@dataclass(slots=True, eq=False)
class Plan:
    """A whole document."""

    document: Document
    top: ListPlan
    result: Template
    params: dict[str, Any]


def make_plan(document: Document, params: dict[str, Any] | None = None) -> Plan:
    """Compile ``document``, with these values of its parameters in place of their defaults.

    Raises: UsageError (``invalid_workflow``) for what cannot be run; validation says more about it.
    """
    laid_out = outline(document)
    _check(document, laid_out)
    try:
        top = _list(laid_out.top)
        return Plan(document, top, Template(document.result, "result"), _params(document.params, params or {}))
    except FormulaFailed as error:
        raise UsageError(f"workflow {document.name}: {error}", code="invalid_workflow") from error


def _check(document: Document, laid_out: Outline) -> None:
    found = [f"the id {entry.step.id!r} comes twice" for entry in laid_out.doubles]
    found += ["steps wait for each other: " + ", ".join(e.step.id for e in cycle) for cycle in laid_out.cycles]
    if found:
        hint = "callboard workflow validate says where"
        raise UsageError(f"workflow {document.name}: {found[0]}", code="invalid_workflow", hint=hint)


def _params(declared: dict[str, Param], given: dict[str, Any]) -> dict[str, Any]:
    values = {name: param.default for name, param in declared.items() if param.default is not msgspec.UNSET} | given
    if unknown := sorted(given.keys() - declared.keys()):
        raise UsageError(f"there is no parameter {unknown[0]!r}", code="unknown_param", path="params")
    if missing := sorted(declared.keys() - values.keys()):
        raise UsageError(f"parameter {missing[0]!r} has no default and has to be given", code="missing_param")
    return values


def _list(scope: Scope) -> ListPlan:
    steps = {entry.step.id: plan_step(entry) for entry in scope.entries}
    return ListPlan(steps, followers_of(steps))


def followers_of(steps: dict[str, StepPlan]) -> dict[str, tuple[str, ...]]:
    """Who waits for each step of a list."""
    found: dict[str, list[str]] = {name: [] for name in steps}
    for plan in steps.values():
        for name in plan.after:
            found[name].append(plan.id)
    return {name: tuple(ids) for name, ids in found.items()}


def plan_step(entry: Entry) -> StepPlan:
    """Compile one step with all that is inside of it. Raises: FormulaFailed, KeyError for a step that is not there."""
    step = entry.step
    join = None if counts_inside(step) else step.join
    after = tuple(dict.fromkeys((*step.needs, *(join.of if join else ()))))
    made = StepPlan(step, after, join, starts=bool(after) or not entry.is_gone_to)
    made.when = None if step.when is None else Formula(step.when, f"{step.id}.when")
    made.n = None if step.join is None else Template(step.join.n, f"{step.id}.join.n")
    made.given = _given(step)
    made.output = Template(getattr(step, "output", None), f"{step.id}.output")
    if step.compensate is not None:
        made.undo = Template(step.compensate.with_, f"{step.id}.compensate.with")
    if isinstance(step, LoopStep | MapStep) and step.until is not None:
        made.until = Formula(step.until, f"{step.id}.until")
    if isinstance(step, SwitchStep):
        made.cases = tuple(Formula(case.when, f"{step.id}.cases[{n}].when") for n, case in enumerate(step.cases))
    made.lists = tuple(_list(inner) for inner in entry.inner)
    first = formulas_of(made.when, *made.given.values(), *made.cases, made.n, made.undo)
    made.clock_first = any(formula.uses_now for formula in first)
    made.clock_last = any(formula.uses_now for formula in formulas_of(made.output, made.until))
    return made


def _given(step: Step) -> dict[str, Template | Formula]:
    given: dict[str, Template | Formula] = {}
    for name in _AT_START:
        if (value := getattr(step, name, None)) is not None:
            given[name] = Template(value, f"{step.id}.{name.rstrip('_')}")
    if isinstance(step, MapStep):
        given["over"] = Formula(step.over, f"{step.id}.over")
    if isinstance(step, AddStep):
        given["items"] = Formula(step.items, f"{step.id}.items")
    if isinstance(step, CallStep) and step.cache and step.cache.key:
        given["cache_key"] = Formula(step.cache.key, f"{step.id}.cache.key")
    return given
