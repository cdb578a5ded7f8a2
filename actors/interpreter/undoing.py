"""Compensation: what has completed and says how it is undone is undone, the last first (the saga pattern).

A call that is given up while it is out may complete after all. If it says how it is undone, its answer is still waited
for when something has to be undone, so that nothing is left behind. (Garcia-Molina and Salem, Sagas, 1987.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.interpreter.asks import Call
from actors.interpreter.formula import FormulaFailed
from actors.interpreter.frame import Frame, Run
from bus.failure import Failure

if TYPE_CHECKING:
    from actors.interpreter.machine import Machine

Then = Callable[[tuple[str, ...]], None]


@dataclass(slots=True, eq=False)
class _Undo:
    """How one step is undone; ``input`` None: that could not be computed."""

    run: Run
    input: dict[str, Any] | None


@dataclass(slots=True, eq=False)
class _Winding:
    """A list that is being undone, what is to be done then, and the steps whose undoing failed."""

    frame: Frame | None
    then: Then
    failed: list[str]


class Undoing:
    """Knows what would have to be undone, and does it when asked: one list after the other, one step at a time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._done: list[_Undo] = []
        self._late: set[Run] = set()
        self._windings: deque[_Winding] = deque()
        self._current: _Undo | None = None
        self.has_undone = False

    @property
    def is_busy(self) -> bool:
        """Whether something is being undone, or is to be."""
        return bool(self._windings)

    def remember(self, run: Run) -> None:
        """A step has completed that says how it is undone. Its input is computed now, while it is sure to be right."""
        assert run.plan.undo is not None
        run.frame.scope.outcomes[run.id] = {"output": run.output, "status": "completed", "error": None}
        try:
            self._done.append(_Undo(run, run.plan.undo.value(run.frame.scope, run.now)))
        except FormulaFailed:
            self._done.append(_Undo(run, None))

    def may_come_late(self, run: Run) -> None:
        """A call was given up while it was out."""
        self._late.add(run)

    def came_late(self, run: Run, value: Any, failure: Failure | None) -> None:
        """The answer to a call that was given up."""
        self._late.discard(run)
        if failure is None:
            outcome, run.output = run.frame.scope.outcomes.get(run.id), value
            self.remember(run)
            if outcome is not None:
                run.frame.scope.outcomes[run.id] = outcome
        self._go_on()

    def wind_up(self, frame: Frame, then: Then) -> None:
        """Give up what runs in a list, undo what was done in it, then go on with ``then(not_undone)``."""
        self._machine.give_up_all(frame)
        self._windings.append(_Winding(frame, then, []))
        if len(self._windings) == 1:
            self._go_on()

    def then(self, thing: Callable[[], None]) -> None:
        """Do it once nothing is being undone any more."""
        self._windings.append(_Winding(None, lambda _: thing(), []))

    def undone(self, run: Run, failure: Failure | None) -> None:
        """One step is undone, or that failed: then the others are undone all the same."""
        if failure is not None:
            self._windings[0].failed.append(run.place)
        self._current = None
        self._go_on()

    def _go_on(self) -> None:
        while self._windings and self._current is None:
            winding = self._windings[0]
            if any(_is_in(run, winding.frame) for run in self._late):
                return
            last = next((undo for undo in reversed(self._done) if _is_in(undo.run, winding.frame)), None)
            if last is not None:
                self._undo(winding, last)
            else:
                self._windings.popleft()
                winding.then(tuple(winding.failed))

    def _undo(self, winding: _Winding, undo: _Undo) -> None:
        self._done.remove(undo)
        how = undo.run.plan.step.compensate
        assert how is not None
        if undo.input is None:
            winding.failed.append(undo.run.place)
            return
        self._current, self.has_undone = undo, True
        self._machine.ask(undo.run, "undo", Call("tool", how.tool, undo.input), "undo/")


def _is_in(run: Run, frame: Frame | None) -> bool:
    return frame is not None and run.frame.is_inside(frame)
