"""Going back: a step is gone to, and with it all that comes after it runs anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.interpreter.frame import Run
from actors.interpreter.plan import ListPlan

if TYPE_CHECKING:
    from actors.interpreter.machine import Machine


def hand_over(machine: Machine, run: Run, name: str) -> None:
    """A step of kind ``goto`` has completed, and what needs it does not begin."""
    run.status = "completed"
    machine.let_go(run)
    go_to(machine, run, name)


def go_to(machine: Machine, run: Run, name: str) -> None:
    """Go on at step ``name`` of the same list; it, and all that comes after it, runs anew."""
    frame = run.frame
    run.gone = True
    for each in _all_after(frame.plan, name):
        old = frame.runs[each]
        if old is not run and (old.status == "running" or old.lingers):
            frame.active -= old.status == "running"
            frame.active -= old.lingers
            old.status, old.lingers = "cancelled", False
            machine.let_go(old)
        frame.runs[each] = Run(old.plan, frame, times=old.times)
        for inner in _ids_within(old):
            frame.scope.outcomes.pop(inner, None)
    machine.begin(frame.runs[name])
    frame.active -= 1


def _all_after(plan: ListPlan, name: str) -> list[str]:
    """The step, and all that wait for it, at once or by others."""
    found = {name: None}
    walk = [name]
    while walk:
        for follower in plan.followers[walk.pop()]:
            if follower not in found:
                found[follower] = None
                walk.append(follower)
    return list(found)


def _ids_within(run: Run) -> list[str]:
    found, walk = [run.id], list(run.plan.lists)
    while walk:
        for step in walk.pop().steps.values():
            found.append(step.id)
            walk += step.lists
    return found
