"""Changes to a workflow that runs, told from outside. Pure: each says in a word why it cannot be made, or is made.

A change comes in the log's order like everything else the machine is told, so a replay makes it at the same point.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from actors.interpreter.counted import add_items, close_map
from actors.interpreter.formula import FormulaFailed
from actors.interpreter.frame import Frame, Run
from actors.interpreter.machine import Machine
from actors.interpreter.plan import ListPlan, StepPlan, followers_of, plan_step
from actors.workflow.document import Document, MapStep, Steps
from actors.workflow.outline import outline
from actors.workflow.shape import shape
from bus.amendment import AddItems, AddSteps, Change, FinishMap, SetPolicy, SkipStep


class CannotChange(Exception):
    """The change does not fit the workflow as it stands: nothing is changed."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def runs_of(machine: Machine, name: str) -> list[Run]:
    """The runs of a step, by its id or its place (``each.3/quote``), as far as their lists have begun."""
    return [run for frame in _frames(machine.top) for run in frame.runs.values() if name in (run.id, run.place)]


def _frames(frame: Frame) -> Iterator[Frame]:
    yield frame
    for run in frame.runs.values():
        for inner in run.frames.values():
            yield from _frames(inner)


def make_change(machine: Machine, change: Change) -> None:
    """Make a change that the log holds. Raises: CannotChange."""
    match change:
        case AddSteps(steps=steps, into=into):
            add_steps(machine, msgspec.json.decode(steps), into)
        case AddItems(step=step, items=items):
            add_to_map(machine, step, msgspec.json.decode(items))
        case FinishMap(step=step):
            finish_map(machine, step)
        case SkipStep(step=step):
            skip(machine, step)
        case SetPolicy():
            pass  # of calls, not of the machine


def skip(machine: Machine, name: str) -> None:
    """Give a step up, or let it not begin; what needs it goes on. Raises: CannotChange."""
    found = [run for run in runs_of(machine, name) if run.status in ("waiting", "running")]
    if not found:
        raise CannotChange(f"no step {name!r} waits or runs")
    for run in found:
        machine.cancel_step(run)


def add_to_map(machine: Machine, name: str, items: list[Any]) -> None:
    """More instances for a map that runs. Raises: CannotChange."""
    add_items(machine, _running_map(machine, name), items)


def finish_map(machine: Machine, name: str) -> None:
    """Let a map be complete with what it has. Raises: CannotChange."""
    close_map(machine, _running_map(machine, name))


def _running_map(machine: Machine, name: str) -> Run:
    found = [run for run in runs_of(machine, name) if isinstance(run.plan.step, MapStep)]
    running = [run for run in found if run.status == "running" and not run.is_closed]
    if not running:
        raise CannotChange(f"no map {name!r} runs at present")
    return running[0]


def add_steps(machine: Machine, values: list[Any], into: str = "") -> None:
    """New steps for a list that runs: the top one, or that within step or place ``into``. Raises: CannotChange."""
    frame = _list_in(machine, into)
    steps = _steps(values)
    made = _plans(steps)
    known = frame.plan.steps | made
    if taken := sorted({plan.id for plan in made.values()} & _all_ids(machine)):
        raise CannotChange(f"the id {taken[0]!r} is taken")
    for plan in made.values():
        if missing := [name for name in plan.after if name not in known]:
            raise CannotChange(f"step {plan.id!r} needs {missing[0]!r}, which is not in that list")
    frame.plan = ListPlan(known, followers_of(known))
    for plan in made.values():
        frame.runs[plan.id] = Run(plan, frame)
    for plan in made.values():
        machine.consider(frame.runs[plan.id])


def check_steps(values: list[Any]) -> None:
    """What is wrong with steps in themselves, wherever they are added. Raises: CannotChange."""
    _plans(_steps(values))


def _list_in(machine: Machine, into: str) -> Frame:
    if not into:
        frame = machine.top
    else:
        found = [inner for run in runs_of(machine, into) for inner in run.frames.values()]
        named = [frame for frame in _frames(machine.top) if frame.prefix == f"{into}/"]
        if len(frames := found or named) != 1:
            raise CannotChange(f"there are {len(frames)} lists that run in {into!r}, and not one")
        frame = frames[0]
    if frame.is_over:
        raise CannotChange("that list is over")
    return frame


def _all_ids(machine: Machine) -> set[str]:
    def ids(plan: ListPlan) -> Iterator[str]:
        for step in plan.steps.values():
            yield step.id
            for inner in step.lists:
                yield from ids(inner)

    return {name for frame in _frames(machine.top) for name in ids(frame.plan)}


def _steps(values: list[Any]) -> Steps:
    shaped = shape({"name": "added", "version": "0.0.0", "steps": values})
    if shaped.document is None or shaped.faults:
        fault = shaped.faults[0] if shaped.faults else None
        raise CannotChange(fault.message, fault.hint) if fault else CannotChange("these are no steps")
    return shaped.document.steps


def _plans(steps: Steps) -> dict[str, StepPlan]:
    laid_out = outline(Document(name="added", version="0.0.0", steps=steps))
    if laid_out.doubles or laid_out.cycles:
        raise CannotChange("two of these steps have the same id, or wait for each other")
    try:
        return {entry.step.id: plan_step(entry) for entry in laid_out.top.entries}
    except (FormulaFailed, KeyError) as error:
        raise CannotChange(str(error)) from error
