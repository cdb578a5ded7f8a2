"""The piece ``everything``: who answers it, and what it has to come to."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import msgspec

from bench.chaos.house import House
from bench.chaos.proof import last_end, prove
from bench.chaos.rehearsal import Piece, Run
from bus.approval_events import ApprovalAsked
from bus.messages import (
    CallJob,
    Emitted,
    Ended,
    Event,
    JobCancelled,
    JobCompleted,
    JobWaiting,
    ReplyCompleted,
)

WORD = "abracadabra"
RESULT = {
    "numbers": [3, 6, 6, 3, 10, 3],
    "states": ["failed", "failed", "failed", "cancelled"],
    "asked": 17,
    "word": WORD,
}


class People:
    """Answer what the job asks, each thing once, also if a second host asks it again."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, at: House, event: Event) -> Coroutine[Any, Any, object] | None:
        """What is to be done about an event."""
        match event:
            case ApprovalAsked():
                return self._once("ask", lambda: at.client.approve(event.job, event.call, by="ann", edit={"n": 17}))
            case ReplyCompleted(call="word/signal-word:1/from"):
                return self._once("word", lambda: at.client.signal(event.job, "word", WORD))
            case JobWaiting(on=on) if any(key.startswith("parks/") for key in on):
                return self._once("go", lambda: at.client.signal(event.job, "go"))
            case _:
                return None

    def _once(self, what: str, say: Any) -> Coroutine[Any, Any, object] | None:
        if what in self._said:
            return None
        self._said.add(what)
        return say()  # type: ignore[no-any-return]


async def judge(run: Run) -> None:
    """Same result, choices that stand, children that ended as they should, and all that holds for every run."""
    end = last_end(run)
    if not isinstance(end, JobCompleted):
        run.wrong.append(f"ended as {end}")
        return
    result = msgspec.json.decode(end.output)
    if {key: result[key] for key in RESULT} != RESULT:
        run.wrong.append(f"gave {result}")
    _judge_choices(run, result)
    _judge_children(run)
    await prove(run, twice=("first/shaky:1",))


def _judge_choices(run: Run, result: dict[str, Any]) -> None:
    """What was told of a choice when it was made is what the result says of it."""
    told = {r.event.name: msgspec.json.decode(r.event.data) for r in run.log if isinstance(r.event, Emitted)}
    if told["noted"]["at"] != result["at"] or told["won"]["who"] != result["race"]:
        run.wrong.append(f"told {told}, and gave {result}")
    if result["race"].count("completed") != 1 or len(result["each"]) != 3:
        run.wrong.append(f"not one has won: {result}")


def _judge_children(run: Run) -> None:
    """Those that are given up are cancelled."""
    for child, log in run.children.items():
        call = next(r.event.call for r in run.log if isinstance(r.event, CallJob) and r.event.child == child)
        end = next((r.event for r in log if isinstance(r.event, Ended)), None)
        if not isinstance(end, JobCancelled if "lost" in call else JobCompleted):
            run.wrong.append(f"child of {call} ended as {end and end.kind}")


EVERYTHING = Piece("everything", {"n": 2}, People, judge)
