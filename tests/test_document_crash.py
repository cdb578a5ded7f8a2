"""Workflows whose host is killed between any two events, and that are told words at any moment: a sample of it all.

The whole matrix is ``python -m bench.chaos.matrix``, some minutes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import msgspec

from actors.interpreter.component import WorkflowComponent
from actors.workflow.document import LoopStep, MapStep, ParallelStep, Step, SwitchStep
from bench.chaos.everything import judge
from bench.chaos.house import house
from bench.chaos.matrix import Pace, crash_everywhere, crash_while_undoing, say_words
from bench.chaos.pieces import app_of
from bench.chaos.rehearsal import Run, dooms
from bus.embedded import EmbeddedServer
from bus.messages import CallTool, Emitted
from store.log import Recorded


def _kinds(steps: tuple[Step, ...]) -> set[type]:
    """The kinds of steps in a list and inside of its steps."""
    found: set[type] = {type(step) for step in steps}
    for step in steps:
        match step:
            case MapStep() | LoopStep():
                found |= _kinds(step.steps)
            case SwitchStep():
                found |= set().union(*(_kinds(case.steps) for case in step.cases), _kinds(step.else_))
            case ParallelStep():
                found |= set().union(*(_kinds(branch) for branch in step.branches.values()))
            case _:
                pass
    return found


def test_every_kind_of_step_is_used() -> None:
    """All but agents, which have no runtime yet."""
    component = app_of("everything", "0").find("job", "everything-0", None)
    assert isinstance(component, WorkflowComponent)
    left_out = set(get_args(Step)) - _kinds(component.document.steps)
    assert {kind.__name__ for kind in left_out} == {"AgentStep"}


async def test_host_killed_between_any_two_events(nats_server: EmbeddedServer) -> None:
    """Another host goes on: the same result and choices, each decision once, nothing recorded runs again."""
    async with house(nats_server.url) as at:
        runs = await crash_everywhere(at, Pace(step=11, at_once=5))
    assert not [str(run) for run in runs if run.wrong]
    assert sum(run.died for run in runs) > 10
    kinds = {doom.kind.split(".")[0] for doom in dooms(runs[0])}
    assert {"job", "call", "reply", "emit", "signal", "approval"} <= kinds
    await _check_that_the_judge_bites(runs[0])


async def _check_that_the_judge_bites(right: Run) -> None:
    """A command that is given twice, an event that is missing, a call that nobody made: each is found."""
    log = right.log
    calls = [r for r in log if isinstance(r.event, CallTool)]
    other = [Recorded(r.sequence, _other_choice(r.event)) if isinstance(r.event, Emitted) else r for r in log]
    for wrong in ([*log, calls[0]], [r for r in log if r is not calls[3]], other):
        run = replace(right, log=wrong, wrong=[])
        await judge(run)
        assert run.wrong


def _other_choice(event: Emitted) -> Emitted:
    """It tells of another winner."""
    return msgspec.structs.replace(event, data=msgspec.Raw(b'{"who": [], "at": ""}'))


async def test_host_killed_while_it_undoes(nats_server: EmbeddedServer) -> None:
    """Each undo runs once, the last first, and what was done by then is what is undone, in documents and functions."""
    async with house(nats_server.url) as at:
        runs = await crash_while_undoing(at, Pace(step=5, at_once=5))
    assert not [str(run) for run in runs if run.wrong]
    assert sum(run.died for run in runs) > 5


async def test_words_at_any_moment(nats_server: EmbeddedServer) -> None:
    """A workflow that is cancelled, terminated or paused at any event ends as it should, and its children with it."""
    async with house(nats_server.url) as at:
        runs = await say_words(at, Pace(step=7, at_once=5))
    assert not [str(run) for run in runs if run.wrong]
