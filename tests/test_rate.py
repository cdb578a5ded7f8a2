"""Reservations of a rate: never more than the limit within any window, hardly later than that demands, and small."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import UsageError
from supervisor.at_once import AtOnce
from supervisor.rate import Rate, Reservations, reserve

asks = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 30)), min_size=1, max_size=40)


def instants_of(rate: Rate, asked: list[tuple[float, int]]) -> tuple[list[float], list[float], Reservations]:
    """The instants that are given, when each was asked for, and what is kept in the end, through JSON each time."""
    now_s, state = 1_700_000_000.0, Reservations()
    given_s: list[float] = []
    asked_s: list[float] = []
    for wait_s, times in asked:
        now_s += wait_s
        state, some = reserve(rate, state, times, now_s)
        state = msgspec.json.decode(msgspec.json.encode(state), type=Reservations)
        given_s += some
        asked_s += [now_s] * times
    return given_s, asked_s, state


@given(st.integers(1, 40), st.sampled_from((0.1, 1.0, 5.0)), asks)
def test_no_window_holds_more_than_the_limit(limit: int, per_s: float, asked: list[tuple[float, int]]) -> None:
    """The one after ``limit`` others comes a whole window after the first of them, in the order of asking."""
    given_s, asked_s, _ = instants_of(Rate(limit, per_s), asked)
    assert given_s == sorted(given_s)
    assert all(instant >= when for instant, when in zip(given_s, asked_s, strict=True))
    assert all(later - earlier >= per_s - 1e-6 for earlier, later in zip(given_s, given_s[limit:], strict=False))


@given(st.integers(1, 40), st.sampled_from((0.1, 1.0, 5.0)), asks)
def test_nothing_is_later_than_a_hundredth_of_the_window(
    limit: int, per_s: float, asked: list[tuple[float, int]]
) -> None:
    """Each is given as soon as the rate allows, but for the grain of what is kept; a free rate gives at once."""
    given_s, asked_s, state = instants_of(Rate(limit, per_s), asked)
    for k, instant in enumerate(given_s):
        allowed = max(asked_s[k], given_s[k - 1] if k else 0.0, given_s[k - limit] + per_s if k >= limit else 0.0)
        assert instant <= allowed + per_s / 100 + 1e-6
    assert len(state.last) <= min(limit, 202)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Rate(0), "limit"),
        (lambda: Rate(1, 0), "per_s"),
        (lambda: Rate(1, float("nan")), "per_s"),
        (lambda: Rate(1, 1, "a..b"), "key"),
        (lambda: AtOnce(0), "limit"),
        (lambda: AtOnce(True), "limit"),
        (lambda: AtOnce(1, "."), "key"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, field: str) -> None:
    """The error names the field."""
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.path == field
