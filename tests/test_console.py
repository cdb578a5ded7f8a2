"""What the command line shows, as text: for terminals and for pipes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.components.agent_card import AgentCard
from actors.components.component import ComponentInfo
from actors.console import amount
from actors.console.component_page import ComponentRow, component_page, schema_page
from actors.console.event_line import event_json, event_line
from actors.console.job_page import Axis, bar, job_page
from actors.console.node_page import actor_page, node_page
from actors.console.page import Column, Line, Page, Sheet, Span, clean, display_width, line, one_line, plain_lines
from actors.console.result_page import heading, result_page
from actors.console.screen import Screen
from bus.event import Parent
from bus.failure import Failure
from bus.messages import (
    CallTool,
    Event,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobRejected,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
    ReplyProgress,
    ReplyRetrying,
    Signal,
    decode,
)
from store.job_fold import fold_view
from store.log import Recorded
from store.tail import Followed, Unread
from store.view import JobView
from supervisor.child import ChildStatus, GivenUp
from tests.strategies import events, json_values

T0 = datetime(2026, 1, 2, 12, tzinfo=UTC)
ESCAPE = "\x1b[31mred\x1b[0m\x07"
BOOM = Failure(
    code="error", message="ValueError: boom", traceback="Traceback (most recent call last):\n  File x\nboom\n"
)


def at(after_s: float) -> datetime:
    """The instant that many seconds after the start."""
    return T0 + timedelta(seconds=after_s)


def text_of(page: Page) -> str:
    """A page as a pipe gets it."""
    return "\n".join(plain_lines(page))


def shown(event: Event, **options: Any) -> str:
    """The line of an event in workspace shop, in UTC."""
    return event_line(Followed(7, event, "shop"), zone=UTC, **options).plain.rstrip()


# ---- amounts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (0, "0 s"), (0.0000123, "12 us"), (0.0123, "12 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"),
        (9.94, "9.9 s"), (9.96, "10 s"), (59.94, "60 s"), (59.96, "1m00s"), (245, "4m05s"),
        (3599.7, "1h00m"), (7384, "2h03m"),
        (86_400 * 5 + 7_300, "5d02h"), (-2, "-2.0 s"), (float("inf"), "for ever"), (float("nan"), ""),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    """A duration has two or three digits and a unit."""
    assert amount.duration(seconds) == text


@given(st.floats(0, 1e12))
def test_durations_never_break(seconds: float) -> None:
    """Any duration fits a column."""
    assert 0 < len(amount.duration(seconds)) <= 14


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 KB"),
        (4200, "4.2 KB"),
        (310e6, "310 MB"),
        (5e18, "5000 PB"),
        (-1, "no limit"),
    ],
)
def test_sizes(value: float | None, text: str) -> None:
    """Sizes go in steps of a thousand."""
    assert amount.size(value) == text


def test_counts_and_plurals() -> None:
    """Thousands are apart, fractions short, and one call is no calls."""
    assert [amount.count(n) for n in (0, 1234567, 2.0, 1.23456, 1e-9, float("inf"))] == [
        "0", "1,234,567", "2", "1.235", "1e-09", "inf",
    ]  # fmt: skip
    assert (amount.plural(1, "call"), amount.plural(2000, "call")) == ("1 call", "2,000 calls")
    assert amount.plural(2, "reply", "replies") == "2 replies"


def test_instants() -> None:
    """A tail shows the time of day, a page the date, and both may be told as ago."""
    assert amount.clock(at(1.5), UTC) == "12:00:01.500"
    assert amount.instant(at(0), UTC) == "2026-01-02 12:00:00"
    assert (amount.ago(at(0), at(65)), amount.ago(at(65), at(0)), amount.ago(None, at(0))) == (
        "1m05s ago",
        "in 1m05s",
        "",
    )


# ---- text from elsewhere


@given(st.text())
def test_no_text_can_control_the_terminal(text: str) -> None:
    """Whatever came over the wire, what is shown is printable and in one line."""
    assert one_line(text, 500).isprintable()
    assert all(part.isprintable() for part in clean(text).split("\n"))


def test_what_is_cut_says_so() -> None:
    """Escapes become visible, line breaks blanks, and long text ends in an ellipsis."""
    assert one_line(ESCAPE) == "\\x1b[31mred\\x1b[0m\\x07"
    assert one_line("a\n  b\t c\r\n") == "a b c"
    assert one_line("x" * 300, 10) == "x" * 9 + "…"
    assert one_line("\u202eevil") == "\\u202eevil"


def test_columns_of_wide_letters_line_up() -> None:
    """Letters that take two columns are counted so."""
    assert (display_width("abc"), display_width("日本"), display_width("e\u0301")) == (3, 4, 1)
    sheet = Sheet((Column("name"), Column("n", "right")), ((Span("日本"), Span("1")), (Span("abcde"), Span("22"))))
    assert plain_lines([sheet]) == ["name    n", "日本    1", "abcde  22"]


# ---- tail


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            JobSubmitted(job="j1", at=T0, workflow="order", version="1.2.0", input=msgspec.Raw(b'{"sku": "A1"}')),
            'j1                 job.submitted    order 1.2.0 {"sku": "A1"}',
        ),
        (JobOwned(job="j1", at=T0, host="n1/host-1"), "j1                 job.owned        by n1/host-1"),
        (JobWaiting(job="j1", at=T0, on=("signal.ok",)), "j1                 job.waiting      for signal.ok"),
        (JobCompleted(job="j1", at=T0), "j1                 job.completed"),
        (JobFailed(job="j1", at=T0, failure=BOOM), "j1                 job.failed       ValueError: boom"),
        (
            JobRejected(
                job="j1", at=T0, workflow="ordr",
                failure=Failure(code="unknown_workflow", message="no workflow 'ordr'", hint="did you mean order?"),
            ),
            "j1                 job.rejected     ordr unknown_workflow: no workflow 'ordr' (did you mean order?)",
        ),
        (
            CallTool(job="j1", at=T0, call="quote:1", name="quote", version=2, input=msgspec.Raw(b"{}")),
            "j1                 call.tool        quote v2 quote:1 {}",
        ),
        (
            ReplyCompleted(job="j1", at=T0, call="quote:1", duration_s=0.0123, attempt=2, output=msgspec.Raw(b"7")),
            "j1                 reply.completed  quote:1 12 ms attempt 2 7",
        ),
        (
            ReplyFailed(job="j1", at=T0, call="quote:1", failure=BOOM, duration_s=3),
            "j1                 reply.failed     quote:1 3.0 s ValueError: boom",
        ),
        (
            ReplyRetrying(job="j1", at=T0, call="quote:1", attempt=1, failure=BOOM, delay_s=0.5),
            "j1                 reply.retrying   quote:1 attempt 1 failed, again in 500 ms: ValueError: boom",
        ),
        (
            ReplyProgress(job="j1", at=T0, call="quote:1", attempt=1, done=1500, total=3000, note="files"),
            "j1                 reply.progress   quote:1 1,500 of 3,000 files",
        ),
        (Signal(job="j1", at=T0, name="approve", by="ann"), "j1                 signal           approve by ann"),
    ],
)  # fmt: skip
def test_an_event_is_one_line_with_its_essentials(event: Event, expected: str) -> None:
    """Time, job, kind, and what one wants to know about that kind."""
    assert shown(event, workspace="shop") == f"12:00:00.000  {expected}".rstrip()


def test_the_workspace_is_told_where_there_are_many() -> None:
    """A tail over all workspaces says whose job it is."""
    assert "  shop/j1  " in shown(JobOwned(job="j1", at=T0, host="h"))


@given(events)
def test_every_event_has_a_line_and_a_json_line(event: Event) -> None:
    """No event of any content breaks the tail; the JSON line holds the event itself and its place."""
    text = shown(event)
    assert text.isprintable()
    assert str(event.__struct_config__.tag) in text
    json_text = event_json(Followed(7, event, "shop"))
    assert "\n" not in json_text
    told = json.loads(json_text)
    assert (told["sequence"], told["workspace"], told["kind"]) == (7, "shop", event.kind)
    assert decode(json_text.encode()) == event


def test_a_pretty_printed_input_stays_in_its_line() -> None:
    """JSON may hold line breaks between its tokens."""
    event = JobSubmitted(job="j", workflow="w", version="1", input=msgspec.Raw(b'{\n  "a": "x\\ny"\r\n}'))
    assert json.loads(event_json(Followed(1, event, "shop")))["input"] == {"a": "x\ny"}
    assert "\n" not in event_json(Followed(1, event, "shop"))


def test_a_long_value_is_cut_without_reading_it_all() -> None:
    """A megabyte of output shows its beginning."""
    text = shown(JobCompleted(job="j1", at=T0, output=msgspec.Raw(b'"' + b"x" * 1_000_000 + b'"')))
    assert len(text) < 250
    assert text.endswith("…")


def test_an_unreadable_message_has_a_line_of_its_own() -> None:
    """What nobody can read is told with its place and the reason."""
    item = Unread(17, "log.shop.j.job.completed", "JSON is malformed")
    assert event_line(item).plain == "unreadable  seq 17, log.shop.j.job.completed: JSON is malformed"
    assert json.loads(event_json(item)) == {
        "sequence": 17, "subject": "log.shop.j.job.completed", "unreadable": "JSON is malformed",
    }  # fmt: skip


# ---- show


def view_of(*more: Event, workspace: str = "default") -> JobView:
    """A job that was taken up, with these events."""
    begun = JobSubmitted(
        job="j1", at=T0, workflow="order", version="1.2.0", app="shop", input=msgspec.Raw(b'{"sku":1}')
    )
    log = [begun, JobOwned(job="j1", at=T0, host="n1/host-1"), *more]
    return fold_view(workspace, [Recorded(i, event) for i, event in enumerate(log, 1)])


def test_the_page_of_a_finished_job() -> None:
    """State, facts, and a timeline with durations, attempts and bars on one axis."""
    view = view_of(
        CallTool(job="j1", at=at(0), call="a:1", name="a", version=1),
        CallTool(job="j1", at=at(5), call="b:1", name="b", version=2),
        ReplyCompleted(job="j1", at=at(5), call="a:1"),
        ReplyCompleted(job="j1", at=at(10), call="b:1", attempt=3),
        JobCompleted(job="j1", at=at(10), output=msgspec.Raw(b'{"total":7}')),
    )
    text = text_of(job_page(view, at(70), zone=UTC, ascii_only=True))
    assert text.startswith("completed  order 1.2.0  j1\n")
    assert "submitted  2026-01-02 12:00:00  (1m10s ago)" in text
    assert re.search(r"^took +10 s$", text, re.MULTILINE)
    assert re.search(r"^calls +2  \(1 needed more than one attempt\)$", text, re.MULTILINE)
    assert re.search(r"^a:1 +a v1 +completed +1 +\+0 s +5\.0 s +============\.{12}", text, re.MULTILINE)
    assert re.search(r"^b:1 +b v2 +completed +3 +\+5\.0 s +5\.0 s +\.{12}============", text, re.MULTILINE)
    assert '{"total":7}' in text
    assert "next:" not in text


def test_the_page_of_a_failed_job_ends_with_the_remote_traceback_and_a_next_step() -> None:
    """What failed, where it was raised on the far side, and how to see more."""
    failure = Failure(code="out_of_stock", message="no A1", path="$.sku", hint="order B2", traceback=BOOM.traceback)
    view = view_of(JobFailed(job="j1", at=at(2), failure=failure), workspace="shop")
    text = text_of(job_page(view, at(3), zone=UTC))
    assert "failed: out_of_stock: no A1" in text
    assert re.search(r"^where +\$\.sku$", text, re.MULTILINE)
    assert re.search(r"^hint +order B2$", text, re.MULTILINE)
    assert "  Traceback (most recent call last):" in text
    assert "next: callboard tail j1 --workspace shop --json" in text


def test_the_page_of_a_job_in_trouble_shows_the_failing_call() -> None:
    """A call that is being retried is shown with its last failure while the job still runs."""
    view = view_of(
        CallTool(job="j1", at=at(0), call="a:1", name="a", version=1),
        ReplyRetrying(job="j1", at=at(1), call="a:1", attempt=1, failure=BOOM),
    )
    text = text_of(job_page(view, at(2)))
    assert "a:1 retrying: ValueError: boom" in text
    assert "(1 retrying)" in text


def test_the_page_of_a_waiting_job_names_what_it_waits_for() -> None:
    """A parked job says which signal would wake it, and how to give it."""
    view = view_of(
        JobWaiting(job="j1", on=("ask/signal-approve:1",), until=at(3600)), Signal(job="j1", at=at(1), name="hello")
    )
    text = text_of(job_page(view, at(0)))
    assert "ask/signal-approve:1 until in 1h00m" in text
    assert "next: callboard signal j1 approve" in text
    assert re.search(r"^hello +in 1\.0 s", text, re.MULTILINE)


def test_a_sleep_that_is_not_over_sleeps() -> None:
    """A recorded sleep is over when it is due, not when it was recorded."""
    due = msgspec.Raw(msgspec.json.encode(at(60)))
    view = view_of(ReplyCompleted(job="j1", at=at(1), call="sleep:1", op="sleep", output=due))
    assert "sleeping" in text_of(job_page(view, at(30)))
    assert "sleeping" not in text_of(job_page(view, at(61)))


def test_what_an_ended_job_left_open_does_not_run() -> None:
    """A call that was given up, and a sleep that was cut short, are not shown as if the job still waited for them."""
    due = msgspec.Raw(msgspec.json.encode(at(60)))
    view = view_of(
        CallTool(job="j1", at=at(0), call="a:1", name="a", version=1),
        ReplyCompleted(job="j1", at=at(1), call="sleep:1", op="sleep", output=due),
        JobCompleted(job="j1", at=at(10)),
    )
    text = text_of(job_page(view, at(11)))
    assert re.search(r"^calls +2  \(1 not awaited\)$", text, re.MULTILINE)
    assert re.search(r"^a:1 +a v1 +not awaited ", text, re.MULTILINE)
    assert re.search(r"^sleep:1 +sleep +not awaited ", text, re.MULTILINE)


@pytest.mark.parametrize(("call", "may"), [("hotel/undo/give_back:1", False), ("each.0/undo/give_back:1", True)])
def test_a_retry_is_advised_where_it_may_be(call: str, may: bool) -> None:
    """What has undone something cannot go on; a step of a map may be named undo."""
    view = view_of(
        CallTool(job="j1", at=at(0), call=call, name="give_back", version=1),
        JobFailed(job="j1", at=at(2), failure=Failure(code="sold_out", message="none left")),
    )
    assert ("next: callboard retry j1" in text_of(job_page(view, at(3)))) is may


def test_of_many_calls_those_in_trouble_are_shown() -> None:
    """A job with thousands of calls fits a screen, and what needs a look is on it."""
    many: list[Event] = []
    for i in range(3000):
        many.append(CallTool(job="j1", at=at(i), call=f"a:{i}", name="a", version=1))
        if i == 2500:
            many.append(ReplyFailed(job="j1", at=at(i), call=f"a:{i}", failure=BOOM))
        else:
            many.append(ReplyCompleted(job="j1", at=at(i), call=f"a:{i}"))
    lines = plain_lines(job_page(view_of(*many), at(3000)))
    assert len(lines) < 90
    assert any(text.startswith("a:2500 ") for text in lines)
    assert "... and 2,940 completed calls more" in lines
    assert len(plain_lines(job_page(view_of(*many), at(3000), call_limit=None))) > 3000


def test_a_hostile_job_cannot_draw_on_the_terminal() -> None:
    """Names, messages and tracebacks from elsewhere are shown, never executed by the terminal."""
    bad = Failure(code=ESCAPE, message=ESCAPE, hint=ESCAPE, path=ESCAPE, traceback=ESCAPE + "\n" + ESCAPE)
    view = msgspec.structs.replace(
        view_of(JobFailed(job="j1", failure=bad)),
        workflow=ESCAPE, host=ESCAPE, reason=ESCAPE, parent=Parent(ESCAPE, ESCAPE, ESCAPE, ESCAPE),
        input=msgspec.Raw(b'"\x1b[2J"'),
    )  # fmt: skip
    assert all(text.isprintable() for text in plain_lines(job_page(view, at(1))))


@given(st.lists(events, max_size=20), st.booleans())
def test_any_job_has_a_page(log: list[Event], ascii_only: bool) -> None:
    """No log makes the page fail."""
    view = view_of(*log)
    lines = plain_lines(job_page(view, at(10), ascii_only=ascii_only))
    assert all(text.isprintable() for text in lines)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_bar_fills_its_width(a: float, b: float) -> None:
    """A bar is as wide as the axis and shows at least one cell, however short the call."""
    start, end = sorted((at(a), at(b)))
    text = bar(Axis(at(0), at(1)), start, end, ascii_only=True)
    assert len(text) == 24
    assert re.fullmatch(r"\.*=+\.*", text)


# ---- ps and components


@dataclass
class Node:
    """A node as ``ps`` gets it."""

    node: str
    pid: int = 10
    started_at: datetime = T0
    app: str = "shop"
    actors: list[ChildStatus] = field(default_factory=list)
    healthy: bool = True
    draining: bool = False
    given_up: list[GivenUp] = field(default_factory=list)


def test_the_table_of_nodes() -> None:
    """Each actor with its process, state, restarts and what it does, or how it ended."""
    actors = [
        ChildStatus(
            name="quote-1", component="quote 1.2.0", state="running", pid=11, started_at=at(0), doing="3 calls"
        ),
        ChildStatus(name="host-1", component="order", state="backing_off", restarts=2, last_exit="killed by SIGSEGV"),
    ]
    lines = plain_lines(node_page([Node("n2"), Node("n1", actors=actors)], at(60)))
    assert [text.split()[0] for text in lines[1:-1]] == ["n1", "n1", "n1", "n2"]
    assert re.search(r"quote-1 +quote 1.2.0 +11 +running +1m00s ago +3 calls", lines[2])
    assert re.search(r"host-1 +order +backing off +2 +ended: killed by SIGSEGV", lines[3])
    assert lines[-1] == "2 nodes, 2 actors"
    assert "callboard up" in text_of(node_page([], at(0)))


def test_ps_says_for_how_long() -> None:
    """What an actor is at since when it said, whatever the process has done before."""
    actor = ChildStatus(name="a-1", component="a", state="running", pid=1, started_at=at(0), doing="idle", since=at(5))
    text = text_of(node_page([Node("n1", actors=[actor])], at(65)))
    assert "idle for 1m00s" in text


def test_a_node_that_is_not_healthy() -> None:
    """What was given up is said below the table with its reason and the command that starts it again."""
    gone = GivenUp(group="quote", actors=("quote-1", "quote-2"), reason="quote-1 ended with exit 3: restart 11")
    actors = [ChildStatus(name="quote-1", component="quote 1.2.0", state="given_up", last_exit="exit 3")]
    nodes = [Node("n1", actors=actors, healthy=False, given_up=[gone]), Node("n2", draining=True)]
    lines = plain_lines(node_page(nodes, at(60)))
    assert re.search(r"n1 +\(node\) +shop +10 +not healthy", lines[1])
    assert re.search(r"n2 +\(node\) +shop +10 +draining", lines[3])
    text = "\n".join(lines[5:])
    assert "n1 has given up quote-1, quote-2\n  quote-1 ended with exit 3: restart 11" in text
    assert "callboard supervise start quote --node n1" in text
    assert re.search(r"n1 +quote-1 .* given up", plain_lines(actor_page("n1", actors, at(60)))[1])


def component(**changes: Any) -> ComponentInfo:
    """A tool with a schema that has a bit of everything."""
    takes = {
        "type": "object",
        "properties": {
            "sku": {"type": "string", "description": "What to buy."},
            "qty": {"type": "integer", "default": 1},
            "to": {"$ref": "#/$defs/Address"},
            "tags": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
            "size": {"enum": ["s", "m"]},
            "when": {"type": "string", "format": "date-time"},
            "more": {"type": "object", "additionalProperties": {"type": "number"}},
            "self": {"$ref": "#/$defs/Loop"},
        },
        "required": ["sku"],
        "$defs": {
            "Address": {"type": "object", "properties": {"street": {}, "city": {}}},
            "Loop": {"type": "array", "items": {"$ref": "#/$defs/Loop"}},
        },
    }
    fields: dict[str, Any] = {
        "kind": "tool", "name": "quote", "app": "shop", "version": "1.2.0", "digest": "d",
        "description": "The price.\n\nMore.", "input_schema": takes, "output_schema": {"type": "number"},
    }  # fmt: skip
    return ComponentInfo(**fields | changes)


def test_the_table_of_components() -> None:
    """By kind and name, the newest version first, with where each runs."""
    rows = [
        ComponentRow(component(version="1.9.0")),
        ComponentRow(component(version="1.10.0"), {"n2": 1, "n1": 3}),
        ComponentRow(component(kind="job", name="order")),
    ]
    lines = plain_lines(component_page(rows))
    assert re.search(r"^job +order +1\.2\.0 +shop +0 +not running +The price\.$", lines[1])
    assert re.search(r"^tool +quote +1\.10\.0 +shop +4 +n1 x3, n2 +The price\.$", lines[2])
    assert "1.9.0" in lines[3]
    assert lines[-1] == "3 components"
    assert "callboard up" in text_of(component_page([]))


def test_schemas_in_words() -> None:
    """Every field with its type, default and description; references and loops are followed so far."""
    text = text_of(schema_page([ComponentRow(component())]))
    for expected in (
        r"^sku +string +required +What to buy\.$",
        r"^qty +integer +1$",
        r"^to +Address {street, city} +optional$",
        r"^tags +list of string or null",
        r'^size +"s" or "m"',
        r"^when +string \(date-time\)",
        r"^more +object of number",
        r"^gives: number$",
    ):
        assert re.search(expected, text, re.MULTILINE), expected
    assert "list of list of" in text


def test_who_changes_nothing_and_what_an_agent_has() -> None:
    """A tool that only reads says so; an agent says its model, its tools, and whether it is offered only such ones."""
    reads, writes = (text_of(schema_page([ComponentRow(component(read_only=each))])) for each in (True, False))
    assert re.search(r"^ *read only +it changes nothing$", reads, re.MULTILINE) and "read only" not in writes
    card = AgentCard("anthropic:claude-sonnet-5", ("shop.stock@1", "send@2"), read_only=True)
    lines = text_of(schema_page([ComponentRow(component(kind="agent", name="clerk", agent=card))]))
    for said in ("model +anthropic:claude-sonnet-5", "tools +shop.stock@1, send@2", "read only +it is offered only"):
        assert re.search(rf"^ *{said}", lines, re.MULTILINE), said


# ---- results


def test_a_report_becomes_tables() -> None:
    """Single values are facts, lists of objects titled tables, units come from names."""
    report = {
        "root": "/usr/lib",
        "total_lines": 1234567,
        "duration_s": 4.2,
        "ok": True,
        "nothing": None,
        "tags": ["a", "b"],
        "longest_functions": [
            {"name": "f", "lines": 1200, "size_bytes": 4200, "started_at": "2026-01-02T12:00:00Z"},
            {"name": "g", "lines": 7, "where": {"file": "x.py"}},
        ],
        "by_kind": {"tool": {"n": 1}, "job": {"n": 2}},
        "limits": {"max_age_s": 60, "name": "x"},
    }
    text = text_of(result_page(report))
    assert re.search(r"^root +/usr/lib$", text, re.MULTILINE)
    assert re.search(r"^total lines +1,234,567$", text, re.MULTILINE)
    assert re.search(r"^duration +4\.2 s$", text, re.MULTILINE)
    assert re.search(r"^tags +a, b$", text, re.MULTILINE)
    assert "nothing" not in text
    assert re.search(r"^longest functions\nname  lines    size  started +where\n", text, re.MULTILINE)
    assert re.search(r"^f     1,200  4\.2 KB  2026-", text, re.MULTILINE)
    assert '{"file":"x.py"}' in text
    assert re.search(r"^by kind\n +n\ntool  1\njob   2$", text, re.MULTILINE)
    assert re.search(r"^limits\nmax age  1m00s\nname     x$", text, re.MULTILINE)


def test_long_tables_end_and_say_so() -> None:
    """A table of a thousand rows shows fifty, and all when asked."""
    rows = [{"n": i} for i in range(1000)]
    assert plain_lines(result_page(rows))[-1] == "... and 950 more; --json shows all"
    assert len(plain_lines(result_page(rows, row_limit=None))) == 1001


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (7, "7"),
        ("a\nb", "a\nb"),
        ([], "(an empty list)"),
        ({}, "(an empty object)"),
        ([1, "x"], "1\nx"),
        (True, "yes"),
    ],
)
def test_results_that_are_no_objects(value: Any, text: str) -> None:
    """Any JSON value has a page."""
    assert text_of(result_page(value)) == text


@given(json_values)
def test_any_result_has_a_page(value: Any) -> None:
    """No JSON breaks the rendering, and none of it controls the terminal."""
    assert all(text.isprintable() for text in plain_lines(result_page(value)))


def test_headings_leave_units_out() -> None:
    """The unit is in the value."""
    assert [heading(n) for n in ("duration_s", "size_bytes", "ended_at", "longest_functions", "_s")] == [
        "duration", "size", "ended", "longest functions", "s",
    ]  # fmt: skip


# ---- the screen


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Always."""
        return True


PAGE: Page = [
    line(Span("failed", "bad"), " [bold]plain[/bold] :smile: 12345"),
    Sheet((Column("a"), Column("b", shrink=True)), ((Span("x" * 30), Span("y" * 100)),), "title", "note"),
]


def test_a_pipe_gets_plain_lines_with_nothing_cut() -> None:
    """No escape codes, no ellipsis, whatever the width."""
    out = io.StringIO()
    Screen(out, env={}).show(PAGE)
    assert out.getvalue() == (
        f"failed [bold]plain[/bold] :smile: 12345\ntitle\na{' ' * 31}b\n{'x' * 30}  {'y' * 100}\nnote\n"
    )


def test_a_terminal_gets_colours_and_fits_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours by meaning; markup and emoji codes in texts stay as they are; what may shrink is cut first."""
    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    Screen(out, env={"TERM": "xterm-256color"}).show(PAGE)
    text = out.getvalue()
    assert "\x1b[1;31mfailed\x1b[0m" in text
    assert "[bold]plain[/bold] :smile: 12345" in text
    assert "x" * 30 in text
    assert "…" in text
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", row)) <= 60 for row in text.split("\n"))


@pytest.mark.parametrize(
    ("env", "no_color"),
    [({"NO_COLOR": "1", "TERM": "xterm"}, False), ({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_can_be_turned_off(env: dict[str, str], no_color: bool) -> None:
    """NO_COLOR, --no-color and a dumb terminal leave no colour codes."""
    out = Terminal()
    screen = Screen(out, env=env, no_color=no_color)
    screen.show([line(Span("failed", "bad"))])
    assert not screen.has_color
    assert "31m" not in out.getvalue()
    assert "failed" in out.getvalue()


def test_json_is_pretty_for_people_and_one_line_for_programs() -> None:
    """The same data, laid out for who reads it."""
    piped, terminal = io.StringIO(), Terminal()
    Screen(piped, env={}).show_json({"a": [1, 2]})
    Screen(terminal, env={}).show_json(msgspec.Raw(b'{"a":[1,2]}'))
    assert piped.getvalue() == '{"a":[1,2]}\n'
    assert terminal.getvalue() == '{\n  "a": [\n    1,\n    2\n  ]\n}\n'


def test_a_locale_without_the_letters_is_no_crash() -> None:
    """An ASCII pipe gets question marks in place of what it cannot hold."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    screen = Screen(out, env={})
    screen.show([line("naïve …")])
    assert screen.ascii_only
    assert raw.getvalue() == b"na?ve ?\n"


def test_nothing_imports_rich_before_a_terminal_is_written_to() -> None:
    """The console modules are cheap to import: ``callboard --help`` must be there in 0.3 s."""
    code = (
        "import sys, io\n"
        "from actors.console import amount, page, screen, result_page\n"
        "screen.Screen(io.StringIO()).show(result_page.result_page({'a': [{'b': 1}]}))\n"
        "assert not [m for m in sys.modules if m.partition('.')[0] in ('rich', 'nats', 'typer')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lines_know_their_indent() -> None:
    """A line of a traceback stands under its title."""
    assert Line((Span("x"),), indent=2).plain == "  x"


def test_a_call_that_was_given_up_has_not_failed() -> None:
    """The loser of a race is shown as not awaited, also while the job goes on."""
    failure = Failure(code="given_up", message="the job does not wait for it any more")
    view = view_of(
        CallTool(job="j1", at=at(0), call="a:1", name="a", version=1),
        ReplyFailed(job="j1", at=at(1), call="a:1", failure=failure),
    )
    text = text_of(job_page(view, at(2)))
    assert re.search(r"^a:1 +a v1 +not awaited ", text, re.MULTILINE)
    assert "any more" not in text
