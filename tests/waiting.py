"""Waiting for something observed, with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.05


async def wait_until(
    predicate: Callable[[], T | Awaitable[T]], deadline_s: float = 10.0, *, what: str | Callable[[], object] = ""
) -> T:
    """Ask ``predicate`` (sync or async) until it is true, and return what it said.

    Raises: AssertionError after ``deadline_s`` seconds, with ``what`` (a text, or a function that describes the state)
    and the predicate's last answer.
    """
    deadline = time.monotonic() + deadline_s
    pause_s = _PAUSE_S
    while True:
        said = predicate()
        answer = await said if inspect.isawaitable(said) else said
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(predicate, deadline_s, what, answer))
        await asyncio.sleep(pause_s)
        if said is not answer:  # what asks others costs them something each time
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.2)


def _complaint(
    predicate: Callable[[], object], deadline_s: float, what: str | Callable[[], object], answer: object
) -> str:
    wanted = what() if callable(what) else what or getattr(predicate, "__qualname__", repr(predicate))
    return f"not within {deadline_s} s: {wanted} (last answer: {answer!r})"
