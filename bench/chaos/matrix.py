"""``python -m bench.chaos.matrix``: the host is killed between any two events of a workflow that uses every step.

Once without a crash: that log says where the host can die. Then one run for each place, several at a time; another
host takes over, and what came of it is judged by the log, the tools' own record and a replay.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.testing import replay
from bench.chaos.doomed import Cast, Doom
from bench.chaos.everything import app_of, effects, names_of
from bench.chaos.forking import Forked
from bench.chaos.house import House, house
from bus.approval_events import ApprovalAsked
from bus.embedded import EmbeddedServer
from bus.messages import (
    CallJob,
    CallTool,
    Emitted,
    Ended,
    Event,
    JobCancelled,
    JobCompleted,
    JobOwned,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
)
from store.log import Recorded

LIMIT_S = 30.0
TIMES = True
RESULT = {
    "numbers": [3, 6, 6, 3, 10, 3],
    "states": ["failed", "failed", "failed", "cancelled"],
    "asked": 17,
    "word": "abracadabra",
}
# What the code passes on its way between appends, and how often at most.
NAMED = {"host.before_request": 5, "host.before_parent_reply": 3, "host.after_parent_reply": 3,
         "host.after_child_word": 2, "host.before_drop": 1, "lock.before.write": 3, "lock.after.write": 3,
         "lock.before.enqueue": 1, "lock.after.enqueue": 1, "lock.before.tell": 1, "lock.before.wake": 1,
         "lock.after.wake": 1}  # fmt: skip


class People:
    """Answers what the job asks, each thing once: also what a second host asks again."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, at: House, event: Event) -> Coroutine[Any, Any, object] | None:
        """What is to be done about an event."""
        said = self._answer(at, event)
        if said is None or said[0] in self._said:
            return None
        self._said.add(said[0])
        return said[1](*said[2])  # type: ignore[no-any-return]

    @staticmethod
    def _answer(at: House, event: Event) -> tuple[str, Any, tuple[Any, ...]] | None:
        match event:
            case ApprovalAsked():
                return "ask", _approve, (at, event)
            case ReplyCompleted(call="word/signal-word:1/from"):
                return "word", at.client.signal, (event.job, "word", "abracadabra")
            case JobWaiting(on=on) if any(key.startswith("parks/") for key in on):
                return "go", at.client.signal, (event.job, "go")
            case _:
                return None


async def _approve(at: House, asked: ApprovalAsked) -> None:
    await at.client.approve(asked.job, asked.call, by="ann", edit={"n": 17})


@dataclass
class Run:
    """One run, and what was found wrong with it. ``died``: whether the host came by its doom."""

    number: str
    doom: Doom | None
    died: bool = False
    took_s: float = 0.0
    log: list[Recorded] = field(default_factory=list)
    children: dict[str, list[Recorded]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def job(self) -> str:
        """Its job."""
        return f"m{self.number}"

    def __str__(self) -> str:
        return (
            f"{self.job} [{self.doom or 'no crash'}]: " + ("; ".join(self.wrong) or "right") + f" ({self.took_s:.1f} s)"
        )


async def play(at: House, run: Run) -> None:
    """Run it to its end; ``run.wrong`` says what is not as it should be."""
    cast = Cast(at.url, run.number, str(at.folder / run.number), doom=run.doom, job=run.job)
    began_s = time.monotonic()
    at.watchers[run.job] = People()
    first = await at.forks.start(cast)
    others: list[Forked] = []
    watch = asyncio.create_task(_succeed(at, first, cast, others))
    try:
        await at.submit(f"everything-{run.number}", run.job, {"n": 2})
        await _to_the_end(at, run)
    except TimeoutError:
        run.log = await at.events(run.job)
        run.wrong.append(f"has not ended within {LIMIT_S:g} s: {[r.event.kind for r in run.log][-5:]}")
    finally:
        watch.cancel()
        run.died, run.took_s = bool(others), time.monotonic() - began_s
        for process in (first, *others):
            await process.kill()
        del at.watchers[run.job]
    if not run.wrong:
        await judge(run)


async def _succeed(at: House, first: Forked, cast: Cast, others: list[Forked]) -> None:
    await first.gone()
    others.append(await at.forks.start(msgspec.structs.replace(cast, doom=None)))


async def _to_the_end(at: House, run: Run) -> None:
    await at.ended(run.job, LIMIT_S)
    run.log = await at.events(run.job)
    for recorded in run.log:
        if isinstance(recorded.event, CallJob):
            try:
                await at.ended(recorded.event.child, LIMIT_S / 2)
            except TimeoutError:
                run.wrong.append(f"child of {recorded.event.call} has not ended")
            run.children[recorded.event.child] = await at.events(recorded.event.child)
    await at.served(names_of(app_of(run.number)), LIMIT_S / 2)
    run.log = await at.events(run.job)


# ---- what is right


async def judge(run: Run) -> None:
    """Same result, each decision once, nothing run again, and a replay goes the way that the log went."""
    end = next((r.event for r in run.log if isinstance(r.event, Ended)), None)
    if not isinstance(end, JobCompleted):
        run.wrong.append(f"ended as {end}")
        return
    result = msgspec.json.decode(end.output)
    if {key: result[key] for key in RESULT} != RESULT:
        run.wrong.append(f"gave {result}")
    _judge_choices(run, result)
    _judge_decisions(run)
    _judge_effects(run)
    _judge_children(run)
    component = app_of(run.number).find("job", f"everything-{run.number}", None)
    assert component is not None
    if (found := await replay(component, run.log)).difference is not None:
        run.wrong.append(f"replay: {found.difference}")


def _judge_choices(run: Run, result: dict[str, Any]) -> None:
    """What was told of a choice when it was made is what the result says of it."""
    told = {r.event.name: msgspec.json.decode(r.event.data) for r in run.log if isinstance(r.event, Emitted)}
    if told["noted"]["at"] != result["at"] or told["won"]["who"] != result["race"]:
        run.wrong.append(f"told {told}, and gave {result}")
    if result["race"].count("completed") != 1 or len(result["each"]) != 3:
        run.wrong.append(f"not one has won: {result}")


def _judge_decisions(run: Run) -> None:
    commands = Counter(r.event.call for r in run.log if isinstance(r.event, CallTool | CallJob))
    notes = Counter(
        r.event.call
        for r in run.log
        if isinstance(r.event, ReplyCompleted | ReplyFailed) and r.event.op not in ("", "lock")
    )
    emitted = Counter(r.event.call for r in run.log if isinstance(r.event, Emitted))
    for counted in (commands, notes, emitted):
        run.wrong += [f"{call} is recorded {times} times" for call, times in counted.items() if times > 1]
    if sum(isinstance(r.event, Ended) for r in run.log) != 1:
        run.wrong.append("has two ends")
    owned = sum(isinstance(r.event, JobOwned) for r in run.log)
    if owned > 4:  # the first one, after the crash, after parking, and if it parked where it seldom does
        run.wrong.append(f"was owned {owned} times")


def _judge_effects(run: Run) -> None:
    """Each call ran once, but for the one that fails the first time."""
    logs = [run.log, *run.children.values()]
    commands = {f"{r.event.job}/{r.event.call}": 1 for log in logs for r in log if isinstance(r.event, CallTool)}
    commands[f"{run.job}/first/shaky:1"] = 2
    jobs = {key.split("/")[0] for key in commands}
    found = Counter(line for line in effects if line.split("/")[0] in jobs)
    if found != Counter(commands):
        run.wrong.append(f"ran differently: {dict(found - Counter(commands))} too often, "
                         f"{dict(Counter(commands) - found)} not")  # fmt: skip


def _judge_children(run: Run) -> None:
    for child, log in run.children.items():
        call = next(r.event.call for r in run.log if isinstance(r.event, CallJob) and r.event.child == child)
        end = next((r.event for r in log if isinstance(r.event, Ended)), None)
        if not isinstance(end, JobCancelled if "lost" in call else JobCompleted):
            run.wrong.append(f"child of {call} ended as {end and end.kind}")


# ---- where to die


def dooms(run: Run) -> list[Doom]:
    """Before and after each event that the host wrote; when it hears each that others wrote; and what lies between."""
    found: dict[Doom, None] = {}
    for recorded in run.log:
        event = recorded.event
        kind, call = (_general(text, run) for text in (event.kind, getattr(event, "call", "")))
        if _is_of_others(event):
            found[Doom("hearing", kind, call)] = None
        else:
            found |= {Doom(side, kind, call): None for side in ("before", "after")}
    return [*found, *(Doom("named", name, "", hit) for name, hits in NAMED.items() for hit in range(1, hits + 1))]


def _general(text: str, run: Run) -> str:
    """Without the run's number, which is in the names of its workflows and its lock."""
    return re.sub(rf"-{run.number}\b", "-NUMBER", text)


def _is_of_others(event: Event) -> bool:
    kind = event.kind
    if isinstance(event, ReplyCompleted | ReplyFailed):
        return not event.op
    return kind.startswith("signal.") or kind in ("approval.answered", "reply.retrying", "reply.progress")


@dataclass
class Matrix:
    """All runs. ``spent_s`` is processor time of this process and its children."""

    runs: list[Run]
    took_s: float = 0.0

    @property
    def wrong(self) -> list[Run]:
        """Those that something is wrong with."""
        return [run for run in self.runs if run.wrong]


async def matrix(
    url: str, *, step: int = 1, at_once: int = 6, prefix: str = "", tell: Callable[[Run], None] | None = None
) -> Matrix:
    """One run without a crash, then one for each ``step``-th place to die."""
    began_s = time.monotonic()
    async with house(url) as at:
        plain = Run(f"{prefix}0", None)
        await play(at, plain)
        places = dooms(plain)[::step] if not plain.wrong else []
        runs = [Run(f"{prefix}{number}", doom) for number, doom in enumerate(places, 1)]
        slots = asyncio.Semaphore(at_once)

        async def one(run: Run) -> None:
            async with slots:
                await play(at, run)
            if tell:
                tell(run)

        await asyncio.gather(*map(one, runs))
    return Matrix([plain, *runs], time.monotonic() - began_s)


async def _all(options: argparse.Namespace) -> Matrix:
    async with await EmbeddedServer.start() as server:
        return await matrix(server.url, step=options.step, at_once=options.at_once, tell=_tell)


def _tell(run: Run) -> None:
    if run.wrong or (run.doom and not run.died) or TIMES:
        sys.stderr.write(f"{run}{'' if run.died else ' (never came by there)'}\n")


def main() -> int:
    """Run, print, and return 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos.matrix", description=__doc__)
    parser.add_argument("--step", type=int, default=1, help="only every so manieth place")
    parser.add_argument("--at-once", type=int, default=6, help="how many runs at a time")
    options = parser.parse_args()
    found = asyncio.run(_all(options))
    died = sum(run.died for run in found.runs)
    sys.stdout.write(f"{len(found.runs)} runs, {died} crashes, {len(found.wrong)} wrong, {found.took_s:.0f} s\n")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
