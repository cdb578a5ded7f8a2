"""A job and all that it started: their logs read level by level, some at once, each folded as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from bus.connection import Bus
from bus.messages import CallAgent, CallJob, Event
from bus.objects import Blobs
from store.log import read_job

T = TypeVar("T")

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Relative(Generic[T]):
    """What the log of one job was folded to, and the ids of the jobs that it has run as its calls, in their order."""

    found: T
    children: list[str]


async def read_family(
    bus: Bus, blobs: Blobs, workspace: str, job: str, fold: Callable[[str, list[Event]], T]
) -> dict[str, Relative[T]]:
    """Each job by its id, folded from its id and events. One that has no log, as it has not begun, is left out.

    Only what ``fold`` gives is kept: there may be many jobs, with long logs. Raises: BusError.
    """
    family: dict[str, Relative[T]] = {}
    turn = asyncio.Semaphore(_AT_ONCE)

    async def read(each: str) -> None:
        async with turn:
            events = [recorded.event for recorded in await read_job(bus, blobs, workspace, each)]
        if events:
            family[each] = Relative(fold(each, events), children_of(events))

    level = [job]
    while level:
        await asyncio.gather(*map(read, level))
        below = [child for each in level if each in family for child in family[each].children]
        level = [child for child in dict.fromkeys(below) if child not in family]
    return family


def children_of(events: Iterable[Event]) -> list[str]:
    """The ids of the jobs that a job has run as its calls, each once, in their order. Pure."""
    return list(dict.fromkeys(event.child for event in events if isinstance(event, CallAgent | CallJob)))
