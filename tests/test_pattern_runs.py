"""The workflow control-flow patterns on a real server, all documents of ``examples/patterns`` at the same time."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec

from actors import App
from actors.interpreter.component import workflow_component
from bus.embedded import EmbeddedServer
from bus.messages import CallJob, CallTool, Ended, Event, JobCancelled, JobCompleted, ReplyCompleted
from tests.pattern_play import files, pattern
from tests.troupe import Troupe, check_decisions, troupe
from tests.waiting import wait_until

app = App("patterns")
# What reviewers say, who are asked by one document each; all others find everything good.
SAID = {"editor": deque(["rewrite"]), "lawyer": deque(["edit", "rewrite"]), "publisher": deque(["rewrite"])}
LINKS = {"home": ["a", "b"], "a": ["c"]}


@app.tool
async def pick(item: str) -> str:
    """Gives the item."""
    return item


@app.tool
async def pay(how: str) -> str:
    """Gives how."""
    return how


@app.tool
async def notify(who: str) -> str:
    """Gives who."""
    return who


@app.tool
async def review(by: str) -> str:
    """What the reviewer says."""
    said = SAID.get(by)
    return said.popleft() if said else "good"


@app.tool
async def links(page: str) -> list[str]:
    """The pages that one leads to."""
    return LINKS.get(page, [])


@app.tool(concurrency=50)
async def quote(supplier: str) -> int:
    """A price; one supplier never answers."""
    if supplier == "never":
        await asyncio.Event().wait()
    return 70


@dataclass(frozen=True)
class Live:
    """A run: ``result``, and what its log has to have.

    ``script``: signals that are sent (``name`` or ``name=data``), one after the other; ``?place`` waits until something
    at that place has an outcome. ``times``: how often a tool or job was called at a place. ``after``: the call at the
    first place comes after the outcome at the second. ``alone``: of these places no two were out at the same time.
    """

    result: Any = None
    given: dict[str, Any] = field(default_factory=dict)
    script: tuple[str, ...] = ()
    times: dict[str, int] = field(default_factory=dict)
    after: tuple[tuple[str, str], ...] = ()
    alone: tuple[str, ...] = ()


ASKED = {"suppliers": ["north", "never", "south"]}
LIVE = {
    1: Live("customer", after=(("pay", "pick"), ("tell", "pay"))),
    2: Live(["card", "carrier"], after=(("pay", "pick"), ("carrier", "pick"))),
    3: Live("customer", after=(("tell", "pick"), ("tell", "pay"))),
    4: Live(["transfer", None], {"total": 2000}, times={"transfer": 1, "card": 0}),
    5: Live("customer", {"total": 2000}, times={"tell": 1, "card": 0}, after=(("tell", "transfer"),)),
    6: Live(["skipped", "completed"], {"total": 1, "gift": True}, times={"boss": 0, "wrap": 1}),
    7: Live("carrier", {"gift": True, "insured": False}, times={"insure": 0}, after=(("ship", "wrap"),)),
    8: Live(["letter", "phone"], {"channels": ["letter", "phone"]}, times={"threads.0/book": 1, "threads.1/book": 1}),
    9: Live("buyer", times={"days.0/first": 1, "days.1/first": 1, "days.2/north": 0},
            after=(("days.1/north", "days.0/north"), ("days.1/north", "days.0/south"))),
    10: Live("readers", times={"write": 3, "editor": 4, "lawyer": 3, "publish": 1}),
    11: Live(["completed"] * 3, times={"carrier": 1, "customer": 1, "pay": 1}),
    12: Live("card", {"subscribers": ["ann", "bob"]}, times={"tell.0/one": 1, "tell.1/one": 1}),
    13: Live(["good"] * 3, after=tuple(("tell", f"reviews.{number}/one") for number in range(3))),
    14: Live(["a", "b"], {"lines": ["a", "b"]}, after=(("tell", "lines.0/pick"), ("tell", "lines.1/pick"))),
    15: Live(["home", "a", "b", "c"], {"page": "home"}, after=tuple(("tell", f"pages.{n}/visit") for n in range(4))),
    16: Live(["skipped", "completed", "skipped"], script=("decline",), times={"pay": 0, "remind": 0}),
    17: Live("doctor", alone=("blood", "scan", "eyes"), after=(("scan", "blood"), ("tell", "eyes"))),
    18: Live("completed", script=("change", "paid", "?change/", "change", "?apply/", "packed"), times={"apply": 1}),
    19: Live(["cancelled", "completed", "completed"], script=("?pay/", "found"), times={"search": 1, "tell": 1}),
    20: Live(script=("?pay/", "cancel"), times={"pay": 2, "tell": 0}),
    21: Live({"rounds": 1, "picked": 2}, {"n": 2}, times={"while.0/pick": 1, "while.1/pick": 1, "while.2/pick": 0}),
    22: Live({"sum": 6}, {"n": 3}, times={"rest": 1}),
    23: Live("late", script=("ring=early", "open", "?rings/", "ring=late")),
    24: Live("early", script=("letter=early", "open", "?reads/", "letter=late")),
    25: Live(["cancelled"] * 3 + ["completed"], script=("?pay/", "content"), times={"search": 1, "compare": 0}),
    26: Live(["cancelled", "completed"], ASKED, ("?ask.0/", "?ask.2/", "withdraw"), times={"ask.1/one": 1, "tell": 1}),
    27: Live([70, 70], ASKED, ("?ask.0/", "?ask.2/", "enough"), times={"ask.1/one": 1, "tell": 1}),
    28: Live("done", script=("smoke", "smoke", "?alarms.0/alarm/", "heat", "heat"),
             times={"alarms.0/alarm": 1, "alarms.1/alarm": 1}, after=(("alarms.1/alarm", "alarms.0/heat"),)),
    29: Live({"small": "completed", "large": "cancelled"}, times={"large_draft": 1, "large_check": 0, "tell": 1}),
    30: Live(["completed"] * 3 + ["buyer"], times={"two": 1}),
    31: Live("done", script=("smoke", "smoke", "heat", "?alarms.0/alarm/", "gas", "heat", "gas"),
             times={"alarms.0/alarm": 1, "alarms.1/alarm": 1}, after=(("alarms.1/alarm", "alarms.0/gas"),)),
    32: Live(["completed", "completed", "cancelled"], times={"east": 1, "customs": 0, "tell": 1}),
    33: Live("done", script=("left", "left", "right", "?pairs.0/sell/", "right"),
             times={"pairs.0/sell": 1, "pairs.1/sell": 1}),
    34: Live(2, {"reviewers": ["ann", "bob", "cid"]}, times={f"votes.{n}/vote": 1 for n in range(3)} | {"tell": 1}),
    35: Live(["north", "south"], ASKED, times={"asked.1/ask": 1, "tell": 1}),
    36: Live([70], {"suppliers": ["never"] * 3, "good": 80}, ("joins=north",), times={"bids.3/ask": 1}),
    37: Live("carrier", {"gift": False, "abroad": True}, times={"wrap": 0},
             after=(("label", "customs"), ("ship", "duty"))),
    38: Live("printer", {"pictures": True}, times={"write": 2, "print": 1}, after=(("print", "draw"),)),
    39: Live("done", alone=("bills", "coins", "fetch", "put")),
    40: Live("doctor", alone=("blood", "scan", "eyes")),
    41: Live("driver", times={"tell": 1}, after=tuple(("tell", f"wheels.{number}/check") for number in range(4))),
    42: Live(["completed"] * 3, {"wheels": [1, 2, 3]}, times={f"wheels.{number}/check": 1 for number in range(3)}),
    43: Live({"price": 70}, times={"late": 1, "tell": 0}),
}  # fmt: skip

for number in files():
    app.components.append(workflow_component(pattern(number), app="patterns"))


async def _run(on: Troupe, number: int) -> None:
    live, name = LIVE[number], pattern(number).name
    job = f"p{number}-{os.urandom(4).hex()}"
    await on.submit(name, job, live.given)
    for line in live.script:
        if line.startswith("?"):
            await _outcome_at(on, job, line[1:])
        else:
            signal, _, data = line.partition("=")
            await on.signal(name, job, signal, msgspec.json.encode(data or None))
    end = await on.end(job, deadline_s=150)
    recorded = await on.events(job)
    check_decisions(recorded)
    _check_end(number, end, live)
    _check_log(number, [each.event for each in recorded], live)


async def _outcome_at(on: Troupe, job: str, place: str) -> None:
    async def is_there() -> bool:
        events = [each.event for each in await on.events(job)]
        return any(isinstance(event, ReplyCompleted) and event.call.startswith(place) for event in events)

    await wait_until(is_there, deadline_s=120, what=f"something at {place} of {job}")


def _check_end(number: int, end: Ended, live: Live) -> None:
    if number == 20:
        assert isinstance(end, JobCancelled), end
        return
    assert isinstance(end, JobCompleted), (number, end)
    assert msgspec.json.decode(end.output) == live.result, number


def _check_log(number: int, events: list[Event], live: Live) -> None:
    calls = [(at, e.call) for at, e in enumerate(events) if isinstance(e, CallTool | CallJob)]
    ends = [(at, e.call) for at, e in enumerate(events) if isinstance(e, ReplyCompleted)]
    times = Counter(call.rpartition("/")[0].removesuffix("/undo") for _, call in calls)
    assert {place: times[place] for place in live.times} == live.times, number
    for later, earlier in live.after:
        begun = next(at for at, call in calls if call.startswith(f"{later}/"))
        over = next(at for at, call in ends if call.startswith(f"{earlier}/"))
        assert over < begun, (number, earlier, later)
    spans = sorted((at, next(over for over, other in ends if other == call))
                   for at, call in calls if call.partition("/")[0] in live.alone)  # fmt: skip
    assert len(spans) == len(live.alone)
    assert all(one[1] < other[0] for one, other in pairwise(spans)), number


async def test_the_older_of_two_signals_decides(server: EmbeddedServer) -> None:
    """Signals that came while no host had the job are taken up in the log's order, not in that of the steps."""
    name = pattern(16).name
    async with troupe(server.url, app, park_after_s=0.2) as on:
        for signals, chosen in ((("decline", "accept"), 1), (("accept", "decline"), 0)):
            job = f"race-{os.urandom(4).hex()}"
            await on.submit(name, job, {})
            await on.parked(job)
            await on.signal(name, job, signals[0], wake=False)
            await on.signal(name, job, signals[1])
            end = await on.end(job, deadline_s=60)
            assert isinstance(end, JobCompleted), end
            assert msgspec.json.decode(end.output)[chosen] == "completed", signals


async def test_all_patterns_on_a_server(server: EmbeddedServer) -> None:
    """Each document comes to the result that its pattern promises, and its log shows the order that it promises."""
    async with troupe(server.url, app, park_after_s=1.0) as on:
        await asyncio.gather(*(_run(on, number) for number in LIVE))
