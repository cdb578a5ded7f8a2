"""OTP's restart rules as pure functions, compared with a literal transcription of what supervisor.erl does."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import UsageError
from supervisor.restart import (
    BACKOFF_LIMIT_S,
    STABLE_AFTER_S,
    STRATEGIES,
    Allowed,
    Exceeded,
    Group,
    Intensity,
    Strategy,
    add_restart,
    affected,
    backoff,
    restart_streak,
    should_restart,
)

orders = st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=1, max_size=6, unique=True)
intensities = st.builds(Intensity, max_restarts=st.integers(0, 6), period_s=st.integers(1, 20).map(float))
# Whole seconds, as in OTP's test suite: the edge "exactly one period ago" has to come up often.
moments = st.lists(st.integers(0, 60), max_size=40).map(lambda times: [float(time) for time in sorted(times)])
rolls = st.floats(0, 1, exclude_max=True)


def erlang_add_restart(times: list[float], now: float, intensity: Intensity) -> tuple[list[float], bool]:
    """supervisor.erl: newest first, stop at the first one outside (``Now =< Then + Period``), then compare lengths."""
    kept: list[float] = []
    for then in [now, *times]:
        if not now <= then + intensity.period_s:
            break
        kept.append(then)
    return kept, len(kept) <= intensity.max_restarts


@given(moments, intensities)
def test_intensity_decides_as_otp_does(times: list[float], intensity: Intensity) -> None:
    """Over any history of restarts the verdict and the remembered times are those of supervisor.erl."""
    ours: tuple[float, ...] = ()
    theirs: list[float] = []
    for now in times:
        ours, verdict = add_restart(ours, now, intensity)
        theirs, allowed = erlang_add_restart(theirs, now, intensity)
        assert isinstance(verdict, Allowed) == allowed
        assert list(ours) == theirs[::-1]
        if not allowed:
            assert verdict == Exceeded(len(theirs))
            return


def test_one_restart_more_than_allowed_is_exceeded() -> None:
    """The edge by hand: five in thirty seconds pass, the sixth does not, and it passes once the first is too old."""
    times: tuple[float, ...] = ()
    for now in (0.0, 1.0, 2.0, 3.0, 4.0):
        times, verdict = add_restart(times, now, Intensity())
        assert verdict == Allowed()
    assert add_restart(times, 30.0, Intensity())[1] == Exceeded(6)
    assert add_restart(times, 30.5, Intensity())[1] == Allowed()


@pytest.mark.parametrize(
    ("kind", "code", "restarted"),
    [
        ("permanent", 0, True), ("permanent", 3, True), ("permanent", -9, True),
        ("transient", 0, False), ("transient", 3, True), ("transient", -9, True), ("transient", -15, True),
        ("temporary", 0, False), ("temporary", 3, False), ("temporary", -9, False),
    ],
)  # fmt: skip
def test_the_kind_decides_whether_a_child_returns(kind: str, code: int, restarted: bool) -> None:
    """Permanent always, transient after an abnormal end, temporary never."""
    assert should_restart(kind, code) == restarted  # type: ignore[arg-type]


@given(orders, st.data(), st.sampled_from(STRATEGIES))
def test_strategies_stop_backwards_start_forwards(order: list[str], data: st.DataObject, strategy: Strategy) -> None:
    """What is stopped is the reverse of what is started, without the dead one, and the start order is kept."""
    failed = data.draw(st.sampled_from(order))
    to_stop, to_start = affected(strategy, order, failed)
    assert failed in to_start
    assert [*to_stop][::-1] == [name for name in to_start if name != failed]
    positions = [order.index(name) for name in to_start]
    assert all(before < after for before, after in pairwise(positions))


def test_each_strategy_takes_its_own_children() -> None:
    """The textbook case of four children of which the second fails."""
    order = ("a", "b", "c", "d")
    assert affected("one_for_one", order, "b") == ((), ("b",))
    assert affected("one_for_all", order, "b") == (("d", "c", "a"), ("a", "b", "c", "d"))
    assert affected("rest_for_one", order, "b") == (("d", "c"), ("b", "c", "d"))


def test_a_stranger_affects_nobody() -> None:
    """A name that is not in the group is wrong use, not an empty answer."""
    with pytest.raises(UsageError, match="zed"):
        affected("one_for_all", ("a",), "zed")


@given(st.integers(1, 100_000), rolls)
def test_backoff_is_bounded_and_first_immediate(count: int, roll: float) -> None:
    """A killed process serves again at once; a crash loop waits at most BACKOFF_LIMIT_S."""
    assert backoff(1, roll) == 0.0
    assert 0.0 <= backoff(count, roll) <= BACKOFF_LIMIT_S
    assert backoff(count, roll) <= backoff(count + 1, roll)


@given(st.lists(rolls, min_size=Group().max_restarts + 1, max_size=Group().max_restarts + 1))
def test_a_crash_loop_meets_the_default_intensity(chances: list[float]) -> None:
    """Whatever chance does to the delays, a process that cannot start is given up within the default period.

    A third of the period is left for the starts themselves.
    """
    slowest_s = sum(backoff(count, roll) for count, roll in enumerate(chances, 1))
    assert slowest_s < Group().period_s * 2 / 3


def test_the_policy_of_a_group_is_checked_where_it_is_made() -> None:
    """In Python and on the wire alike: a wrong strategy or a senseless intensity says which field it is."""
    for wrong, path in (({"strategy": "all"}, "strategy"), ({"max_restarts": -1}, "max_restarts"),
                        ({"period_s": float("inf")}, "period_s")):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            Group(**wrong)  # type: ignore[arg-type]
        assert caught.value.path == path
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Group)


@given(st.integers(0, 1_000), st.floats(0, 1e6))
def test_a_stable_child_starts_its_count_anew(streak: int, uptime_s: float) -> None:
    """The count grows by one for each quick death and is forgotten after STABLE_AFTER_S."""
    assert restart_streak(streak, uptime_s) == (1 if uptime_s >= STABLE_AFTER_S else streak + 1)


@pytest.mark.parametrize(("wrong", "path"), [((-1, 5.0), "max_restarts"), ((1, 0.0), "period_s")])
def test_a_wrong_intensity_says_where(wrong: tuple[int, float], path: str) -> None:
    """A senseless intensity is refused in Python and on the wire alike."""
    with pytest.raises(UsageError) as caught:
        Intensity(*wrong)
    assert caught.value.path == path
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"max_restarts": wrong[0], "period_s": wrong[1]}, Intensity)
