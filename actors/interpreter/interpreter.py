"""A workflow document as a job function: the machine says what is next, the job's durable operations do it.

What the machine is told has to come in the log's order, on a live run as on a replay, since the first of several wins:
so answers are sorted by their place in the log, and wait while this host is about to store an outcome of its own, which
may come before them. On a replay the job's turns hand out what is recorded one by one (``actors.operations.turns``).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from actors.interpreter.amending import CannotChange, make_change
from actors.interpreter.asks import Ask, Call
from actors.interpreter.deeds import do
from actors.interpreter.end import Broken, Finished, Withdrawn
from actors.interpreter.machine import Machine
from actors.interpreter.plan import Plan
from actors.jobs.journal import ChangedCode
from actors.operations.branches import Branch, current_branch
from actors.operations.operation_core import WINDING
from actors.operations.operations import Operations
from bus.amendment import Change, SetPolicy
from bus.errors import BusError
from bus.failure import CallFailed, failure_of

log = logging.getLogger("callboard.interpreter")

# So long may what was given up take to clean up (to give a lock back) when the workflow is over.
LEAVE_S = 5.0
AGAIN_S = 1.0
# The event that says that a change from outside did not fit the workflow as it stood.
LEFT_OUT = "change_left_out"


class Interpreter:
    """One run of a document in this process; ``make`` gives the machine, for who wants to watch it."""

    def __init__(self, ops: Operations, plan: Plan, input_: Any, make: type[Machine] = Machine) -> None:
        self._ops = ops
        submitted = ops.submitted
        self.machine = make(plan, input_, {
            "id": ops.job, "workspace": ops.workspace, "workflow": submitted.workflow, "version": submitted.version,
        })  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._stirred: asyncio.Future[None] | None = None
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._leaving: set[asyncio.Task[Any]] = set()
        self._calls: dict[str, Ask] = {}  # those of jobs and tools that may have to be called back
        self._words: set[asyncio.Task[None]] = set()  # to children that are given up
        self._arrived: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._is_planned = False
        self._main = asyncio.current_task()
        self._alone: Ask | None = None
        self._broken: BaseException | None = None

    async def run(self) -> Any:
        """The result. Raises: CallFailed if the workflow failed; gives None if it was cancelled."""
        ops = self._ops
        ops.turns.enter(1)
        ops.on_noted, ops.on_cancel, ops.on_amended = self._plan_flush, self._cancel_at, self._amend_at
        try:
            if ops.cancelled_at is not None:
                self._cancel_at(ops.cancelled_at)
            for sequence, change in ops.journal.amendments:
                self._amend_at(sequence, change)
            self.machine.start()
            self._follow()
            while self.machine.end is None:
                await (self._next() if self._alone is None else self._do_alone(self._alone))
        except asyncio.CancelledError:
            if self._broken is not None and self._main is not None and self._main.uncancel() == 0:
                raise self._broken from None
            raise
        finally:
            ops.on_noted, ops.on_cancel, ops.on_amended = _nothing, None, None
            ops.turns.leave()
            await self._give_up()
        return self._result()

    def _result(self) -> Any:
        match self.machine.end:
            case Finished(result):
                return result
            case Broken(failure):
                raise CallFailed(failure)
            case Withdrawn() as end:
                self._ops.not_undone = end.not_undone
                return None
            case None:
                raise AssertionError("the machine has not ended")

    async def _give_up(self) -> None:
        """End what goes on. What is given up cleans up behind it, unless the job is leaving this process."""
        for task in self._tasks.values():
            self._leave(task)
        self._tasks.clear()
        if self.machine.end is not None and not self._ops.halted:
            ends_at = self._loop.time() + LEAVE_S
            while self._leaving and (left_s := ends_at - self._loop.time()) > 0:
                await asyncio.wait(self._leaving, timeout=left_s)
        while self._leaving:
            for task in self._leaving:
                task.cancel()
            await asyncio.wait(self._leaving)
        await self._end_words()

    async def _end_words(self) -> None:
        """Children that are given up hear of it before the job's end is on record.

        After that no host would come by here again, and they would go on for ever.
        """
        while self._words:
            if self._ops.halted:
                for word in self._words:
                    word.cancel()
            await asyncio.wait(self._words)

    def _leave(self, task: asyncio.Task[Any]) -> None:
        self._leaving.add(task)
        task.add_done_callback(self._has_left)
        task.cancel()

    def _has_left(self, task: asyncio.Task[Any]) -> None:
        self._leaving.discard(task)
        if not task.cancelled():
            task.exception()  # asked for, else asyncio would complain of a failure that nobody needs

    # ---- what the machine says

    def _follow(self) -> None:
        """Do what it asks for, until it asks for nothing more."""
        machine = self.machine
        asks, machine.asks = machine.asks, []
        drops, machine.drops = machine.drops, []
        dropped = set(drops)
        left = [ask for ask in asks if ask.id not in dropped] if drops else asks
        recalls, machine.recalls = machine.recalls, []
        self._call_back(drops, recalls)
        self._calls.update((ask.id, ask) for ask in left if isinstance(ask.what, Call))
        if len(left) == 1 and self._alone is None and not self._tasks:
            self._alone = left[0]
        else:
            for ask in left:
                self._begin(ask)
        for id_ in drops:
            if task := self._tasks.pop(id_, None):
                self._leave(task)
        if self._alone is not None and self._alone.id in dropped and self._main is not None:
            self._alone = None
            self._main.cancel()
        if self._stirred is not None and not self._stirred.done() and (machine.end or self._alone):
            self._stirred.set_result(None)

    async def _next(self) -> None:
        """Until there is something for this task to do: one thing alone, or the end."""
        self._stirred = self._loop.create_future()
        await self._stirred

    async def _do_alone(self, ask: Ask) -> None:
        """Do the only thing that is asked for, without a task of its own: most workflows are chains."""
        branch = Branch(ask.place, 0)
        token = current_branch.set(branch)
        try:
            told = partial(self.machine.answered, ask.id, await do(self._ops, ask.what))
        except asyncio.CancelledError:
            if self._alone is ask or self._main is None or self._main.uncancel() > 0:
                raise
            return
        except ChangedCode:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an operation raises is a failure of its step
            told = partial(self.machine.failed, ask.id, failure_of(error))
        finally:
            current_branch.reset(token)
        self._alone = None
        self._calls.pop(ask.id, None)
        if self._arrived:
            self._arrive(branch.clock, told)
        else:
            told()
            self._follow()

    def _call_back(self, drops: Iterable[str], recalls: Iterable[str]) -> None:
        """Of what is given up, the jobs that were started and the tools that run are told so.

        By a replay once more: so a host may die before it has said it. A tool whose call would have to be undone (it is
        recalled) is not told: whether it has done it must be known. Nobody is told if a retry may want the answers.
        """
        if isinstance(self.machine.end, Broken) and self.machine.end.can_go_on:
            return
        jobs = [id_ for id_ in recalls if (ask := self._calls.get(id_)) and _is_of_job(ask)]
        asks = [ask for id_ in (*jobs, *drops) if (ask := self._calls.pop(id_, None))]
        for ask in asks if not self._ops.halted else ():
            word = self._loop.create_task(self._call_back_at(ask.place))
            self._words.add(word)
            word.add_done_callback(self._said)

    def _said(self, word: asyncio.Task[None]) -> None:
        self._words.discard(word)
        if not word.cancelled() and (error := word.exception()):
            log.error("%s: what is given up was not told so", self._ops.job, exc_info=error)

    def _begin(self, ask: Ask) -> None:
        branch = Branch(ask.place, 0)
        task = self._loop.create_task(self._do(ask, branch))
        self._tasks[ask.id] = task
        task.add_done_callback(partial(self._done, ask, branch))

    async def _do(self, ask: Ask, branch: Branch) -> Any:
        current_branch.set(branch)
        return await do(self._ops, ask.what)

    def _spawn(self, doing: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(doing)
        self._leaving.add(task)
        task.add_done_callback(self._has_left)

    async def _call_back_at(self, place: str) -> None:
        """What nobody waits for any more is told so, however long that takes."""
        ops = self._ops
        ops.busy += 1
        try:
            for key in [key for key in ops.journal.entries if key.startswith(place) and "/" not in key[len(place) :]]:
                await self._tell(key)
        finally:
            ops.rest()

    async def _tell(self, key: str) -> None:
        while True:
            try:
                return await self._ops.call_back(key)
            except BusError as error:
                log.warning("%s: could not call back %s, trying again: %s", self._ops.job, key, error)
            await asyncio.sleep(AGAIN_S)

    # ---- what the machine is told

    def _done(self, ask: Ask, branch: Branch, task: asyncio.Task[Any]) -> None:
        if self._tasks.pop(ask.id, None) is None or task.cancelled():
            return
        self._calls.pop(ask.id, None)
        error = task.exception()
        if isinstance(error, ChangedCode) or (error is not None and not isinstance(error, Exception)):
            self._break(error)
        elif error is not None:
            self._arrive(branch.clock, partial(self.machine.failed, ask.id, failure_of(error)))
        else:
            self._arrive(branch.clock, partial(self.machine.answered, ask.id, task.result()))

    def _break(self, error: BaseException) -> None:
        """The function itself fails with this."""
        self._broken = self._broken or error
        if self._stirred is not None and not self._stirred.done():
            self._stirred.set_exception(error)
        elif self._main is not None and self._alone is not None:
            self._main.cancel()

    def _arrive(self, sequence: int, tell: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._arrived, (sequence, self._count, tell))
        self._plan_flush()

    def _plan_flush(self) -> None:
        """Not at once: the task of an outcome that was just stored has to get here too."""
        if self._arrived and not self._is_planned:
            self._is_planned = True
            self._loop.call_soon(self._loop.call_soon, self._flush)

    def _flush(self) -> None:
        self._is_planned = False
        if self._ops.noting or self.machine.end is not None:
            return
        try:
            while self._arrived:
                heapq.heappop(self._arrived)[2]()
                self._follow()
        except Exception as error:
            log.exception("%s: the workflow cannot go on", self._ops.job)
            self._break(error)

    def _cancel_at(self, sequence: int) -> None:
        """The job is to be cancelled, a signal says: wind up."""
        self._spawn(self._cancel(sequence))

    async def _cancel(self, sequence: int) -> None:
        self._ops.wind_up()
        self._arrive(await self._taken_up(f"{WINDING}{sequence}/", sequence), self.machine.cancel)

    async def _taken_up(self, place: str, sequence: int) -> int:
        """Where in the log a word from outside is taken up. It may be heard late, after what came later than it; so its
        place among the outcomes is put on record, for every replay alike.
        """
        branch = Branch(place, 0)
        current_branch.set(branch)
        await self._ops.record("taken", lambda: sequence)
        return branch.clock

    def _amend_at(self, sequence: int, change: Change) -> None:
        """The workflow is to go on otherwise from that place in the log. Policies are the calls' own affair."""
        if not isinstance(change, SetPolicy):
            self._spawn(self._amend(sequence, change))

    async def _amend(self, sequence: int, change: Change) -> None:
        place = await self._taken_up(f"amended.{sequence}/", sequence)
        self._arrive(place, partial(self._make_change, sequence, change))

    def _make_change(self, sequence: int, change: Change) -> None:
        try:
            self.machine.tell(partial(make_change, self.machine, change))
        except CannotChange as error:
            self._spawn(self._say_left_out(sequence, str(error)))

    async def _say_left_out(self, sequence: int, reason: str) -> None:
        """Who asked for it has been answered long ago; so the log says it."""
        log.warning("%s: the change at %d is left out: %s", self._ops.job, sequence, reason)
        current_branch.set(Branch(f"amended.{sequence}/", 0))
        await self._ops.emit(LEFT_OUT, {"amended": sequence, "reason": reason})


def _is_of_job(ask: Ask) -> bool:
    return isinstance(ask.what, Call) and ask.what.kind != "tool"


def _nothing() -> None:
    pass


async def interpret(ops: Operations, plan: Plan, input_: Any) -> Any:
    """Run a workflow; see :class:`Interpreter`."""
    return await Interpreter(ops, plan, input_).run()
