"""The branches of a gather: each has a place in the keys of its operations, and knows how far in the log it has got."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from actors.operations.turns import Turns


@dataclass(slots=True)
class Branch:
    """One branch of a gather. ``clock`` is the sequence of the last outcome that it took up: how far it has got."""

    prefix: str
    clock: int


current_branch: ContextVar[Branch | None] = ContextVar("callboard_branch", default=None)


async def run_branches(key: str, branches: Sequence[Awaitable[Any]], turns: Turns) -> tuple[Any, ...]:
    """Run branches side by side; their results in order. Raises: the first failure by the log's order."""
    outer = current_branch.get()
    places = [Branch(f"{key}.{i}/", outer.clock if outer else 0) for i in range(len(branches))]
    tasks = [asyncio.ensure_future(_in_branch(place, b)) for place, b in zip(places, branches, strict=True)]
    if not tasks:
        return ()
    depth = key.count("gather:")
    clock = 0
    turns.enter(depth)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if any(_failure(task) for task in tasks):
            await turns.settle(depth)
            clock, _, error = _first_failure(places, tasks)
            raise error
        clock = max(place.clock for place in places)
        return tuple(t.result() for t in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        turns.leave()
        for task in tasks:
            _failure(task)  # asked for, else asyncio would complain of the others' failures
        if outer:
            outer.clock = max(outer.clock, clock)


async def _in_branch(branch: Branch, awaitable: Awaitable[Any]) -> Any:
    current_branch.set(branch)
    return await awaitable


def _failure(task: asyncio.Task[Any]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def _first_failure(places: list[Branch], tasks: list[asyncio.Task[Any]]) -> tuple[int, int, BaseException]:
    """(clock, number, failure) of the branch that had got least far in the log: on every replay it is the same one."""
    return min((place.clock, i, error) for i, place in enumerate(places) if (error := _failure(tasks[i])))
