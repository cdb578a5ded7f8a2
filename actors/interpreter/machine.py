"""What is next in a workflow. Pure: it is told what was answered, in the log's order, and says what to ask for.

All that follows from one answer is worked off at once, through an agenda and not by recursion, so a chain of a
thousand steps that only compute needs no stack. The same answers in the same order give the same asks, under the same
places: so a replay of the log brings the machine back to where it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from actors.interpreter.asks import Ask, Clock, Lock, Unlock, What
from actors.interpreter.counted import close_map
from actors.interpreter.end import Broken, End, Finished, Withdrawn
from actors.interpreter.formula import FormulaFailed, Scope
from actors.interpreter.frame import Frame, Run
from actors.interpreter.goto import go_to
from actors.interpreter.joins import is_met, is_unmet
from actors.interpreter.kinds import BEGIN, FRAME_ENDED, frame_failed
from actors.interpreter.plan import ListPlan, Plan
from actors.interpreter.undoing import Undoing
from actors.jobs.not_undone import and_not_undone
from actors.workflow.document import CallStep, Goto
from bus.failure import Failure

GOTO_LIMIT = 100
# What may follow from one answer: some seconds of work.
WORK_LIMIT = 500_000


class Machine:
    """One run of a plan. After each call: take ``asks``, ``drops`` (asks that nobody waits for any more), ``recalls``.

    The last are asks that are not wanted any more, but waited for: what was done for them may have to be undone.
    ``end`` is set when it is over; then nothing more is asked for.
    """

    def __init__(self, plan: Plan, input_: Any, job: dict[str, Any]) -> None:
        self.plan = plan
        self.asks: list[Ask] = []
        self.drops: list[str] = []
        self.recalls: list[str] = []
        self.end: End | None = None
        self.undoing = Undoing(self)
        self._waiting: dict[str, tuple[Run, str]] = {}
        self._agenda: deque[Callable[[], None]] = deque()
        self._count = 0
        scope = Scope(None, {"input": input_, "params": plan.params, "job": job})
        self.top = Frame(plan.top, "", scope, None)

    # ---- what it is told

    def start(self) -> None:
        """Begin."""
        self.open(self.top)
        self._work()

    def answered(self, ask: str, value: Any) -> None:
        """An ask has its value."""
        self._answer(ask, value, None)

    def failed(self, ask: str, failure: Failure) -> None:
        """An ask has failed for good."""
        self._answer(ask, None, failure)

    def cancel(self) -> None:
        """Wind up: nothing new begins, and what was done is undone, the last first."""
        if self.end is None:
            self.undoing.wind_up(self.top, lambda not_undone: self.finish(Withdrawn(not_undone)))
            self._work()

    def tell(self, change: Callable[[], None]) -> None:
        """Let something be changed from outside, and work off what follows from it."""
        if self.end is None:
            change()
            self._work()

    def _answer(self, ask: str, value: Any, failure: Failure | None) -> None:
        if self.end is None and ask in self._waiting:
            run, role = self._waiting.pop(ask)
            run.asks.pop(role, None)
            self._heard(run, role, value, failure)
            self._work()

    def _heard(self, run: Run, role: str, value: Any, failure: Failure | None) -> None:
        if role == "undo":
            self.undoing.undone(run, failure)
        elif run.status != "running":
            if role == "main":  # given up, but its call may have to be undone
                self.undoing.came_late(run, value, failure)
        elif failure is not None:
            self.fail(run, failure)
        elif role == "main":
            self.complete(run, value)
        elif role == "timeout":
            message = f"was not through within {run.plan.step.timeout_s:g} s"
            self.fail(run, Failure(code="timeout", message=message, retryable=False))
        elif role in run.then:
            if role == "lock":
                run.lock_key = value
            else:
                run.now = datetime.fromisoformat(value)
            self._try(run, run.then.pop(role))

    # ---- what it asks for

    def ask(self, run: Run, role: str, what: What, place: str = "") -> None:
        """Ask for something on behalf of a step."""
        self._count += 1
        id_ = f"{run.place}#{role}#{self._count}"
        run.asks[role] = id_
        self._waiting[id_] = run, role
        self.asks.append(Ask(id_, f"{run.place}/{place}", what))

    def ask_then(self, run: Run, role: str, what: What, then: Callable[[], None]) -> None:
        """Ask for something that the step goes on after."""
        run.then[role] = then
        self.ask(run, role, what, f"{role}/")

    def with_clock(self, run: Run, number: int, then: Callable[[], None]) -> None:
        """Go on, with the time known if what comes last in a step needs it."""
        if run.plan.clock_last:
            self.ask_then(run, f"clock.{number}", Clock(), then)
        else:
            self._try(run, then)

    def _drop(self, run: Run, role: str) -> None:
        """Wait for it no longer; but for a call that would have to be undone."""
        id_ = run.asks.pop(role)
        if role == "main" and run.plan.undo is not None and isinstance(run.plan.step, CallStep):
            self.undoing.may_come_late(run)
            self.recalls.append(id_)
        else:
            del self._waiting[id_]
            self.drops.append(id_)

    # ---- the agenda

    def later(self, thing: Callable[[], None]) -> None:
        """Do it after all that was put off before."""
        self._agenda.append(thing)

    def _work(self) -> None:
        left = WORK_LIMIT
        while self._agenda and self.end is None:
            self._agenda.popleft()()
            left -= 1
            if not left:
                self._stop_runaway()

    def _stop_runaway(self) -> None:
        """While it works, nothing else in this process does: not the other jobs, not the heartbeat."""
        message = f"{WORK_LIMIT:,} steps began or ended, one by the other, with nothing to wait for in between"
        failure = Failure(code="runaway", message=message, retryable=False, hint="does a loop or a goto have no end?")
        self.give_up_all(self.top)
        self.finish(Broken(failure))

    def _try(self, run: Run, thing: Callable[[], None]) -> None:
        try:
            thing()
        except FormulaFailed as error:
            self.fail(run, error.failure)

    def finish(self, end: End) -> None:
        """It is over, once what is being undone is undone."""
        if self.undoing.is_busy:
            self.undoing.then(lambda: self.finish(end))
        elif self.end is None:
            self.end = end
            self.drops += self._waiting
            self._waiting.clear()

    # ---- lists

    def open(self, frame: Frame) -> None:
        """Begin a list of steps."""
        for run in list(frame.runs.values()):
            if run.plan.starts and not run.plan.after:
                self.begin(run)
        self.later(partial(self.rest, frame))

    def open_inside(self, run: Run, plan: ListPlan, number: int, scope: Scope, prefix: str) -> None:
        """Begin a list within a step."""
        run.frames[number] = frame = Frame(plan, prefix, scope, run, number)
        self.open(frame)

    def rest(self, frame: Frame) -> None:
        """A list is over when nothing in it is on its way: what waits still, waits for what never came."""
        if frame.active or frame.is_over:
            return
        try:
            unmet = next((run for run in frame.runs.values() if is_unmet(run, at_rest=True)), None)
        except FormulaFailed:
            unmet = None  # it was to say so when what it joins had ended, and that never came
        if unmet is not None:
            self._fail_unmet(unmet)
            return
        frame.is_over = True
        if frame.owner is None:
            self._end_of_all()
        else:
            owner = frame.owner
            FRAME_ENDED[type(owner.plan.step)](self, owner, frame)

    def _end_of_all(self) -> None:
        try:
            self.finish(Finished(self.plan.result.value(self.top.scope)))
        except FormulaFailed as error:
            self.finish(Broken(error.failure))

    def fail_list(self, frame: Frame, failure: Failure) -> None:
        """A step in it has failed, and with it the list."""
        self.give_up_all(frame)
        if frame.owner is None:
            self.finish(Broken(failure, can_go_on=not self.undoing.has_undone))
        else:
            frame_failed(self, frame.owner, frame, failure)

    # ---- a step begins

    def begin(self, run: Run) -> None:
        """Let a step begin."""
        run.status = "running"
        run.frame.active += 1
        self.later(partial(self._begin, run))

    def _begin(self, run: Run) -> None:
        if run.status != "running":
            return
        join = run.plan.join
        if join is not None and join.cancel_rest:
            for name in join.of:
                self.cancel_step(run.frame.runs[name])
        if run.plan.clock_first:
            self.ask_then(run, "clock", Clock(), partial(self._enter, run))
        else:
            self._try(run, partial(self._enter, run))

    def _enter(self, run: Run) -> None:
        plan, scope, now = run.plan, run.frame.scope, run.now
        if plan.when is not None and not plan.when.truth(scope, now):
            self._end(run, "skipped")
            return
        run.given = {name: value.value(scope, now) for name, value in plan.given.items()}
        begin = BEGIN[type(plan.step)]
        if "lock" in run.given:
            self.ask_then(run, "lock", Lock(str(run.given["lock"])), partial(begin, self, run))
        else:
            begin(self, run)

    # ---- a step ends

    def complete(self, run: Run, output: Any) -> None:
        """A step has completed."""
        run.output = output
        if run.plan.undo is not None:
            self.undoing.remember(run)
        # Those that run now, and not one that begins because another one is complete.
        maps = [run.frame.runs[name] for name in run.plan.step.completes if run.frame.runs[name].status == "running"]
        self._end(run, "completed")
        for name in run.plan.step.cancels:
            self.cancel_step(run.frame.runs[name])
        for each in maps:
            close_map(self, each)

    def _end(self, run: Run, status: Any) -> None:
        run.status = status
        self.let_go(run)
        self._after(run)

    def let_go(self, run: Run) -> None:
        """Nothing of a step goes on, unless it lingers; what became of it can be seen."""
        for role in list(run.asks):
            self._drop(run, role)
        run.then.clear()
        if not run.lingers:
            for frame in run.frames.values():
                self.give_up_all(frame)
            run.frames.clear()
        if run.lock_key:
            self.ask(run, "unlock", Unlock(run.lock_key), "lock/")
            run.lock_key = ""
            run.asks.clear()  # nobody waits for that
        run.frame.scope.outcomes[run.id] = run.outcome()

    def _after(self, run: Run) -> None:
        """Let those begin that have waited for it."""
        frame = run.frame
        frame.active -= 1
        for name in frame.plan.followers[run.id]:
            self.consider(frame.runs[name])
        if not frame.active:
            self.later(partial(self.rest, frame))

    def consider(self, run: Run) -> None:
        """Let a step begin if all is there that it waits for."""
        if run.frame.is_over or run.status != "waiting":
            return
        try:
            if is_met(run):
                self.begin(run)
            elif is_unmet(run):
                self._fail_unmet(run)
        except FormulaFailed as error:
            self._fail_early(run, error.failure)

    def _fail_unmet(self, run: Run) -> None:
        message = "too few of the steps that it joins have completed"
        self._fail_early(run, Failure(code="join_unmet", message=message, retryable=False))

    def _fail_early(self, run: Run, failure: Failure) -> None:
        run.status = "running"
        run.frame.active += 1
        self.later(partial(self.fail, run, failure))

    def fail(self, run: Run, failure: Failure) -> None:
        """A step has failed: do as it says in ``on_error``."""
        if run.status != "running":
            return
        run.status, run.failure = "failed", _named(run, failure)
        self.let_go(run)
        match run.plan.step.on_error:
            case "continue":
                self._after(run)
            case Goto(goto=name) if run.times < GOTO_LIMIT:
                run.times += 1
                go_to(self, run, name)
            case "compensate":
                self.undoing.wind_up(run.frame, partial(self._undone, run))
            case _:
                self.fail_list(run.frame, run.failure)

    def _undone(self, run: Run, not_undone: tuple[str, ...]) -> None:
        assert run.failure is not None
        self.fail_list(run.frame, and_not_undone(run.failure, not_undone))

    def end_completed(self, run: Run, result: Any, *, has_result: bool) -> None:
        """A step says that the workflow has come to its end."""
        run.status = "completed"
        run.frame.scope.outcomes[run.id] = run.outcome()
        self.give_up_all(self.top)
        if has_result:
            self.finish(Finished(result))
        else:
            self._end_of_all()

    def end_failed(self, run: Run, failure: Failure) -> None:
        """A step says that the workflow has failed."""
        run.status, run.failure = "failed", _named(run, failure)
        self.give_up_all(self.top)
        self.finish(Broken(run.failure))

    def linger(self, run: Run) -> None:
        """A step is about to complete while something inside of it goes on: the list waits for that."""
        run.lingers = True
        run.frame.active += 1

    def lingered(self, run: Run) -> None:
        """Nothing inside of a completed step goes on any more."""
        run.lingers = False
        run.frame.active -= 1
        self.rest(run.frame)

    # ---- to give up

    def cancel_step(self, run: Run) -> None:
        """Give a step up that has not ended; what needs it goes on."""
        if run.frame.is_over or run.status not in ("waiting", "running"):
            return
        if run.status == "waiting":
            run.frame.active += 1
        self._end(run, "cancelled")

    def give_up_all(self, frame: Frame) -> None:
        """Give up all that is on its way in a list. The list is over, without a word to its owner."""
        frame.is_over = True
        for run in frame.runs.values():
            if run.status == "running" or run.lingers:
                run.status = "cancelled" if run.status == "running" else run.status
                run.lingers = False
                self.let_go(run)


def _named(run: Run, failure: Failure) -> Failure:
    """The failure, with the step that it began in."""
    details = failure.details or {}
    if "step" in details:
        return failure
    message = f"step {run.place}: {failure.message}"
    return msgspec.structs.replace(failure, message=message, details={**details, "step": run.place})
