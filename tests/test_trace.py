"""The trace of an agent says all that its log holds, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.agents.conversation import ModelStep
from actors.agents.run import RunRecord
from actors.agents.trace import Trace, trace_of
from actors.command_bodies.session import Session
from actors.command_bodies.trace import trace
from actors.console.page import plain_lines
from actors.console.trace_page import trace_page
from actors.model.message import Message, Part, Text, Thinking, ToolUse
from actors.model.model import ModelReply, Usage
from bus.embedded import EmbeddedServer
from bus.failure import Failure
from bus.messages import CallTool, Event, JobOwned, JobSubmitted, ReplyCompleted, ReplyFailed
from store.job_fold import fold_view
from store.log import Recorded
from tests.test_agent import app, run
from tests.troupe import troupe

AT = datetime(2026, 11, 21, tzinfo=UTC)
OUTCOMES = ("completed", "failed", "refused", "running")
uses = st.lists(st.tuples(st.sampled_from(["sql", "chart"]), st.sampled_from(OUTCOMES)), max_size=3)
turns = st.lists(st.tuples(st.integers(0, 2), uses, st.integers(0, 1000)), min_size=1, max_size=5)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def said(number: int, asked: list[tuple[str, str]], tokens: int) -> ModelStep:
    """What the model says in one turn."""
    parts: list[Part] = [Thinking(f"thought {number}"), Text(f"words {number}")]
    parts += [ToolUse(f"u{number}-{i}", tool, {"n": i}) for i, (tool, _) in enumerate(asked)]
    usage = Usage(input_tokens=tokens)
    reply = ModelReply(
        message=Message("assistant", tuple(parts)), stop="tool_use" if asked else "end_turn", usage=usage
    )
    return ModelStep(reply=reply, provider="p", model="m", usage=usage, cost_usd=0.5)


def events_of(script: list[tuple[int, list[tuple[str, str]], int]], branch: str) -> list[Event]:
    """The log that a run of these turns leaves: failures of the model, tools with their outcomes, tokens."""
    begun = raw(RunRecord(prompt="p", model="m"))
    events: list[Event] = [ReplyCompleted(job="j", call=f"{branch}run:1", op="run", output=begun)]
    models, gathers = 0, 0
    for number, (failures, asked, tokens) in enumerate(script):
        for _ in range(failures):
            models += 1
            failure = Failure(code="overloaded", message="busy")
            events.append(ReplyFailed(job="j", call=f"{branch}model:{models}", op="model", failure=failure))
        models += 1
        step = said(number, asked, tokens)
        events.append(ReplyCompleted(job="j", call=f"{branch}model:{models}", op="model", output=raw(step)))
        gathers += bool(asked)
        for index, (tool, outcome) in enumerate(asked):
            events += used(f"{branch}gather:{gathers}.{index}/", tool, outcome)
    return events


def used(place: str, tool: str, outcome: str) -> list[Event]:
    """One use of a tool."""
    if outcome == "refused":
        return [ReplyCompleted(job="j", call=f"{place}refused:1", op="local", output=raw({"reason": "no"}))]
    call = f"{place}{tool}:1"
    found: list[Event] = [CallTool(job="j", call=call, name=tool, version=1)]
    if outcome == "completed":
        found.append(ReplyCompleted(job="j", call=call, output=raw({"rows": 1})))
    elif outcome == "failed":
        found.append(ReplyFailed(job="j", call=call, failure=Failure(code="bad", message="worse")))
    return found


def traced(events: list[Event]) -> Trace:
    begun: list[Event] = [JobSubmitted(job="j", workflow="w", version="1.0.0"), JobOwned(job="j", host="h")]
    log = [Recorded(n, msgspec.structs.replace(event, at=AT)) for n, event in enumerate([*begun, *events], 1)]
    return trace_of(fold_view("default", log))


@given(turns, st.sampled_from(["", "gather:1.1/"]))
def test_a_trace_adds_up(script: list[tuple[int, list[tuple[str, str]], int]], branch: str) -> None:
    """Each turn with its failures, words and tools in their order, each with its outcome, and the sum of tokens."""
    found = traced(events_of(script, branch))
    (one,) = found.runs
    assert found.usage.tokens == sum(tokens for _, _, tokens in script)
    assert found.cost_usd == 0.5 * len(script)
    assert [len(turn.failures) for turn in one.turns] == [failures for failures, _, _ in script]
    assert [[(a.tool, a.state) for a in turn.actions] for turn in one.turns] == [asked for _, asked, _ in script]
    assert [turn.words for turn in one.turns] == [f"words {n}" for n in range(len(script))]
    assert msgspec.json.decode(msgspec.json.encode(found), type=Trace).usage == found.usage
    text = "\n".join(plain_lines(trace_page([(0, found)], whole=True)))
    assert all(f"thought {n}" in text for n in range(len(script)))


def test_what_fails_again_and_again_is_one_line() -> None:
    """A provider that is away for long fills no page."""
    found = traced(events_of([(6, [], 1)], ""))
    (told,) = [text for text in plain_lines(trace_page([(0, found)], whole=False)) if "could not be asked" in text]
    assert told.startswith("  1  the model could not be asked: ") and told.endswith(" (6 times)")


def test_runs_side_by_side_are_told_apart() -> None:
    """Two runs in the branches of a gather of the agent's own function, mixed in the log, are two traces."""
    first = events_of([(0, [("sql", "completed")], 1), (0, [], 2)], "gather:1.0/")
    second = events_of([(0, [("chart", "failed")], 10), (0, [], 20)], "gather:1.1/")
    mixed = [event for pair in zip(first, second, strict=True) for event in pair]
    found = traced(mixed)
    assert [[t.usage.tokens for t in one.turns] for one in found.runs] == [[1, 2], [10, 20]]
    assert [one.turns[0].actions[0].tool for one in found.runs] == ["sql", "chart"]


async def test_trace_of_real_jobs(nats_server: EmbeddedServer, capsys: pytest.CaptureFixture[str]) -> None:
    """What the command shows of a job whose agent had another agent work for it."""
    async with troupe(nats_server.url, app) as on:
        await run(on, "chief")
        await run(on, "judge")
        assert await trace(Session(nats=nats_server.url), "chief-1", whole=False, alone=False) == 0
        page = capsys.readouterr().out
        assert await trace(Session(nats=nats_server.url), "judge-1", whole=True, alone=True) == 0
        wrong = capsys.readouterr().out
        assert await trace(Session(nats=nats_server.url, json=True), "chief-1", whole=False, alone=False) == 0
        data = msgspec.json.decode(capsys.readouterr().out, type=list[Trace])
    assert [each.agent for each in data] == ["chief", "adder"]
    assert [action.observation for action in data[1].runs[0].turns[0].actions] == [3, 7]
    for said_there in (
        "chief chief-1  completed",
        'adder {"question":"what is it?"}',
        "  adder",
        'add {"a":1,"b":2}',
        "= 7",
    ):
        assert said_there in page
    assert "not run: there is no tool 'nothing'" in wrong and "answer: no JSON" in wrong
