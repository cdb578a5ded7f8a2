"""One run of a piece whose host dies at one event, and the places where it can die."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bench.chaos.doomed import Cast, Doom
from bench.chaos.forking import Forked
from bench.chaos.house import House, Watcher
from bench.chaos.pieces import app_of, names_of
from bus.messages import CallJob, Event, ReplyCompleted, ReplyFailed
from store.log import Recorded

LIMIT_S = 40.0
# What the code passes on its way between appends, and how often at most.
NAMED = {"host.before_request": 5, "host.before_parent_reply": 3, "host.after_parent_reply": 3,
         "host.after_child_word": 2, "host.before_drop": 1, "lock.before.write": 3, "lock.after.write": 3,
         "lock.before.enqueue": 1, "lock.after.enqueue": 1, "lock.before.tell": 1, "lock.before.wake": 1,
         "lock.after.wake": 1}  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """What is played: ``name`` in ``bench.chaos.pieces``, its input, who answers it, and who says whether it was right.

    ``stubborn``: when it fails somebody retries it.
    """

    name: str
    given: Any
    people: Callable[[], Watcher]
    judge: Callable[[Run], Awaitable[None]]
    stubborn: bool = False


@dataclass
class Run:
    """One run, and what was found ``wrong`` with it. ``died``: whether the host came by its doom."""

    piece: Piece
    number: str
    doom: Doom | None = None
    died: bool = False
    took_s: float = 0.0
    log: list[Recorded] = field(default_factory=list)
    children: dict[str, list[Recorded]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def job(self) -> str:
        """Its job."""
        return f"j-{self.number}"

    @property
    def workflow(self) -> str:
        """The workflow of its job."""
        return f"{self.piece.name}-{self.number}"

    def __str__(self) -> str:
        doom = f"{self.doom}{'' if self.died else ', which did not come'}" if self.doom else "no crash"
        return f"{self.workflow} [{doom}]: {'; '.join(self.wrong) or 'right'} ({self.took_s:.1f} s)"


async def play(at: House, run: Run) -> None:
    """Run it to its end; ``run.wrong`` says what is not as it should be."""
    began_s = time.monotonic()
    cast = Cast(at.url, run.piece.name, run.number, str(at.folder / run.number), doom=run.doom, job=run.job)
    at.watchers[run.job] = run.piece.people()
    if run.piece.stubborn:
        at.stubborn.add(run.job)
    hosts = [await at.forks.start(cast)]
    watch = asyncio.create_task(_succeed(at, cast, hosts))
    try:
        await at.submit(run.workflow, run.job, run.piece.given)
        await _to_the_end(at, run)
    except TimeoutError:
        run.log = await at.events(run.job)
        run.wrong.append(f"has not ended within {LIMIT_S:g} s: {[r.event.kind for r in run.log][-5:]}")
    finally:
        run.died, run.took_s = len(hosts) > 1, time.monotonic() - began_s
        watch.cancel()
        await asyncio.gather(*(host.kill() for host in hosts))
        del at.watchers[run.job]
        await at.forget(names_of(app_of(run.piece.name, run.number)))
    if not run.wrong:
        await run.piece.judge(run)


async def _succeed(at: House, cast: Cast, hosts: list[Forked]) -> None:
    """Another host takes over, as a supervisor would have it."""
    await hosts[0].gone()
    hosts.append(await at.forks.start(msgspec.structs.replace(cast, doom=None)))


async def _to_the_end(at: House, run: Run) -> None:
    await at.ended(run.job, LIMIT_S)
    run.log = await at.events(run.job)
    children = {r.event.child: r.event.call for r in run.log if isinstance(r.event, CallJob)}
    for child, call in children.items():
        try:
            await at.ended(child, LIMIT_S / 2)
        except TimeoutError:
            run.wrong.append(f"child of {call} has not ended")
        run.children[child] = await at.events(child)
    await at.served(names_of(app_of(run.piece.name, run.number)), LIMIT_S / 2)
    run.log = await at.events(run.job)


async def rehearse(at: House, runs: list[Run], *, at_once: int, tell: Callable[[Run], None] | None = None) -> None:
    """Play all of them, some side by side."""
    slots = asyncio.Semaphore(at_once)

    async def one(run: Run) -> None:
        async with slots:
            await play(at, run)
        if tell:
            tell(run)

    async with asyncio.TaskGroup() as group:
        for run in runs:
            group.create_task(one(run))


# ---- where to die


def dooms(run: Run, *, since: int = 0) -> list[Doom]:
    """Before and after each event that the host wrote after ``since``, and when it hears each that others wrote."""
    found: dict[Doom, None] = {}
    for recorded in run.log:
        event = recorded.event
        kind, call = (_general(text, run) for text in (event.kind, getattr(event, "call", "")))
        if recorded.sequence <= since:
            continue
        if _is_of_others(event):
            found[Doom("hearing", kind, call)] = None
        else:
            found |= {Doom("before", kind, call): None, Doom("after", kind, call): None}
    return list(found)


def named_dooms() -> list[Doom]:
    """At each crash point that is named in the code."""
    return [Doom("named", name, "", hit) for name, hits in NAMED.items() for hit in range(1, hits + 1)]


def _general(text: str, run: Run) -> str:
    """Without the run's number, which is in the names of its workflows and its lock."""
    return re.sub(rf"-{run.number}\b", "-NUMBER", text)


def _is_of_others(event: Event) -> bool:
    if isinstance(event, ReplyCompleted | ReplyFailed):
        return not event.op
    return event.kind.startswith("signal.") or event.kind in (
        "approval.answered", "reply.retrying", "reply.progress", "job.retried",
    )  # fmt: skip
