"""The retry policy as a pure function: what is tried again, when, and what a policy may be."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import UsageError
from bus.failure import Failure, RetryableError, TerminalError, failure_of
from supervisor.retry import RETRY_AFTER_LIMIT_S, Again, GiveUp, Retry, decide, wait_cap_s

UNKNOWN = Failure(code="error", message="?", exception="KeyError", bases=("KeyError", "LookupError"))

policies = st.builds(
    Retry,
    attempts=st.integers(1, 1_000),
    backoff_s=st.floats(0, 1e6),
    factor=st.floats(1, 1e6),
    max_wait_s=st.floats(0, 1e6),
    jitter=st.booleans(),
    on=st.sampled_from([(), ("KeyError",), ("LookupError",), (OSError,)]),
)
failures = st.builds(
    Failure,
    code=st.just("error"),
    message=st.just("?"),
    retryable=st.sampled_from([None, True, False]),
    retry_after_s=st.none() | st.floats(),
    exception=st.sampled_from(["KeyError", "OSError", ""]),
    bases=st.sampled_from([(), ("KeyError", "LookupError")]),
)
attempts = st.integers(1, 10_000)
rolls = st.floats(0, 1, exclude_max=True)


@given(policies, attempts, failures, rolls)
def test_a_delay_is_a_finite_number_within_its_bounds(
    policy: Retry, attempt: int, failure: Failure, roll: float
) -> None:
    """Whatever the policy and the failure say, a delay lies between zero and the larger of the two limits."""
    decision = decide(policy, attempt, failure, roll)
    if isinstance(decision, Again):
        assert attempt < policy.attempts
        assert math.isfinite(decision.delay_s)
        assert 0 <= decision.delay_s <= max(policy.max_wait_s, RETRY_AFTER_LIMIT_S)


@given(policies, attempts, failures, rolls)
def test_the_authors_word_decides_first(policy: Retry, attempt: int, failure: Failure, roll: float) -> None:
    """Terminal never retries; retryable retries exactly while attempts are left, whatever ``on`` says."""
    decision = decide(policy, attempt, failure, roll)
    if failure.retryable is False:
        assert isinstance(decision, GiveUp)
    if failure.retryable is True:
        assert isinstance(decision, Again) == (attempt < policy.attempts)


@given(policies, attempts, rolls)
def test_without_jitter_the_wait_is_the_cap_and_with_it_below(policy: Retry, attempt: int, roll: float) -> None:
    """Full jitter takes its share of the cap, no jitter takes all of it."""
    always = msgspec.structs.replace(policy, attempts=attempt + 1, on=())
    decision = decide(always, attempt, UNKNOWN, roll)
    assert isinstance(decision, Again)
    cap_s = wait_cap_s(policy, attempt)
    assert decision.delay_s == (cap_s * roll if policy.jitter else cap_s)


@given(policies, st.integers(1, 9_999))
def test_the_cap_never_shrinks(policy: Retry, attempt: int) -> None:
    """A later attempt waits at least as long as an earlier one, up to max_wait_s, also where a power overflows."""
    assert wait_cap_s(policy, attempt) <= wait_cap_s(policy, attempt + 1) <= policy.max_wait_s


@given(st.floats(0.1, RETRY_AFTER_LIMIT_S), rolls)
def test_retry_after_is_a_lower_bound(asked_s: float, roll: float) -> None:
    """The wait that a server asked for is kept even where it is longer than max_wait_s."""
    failure = failure_of(RetryableError("busy", retry_after_s=asked_s))
    decision = decide(Retry(max_wait_s=0.05), 1, failure, roll)
    assert isinstance(decision, Again)
    assert decision.delay_s >= asked_s


@pytest.mark.parametrize("asked_s", [math.nan, -1.0, -math.inf])
def test_a_senseless_retry_after_counts_as_none(asked_s: float) -> None:
    """What came over the wire may be any number, and must not break the shell that waits."""
    failure = Failure(code="error", message="?", retryable=True, retry_after_s=asked_s)
    assert decide(Retry(jitter=False, backoff_s=0.5), 1, failure, 0.9) == Again(0.5)


def test_waits_grow_by_the_factor_to_the_limit() -> None:
    """The documented formula, with numbers that can be checked by eye."""
    policy = Retry(attempts=9, backoff_s=0.5, factor=2.0, max_wait_s=3.0, jitter=False)
    waits = [decide(policy, attempt, UNKNOWN, 0.0) for attempt in range(1, 6)]
    assert waits == [Again(0.5), Again(1.0), Again(2.0), Again(3.0), Again(3.0)]


@pytest.mark.parametrize(
    ("on", "retried"),
    [((), True), ((KeyError,), True), (("LookupError",), True), ((OSError,), False), ((OSError, KeyError), True)],
)
def test_on_matches_the_class_and_its_bases(on: tuple[type[BaseException] | str, ...], retried: bool) -> None:
    """An unknown failure is retried if its exception or a base of it is named, or if nothing is named."""
    assert isinstance(decide(Retry(on=on), 1, UNKNOWN, 0.5), Again) == retried


def test_a_terminal_error_is_not_retried() -> None:
    """TerminalError as it is mapped to the wire ends the attempts, also where ``on`` names it."""
    failure = failure_of(TerminalError("no such account"))
    assert isinstance(decide(Retry(on=(TerminalError,)), 1, failure, 0.5), GiveUp)


def test_spent_attempts_are_named() -> None:
    """The reason of a GiveUp says how many attempts there were."""
    assert decide(Retry(attempts=3), 3, UNKNOWN, 0.5) == GiveUp("3 of 3 attempts spent")


@given(policies)
def test_a_policy_survives_the_wire(policy: Retry) -> None:
    """A policy with exception classes is plain JSON and comes back equal."""
    assert msgspec.json.decode(msgspec.json.encode(policy), type=Retry) == policy


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": 2.5}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"backoff_s": -0.1}, "backoff_s"),
        ({"backoff_s": math.nan}, "backoff_s"),
        ({"factor": 0.5}, "factor"),
        ({"max_wait_s": math.inf}, "max_wait_s"),
        ({"max_wait_s": "60"}, "max_wait_s"),
        ({"jitter": 1}, "jitter"),
        ({"on": ValueError}, "on"),
        ({"on": "ValueError"}, "on"),
        ({"on": (ValueError, 3)}, "on[1]"),
        ({"on": ("json.JSONDecodeError",)}, "on[0]"),
    ],
)
def test_a_wrong_policy_says_where(wrong: dict[str, object], path: str) -> None:
    """Each wrong field is refused with its path and with what would be right."""
    with pytest.raises(UsageError) as caught:
        Retry(**wrong)  # type: ignore[arg-type]
    assert caught.value.path == path
    assert caught.value.hint


def test_a_wrong_policy_on_the_wire_is_a_validation_error() -> None:
    """A reader that handles msgspec's errors handles a senseless policy too."""
    with pytest.raises(msgspec.ValidationError, match="attempts"):
        msgspec.json.decode(b'{"attempts": 0}', type=Retry)
