"""A second, small interpreter of workflow documents, for comparison: coroutines on a clock that is made up.

It shares the documents and the expression language with the real one and nothing else: a step is a coroutine that
awaits what it needs, a list is a group of them. Calls take a time that follows from their place, so both interpreters
see the same answers in the same order.
"""

from __future__ import annotations

import asyncio
import hashlib
import selectors
from typing import Any

import cel

from actors.workflow.document import (
    Document,
    LoopStep,
    MapStep,
    ParallelStep,
    SetStep,
    SleepStep,
    Step,
    SwitchStep,
    ToolStep,
)
from actors.workflow.expression import embedded
from actors.workflow.outline import outline

NOT_RUN = {"output": None, "status": "skipped", "error": None}


def call_takes_s(place: str) -> float:
    """How long the call at a place takes: no two the same."""
    return 1.0 + int.from_bytes(hashlib.sha256(place.encode()).digest()[:6]) / 2**48


class Broke(Exception):
    """A list has failed; ``code`` says how. ``output`` is what the step had by then."""

    def __init__(self, code: str, output: Any = None) -> None:
        super().__init__(code)
        self.code = code
        self.output = output


class _Clock(selectors.DefaultSelector):
    """Nothing is ever waited for: when all is at rest the time jumps to the next timer."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.now_s += timeout
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._made_up = _Clock()
        super().__init__(self._made_up)

    def time(self) -> float:
        return self._made_up.now_s


class _Step:
    """One step of a list while it runs."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.status = "waiting"
        self.output: Any = None
        self.code = ""
        self.task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        return self.status not in ("waiting", "running")


class _List:
    """One run of a list of steps."""

    def __init__(self, steps: tuple[Step, ...], place: str, around: dict[str, Any], seen: dict[str, Any]) -> None:
        self.steps = {step.id: _Step(step) for step in steps}
        self.place = place
        self.around = around
        self.seen = seen
        self.changed = asyncio.Condition()

    async def run(self) -> None:
        """Until all steps are over. Raises: Broke."""
        for each in self.steps.values():
            each.task = asyncio.ensure_future(self._step(each))
        tasks = [each.task for each in self.steps.values() if each.task]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            while not all(task.done() for task in tasks) and not any(_error(task) for task in done):
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done() and isinstance(error := _error(task), Broke):
                    raise Broke(error.code)  # what the failed step had is its own
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _step(self, each: _Step) -> None:
        try:
            await self._until_ready(each)
            await self._cancel_rest(each)
            each.status = "running"
            each.output = await self._do(each)
            if each.status == "running":
                each.status = "completed"
        except Broke as error:
            each.status, each.code, each.output = "failed", error.code, error.output
            if each.step.on_error != "continue":
                raise
        except asyncio.CancelledError:
            each.status = "cancelled"
        finally:
            await self._tell(each)

    async def _tell(self, each: _Step) -> None:
        error = {"code": each.code, "message": "", "details": {}} if each.code else None
        self.seen[each.step.id] = {"output": each.output, "status": each.status, "error": error}
        async with self.changed:
            self.changed.notify_all()

    async def _until_ready(self, each: _Step) -> None:
        async with self.changed:
            while not self._is_ready(each):
                await self.changed.wait()

    def _is_ready(self, each: _Step) -> bool:
        if not all(self.steps[name].is_over for name in each.step.needs):
            return False
        join = each.step.join
        if join is None or isinstance(each.step, MapStep | ParallelStep):
            return True
        joined = [self.steps[name] for name in join.of]
        if join.n is None:
            return all(other.is_over for other in joined)
        assert isinstance(join.n, int)
        good = sum(other.status == "completed" for other in joined)
        if good + sum(not other.is_over for other in joined) < join.n:
            raise Broke("join_unmet")
        return good >= join.n

    async def _cancel_rest(self, each: _Step) -> None:
        join = each.step.join
        if join is None or not join.cancel_rest or isinstance(each.step, MapStep | ParallelStep):
            return
        rest = [self.steps[name] for name in join.of if not self.steps[name].is_over]
        tasks = [other.task for other in rest if other.task]
        for task in tasks:  # all of them before any of them is heard of: they are given up at once
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for other in rest:
            if other.status != "cancelled":  # it had not even begun
                other.status = "cancelled"
                await self._tell(other)

    # ---- what a step does

    def _value(self, text: str, **more: Any) -> Any:
        return cel.evaluate(text, {"steps": self.seen, **self.around, **more})

    def _filled(self, value: Any) -> Any:
        if isinstance(value, str) and (inner := embedded(value)) is not None:
            return self._value(inner)
        if isinstance(value, dict):
            return {key: self._filled(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._filled(each) for each in value]
        return value

    async def _do(self, each: _Step) -> Any:
        step = each.step
        if step.when is not None and not self._value(step.when):
            each.status = "skipped"
            return None
        place = self.place + step.id
        match step:
            case ToolStep():
                given = self._filled(step.with_)
                await asyncio.sleep(call_takes_s(place))
                if given.get("fail"):
                    raise Broke("broken")
                return given["n"] + 1
            case SetStep():
                return self._filled(step.values)
            case SleepStep():
                await asyncio.sleep(float(step.for_s))
                return None
            case SwitchStep():
                return await self._switch(step)
            case LoopStep():
                return await self._loop(step, place)
            case MapStep():
                return await self._map(step, place)
            case ParallelStep():
                await self._counted(
                    [_List(branch, self.place, self.around, self.seen) for branch in step.branches.values()], step
                )
                return self._filled(step.output)
            case _:
                raise AssertionError(step)

    async def _switch(self, step: SwitchStep) -> Any:
        chosen = next((case.steps for case in step.cases if self._value(case.when)), step.else_)
        if chosen:
            await _List(chosen, self.place, self.around, self.seen).run()
        return self._filled(step.output)

    async def _loop(self, step: LoopStep, place: str) -> Any:
        output: Any = None
        for number in range(step.max_rounds):
            around = {**self.around, "round": number, "last": output}
            inner = _List(step.steps, f"{place}.{number}/", around, dict(self.seen))
            await inner.run()
            output = inner._filled(step.output)
            if inner._value(step.until):
                return output
        raise Broke("max_rounds", output)

    async def _map(self, step: MapStep, place: str) -> Any:
        lists = []
        for number, item in enumerate(self._value(step.over)):
            around = {**self.around, step.as_: item, "index": number}
            lists.append(_List(step.steps, f"{place}.{number}/", around, dict(self.seen)))
        good = await self._counted(lists, step)
        return [lists[number]._filled(step.output) for number in sorted(good)]

    async def _counted(self, lists: list[_List], step: MapStep | ParallelStep) -> set[int]:
        """Run lists side by side; the numbers of those that completed. Raises: Broke."""
        n = step.join.n if step.join else None
        room = asyncio.Semaphore(getattr(step, "max_parallel", None) or len(lists) or 1)

        async def one(which: _List) -> None:
            async with room:
                await which.run()

        tasks = [asyncio.ensure_future(one(each)) for each in lists]
        try:
            return await self._enough(tasks, n if isinstance(n, int) else None)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _enough(self, tasks: list[asyncio.Future[None]], n: int | None) -> set[int]:
        while True:
            good = {number for number, task in enumerate(tasks) if task.done() and not _error(task)}
            bad = [error for task in tasks if task.done() and (error := _error(task))]
            if n is None and bad:
                raise bad[0]
            if n is not None and len(good) >= n:
                return good
            if n is not None and len(tasks) - len(bad) < n:
                raise Broke("join_unmet")
            if all(task.done() for task in tasks):
                return good
            await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)


def _error(task: asyncio.Future[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


def reference_run(document: Document, input_: Any) -> tuple[str, Any]:
    """("completed", result) or ("failed", code)."""

    async def run() -> tuple[str, Any]:
        seen = {entry.step.id: dict(NOT_RUN) for entry in outline(document).entries}
        top = _List(document.steps, "", {"input": input_}, seen)
        try:
            await top.run()
        except Broke as error:
            return "failed", error.code
        return "completed", top._filled(document.result)

    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(run())
