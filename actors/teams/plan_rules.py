"""What may be wrong with a plan, and who in it builds on whom. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from actors.roles.plan import Plan, PlannedTask
from actors.workflow.finding import did_you_mean

_ID = re.compile(r"[A-Za-z][\w-]{0,31}", re.ASCII)


def plan_faults(plan: Plan, roles: Collection[str], most: int) -> list[str]:
    """All that is wrong, in words for who made the plan; empty if it can be carried out."""
    return list(_faults(plan, roles, most))


def _faults(plan: Plan, roles: Collection[str], most: int) -> Iterator[str]:
    ids = [task.id for task in plan.tasks]
    if not ids:
        yield "the plan has no tasks"
    if len(ids) > most:
        yield f"the plan has {len(ids)} tasks; {most} is the most"
    for repeated in sorted({each for each in ids if ids.count(each) > 1}):
        yield f"the id {repeated!r} is there {ids.count(repeated)} times"
    for task in plan.tasks:
        yield from _task_faults(task, set(ids), roles)
    if circle := circle_in(plan.tasks):
        yield f"these need each other in a circle: {' -> '.join(circle)}"


def _task_faults(task: PlannedTask, ids: set[str], roles: Collection[str]) -> Iterator[str]:
    if not _ID.fullmatch(task.id):
        yield f"the id {task.id!r} is no id: a letter first, then letters, digits, - and _, 32 at most"
    if task.role not in roles:
        yield f"task {task.id}: there is no role {task.role!r} ({did_you_mean(task.role, roles)})"
    if not task.task.strip():
        yield f"task {task.id} does not say what is to be done"
    for need in task.needs:
        if need not in ids:
            yield f"task {task.id} needs {need!r}, and there is no such task"


def circle_in(tasks: Iterable[PlannedTask]) -> list[str]:
    """Tasks of which each needs the next, the first again at the end; empty if there are none."""
    try:
        TopologicalSorter({task.id: task.needs for task in tasks}).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def with_dependents(plan: Plan, ids: Collection[str]) -> frozenset[str]:
    """These tasks, and all that build on them, directly or not."""
    found: set[str] = set(ids)
    while more := {task.id for task in plan.tasks if task.id not in found and found & set(task.needs)}:
        found |= more
    return frozenset(found)
