"""Rules of schedules: what is refused and why, in the words of the server, and when they fire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.schedules.cron import check_cron, check_zone, cron_time_before, cron_times, every_times, server_cron
from actors.schedules.firing import judge
from actors.schedules.schedule import (
    OVERLAPS,
    Overlap,
    Rule,
    Schedule,
    check_overlap,
    check_rule,
    due_at,
    headers_of,
    is_overtaken,
    next_times,
    rule_in,
)
from bus import headers as h
from bus.errors import UsageError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("61 8 * * *", "field minute is '61'"),
        ("0 25 * * *", "field hour is '25'"),
        ("0 8 32 * *", "field day-of-month is '32'"),
        ("0 8 30 2 *", "field day-of-month is '30'"),
        ("0 8 * 13 *", "field month is '13'"),
        ("0 8 * * 8", "field day-of-week is '8'"),
        ("99 0 8 * * *", "field second is '99'"),
        ("0 8 * *", "has 4 fields"),
        ("@reboot", "has 1 fields"),
        ("0 8 L * *", "field day-of-month is 'L'"),
        ("0 8 * * 1#2", "field day-of-week is '1#2'"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    """The field, what stands in it, and what may."""
    with pytest.raises(UsageError, match=says) as caught:
        check_cron(text)
    assert caught.value.path == "cron" and caught.value.hint


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("0 8 * * 1-5", "0 0 8 * * 1-5"),
        ("*/2 * * * * *", "*/2 * * * * *"),
        ("0 8 * jul MON-FRI", "0 0 8 * JUL MON-FRI"),
        ("0 8 * * 7", "0 0 8 * * 0"),
        ("0 8 * * 5-7", "0 0 8 * * 0,5,6"),
        ("@daily", "0 0 0 * * *"),
    ],
)
def test_in_the_words_of_the_server(text: str, server: str) -> None:
    """Six fields, and Sunday is 0."""
    assert server_cron(check_cron(text)) == server


def test_times_in_a_zone() -> None:
    """Eight in Berlin is seven in winter and six in summer by UTC; a time that a day does not have comes after it."""
    winter, summer = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    assert [cron_times("0 8 * * *", "Europe/Berlin", day, 1)[0].hour for day in (winter, summer)] == [7, 6]
    assert cron_times("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC), 1) == [
        datetime(2026, 3, 29, 1, tzinfo=UTC)
    ]
    with pytest.raises(UsageError) as caught:
        check_zone("Europe/Berl")
    assert caught.value.hint == "did you mean Europe/Berlin?"


crons = st.sampled_from(["0 8 * * 1-5", "*/7 3-5 * * *", "15 0,12 1 * *", "30 2 * * 0", "*/10 * * * * *", "@hourly"])
zones = st.sampled_from(["", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(text=crons, zone=zones, at=moments)
def test_the_time_before_the_next_is_the_time_that_was_due(text: str, zone: str, at: datetime) -> None:
    """What the server says of the next message tells for when this one was, to the second, however late it is."""
    due, following = cron_times(text, zone, at, 2)
    rule = Rule(name="r", cron=text, time_zone=zone)
    found = due_at(rule, following.strftime("%Y-%m-%dT%H:%M:%SZ"), following)
    assert found == cron_time_before(text, zone, following) and due <= found < following
    in_zone = following.astimezone(ZoneInfo(zone or "UTC")).isoformat()  # as the server writes it
    assert due_at(rule, in_zone, at) == found


@given(every_s=st.integers(1, 100_000), passed_s=st.integers(0, 10_000_000))
def test_periods(every_s: int, passed_s: int) -> None:
    """Whole periods from the base, all of them after the present."""
    now = NOW + timedelta(seconds=passed_s)
    times = every_times(every_s, NOW, now, 3)
    assert all(time > now and (time - NOW).total_seconds() % every_s == 0 for time in times)
    assert (times[0] - now).total_seconds() <= every_s
    rule = Rule(name="r", every_s=float(every_s))
    assert due_at(rule, times[1].isoformat().replace("+00:00", "Z"), now) == times[0]


@pytest.mark.parametrize(
    "rule",
    [
        Rule(name="a b", cron="@daily"),
        Rule(name="r"),
        Rule(name="r", cron="@daily", every_s=60),
        Rule(name="r", every_s=0.5),
        Rule(name="r", every_s=float("nan")),
        Rule(name="r", every_s=60, time_zone="UTC"),
        Rule(name="r", cron="@daily", time_zone="Mars"),
    ],
)
def test_rules_that_cannot_be(rule: Rule) -> None:
    """Each is refused, and so is a message that carries one."""
    with pytest.raises(UsageError):
        check_rule(rule)
    with pytest.raises(UsageError, match=h.JOB_SCHEDULE):
        rule_in({h.JOB_SCHEDULE: msgspec.json.encode(rule).decode()})


def test_a_message_carries_its_rule() -> None:
    """It comes back from the headers; a paused one has no next time."""
    rule = Rule(name="r", cron="0 8 * * 7", time_zone="Europe/Berlin", overlap="queue", by="ann")
    schedule = Schedule(workspace="w", rule=rule, workflow="order", priority="high", deadline_s=60)
    headers = headers_of(schedule)
    assert rule_in(headers) == rule
    assert headers[h.SCHEDULE_TARGET] == "jobs.w.order.high" and headers[h.JOB_DEADLINE] == "60s"
    assert len(next_times(schedule, NOW, None, 5)) == 5
    paused = msgspec.structs.replace(schedule, rule=msgspec.structs.replace(rule, is_paused=True))
    assert headers_of(paused)[h.SCHEDULE].startswith("@at 2200") and not next_times(paused, NOW, None, 5)
    with pytest.raises(UsageError):
        check_overlap("both")


@pytest.mark.parametrize(
    ("overlap", "running", "late", "verdict"),
    [
        ("skip", False, False, "run"), ("skip", True, False, "skip"), ("skip", False, True, "overtaken"),
        ("queue", False, False, "run"), ("queue", True, False, "wait"), ("queue", True, True, "overtaken"),
        ("allow", True, True, "run"), ("allow", False, False, "run"),
    ],
)  # fmt: skip
def test_overlap(overlap: Overlap, running: bool, late: bool, verdict: str) -> None:
    """Skip runs nothing beside a run, queue lets one wait, allow runs all."""
    assert judge(overlap, is_running=running, is_late=late) == verdict and overlap in OVERLAPS
    assert is_overtaken("2026-11-21T11:59:00Z", NOW) and not is_overtaken("2026-11-21T11:59:59Z", NOW)
    assert not is_overtaken("purge", NOW)
