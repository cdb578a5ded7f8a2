"""The wire contract: tags, kinds and bodies of every event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given

from bus import messages
from bus.errors import Unreadable, UsageError
from bus.event import NULL
from bus.failure import Failure
from bus.messages import CallAgent, CallJob, CallTool, Event, JobSubmitted, Signal, decode, encode
from tests.strategies import events

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)

# Persisted names: a line may be added here, never changed. Histories that were written with them must stay readable.
CONTRACT: dict[str, tuple[str, ...]] = {
    "job.submitted": (
        "workflow", "version", "app", "input", "priority", "parent", "traceparent", "requested_at",
        "deadline_at", "forked_from", "recorded", "amendable",
    ),
    "job.owned": ("host", "request", "node", "pid", "version"),
    "job.waiting": ("on", "until"),
    "job.paused": ("by", "signal"),
    "job.resumed": ("by", "signal"),
    "job.completed": ("output",),
    "job.failed": ("failure",),
    "job.cancelled": ("by", "reason", "workflow"),
    "job.retried": ("calls", "by"),
    "job.amended": ("change", "by"),
    "job.forked": ("fork", "step", "point"),
    "job.rejected": ("workflow", "failure", "requested_job", "input"),
    "call.tool": ("call", "name", "version", "input", "timeout_s", "retry", "traceparent"),
    "call.agent": ("call", "name", "version", "input", "timeout_s", "retry", "traceparent", "child"),
    "call.job": ("call", "name", "version", "input", "timeout_s", "retry", "traceparent", "child"),
    "reply.completed": ("call", "output", "op", "attempt", "duration_s", "actor", "cached"),
    "reply.failed": ("call", "failure", "op", "attempt", "duration_s", "actor"),
    "reply.retrying": ("call", "attempt", "failure", "delay_s", "handed_back", "actor"),
    "reply.progress": ("call", "attempt", "done", "total", "note"),
    "signal": ("name", "data", "by"),
    "approval.asked": (
        "call", "title", "details", "answer", "roles", "quorum", "expires_at", "escalations", "edit",
    ),
    "approval.answered": ("call", "approved", "by", "roles", "comment", "answer", "edited"),
    "approval.escalated": ("call", "level", "roles"),
    "node.started": ("pid", "version", "actors"),
    "node.stopped": ("reason",),
    "actor.started": ("actor", "pid"),
    "actor.exited": ("actor", "description", "expected", "pid"),
    "actor.restarting": ("actor", "delay_s", "restarts"),
    "actor.given_up": ("group", "reason"),
    "asset.loaded": ("actor", "asset", "version", "refreshed"),
    "asset.failed": ("actor", "asset", "version", "reason", "refreshed"),
    "actor.stopped": ("actor",),
    "actor.killed": ("actor", "cause", "reason", "pid"),
    "dead.kept": (
        "failure", "subject", "stream", "stream_sequence", "deliveries", "body", "headers", "call", "actor",
    ),
    "dead.redriven": ("letter", "by"),
    "dead.dropped": ("letter", "by", "reason"),
    "node.draining": ("by",),
    "node.lost": ("silent_s", "by"),
    "node.returned": ("away_s", "by"),
    "duties.taken": ("epoch",),
    "breaker.opened": ("breaker", "reason", "open_s", "calls", "failures", "slow", "by", "forced"),
    "breaker.half_opened": ("breaker", "by"),
    "breaker.closed": ("breaker", "by", "forced"),
    "schedule.fired": ("run", "workflow", "due_at", "by"),
    "schedule.skipped": ("due_at", "reason", "running"),
    "emit": ("name", "call", "data"),
}  # fmt: skip
COMMON = {"job", "at", "blob"}


def tag_of(event_type: type[Any]) -> str:
    """The ``type`` field of that event."""
    return str(event_type.__struct_config__.tag)


def test_the_tags_and_fields_are_the_pinned_ones() -> None:
    """Each event has its pinned tag, and every pinned field under its name."""
    found = {tag_of(t): set(t.__struct_fields__) - COMMON for t in get_args(Event)}
    assert found == {tag: set(fields) for tag, fields in CONTRACT.items()}


def test_failure_fields_are_pinned() -> None:
    """A failure keeps the names that it crosses the wire with."""
    assert set(Failure.__struct_fields__) == {
        "code", "message", "retryable", "retry_after_s", "exception", "bases", "path", "hint", "traceback", "details",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (CallTool(job="j", call="quote:1", name="quote", version=2), "call.tool.quote.v2"),
        (CallAgent(job="j", call="ask:1", name="ask", version=0, child="j.ask-1"), "call.agent.ask.v0"),
        (CallJob(job="j", call="order:1", name="order", version=1, child="c1"), "call.job.order.v1"),
        (Signal(job="j", name="approve"), "signal.approve"),
        (messages.Emitted(job="j", name="shipped", call="c"), "emit.shipped"),
        (messages.JobCompleted(job="j"), "job.completed"),
        (messages.ReplyProgress(job="j", call="c", attempt=1, done=1), "reply.progress"),
    ],
)
def test_the_kind_holds_the_names_that_subjects_filter_on(event: Event, kind: str) -> None:
    """Commands and signals have their name in the kind, all others have their tag as kind."""
    assert event.kind == kind


def test_the_json_of_an_event_is_pinned() -> None:
    """The body that people see on the wire: defaults left out, instants in UTC, the input as it came."""
    event = JobSubmitted(
        job="j1", at=AT, workflow="order", version="1.2.0", app="shop", input=msgspec.Raw(b'{"sku": "A1"}')
    )
    body = encode(event)
    assert body.startswith(b'{"type":"job.submitted",')
    assert b'"input":{"sku": "A1"}' in body
    assert msgspec.json.decode(body) == {
        "type": "job.submitted", "job": "j1", "at": "2026-01-02T03:04:05.678901Z", "workflow": "order",
        "version": "1.2.0", "app": "shop", "input": {"sku": "A1"},
    }  # fmt: skip


@given(events)
def test_every_event_survives_the_wire(event: Event) -> None:
    """What is decoded equals what was encoded, whatever the fields hold."""
    body = encode(event)
    assert decode(body) == event
    assert encode(decode(body)) == body


@given(events)
def test_type_job_and_at_are_in_every_body(event: Event) -> None:
    """Readers without our code find type, job and at in each event."""
    body = msgspec.json.decode(encode(event))
    assert body["type"] == tag_of(type(event))
    assert body["job"] == event.job
    assert msgspec.convert(body["at"], datetime) == event.at


@given(events)
def test_unknown_fields_are_ignored(event: Event) -> None:
    """An event of a newer writer, with a field that we do not know, reads as before."""
    assert decode(encode(event)[:-1] + b',"from_the_future":{"a":[1]}}') == event


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "truncated"),
        (b"\x00\xff", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[1,2]", "object"),
        (b'{"job":"j"}', "type"),
        (b'{"type":"job.exploded","job":"j"}', "job.exploded"),
        (b'{"type":"job.completed"}', "job"),
        (b'{"type":"job.completed","job":7}', "$.job"),
        (b'{"type":"reply.completed","job":"j","call":"c","attempt":"two"}', "$.attempt"),
        (b'{"type":"reply.failed","job":"j","call":"c","failure":{"code":"x"}}', "$.failure"),
        (b'{"type":"job.completed","job":"j","at":"yesterday"}', "$.at"),
        (b'{"type":"job.completed","job":"j","output":{"a":}}', "malformed"),
        (b'{"type":"job.completed","job":"\xff\xfe"}', ""),
    ],
)
def test_what_cannot_be_read_says_where_it_stands_and_why(body: bytes, reason: str) -> None:
    """A body that is no event is Unreadable with its subject, its sequence and the wrong place, never another error."""
    with pytest.raises(Unreadable) as caught:
        decode(body, subject="log.default.j.job.completed", sequence=17)
    assert caught.value.subject == "log.default.j.job.completed"
    assert caught.value.sequence == 17
    assert reason in caught.value.reason
    assert "seq 17" in str(caught.value)


def test_a_signal_with_a_name_that_is_no_token_is_refused() -> None:
    """A signal's name becomes part of a subject, so it must be one token."""
    with pytest.raises(UsageError, match="signal"):
        _ = Signal(job="j", name="a.b").kind


def test_absent_input_is_null() -> None:
    """An event without input or output holds JSON null, so readers need no special case."""
    assert bytes(NULL) == b"null"
    assert decode(b'{"type":"job.completed","job":"j","at":"2026-01-01T00:00:00Z"}').output == NULL  # type: ignore[union-attr]
