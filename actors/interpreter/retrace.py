"""What became of each step of a job, from its log and its document: the machine goes the same way once more.

Nothing is called and nothing is written (``actors.replays``). Lists that are over are kept; a running job lets them go.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from actors.interpreter.component import WorkflowComponent, workflow_component
from actors.interpreter.formula import Scope
from actors.interpreter.frame import Frame, Run
from actors.interpreter.interpreter import Interpreter
from actors.interpreter.machine import Machine
from actors.interpreter.plan import ListPlan, Plan
from actors.operations.job import Job
from actors.replays.replay import replay
from actors.workflow.document import Document
from bus.errors import UsageError
from store.log import Recorded


@dataclass
class Trace:
    """All that ran: the list at the top, and the lists inside of each step in the order in which they began."""

    top: Frame
    inside: dict[Run, list[Frame]] = field(default_factory=dict)


class _Watched(Machine):
    def __init__(self, plan: Plan, input_: Any, job: dict[str, Any]) -> None:
        super().__init__(plan, input_, job)
        self.trace = Trace(self.top)

    def open_inside(self, run: Run, plan: ListPlan, number: int, scope: Scope, prefix: str) -> None:
        super().open_inside(run, plan, number, scope, prefix)
        self.trace.inside.setdefault(run, []).append(run.frames[number])


async def retrace(document: Document, history: Sequence[Recorded]) -> Trace:
    """Go as far as the history goes. Raises: UsageError if the document, with the defaults of its parameters, did not
    make this history.
    """
    traces: list[Trace] = []
    plain = cast("WorkflowComponent", workflow_component(document))
    result = await replay(dataclasses.replace(plain, fn=partial(_watch, plain.plan, traces)), history)
    if result.difference is not None or not traces:
        raise UsageError(
            f"workflow {document.name} {document.version} did not make this history: {result.difference}",
            code="other_document", hint="take the document in the version that the job has",
        )  # fmt: skip
    return traces[-1]


async def _watch(plan: Plan, traces: list[Trace], job: Job, value: Any) -> Any:
    interpreter = Interpreter(job.operations, plan, value, _Watched)
    traces.append(cast("_Watched", interpreter.machine).trace)
    running = asyncio.ensure_future(interpreter.run())
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        job.operations.halted = True  # the history is over: no child is to be told anything
        running.cancel()
        await asyncio.wait({running})
        raise
