"""Rules of calls: what only a tool heeds is not said of a job or an agent, where nobody would."""

from __future__ import annotations

from collections.abc import Iterator

from actors.workflow.document import AgentStep, JobStep
from actors.workflow.finding import Fault
from actors.workflow.outline import Outline

_HINTS = {
    "retry": "its own steps are tried again; 'on_error' says what follows its failure",
    "on_open": "its own calls say what they do while a circuit is open",
    "cache": "put it at the tool that it calls, or call that here",
}


def call_faults(outline: Outline) -> Iterator[Fault]:
    """A fault for each policy of a tool's call at a step that starts a job."""
    for entry in outline.entries:
        if not isinstance(entry.step, AgentStep | JobStep):
            continue
        kind = "an agent" if isinstance(entry.step, AgentStep) else "a job"
        for field, hint in _HINTS.items():
            if getattr(entry.step, field) is not None:
                yield Fault("only_for_tools", (*entry.path, field), f"{kind} has no {field!r}, only a tool has", hint)
