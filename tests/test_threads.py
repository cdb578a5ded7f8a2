"""Conversations that go on over jobs: what is kept (pure), the store, and agents that go on with a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Agent, App, Context, UsageError
from actors.agents.trace import trace_of
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.console.page import plain_lines
from actors.console.trace_page import trace_page
from actors.context.summary import INSTRUCTIONS
from actors.listings.thread_page import thread_list_page, thread_page, thread_rows
from actors.locks.lock_store import lock_states
from actors.model.model import ModelRequest
from actors.model.scripted import Say
from actors.testing import ScriptedModel, replay, say, use
from actors.threads.thread import Exchange, Summary, Thread, added, check_thread, earlier_of, sealed, to_seal
from actors.threads.thread_store import LOAD_BYTES, ThreadStore, kept_seconds
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.objects import BlobMissing, Blobs
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from store.job_fold import fold_view
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 40
AT = datetime(2026, 11, 21, tzinfo=UTC)


def exchange(number: int, size: int = 5) -> Exchange:
    """One that can be told from the others."""
    return Exchange(id=f"j{number}/s:1", job=f"j{number}", agent="a", at=AT, prompt=f"q{number}", answer="x" * size)


# ---- what is kept, pure


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([5, 50_000, 250_000])), min_size=1, max_size=12))
def test_each_exchange_is_kept_once(adding: list[tuple[bool, int]]) -> None:
    """However often one is added, and whenever what is there is sealed: in order, each once, none too large."""
    thread: Thread | None = None
    blobs: dict[str, tuple[Exchange, ...]] = {}
    for number, (twice, size) in enumerate(adding):
        for _ in range(1 + twice):
            longer = added(thread, "t", exchange(number, size))
            if longer is not thread and (body := to_seal(longer)):
                blobs[f"{number}"] = longer.exchanges
                longer = sealed(longer, f"{number}", len(body))
            thread = longer
    assert thread is not None
    kept = [each for chunk in thread.sealed for each in blobs[chunk.sha256]] + list(thread.exchanges)
    assert [each.job for each in kept] == [f"j{n}" for n in range(len(adding))]
    assert thread.count == len(adding) and to_seal(thread) is None
    assert all(chunk.exchanges == len(blobs[chunk.sha256]) for chunk in thread.sealed)


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_run_begins_with_what_is_not_summed_up(count: int, summed_up: int, loaded: int) -> None:
    """Of the newest exchanges those that no summary stands for, and the number of those before them."""
    whole = tuple(exchange(n) for n in range(count))
    thread = Thread(name="t", began_at=AT, last_at=AT, last_agent="a", last_id="", count=count,
                    summary="s", summed_up=min(summed_up, count))  # fmt: skip
    newest = whole[count - min(loaded, count) :]
    earlier = earlier_of(thread, newest)
    expected = [each.prompt for n, each in enumerate(whole) if n >= thread.summed_up and each in newest]
    assert [prompt for prompt, _ in earlier.exchanges] == expected
    assert earlier.first + len(expected) == count


def test_a_summary_stands_for_what_was_there() -> None:
    """It is kept with the exchange of the run that wrote it, unless the thread was begun anew meanwhile."""
    thread = added(added(None, "t", exchange(1)), "t", exchange(2))
    longer = added(thread, "t", exchange(3), Summary("s", 2))
    assert (longer.summary, longer.summed_up) == ("s", 2)
    assert added(None, "t", exchange(3), Summary("s", 2)).summary == ""
    assert added(added(None, "t", exchange(4)), "t", exchange(3), Summary("s", 2)).summary == ""


def test_names_and_settings_that_cannot_be() -> None:
    """Refused, with what would be right."""
    for wrong in ("", " ", 7, "x" * 501):
        with pytest.raises(UsageError, match="thread"):
            check_thread(wrong)
    assert (kept_seconds({}), kept_seconds({"CALLBOARD_THREAD_KEPT_S": "0"})) == (90 * 86_400, 0)
    with pytest.raises(UsageError, match="CALLBOARD_THREAD_KEPT_S is 'a day'"):
        kept_seconds({"CALLBOARD_THREAD_KEPT_S": "a day"})


# ---- the store


@pytest.fixture
async def bus(nats_server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A connection, with the streams there."""
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as found:
        await ensure_streams(found)
        yield found


async def test_a_long_thread_lies_in_the_object_store(bus: Bus) -> None:
    """All of it is shown, a run begins with the newest part, and what is forgotten is gone from both places."""
    store, blobs = ThreadStore(bus, Blobs(bus), "default"), Blobs(bus)
    for number in range(12):
        again = exchange(number, 120_000)
        assert await store.add("a long ünd winding.name", again) == number + 1
        assert await store.add("a long ünd winding.name", again) == number + 1
    whole = await store.whole("a long ünd winding.name")
    assert [each.job for each in whole.exchanges] == [f"j{n}" for n in range(12)] and len(whole.sealed) == 6
    earlier = await store.earlier("a long ünd winding.name")
    assert earlier.first + len(earlier.exchanges) == 12 and 0 < earlier.first < 6
    assert sum(len(answer) for _, answer in earlier.exchanges) <= LOAD_BYTES
    assert [thread.name for thread in await store.all()] == ["a long ünd winding.name"]
    await store.forget("a long ünd winding.name")
    assert not await store.all() and not (await store.earlier("a long ünd winding.name")).exchanges
    with pytest.raises(BlobMissing):
        await blobs.get(whole.sealed[0].sha256)
    with pytest.raises(UsageError, match="no thread"):
        await store.forget("a long ünd winding.name")
    assert await store.add("a long ünd winding.name", exchange(1)) == 1


async def test_a_thread_that_nobody_uses_goes(bus: Bus) -> None:
    """So long after its last exchange as the setting says."""
    store = ThreadStore(bus, Blobs(bus), "default", kept_s=1)
    await store.add("short", exchange(1))
    await ThreadStore(bus, Blobs(bus), "default", kept_s=0).add("kept", exchange(1))

    async def is_gone() -> bool:
        return [thread.name for thread in await store.all()] == ["kept"]

    await wait_until(is_gone, DEADLINE_S)


# ---- agents

app = App("threads", version="1.0.0")
GATE = asyncio.Event()


def words_of(request: ModelRequest) -> list[str]:
    """What was said, message for message."""
    return [message.text for message in request.messages]


def answering(request: ModelRequest) -> Say:
    """Says how many messages it was told, after a tool if the prompt asks for one."""
    if request.system == INSTRUCTIONS:
        return say("They greeted.")
    last = request.messages[-1]
    if last.text == "wait":
        return use("gate", {})
    if last.text == "refuse":
        return say("", stop="refusal")
    return say(f"told {len(request.messages)}")


@app.tool
async def gate() -> str:
    """Wait until the test says so."""
    await GATE.wait()
    return "open"


FIRST, SECOND, BRIEF = ScriptedModel(answering), ScriptedModel(answering), ScriptedModel(answering)


@app.agent(model=FIRST, tools=[gate])
async def first(agent: Agent, prompt: str, thread: str | None = "t-1") -> str:
    """Goes on with a thread."""
    return await agent.run(prompt, thread=thread)


@app.agent(model=SECOND)
async def second(agent: Agent, prompt: str) -> list[str]:
    """Takes the thread over, and goes on with it twice."""
    one, two = await agent.gather(
        agent.run(prompt, output=str, thread="t-1"), agent.run("too", output=str, thread="t-1")
    )
    return [one, two]


@app.agent(model=BRIEF, context=Context(limit_tokens=120, policy="summarise", keep_turns=1))
async def brief(agent: Agent, prompt: str) -> str:
    """Has little room."""
    return await agent.run(prompt, thread="t-2")


async def ask(on: Troupe, agent: str, job: str, prompt: str, **more: Any) -> Any:
    """Submit, and wait for the result."""
    await on.submit(agent, job, {"prompt": prompt, **more})
    return await Client(on.bus).result(job, timeout_s=DEADLINE_S)


async def test_a_conversation_goes_on_over_jobs(nats_server: EmbeddedServer) -> None:
    """Each run is told what was said before, by whichever agent, turns never mix, and a replay is told the same."""
    async with troupe(nats_server.url, app) as on:
        client = Client(on.bus)
        assert await ask(on, "first", "j1", "hello") == "told 1"
        assert await ask(on, "first", "j2", "again") == "told 3"
        assert words_of(FIRST.requests[-1]) == ["hello", "told 1", "again"]
        assert await ask(on, "first", "alone", "hello", thread=None) == "told 1"
        with pytest.raises(JobFailedError, match="refused"):
            await ask(on, "first", "j3", "refuse")

        await on.submit("first", "j4", {"prompt": "wait"})
        await on.submit("second", "j5", {"prompt": "me"})

        async def waits() -> bool:
            states = await lock_states(on.bus, "default")
            return any(state.name == "thread-t-1" and len(state.queue) == 2 for state in states)

        await wait_until(waits, DEADLINE_S)
        assert not SECOND.requests
        GATE.set()
        assert sorted(await client.result("j5", timeout_s=DEADLINE_S)) == ["told 7", "told 9"]
        thread = await client.threads.get("t-1")
        assert [(each.job, each.answer) for each in thread.exchanges] == [
            ("j1", "told 1"), ("j2", "told 3"), ("j4", "told 7"), ("j5", "told 7"), ("j5", "told 9"),
        ]  # fmt: skip
        log = await on.events("j4")
        asked = len(FIRST.requests)
        (await replay(first, log)).check()
        assert len(FIRST.requests) == asked and (await client.threads.get("t-1")).count == 5
        shown = "\n".join(plain_lines(trace_page([(0, trace_of(fold_view("j4", log)))], whole=False)))
        assert "on t-1 after 2 exchanges" in shown
        page = "\n".join(plain_lines([*thread_page(thread, AT), *thread_list_page(thread_rows([thread]), AT)]))
        assert "> hello" in page and "told 9" in page and "1 thread" in page
        with pytest.raises(JobFailedError, match="no name of a thread"):
            await ask(on, "first", "j6", "hello", thread="")


async def test_a_thread_keeps_its_summary(nats_server: EmbeddedServer) -> None:
    """What a run has summed up the next one is told as a summary: it is not summed up, and paid for, again."""
    async with troupe(nats_server.url, app) as on:
        for number in range(6):
            await ask(on, "brief", f"b{number}", f"hello {number} " + "and so on " * 6)
        thread = await Client(on.bus).threads.get("t-2")
        assert thread.count == len(thread.exchanges) == 6
        assert thread.summary == "They greeted." and 1 < thread.summed_up < 6
        summaries = [request for request in BRIEF.requests if request.system == INSTRUCTIONS]
        told = "\n".join(request.messages[0].text for request in summaries)
        assert [told.count(f"User: hello {n} ") for n in range(thread.summed_up)] == [1] * thread.summed_up
        assert "They greeted." in words_of(BRIEF.requests[-1])[-1]
        page = "\n".join(plain_lines(thread_page(thread, AT)))
        assert f"the first {thread.summed_up} are told to agents as a summary" in page
        assert msgspec.json.decode(msgspec.json.encode(thread), type=Thread) == thread
