"""Durations and instants as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.jobs.requests import check_times
from bus.errors import UsageError
from bus.moment import LIMIT_S, instant_of, moment_text, parse_duration, parse_moment, rfc3339

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
instants = st.datetimes(
    NOW.replace(1971, tzinfo=None),
    NOW.replace(2260, tzinfo=None),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5))]),
)


@given(st.floats(0, LIMIT_S - 1, allow_nan=False) | instants)
def test_a_moment_survives_its_text(moment: float | datetime) -> None:
    """What is put into a header comes out of it: an instant exactly, seconds to the microsecond."""
    again = parse_moment(moment_text(moment), "Job-Start")
    if isinstance(moment, datetime):
        assert again == moment
    else:
        assert isinstance(again, float) and again == pytest.approx(moment, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("0.5s", 0.5), ("0s", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    """A number and a unit, once or several times."""
    assert parse_duration(text, "--delay") == seconds
    assert instant_of(parse_moment(text, "--at"), NOW) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "1 h", "99999d", "1e3s", "2026-12-01T08:00", "tomorrow"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    """The error names the option, and says what would be right."""
    with pytest.raises(UsageError) as caught:
        parse_moment(text, "--at")
    assert caught.value.path == "--at" and caught.value.hint


def test_instants_have_a_zone() -> None:
    """An instant is the same for everybody, whatever zone it was written in; it fits what the server counts with."""
    assert parse_moment("2026-12-01T08:00+01:00", "x") == datetime(2026, 12, 1, 7, tzinfo=UTC)
    assert rfc3339(datetime(2026, 12, 1, tzinfo=UTC)) == "2026-12-01T00:00:00.000000Z"
    with pytest.raises(UsageError, match="out of range"):
        parse_moment("2262-01-01T00:00Z", "x")
    with pytest.raises(ValueError, match="time zone"):
        rfc3339(NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("start", "deadline", "is_good"),
    [
        (None, 60.0, True),
        (None, 0.0, False),
        (None, NOW - timedelta(hours=1), False),
        (600.0, 60.0, True),  # counts from the start
        (600.0, NOW + timedelta(seconds=300), False),
        (NOW + timedelta(hours=1), NOW + timedelta(hours=2), True),
        (NOW - timedelta(hours=1), NOW + timedelta(seconds=1), True),
        (float("nan"), None, False),
        (LIMIT_S, None, False),
    ],
)
def test_a_job_that_could_only_fail_is_refused(
    start: float | datetime | None, deadline: float | datetime | None, is_good: bool
) -> None:
    """A deadline has to come after the planned start, and after now."""
    if is_good:
        check_times(start, deadline, NOW)
    else:
        with pytest.raises(UsageError):
            check_times(start, deadline, NOW)
