"""Subjects: what is built parses back, and no name can change the shape of a subject."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import subjects
from bus.errors import UsageError
from bus.subjects import (
    CALL_KINDS,
    JOB_ENDS,
    JOB_ID_LIMIT_CHARS,
    NAME_LIMIT_CHARS,
    PRIORITIES,
    CallKind,
    Priority,
    check_job_id,
    check_name,
)
from tests.strategies import names

priorities = st.sampled_from(PRIORITIES)
kinds = st.sampled_from(["job.submitted", "reply.completed", "call.tool.quote.v1", "signal.approve"])


def test_the_words_of_the_contract_are_pinned() -> None:
    """Priorities, kinds of calls and ends of jobs are part of subjects that people have filters on."""
    assert PRIORITIES == ("high", "normal", "low") == get_args(Priority)
    assert CALL_KINDS == ("tool", "agent", "job")
    assert JOB_ENDS == ("completed", "failed", "cancelled", "rejected")
    assert (subjects.DEFAULT_WORKSPACE, subjects.SYSTEM_WORKSPACE) == ("default", "_system")


def test_the_subjects_of_the_contract_are_pinned() -> None:
    """Every form of subject, letter by letter."""
    assert subjects.job_request("shop", "order") == "jobs.shop.order"
    assert subjects.job_request("shop", "order", "high") == "jobs.shop.order.high"
    assert subjects.request_filters("order", "normal") == ["jobs.*.order", "jobs.*.order.normal"]
    assert subjects.request_filters("order", "low") == ["jobs.*.order.low"]
    assert subjects.timer("shop", "j1", "sleep-1") == "timers.shop.j1.sleep-1"
    assert subjects.log_prefix("shop", "j1") == "log.shop.j1"
    assert subjects.event("shop", "j1", "job.failed") == "log.shop.j1.job.failed"
    assert subjects.live("shop", "*", ">") == "events.shop.*.>"
    assert subjects.call_kind("tool", "quote", 2) == "call.tool.quote.v2"
    assert subjects.call_filter("tool", "quote", 2) == "log.*.*.call.tool.quote.v2"
    assert subjects.api("shop", "jobs", "submit") == "api.shop.jobs.submit"
    assert subjects.asset_refresh("index") == "asset.index.refresh"
    assert subjects.asset_of("asset.index.refresh") == "index"


@given(names, names, priorities)
def test_a_request_parses_back(workspace: str, workflow: str, priority: Priority) -> None:
    """Workspace, workflow and priority come out as they went in."""
    assert subjects.parse_request(subjects.job_request(workspace, workflow, priority)) == (
        workspace,
        workflow,
        priority,
    )


@given(names, names, priorities)
def test_exactly_one_priority_of_a_workflow_serves_a_request(workspace: str, workflow: str, priority: Priority) -> None:
    """The filters of the three consumers of a workflow are disjoint and miss nothing."""
    subject = subjects.job_request(workspace, workflow, priority)
    serving = [p for p in PRIORITIES for f in subjects.request_filters(workflow, p) if matches(f, subject)]
    assert serving == [priority]


@given(names, names, kinds)
def test_an_event_parses_back_from_the_log_and_live(workspace: str, job: str, kind: str) -> None:
    """The subject that is written and the one that is republished name the same event."""
    assert subjects.parse_event(subjects.event(workspace, job, kind)) == (workspace, job, kind)
    assert subjects.parse_event(subjects.live(workspace, job, kind)) == (workspace, job, kind)


@given(names, names, names, st.sampled_from(CALL_KINDS), st.integers(0, 99))
def test_a_command_is_seen_by_the_consumer_of_its_component(
    workspace: str, job: str, name: str, kind: CallKind, major: int
) -> None:
    """A command matches the filter of its own kind, name and major, and no other major's."""
    subject = subjects.event(workspace, job, subjects.call_kind(kind, name, major))
    assert matches(subjects.call_filter(kind, name, major), subject)
    assert not matches(subjects.call_filter(kind, name, major + 1), subject)


def matches(pattern: str, subject: str) -> bool:
    """Whether a filter without ``>`` takes in a subject, by the rules of NATS."""
    ours, theirs = pattern.split("."), subject.split(".")
    return len(ours) == len(theirs) and all(p in ("*", t) for p, t in zip(ours, theirs, strict=True))


def test_the_matcher_of_these_tests_follows_the_rules_of_nats() -> None:
    """A star is one token, no more and no less."""
    assert matches("a.*.c", "a.b.c")
    assert not matches("a.*", "a.b.c")


@pytest.mark.parametrize(
    "subject", ["", "jobs", "jobs.a", "jobs.a.b.urgent", "jobs.a.b.high.x", "log.a.b.c", "Jobs.a.b", "jobs.a.b."]
)
def test_what_is_no_request_is_refused(subject: str) -> None:
    """A subject of another shape is an error that shows the right shape."""
    with pytest.raises(UsageError, match="is no job request") as caught:
        subjects.parse_request(subject)
    assert caught.value.code == "bad_subject"


@pytest.mark.parametrize("subject", ["", "log", "log.a.b", "jobs.a.b.c", "events", "LOG.a.b.c"])
def test_what_is_no_event_is_refused(subject: str) -> None:
    """A subject of another shape is an error that shows the right shape."""
    with pytest.raises(UsageError, match="is no event"):
        subjects.parse_event(subject)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a.b",
        "a b",
        "a\tb",
        "a\nb",
        "a\n",
        "\na",
        "*",
        ">",
        "a>",
        "a*",
        "$JS",
        "_a/",
        "ä",
        "٣",
        "a\x00",
        "💥",
        "a,b",
        " ",
    ],
)
def test_names_that_would_change_a_subject_are_refused(name: str) -> None:
    """Dots, blanks, wildcards, control characters and letters beyond ASCII are refused, with what is allowed."""
    with pytest.raises(UsageError, match="tool") as caught:
        check_name(name, "tool")
    assert caught.value.code == "bad_name"
    assert caught.value.path == "tool"
    assert "letters, digits" in caught.value.hint


@given(names)
def test_good_names_come_back_unchanged(name: str) -> None:
    """A name of letters, digits, '_' and '-' is taken as it is."""
    assert check_name(name, "tool") == name


@given(st.text(max_size=80))
def test_a_name_is_one_token_or_refused(name: str) -> None:
    """Whatever gets through is one token for every NATS server."""
    try:
        checked = check_name(name, "tool")
    except UsageError:
        return
    assert checked == name
    assert 1 <= len(name) <= NAME_LIMIT_CHARS
    assert name.isascii()
    assert not set(name) & set(". \t\r\n*>\x00$")


def test_lengths_have_a_limit_each() -> None:
    """Names end at 64 characters and job ids at 128; the error says both lengths."""
    assert check_name("a" * NAME_LIMIT_CHARS, "tool")
    assert check_job_id("a" * JOB_ID_LIMIT_CHARS)
    with pytest.raises(UsageError, match="65 characters, the limit is 64"):
        check_name("a" * 65, "tool")
    with pytest.raises(UsageError, match="129 characters, the limit is 128"):
        check_job_id("a" * 129)
