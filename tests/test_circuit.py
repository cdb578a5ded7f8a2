"""The window and the state machine of circuits, against naive models."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import UsageError
from bus.failure import CallFailed, Failure, RetryableError, TerminalError
from bus.messages import decode, encode
from bus.system_events import BreakerClosed, BreakerHalfOpened, BreakerOpened
from supervisor.breaker import Breaker
from supervisor.circuit import (
    CLOSED,
    LEASE_S,
    Closed,
    Due,
    Evidence,
    ForcedClosed,
    ForcedOpen,
    HalfOpen,
    Open,
    Probed,
    Renewed,
    Seen,
    State,
    decode_state,
    encode_state,
    event_of,
    open_s,
    remaining_s,
    spread_s,
    step,
)
from supervisor.window import (
    CIRCUIT_OPEN,
    EMPTY,
    SLICES,
    Counts,
    Heard,
    Outcome,
    Window,
    counted,
    fresh,
    observe,
    outcome_of,
    sum_of,
    trip_reason,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
outcomes: st.SearchStrategy[Outcome] = st.sampled_from(get_args(Outcome))
policies = st.builds(
    Breaker,
    failure_share=st.sampled_from([0.1, 0.5, 1.0]),
    min_calls=st.integers(1, 6),
    window_s=st.sampled_from([1.0, 10.0, 30.0]),
    slow_s=st.none() | st.just(0.5),
    slow_share=st.sampled_from([0.5, 1.0]),
    open_s=st.sampled_from([0.5, 5.0]),
    max_open_s=st.sampled_from([0.5, 5.0, 37.0]),
)

# ---- the window


@given(
    st.lists(st.tuples(st.floats(0, 40), outcomes), max_size=60), st.sampled_from([1.0, 10.0, 30.0]), st.floats(0, 40)
)
def test_window_counts_what_a_list_of_instants_counts(
    calls: list[tuple[float, Outcome]], window_s: float, later_s: float
) -> None:
    """Whatever comes when, the window holds the calls of the last ten tenths, and stays small."""
    window, seen, now_s = EMPTY, [], 0.0
    for pause_s, outcome in calls:
        now_s += pause_s
        window = observe(window, window_s, outcome, now_s)
        seen.append((_tick(now_s, window_s), outcome))
        assert len(window) <= SLICES
    now_s += later_s
    held = Counter(outcome for tick, outcome in seen if tick > _tick(now_s, window_s) - SLICES)
    assert counted(window, window_s, now_s) == Counts(held.total(), held["failed"], held["slow"])


def _tick(now_s: float, window_s: float) -> int:
    return int(now_s * SLICES / window_s)


def test_window_forgets_what_is_older_than_its_length() -> None:
    """A call counts for nine tenths of the window at least, and never longer than the window."""
    window: Window = observe(EMPTY, 10.0, "failed", 100.0)
    assert counted(window, 10.0, 109.0).failures == 1
    assert counted(window, 10.0, 110.0).failures == 0


@given(policies, st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_it_trips_by_share_once_there_are_enough_calls(policy: Breaker, ok: int, failed: int, slow: int) -> None:
    """The shares are of all calls, and few calls prove nothing."""
    calls = ok + failed + slow
    by_failures = failed / calls >= policy.failure_share if calls else False
    by_slowness = policy.slow_s is not None and calls > 0 and slow / calls >= policy.slow_share
    trips = calls >= policy.min_calls and (by_failures or by_slowness)
    assert bool(trip_reason(policy, Counts(calls, failed, slow))) == trips


def test_counts_of_peers_are_summed_while_they_are_fresh() -> None:
    """What a replica said half a window ago has mostly slid out of its own window."""
    peers = {"a": Heard(Counts(10, 5), 100.0), "b": Heard(Counts(7, 7), 90.0)}
    assert set(fresh(peers, 20.0, 105.0)) == {"a"}
    assert sum_of(Counts(1, 0, 1), peers) == Counts(18, 12, 1)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (ValueError("x"), "failed"),
        (TimeoutError(), "failed"),
        (RetryableError("later"), "failed"),
        (SystemExit(1), "failed"),
        (CallFailed(Failure(code="error", message="x")), "failed"),
        (TerminalError("never"), None),
        (UsageError("wrong"), None),
        (RetryableError("open", code=CIRCUIT_OPEN), None),
        (CallFailed(Failure(code=CIRCUIT_OPEN, message="x", retryable=True)), None),
        (CallFailed(Failure(code="sold_out", message="x", retryable=False)), None),
    ],
)
def test_what_counts_as_a_failure(error: BaseException | None, outcome: Outcome | None) -> None:
    """Wrong input, a final answer and another open circuit say nothing of the component."""
    assert outcome_of(error, 0.1, Breaker()) == outcome
    assert outcome_of(error, 0.1, Breaker(slow_s=0.05)) == ("slow" if outcome == "ok" else outcome)


# ---- the machine

USERS = ("ann", "bob")
evidence: st.SearchStrategy[Evidence] = st.one_of(
    st.builds(Seen, st.builds(Counts, st.integers(0, 12), st.integers(0, 6), st.just(0)), st.sampled_from(USERS)),
    st.builds(Due, st.sampled_from(USERS)),
    st.builds(Renewed, st.sampled_from(USERS)),
    st.builds(Probed, st.sampled_from(USERS), outcomes),
    st.builds(ForcedOpen, st.sampled_from(USERS), open_s=st.none() | st.just(3.0)),
    st.builds(ForcedClosed, st.sampled_from(USERS)),
)


class Model:
    """The rules once more, as a few variables that are overwritten."""

    def __init__(self, policy: Breaker) -> None:
        self.policy = policy
        self.phase = "closed"
        self.streak = 0
        self.prober = ""
        self.length_s: float | None = None

    def hear(self, heard: Evidence) -> None:
        """One piece of evidence."""
        match heard:
            case ForcedOpen(open_s=length_s):
                self.phase, self.streak, self.length_s = "open", 0, length_s
            case ForcedClosed():
                self.phase = "closed"
            case Seen(counts) if self.phase == "closed" and trip_reason(self.policy, counts):
                self.phase, self.streak, self.length_s = "open", 0, self._length_s(0)
            case Due(by) if self.phase == "half_open" or (self.phase == "open" and self.length_s is not None):
                self.phase, self.prober = "half_open", by
            case Probed(by, outcome) if self.phase == "half_open" and by == self.prober:
                if outcome == "ok":
                    self.phase = "closed"
                else:
                    self.streak += 1
                    self.phase, self.length_s = "open", self._length_s(self.streak)
            case _:
                pass

    def _length_s(self, failed: int) -> float:
        length_s = self.policy.open_s
        for _ in range(failed):
            length_s = length_s * 2
        return min(length_s, max(self.policy.open_s, self.policy.max_open_s))


@given(policies, st.lists(evidence, max_size=30))
def test_machine_does_what_the_model_does(policy: Breaker, story: list[Evidence]) -> None:
    """Any evidence in any order: the phases, the lengths and the prober are those of the model."""
    model, state, now = Model(policy), CLOSED, START
    for heard in story:
        now += timedelta(seconds=1)
        model.hear(heard)
        before: State = state
        state = step(policy, before, heard, now)
        assert str(state.__struct_config__.tag) == model.phase
        assert decode_state(encode_state(state)) == state
        _check_state(model, state)
        _check_event(before, state)


def _check_state(model: Model, state: State) -> None:
    match state:
        case Open(since=since, until=until, streak=streak):
            assert since is not None
            length_s = None if until is None else (until - since).total_seconds()
            assert (length_s, streak) == (model.length_s, model.streak)
        case HalfOpen(prober=prober, streak=streak):
            assert (prober, streak) == (model.prober, model.streak)
        case Closed():
            pass


def _check_event(before: State, after: State) -> None:
    """A move is an event, and only a move is."""
    if after is before:
        return
    event = event_of("tool.quote.v1", before, after)
    is_renewal = isinstance(before, HalfOpen) and isinstance(after, HalfOpen) and before.prober == after.prober
    assert (event is None) == is_renewal
    if event is not None:
        kinds = {Closed: BreakerClosed, Open: BreakerOpened, HalfOpen: BreakerHalfOpened}
        assert isinstance(event, kinds[type(after)])
        assert (event.kind, event.breaker, event.by) == (decode(encode(event)).kind, "tool.quote.v1", after.by)


@given(policies, st.integers(0, 2000))
def test_each_failed_probe_doubles_the_wait_up_to_the_limit(policy: Breaker, streak: int) -> None:
    """However many fail, the wait is finite, and never shorter than the one before."""
    assert policy.open_s <= open_s(policy, streak) <= open_s(policy, streak + 1)
    assert open_s(policy, streak) <= max(policy.open_s, policy.max_open_s)


def test_only_the_present_prober_is_heard() -> None:
    """A prober that was succeeded can neither close the circuit nor open it, nor renew its lease."""
    opened = step(Breaker(min_calls=1), CLOSED, Seen(Counts(1, 1), "ann"), START)
    first = step(Breaker(), opened, Due("ann"), START + timedelta(seconds=5))
    second = step(Breaker(), first, Due("bob"), START + timedelta(seconds=20))
    assert isinstance(second, HalfOpen)
    assert second.prober == "bob"
    for late in (Probed("ann", "ok"), Probed("ann", "failed"), Renewed("ann")):
        assert step(Breaker(), second, late, START + timedelta(seconds=21)) is second
    assert isinstance(step(Breaker(), second, Probed("bob", "ok"), START + timedelta(seconds=21)), Closed)


# ---- time


@given(st.floats(-1e7, 1e7), st.booleans())
def test_clocks_that_differ_bound_the_wait(skew_s: float, is_news: bool) -> None:
    """A clock of another year makes nobody wait longer than the state's own length; news need no clock at all."""
    opened = step(Breaker(min_calls=1, open_s=5.0), CLOSED, Seen(Counts(1, 1), "ann"), START)
    left_s = remaining_s(opened, START + timedelta(seconds=skew_s), is_news=is_news)
    assert left_s is not None
    assert 0 <= left_s <= 5.0
    assert not is_news or left_s == 5.0
    probing = step(Breaker(), opened, Due("ann"), START)
    lease_s = remaining_s(probing, START + timedelta(seconds=skew_s), is_news=is_news)
    assert lease_s is not None
    assert 0 <= lease_s <= LEASE_S


def test_closed_and_forced_states_have_no_end_of_their_own() -> None:
    """Nobody probes what works, or what a person keeps open."""
    forced = step(Breaker(), CLOSED, ForcedOpen("ann"), START)
    assert remaining_s(CLOSED, START, is_news=True) is None
    assert remaining_s(forced, START + timedelta(days=9), is_news=False) is None
    assert step(Breaker(), forced, Due("bob"), START) is forced


@given(st.floats(0, 1000), st.floats(0, 1, exclude_max=True))
def test_probers_spread_out(wait_s: float, roll: float) -> None:
    """Nobody comes early, and nobody much later."""
    assert wait_s <= spread_s(wait_s, roll) <= wait_s * 1.05


@pytest.mark.parametrize("body", [b"", b"{}", b'{"state":"ajar"}', b"\xff", b'{"state":"open","until":"soon"}'])
def test_a_state_that_nobody_can_read_is_closed(body: bytes) -> None:
    """A bucket that somebody has written nonsense into holds no calls back."""
    assert decode_state(body) == CLOSED
