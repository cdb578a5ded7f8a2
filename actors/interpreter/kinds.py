"""What each kind of step does when it begins, and when a list inside of it is over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from actors.interpreter.asks import Approve, Call, Emit, Sleep, WaitSignal
from actors.interpreter.counted import add_items, begin_map, begin_parallel, branch_ended, instance_ended
from actors.interpreter.counted import inside_failed as counted_failed
from actors.interpreter.formula import FormulaFailed, Scope
from actors.interpreter.frame import Frame, Run
from actors.interpreter.goto import hand_over
from actors.interpreter.timeouts import watch_time
from actors.workflow.document import (
    AddStep,
    AgentStep,
    ApprovalStep,
    CallStep,
    EmitStep,
    EndStep,
    GotoStep,
    JobStep,
    LoopStep,
    MapStep,
    ParallelStep,
    SetStep,
    SleepStep,
    SwitchStep,
    ToolStep,
    WaitStep,
)
from bus.failure import Failure

if TYPE_CHECKING:
    from actors.interpreter.machine import Machine


def _begin_call(machine: Machine, run: Run) -> None:
    step = cast("CallStep", run.plan.step)
    kind: Any = str(step.__struct_config__.tag)
    is_job = kind != "tool"
    machine.ask(run, "main", Call(
        kind, step.run, run.given["with_"], retry=step.retry, timeout_s=None if is_job else step.timeout_s,
        on_open=step.on_open, cache_s=step.cache.ttl_s if step.cache else None, cache_key=run.given.get("cache_key"),
        priority=getattr(step, "priority", None), waits=getattr(step, "wait", True),
    ))  # fmt: skip
    if is_job:
        watch_time(machine, run)


def _begin_approval(machine: Machine, run: Run) -> None:
    step = cast("ApprovalStep", run.plan.step)
    machine.ask(run, "main", Approve(step, str(run.given["title"]), run.given["details"], run.given["edit"]))
    watch_time(machine, run)


def _begin_wait(machine: Machine, run: Run) -> None:
    step = cast("WaitStep", run.plan.step)
    machine.ask(run, "main", WaitSignal(step.signal, step.timeout_s, step.fresh))


def _begin_sleep(machine: Machine, run: Run) -> None:
    seconds = run.given["for_s"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 10 * 366 * 86_400:
        raise FormulaFailed(str(seconds), f"{run.id}.for_s", "is no number of seconds", "0 or more, ten years at most")
    machine.ask(run, "main", Sleep(seconds))


def _begin_emit(machine: Machine, run: Run) -> None:
    step = cast("EmitStep", run.plan.step)
    machine.ask(run, "main", Emit(step.event, run.given["data"]))


def _begin_set(machine: Machine, run: Run) -> None:
    machine.complete(run, run.given["values"])


def _begin_goto(machine: Machine, run: Run) -> None:
    step = cast("GotoStep", run.plan.step)
    run.times += 1
    if run.times > step.max_times:
        message = f"went to {step.to!r} {step.max_times} times already"
        machine.fail(run, Failure(code="goto_limit", message=message, retryable=False))
        return
    hand_over(machine, run, step.to)


def _begin_end(machine: Machine, run: Run) -> None:
    step = cast("EndStep", run.plan.step)
    if step.status == "failed":
        failure = Failure(code="ended", message=str(run.given["message"] or "the workflow ended here"), retryable=False)
        machine.end_failed(run, failure)
    else:
        machine.end_completed(run, run.given.get("result"), has_result=step.result is not None)


def _begin_add(machine: Machine, run: Run) -> None:
    step = cast("AddStep", run.plan.step)
    items = run.given["items"]
    if not isinstance(items, list):
        raise FormulaFailed(step.items, f"{run.id}.items", "is no list")
    target = _map_of(run, step.to)
    if target is None or target.status != "running" or target.is_closed:
        message = f"map {step.to!r} does not run at present, so nothing can be added to it"
        machine.fail(run, Failure(code="map_over", message=message, retryable=False))
        return
    machine.complete(run, len(items))
    add_items(machine, target, items)


def _map_of(run: Run, name: str) -> Run | None:
    """The map around a step, or beside it or something around it."""
    frame: Frame | None = run.frame
    while frame is not None:
        if (found := frame.runs.get(name)) is not None:
            return found
        frame = frame.owner.frame if frame.owner else None
    return None


# ---- switch and loop


def _begin_switch(machine: Machine, run: Run) -> None:
    chosen = next((n for n, case in enumerate(run.plan.cases) if case.truth(run.frame.scope, run.now)), -1)
    watch_time(machine, run)
    if chosen < 0 and len(run.plan.lists) == len(run.plan.cases):
        machine.with_clock(run, 0, partial(_give_output, machine, run))
    else:
        machine.open_inside(run, run.plan.lists[chosen], chosen, run.frame.scope, run.frame.prefix)


def _case_ended(machine: Machine, run: Run, frame: Frame) -> None:
    run.frames.clear()
    machine.with_clock(run, frame.number, partial(_give_output, machine, run))


def _give_output(machine: Machine, run: Run) -> None:
    machine.complete(run, run.computed_output())


def _begin_loop(machine: Machine, run: Run) -> None:
    watch_time(machine, run)
    _round(machine, run, 0, None)


def _round(machine: Machine, run: Run, number: int, last: Any) -> None:
    scope = Scope(run.frame.scope, {"round": number, "last": last})
    machine.open_inside(run, run.plan.lists[0], number, scope, f"{run.place}.{number}/")


def _round_ended(machine: Machine, run: Run, frame: Frame) -> None:
    run.frames.clear()
    machine.with_clock(run, frame.number, partial(_again, machine, run, frame))


def _again(machine: Machine, run: Run, frame: Frame) -> None:
    step = cast("LoopStep", run.plan.step)
    assert run.plan.until is not None
    assert run.plan.output is not None
    output = run.plan.output.value(frame.scope, run.now)
    if run.plan.until.truth(frame.scope, run.now):
        machine.complete(run, output)
    elif frame.number + 1 < step.max_rounds:
        _round(machine, run, frame.number + 1, output)
    else:
        run.output = output
        message = f"'until' did not hold after {step.max_rounds} rounds: {step.until}"
        machine.fail(run, Failure(code="max_rounds", message=message, retryable=False))


# ---- who does what

Begin = Callable[["Machine", Run], None]
FrameEnded = Callable[["Machine", Run, Frame], None]

BEGIN: dict[type[msgspec.Struct], Begin] = {
    ToolStep: _begin_call,
    AgentStep: _begin_call,
    JobStep: _begin_call,
    ApprovalStep: _begin_approval,
    WaitStep: _begin_wait,
    SleepStep: _begin_sleep,
    EmitStep: _begin_emit,
    SetStep: _begin_set,
    GotoStep: _begin_goto,
    EndStep: _begin_end,
    AddStep: _begin_add,
    SwitchStep: _begin_switch,
    LoopStep: _begin_loop,
    MapStep: begin_map,
    ParallelStep: begin_parallel,
}
FRAME_ENDED: dict[type[msgspec.Struct], FrameEnded] = {
    SwitchStep: _case_ended,
    LoopStep: _round_ended,
    MapStep: instance_ended,
    ParallelStep: branch_ended,
}


def frame_failed(machine: Machine, run: Run, frame: Frame, failure: Failure) -> None:
    """A list inside of a step has failed: so has the step, unless enough others can complete."""
    if isinstance(run.plan.step, MapStep | ParallelStep):
        counted_failed(machine, run, frame, failure)
    else:
        machine.fail(run, failure)
