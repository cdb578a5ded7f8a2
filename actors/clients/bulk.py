"""One word to many jobs: each is told on its own, some at a time, and what came of it is said job by job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from bus.errors import UsageError
from store.job_list import ListedJob, ListedState

if TYPE_CHECKING:
    from actors.clients.client import Client

Verb = Literal["pause", "resume", "cancel", "terminate", "retry"]
VERBS: tuple[Verb, ...] = get_args(Verb)
AT_ONCE = 16

_OPEN: tuple[ListedState, ...] = ("planned", "submitted", "running", "waiting", "paused")
# What each verb can do something about.
_STATES: dict[Verb, tuple[ListedState, ...]] = {
    "pause": ("planned", "submitted", "running", "waiting"),
    "resume": ("paused",),
    "cancel": _OPEN,
    "terminate": _OPEN,
    "retry": ("failed",),
}


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a word to one job: the sequence at which it stands in the log, or why it was refused."""

    job: str
    sequence: int = 0
    error: str = ""
    code: str = ""
    hint: str = ""


def can_be(verb: Verb, job: ListedJob) -> bool:
    """Whether ``verb`` does anything to the job. A failed child goes on with its parent and is not retried itself."""
    return job.state in _STATES[verb] and not (verb == "retry" and job.parent)


async def tell_all(
    client: Client, verb: Verb, jobs: Iterable[str], *, reason: str = "", children: bool = True, by: str = ""
) -> AsyncGenerator[Told]:
    """Tell each job, ``AT_ONCE`` at a time; yields as each is done, in no order. A job that refuses stops no other.

    Raises: UsageError (no such verb), BusError; then some jobs may have been told.
    """
    tell = _teller(client, verb, reason, children, by)
    left = iter(dict.fromkeys(jobs))
    running: set[asyncio.Task[Told]] = set()
    try:
        while True:
            while len(running) < AT_ONCE and (job := next(left, None)) is not None:
                running.add(asyncio.create_task(_tell(tell, job)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*running, return_exceptions=True)


def _teller(client: Client, verb: Verb, reason: str, children: bool, by: str) -> Callable[[str], Awaitable[int]]:
    match verb:
        case "pause":
            return lambda job: client.pause(job, children=children, by=by)
        case "resume":
            return lambda job: client.resume(job, children=children, by=by)
        case "cancel":
            return lambda job: client.cancel(job, reason, by=by)
        case "terminate":
            return lambda job: client.terminate(job, reason, by=by)
        case "retry":
            return lambda job: client.retry_now(job, by=by)
    raise _bad_verb(verb)


def check_verb(text: str) -> Verb:
    """The verb that ``text`` is. Raises: UsageError."""
    for verb in VERBS:
        if text == verb:
            return verb
    raise _bad_verb(text)


def _bad_verb(text: str) -> UsageError:
    return UsageError(f"nothing is done to jobs by {text!r}", code="bad_verb", hint=f"one of {', '.join(VERBS)}")


async def _tell(tell: Callable[[str], Awaitable[int]], job: str) -> Told:
    try:
        return Told(job, await tell(job))
    except UsageError as error:
        return Told(job, error=str(error.args[0]), code=error.code, hint=error.hint)
