"""How long a step may take that is no call of a tool: one Sleep beside what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.interpreter.asks import Sleep

if TYPE_CHECKING:
    from actors.interpreter.frame import Run
    from actors.interpreter.machine import Machine


def watch_time(machine: Machine, run: Run) -> None:
    """Let a step fail that takes longer than it says."""
    if run.plan.step.timeout_s is not None:
        machine.ask(run, "timeout", Sleep(run.plan.step.timeout_s), "timeout/")
