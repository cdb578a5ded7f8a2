"""Hypothesis strategies for what crosses the wire: names, failures, and every event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st

from bus.amendment import AddItems, AddSteps, FinishMap, SetPolicy, SkipStep
from bus.approval_events import Escalation
from bus.event import BlobRef, ForkedFrom, Parent
from bus.failure import Failure
from bus.messages import CallAgent, CallJob, CallTool, Copy, Event, JobSubmitted, ReplyCompleted, ReplyRetrying
from bus.system_events import BreakerOpened, KillCause

EVENT_TYPES: tuple[type[Any], ...] = get_args(Event)

names = st.text("abcXYZ019_-", min_size=1, max_size=64)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
instants = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
seconds = st.floats(0, 1e9)
majors = st.integers(0, 999)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
raws = json_values.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
failures = st.builds(
    Failure,
    code=names,
    message=texts,
    retryable=st.none() | st.booleans(),
    retry_after_s=st.none() | seconds,
    exception=texts,
    bases=st.lists(names, max_size=2).map(tuple),
    path=texts,
    hint=texts,
    traceback=texts,
    details=st.none() | st.dictionaries(texts, json_values, max_size=2),
)
changes = st.one_of(
    st.builds(SetPolicy, texts, st.none() | st.dictionaries(names, json_values, max_size=2), st.none() | seconds),
    st.builds(AddSteps, raws, texts),
    st.builds(AddItems, texts, raws),
    st.builds(FinishMap, texts),
    st.builds(SkipStep, texts),
)
_COUNTS = ("level", "quorum", "letter", "signal", "epoch", "failures", "slow", "deliveries", "stream_sequence", "point")
_BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "job": names,
    "at": instants,
    "blob": st.none() | st.builds(BlobRef, sha256=names, size_bytes=st.integers(0, 2**40)),
    "name": names,
    "version": texts,
    "input": raws,
    "output": raws,
    **dict.fromkeys(("data", "details", "answer", "edit", "edited"), raws),
    "failure": failures,
    "parent": st.none()
    | st.builds(
        Parent, workspace=names, job=names, call=texts, workflow=names, budgets=st.lists(names, max_size=2).map(tuple)
    ),
    **dict.fromkeys(("requested_at", "expires_at", "deadline_at"), st.none() | instants),
    "due_at": instants,
    "roles": st.lists(names, max_size=3).map(tuple),
    "escalations": st.lists(st.builds(Escalation, after_s=seconds, roles=st.just(("head",))), max_size=2).map(tuple),
    "forked_from": st.none() | st.builds(ForkedFrom, names, names, st.integers(0, 2**53), texts),
    "change": st.none() | changes,
    "until": st.none() | instants,
    "on": st.lists(texts, max_size=3).map(tuple),
    "retry": st.none() | st.dictionaries(names, json_values, max_size=2),
    "timeout_s": st.none() | seconds,
    "total": st.none() | seconds,
    **dict.fromkeys(
        ("cached", "refreshed", "handed_back", "expected", "forced", "amendable", "approved"), st.booleans()
    ),
    "calls": st.lists(texts, max_size=3).map(tuple),
    "headers": st.none() | st.dictionaries(names, texts, max_size=2),
    "cause": st.sampled_from(get_args(KillCause)),
    "actors": st.lists(names, max_size=3).map(tuple),
    **dict.fromkeys(("duration_s", "delay_s", "done", "silent_s", "away_s", "open_s"), seconds),
    **dict.fromkeys(("attempt", "request", "pid", "restarts", *_COUNTS), st.integers(0, 2**53)),
}


def events_of(event_type: type[Any], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any event of one type; ``fixed`` strategies take the place of ours."""
    fields = {name: _BY_NAME.get(name, texts) for name in event_type.__struct_fields__}
    if "version" in fields and event_type in (CallTool, CallAgent, CallJob):
        fields["version"] = majors
    if event_type is BreakerOpened:
        fields["calls"] = st.integers(0, 2**53)
    if event_type is JobSubmitted:
        copies = st.builds(Copy, st.integers(0, 2**53), st.builds(ReplyCompleted, job=names, call=texts, output=raws))
        fields["recorded"] = st.lists(copies, max_size=2).map(tuple)
    if event_type is ReplyRetrying:
        fields["failure"] = st.none() | failures
    return st.builds(event_type, **(fields | {name: s for name, s in fixed.items() if name in fields}))


events = st.sampled_from(EVENT_TYPES).flatmap(events_of)
