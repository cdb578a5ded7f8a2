"""Supervision costs the success path of a call no message: every message that the server handles is counted."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from pathlib import Path

from bus.connection import Bus, Message
from bus.embedded import EmbeddedServer
from bus.options import ConnectOptions
from bus.subjects import live, parse_event
from tests.nodes import town
from tests.stage import Stage, stage
from tests.waiting import wait_until

APP = "tests.apps.counted:app"
# All that a job with one call needs, without any supervision. Each append is three messages: to the server, its
# answer, and the event republished; a delivery is one, its ack another.
ONE_JOB = Counter(
    {
        "request": 1,
        "request delivered": 1,
        "append job.submitted": 1,
        "append job.owned": 1,
        "append call.tool.plus.v1": 1,
        "call.tool.plus.v1 delivered": 1,
        "append reply.completed": 1,
        "append job.completed": 1,
        "event job.submitted": 1,
        "event job.owned": 1,
        "event call.tool.plus.v1": 1,
        "event reply.completed": 1,
        "event job.completed": 1,
        "answer to a publish": 6,
        "ack of EVENTS": 1,
        "ack of JOBS": 1,
    }
)
MESSAGES_A_JOB = 21
# These follow the clock, or how much a mailbox asks for at once; none of them is allowed to follow the calls.
BY_THE_CLOCK = {"heartbeat", "status of a pull", "lease kept", "bucket looked at"}
JOBS = 60


class Spy:
    """Everything that the server hands out while it listens, each message as what it is for."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def hear(self, msg: Message) -> None:
        """Count one message."""
        self.seen[what_it_is(msg)] += 1


def what_it_is(msg: Message) -> str:
    """The purpose of a message, without the names of jobs and inboxes; its subject if the purpose is unknown."""
    is_delivery = msg.reply.startswith("$JS.ACK.")
    match msg.subject.split("."):
        case ["jobs", *_]:
            return "request delivered" if is_delivery else "request"
        case ["log", _, _, *kind]:
            return f"{'.'.join(kind)} delivered" if is_delivery else f"append {'.'.join(kind)}"
        case ["events", _, _, *kind]:
            return f"event {'.'.join(kind)}"
        case ["$JS", "ACK", stream, *_]:
            return "lease kept" if msg.data == b"+WPI" else f"ack of {stream}"
        case ["$JS", "API", "CONSUMER", "MSG", "NEXT", *_]:
            return "pull"
        case ["$JS", "API", "STREAM", "INFO", _]:
            return "bucket looked at"
        case ["$JS", "API", "DIRECT", "GET", stream] if stream.startswith("KV_"):
            return "bucket looked at"
        case ["_INBOX", *_] if b"stream_info_response" in msg.data[:100]:
            return "bucket looked at"
        case ["_INBOX", *_] if msg.data.startswith(b'{"stream":'):
            return "answer to a publish"
        case ["_INBOX", *_] if msg.headers and not msg.data:
            return "status of a pull"
        case ["hb", *_]:
            return "heartbeat"
    return f"{msg.subject} {msg.data[:80]!r}"


async def run_jobs(on: Stage, spy: Spy, name: str, jobs: int) -> Counter[str]:
    """Run jobs one after the other, with no reading of logs; what was seen until all of them were acknowledged."""
    ended: set[str] = set()

    def note(msg: Message) -> None:
        ended.add(parse_event(msg.subject).job)

    ends = await on.bus.subscribe(live("*", "*", "job.completed"), note)
    await on.bus.settle()
    spy.seen.clear()
    for number in range(jobs):
        await on.submit("one", f"{name}-{number}", {"n": number})
        await wait_until(lambda number=number: f"{name}-{number}" in ended, 30)  # type: ignore[misc]
    await wait_until(lambda: spy.seen["ack of JOBS"] >= jobs and spy.seen["ack of EVENTS"] >= jobs, 30)
    await ends.unsubscribe()
    return Counter(spy.seen)


async def test_a_call_that_succeeds_costs_no_message_of_supervision(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """The messages of sixty jobs are sixty times the pinned list, plus a few that follow the clock."""
    assert ONE_JOB.total() == MESSAGES_A_JOB
    spy = Spy()
    async with (
        stage(nats_server.url, tmp_path, APP) as on,
        await Bus.connect(ConnectOptions(servers=[nats_server.url]), name="spy") as listener,
    ):
        await listener.subscribe(">", spy.hear)
        await listener.settle()
        await settled(on, spy)
        began_s = time.monotonic()
        seen = await run_jobs(on, spy, "counted", JOBS)
        took_s = time.monotonic() - began_s
    pulls = seen.pop("pull", 0)
    rest = Counter({what: seen.pop(what, 0) for what in BY_THE_CLOCK})
    assert seen == Counter({what: JOBS * times for what, times in ONE_JOB.items()})
    assert pulls <= 2 * JOBS, "a mailbox asks at most once for each message that it was given"
    actors = len(on.supervisor.statuses())
    assert rest.total() <= 5 * actors * (took_s + 1), rest


async def test_the_same_on_a_whole_node(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """With watch, courier, gateway and duties about: what is for a job is as pinned, and the rest follows the clock."""
    spy = Spy()
    async with (
        town(nats_server.url, tmp_path) as on,
        await Bus.connect(ConnectOptions(servers=[nats_server.url]), name="spy") as listener,
    ):
        on.env["CALLBOARD_SWEEP_S"] = "600"  # a look at all jobs reads each of them, whenever it comes
        node = await on.node("n1", target=APP)
        await listener.subscribe(">", spy.hear)
        await listener.settle()
        await settled(on, spy)
        began_s = time.monotonic()
        seen = await run_jobs(on, spy, "whole", JOBS)
        took_s = time.monotonic() - began_s
        actors = len(await node.actors())
    of_jobs = {what: seen.pop(what, 0) for what in ONE_JOB}
    # Others publish too, some times a second at most: the leader its lease, whoever is asked an answer.
    answers = of_jobs.pop("answer to a publish")
    assert 0 <= answers - JOBS * ONE_JOB["answer to a publish"] <= 2 * (took_s + 1)
    assert of_jobs == {what: JOBS * times for what, times in ONE_JOB.items() if what != "answer to a publish"}
    assert seen.pop("pull", 0) <= 2 * JOBS
    assert seen.total() <= 6 * actors * (took_s + 1), seen


async def settled(on: Stage, spy: Spy) -> None:
    """Wait until the actors have stopped to ask the log whether something happened before they started."""
    numbers = itertools.count()

    async def reads_nothing() -> bool:
        seen = await run_jobs(on, spy, f"first-{next(numbers)}", 1)
        return not any("$JS.API.DIRECT.GET" in what or "$KV" in what for what in seen)

    await wait_until(reads_nothing, 30, what="a job without a read of the log")
