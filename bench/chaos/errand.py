"""The pieces ``errand`` and ``outing``: somebody says a word to the job at one of its events; it undoes what it did."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal

import msgspec

from bench.chaos.house import House
from bench.chaos.proof import last_end, prove
from bench.chaos.rehearsal import Piece, Run
from bus.messages import (
    CallJob,
    CallTool,
    Ended,
    Event,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobPaused,
    JobResumed,
    JobWaiting,
    ReplyCompleted,
)

Word = Literal["cancel", "terminate", "pause", ""]
RESULT = [[2, 3], 4, "mended"]
# A word that is to come once the job waits.
NEVER = 1_000_000


class Meddler:
    """Says ``word`` at the job's ``at``-th event; else answers it, resumes it, and retries it when it has failed."""

    def __init__(self, word: Word, at: int) -> None:
        self._word = word
        self._left = at
        self._goes = False

    def __call__(self, at: House, event: Event) -> Coroutine[Any, Any, object] | None:
        """What is to be done about an event."""
        if isinstance(event, JobFailed) and self._word in ("pause", ""):
            return at.client.retry(event.job)
        self._left -= 1
        waits = isinstance(event, JobWaiting) and any("signal-go" in key for key in event.on)
        if self._word and (self._left == 0 or (waits and self._left > 0 and self._word != "pause")):
            self._left = 0
            say: Callable[..., Coroutine[Any, Any, object]] = getattr(at.client, self._word)
            return say(event.job)
        if waits and self._word in ("pause", "") and not self._goes:
            self._goes = True
            return at.client.signal(event.job, "go")
        if isinstance(event, JobPaused):
            return at.client.resume(event.job)
        return None


async def _judge(word: Word, run: Run) -> None:
    end = last_end(run)
    if word in ("pause", ""):
        _judge_completed(run, end)
    elif not isinstance(end, JobCancelled):
        run.wrong.append(f"ended as {end}")
    else:
        _judge_undone(run, [] if word == "terminate" else _done(run))
    for child, log in run.children.items():
        if log and child in _kids(run) and not any(isinstance(r.event, JobCancelled) for r in log):
            run.wrong.append(f"the child ended as {[r.event.kind for r in log if isinstance(r.event, Ended)]}")
    await prove(run)


def _judge_completed(run: Run, end: Event) -> None:
    if not isinstance(end, JobCompleted) or msgspec.json.decode(end.output) != RESULT:
        run.wrong.append(f"ended as {end}")
    paused = False
    for recorded in run.log:
        if isinstance(recorded.event, JobPaused | JobResumed):
            paused = isinstance(recorded.event, JobPaused)
        elif paused and isinstance(recorded.event, (CallTool, CallJob, *Ended)):
            run.wrong.append(f"{recorded.event.kind} while it was paused")


def _kids(run: Run) -> set[str]:
    return {r.event.child for r in run.log if isinstance(r.event, CallJob) and r.event.call.startswith("kid/")}


def _done(run: Run) -> list[str]:
    """The places of what has to be undone, in the order in which it was done; a child may answer twice."""
    replies = [r.event for r in run.log if isinstance(r.event, ReplyCompleted) and not r.event.op]
    places = dict.fromkeys(reply.call.rpartition("/")[0] for reply in replies)
    return [place for place in places if not place.endswith("undo") and place != "last"]


def _judge_undone(run: Run, done: list[str]) -> None:
    calls = [r.event.call for r in run.log if isinstance(r.event, CallTool) and r.event.name == "undo"]
    undone = [call.removesuffix("/undo/undo:1") for call in calls]
    answered = {r.event.call for r in run.log if isinstance(r.event, ReplyCompleted)}
    if missing := set(calls) - answered:
        run.wrong.append(f"{missing} were not waited for")
    if undone != done[::-1]:
        run.wrong.append(f"did {done}, and undid {undone}")


async def _judge_outing(end: type[Event], run: Run) -> None:
    if not isinstance(last_end(run), end):
        run.wrong.append(f"ended as {last_end(run)}")
    calls = [r.event.call for r in run.log if isinstance(r.event, CallTool) and r.event.name == "undo"]
    if calls != [f"undo-undo:{n}/undo/undo:1" for n in (4, 3, 2, 1)]:
        run.wrong.append(f"undid {calls}")
    await prove(run)


def errand(word: Word, at: int) -> Piece:
    """A document that is told ``word`` at its ``at``-th event."""
    return Piece("errand", {}, lambda: Meddler(word, at), partial(_judge, word), stubborn=word in ("pause", ""))


def outing(*, cancelled: bool) -> Piece:
    """A function that fails, or is cancelled while it waits, and undoes what it did."""
    end = JobCancelled if cancelled else JobFailed
    word: Word = "cancel" if cancelled else "terminate"
    return Piece("outing", {"waits": cancelled}, lambda: Meddler(word, NEVER), partial(_judge_outing, end))
