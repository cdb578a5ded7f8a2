"""Maps and parallels: lists side by side of which all, or enough, have to complete."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from actors.interpreter.formula import FormulaFailed, Scope
from actors.interpreter.frame import Frame, Run
from actors.interpreter.joins import wanted
from actors.interpreter.timeouts import watch_time
from actors.workflow.document import MapStep, ParallelStep
from bus.failure import Failure

if TYPE_CHECKING:
    from actors.interpreter.machine import Machine


def begin_map(machine: Machine, run: Run) -> None:
    """Begin as many instances as may run at once."""
    step = cast("MapStep", run.plan.step)
    items = run.given["over"]
    if not isinstance(items, list):
        raise FormulaFailed(step.over, f"{run.id}.over", f"gives a {type(items).__name__}, and no list")
    run.items = list(items)
    watch_time(machine, run)
    _go_on(machine, run)


def begin_parallel(machine: Machine, run: Run) -> None:
    """Begin all branches."""
    step = cast("ParallelStep", run.plan.step)
    run.items = list(step.branches)
    watch_time(machine, run)
    _go_on(machine, run)


def add_items(machine: Machine, run: Run, items: list[Any]) -> None:
    """More instances for a map that runs."""
    run.items += items
    _go_on(machine, run)


def close_map(machine: Machine, run: Run) -> None:
    """Let a map be complete with what it has, if it runs; the rest is given up."""
    if run.status == "running" and not run.is_closed:
        _complete(machine, run, cancel_rest=True)


def _open(machine: Machine, run: Run, number: int) -> None:
    step = run.plan.step
    if isinstance(step, MapStep):
        scope = Scope(run.frame.scope, {step.as_: run.items[number], "index": number})
        machine.open_inside(run, run.plan.lists[0], number, scope, f"{run.place}.{number}/")
    else:
        machine.open_inside(run, run.plan.lists[number], number, run.frame.scope, run.frame.prefix)


def _begun(run: Run) -> int:
    return len(run.frames) + len(run.ended)


def _go_on(machine: Machine, run: Run) -> None:
    """Begin what may begin; end the step if it is decided."""
    if run.status != "running" or run.is_closed or _is_decided(machine, run):
        return
    limit = getattr(run.plan.step, "max_parallel", None) or len(run.items)
    while len(run.frames) < limit and _begun(run) < len(run.items):
        _open(machine, run, _begun(run))


def _is_decided(machine: Machine, run: Run) -> bool:
    """End the step if enough have completed, if too few can, or if nothing that counts is left."""
    n, tally = wanted(run), _tally(run)
    if tally.left == 0 if n is None else tally.good >= n:
        _complete(machine, run, cancel_rest=_cancels_rest(run))
        return True
    if n is not None and tally.good + tally.left < n:
        machine.fail(run, _unmet(run, n, tally))
        return True
    return False


class _Tally(NamedTuple):
    """Of those that the join counts: how many there are, have completed, and are not over."""

    counted: int
    good: int
    left: int


def _tally(run: Run) -> _Tally:
    join, there_are = run.plan.step.join, len(run.items)
    if not isinstance(run.plan.step, ParallelStep) or join is None or not join.of:
        return _Tally(there_are, run.good, there_are - len(run.ended))
    numbers = {run.items.index(name) for name in join.of}
    over = [run.ended[number] for number in numbers if number in run.ended]
    return _Tally(len(numbers), sum(over), len(numbers) - len(over))


def _unmet(run: Run, n: int, tally: _Tally) -> Failure:
    message = f"{n} of {tally.counted} have to complete, {tally.counted - tally.good - tally.left} did not"
    cause = run.failure.message if run.failure else ""
    return Failure(code="join_unmet", message=": ".join(filter(None, (message, cause))), retryable=False)


def _complete(machine: Machine, run: Run, *, cancel_rest: bool) -> None:
    run.is_closed = True
    # One that is over and only waits for the time, to compute what it gives, comes too late.
    run.frames = {number: frame for number, frame in run.frames.items() if not frame.is_over}
    if not cancel_rest and run.frames:
        machine.linger(run)
    else:
        for frame in run.frames.values():
            machine.give_up_all(frame)
        run.frames.clear()
    run.failure = None
    machine.with_clock(run, len(run.items), partial(_give_output, machine, run))


def _give_output(machine: Machine, run: Run) -> None:
    machine.complete(run, _outputs(run) if isinstance(run.plan.step, MapStep) else run.computed_output())


def _outputs(run: Run) -> list[Any]:
    return [run.outputs[number] for number in sorted(run.outputs)]


def _cancels_rest(run: Run) -> bool:
    join = run.plan.step.join
    return join is not None and join.cancel_rest


# ---- a list inside is over


def instance_ended(machine: Machine, run: Run, frame: Frame) -> None:
    """An instance of a map has completed."""
    if run.lingers or run.is_closed:
        _leave(machine, run, frame, completed=True)
    else:
        machine.with_clock(run, frame.number, partial(_instance_output, machine, run, frame))


def _instance_output(machine: Machine, run: Run, frame: Frame) -> None:
    assert run.plan.output is not None
    if run.is_closed:  # it has waited for the time too long
        return
    try:
        run.outputs[frame.number] = run.plan.output.value(frame.scope, run.now)
    except FormulaFailed as error:
        inside_failed(machine, run, frame, error.failure)
        return
    if _is_enough(run):
        run.ended[frame.number] = True
        run.good += 1
        _complete(machine, run, cancel_rest=_cancels_rest(run))
    else:
        _leave(machine, run, frame, completed=True)


def _is_enough(run: Run) -> bool:
    """Whether the outputs so far are all that a map was to find. Raises: FormulaFailed, which fails the map."""
    until = run.plan.until
    if until is None:
        return False
    return until.truth(Scope(run.frame.scope, {"outputs": _outputs(run), "total": len(run.items)}), run.now)


def branch_ended(machine: Machine, run: Run, frame: Frame) -> None:
    """A branch of a parallel has completed."""
    _leave(machine, run, frame, completed=True)


def inside_failed(machine: Machine, run: Run, frame: Frame, failure: Failure) -> None:
    """An instance or a branch has failed: so has the step, unless its join can do without."""
    if not run.lingers and not run.is_closed:
        join = run.plan.step.join
        if join is None or join.n is None:
            machine.fail(run, failure)
            return
        run.failure = failure
    _leave(machine, run, frame, completed=False)


def _leave(machine: Machine, run: Run, frame: Frame, *, completed: bool) -> None:
    run.frames.pop(frame.number, None)
    run.ended[frame.number] = completed
    run.good += completed
    if run.lingers:
        if not run.frames:
            machine.lingered(run)
    else:
        _go_on(machine, run)
