"""What has to be right after every run, whatever was played and wherever its host died."""

from __future__ import annotations

from collections import Counter

from actors.testing import replay
from bench.chaos.pieces import app_of
from bench.chaos.players import effects
from bench.chaos.rehearsal import Run
from bus.failure import GIVEN_UP
from bus.messages import CallJob, CallTool, Emitted, Ended, Event, JobRetried, ReplyCompleted, ReplyFailed

# A lock that comes while its place in the queue is still being made is told of twice.
_REPLIES = (ReplyCompleted, ReplyFailed)
_MAY_BE_TOLD_TWICE = ("", "lock")


async def prove(run: Run, *, twice: tuple[str, ...] = ()) -> None:
    """Each decision once, each call once (but for those that are tried ``twice``), and a replay goes the same way."""
    _prove_decisions(run)
    _prove_effects(run, twice)
    component = app_of(run.piece.name, run.number).find("job", run.workflow, None)
    assert component is not None
    if (found := await replay(component, run.log)).difference is not None:
        run.wrong.append(f"replay: {found.difference}")


def _prove_decisions(run: Run) -> None:
    retries = sum(isinstance(r.event, JobRetried) for r in run.log)
    for counted in (
        Counter(r.event.call for r in run.log if isinstance(r.event, CallTool | CallJob)),
        Counter(
            r.event.call for r in run.log if isinstance(r.event, _REPLIES) and r.event.op not in _MAY_BE_TOLD_TWICE
        ),
        Counter(r.event.call for r in run.log if isinstance(r.event, Emitted)),
    ):
        run.wrong += [f"{call} is recorded {times} times" for call, times in counted.items() if times > 1 + retries]
    if sum(isinstance(r.event, Ended) for r in run.log) != 1 + retries:
        run.wrong.append("has two ends")


def _prove_effects(run: Run, twice: tuple[str, ...]) -> None:
    logs = [run.log, *run.children.values()]
    commands = Counter(f"{r.event.job}/{r.event.call}" for log in logs for r in log if isinstance(r.event, CallTool))
    for call in twice:
        commands[f"{run.job}/{call}"] *= 2
    jobs = {run.job, *run.children}
    found = Counter(line for line in effects if line.split("/")[0] in jobs)
    answered = {call for log in logs for r in log if (call := _has_run(r.event))}
    # What is given up is called back, and may never have run.
    missing = {call for call in commands - found if call in answered}
    if found - commands or missing:
        run.wrong.append(f"ran {dict(found - commands)} too often, and {missing} not")


def _has_run(event: Event) -> str:
    """The call that a tool has answered, empty if the event is no such answer."""
    match event:
        case ReplyCompleted(op="", job=job, call=call):
            return f"{job}/{call}"
        case ReplyFailed(op="", job=job, call=call, failure=failure) if failure.code not in ("cancelled", GIVEN_UP):
            return f"{job}/{call}"
        case _:
            return ""


def last_end(run: Run) -> Event:
    """How it ended at last."""
    return next(r.event for r in reversed(run.log) if isinstance(r.event, Ended))
