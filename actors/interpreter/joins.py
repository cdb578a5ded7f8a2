"""When a step may start: what it needs is through, and of what it joins enough has completed."""

from __future__ import annotations

from typing import Any

from actors.interpreter.formula import FormulaFailed
from actors.interpreter.frame import Run


def wanted(run: Run) -> int | None:
    """How many a join asks for, None for all. Raises: FormulaFailed if that is no number."""
    if run.plan.n is None:
        return None
    n: Any = run.plan.n.value(run.frame.scope, run.now)
    if n is None or (isinstance(n, int) and not isinstance(n, bool) and n > 0):
        return n
    if isinstance(n, float) and n > 0 and n == int(n):
        return int(n)
    raise FormulaFailed(str(n), f"{run.id}.join.n", "is no whole number from 1")


def is_met(run: Run) -> bool:
    """Whether a step that waits may start. Raises: FormulaFailed."""
    runs, join = run.frame.runs, run.plan.join
    if not all(runs[name].is_through for name in run.plan.step.needs):
        return False
    if join is None:
        return True
    n = wanted(run)
    if n is None:
        return all(runs[name].is_through for name in join.of)
    return sum(runs[name].status == "completed" for name in join.of) >= n


def is_unmet(run: Run, *, at_rest: bool = False) -> bool:
    """Whether too few of what it joins can still complete; ``at_rest``: what has not begun by now never will."""
    join = run.plan.join
    if join is None or run.status != "waiting" or (n := wanted(run)) is None:
        return False
    joined = [run.frame.runs[name] for name in join.of]
    if at_rest:
        if all(other.status == "waiting" for other in joined):
            return False  # the way that was taken did not come by here
        return sum(other.status == "completed" for other in joined) < n
    return sum(other.can_complete for other in joined) < n
