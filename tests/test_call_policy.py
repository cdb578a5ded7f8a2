"""How a job wants its calls made: what it says itself outweighs the tool."""

from __future__ import annotations

import pytest

from actors.jobs.call_policy import CallPolicy
from actors.operations.hosting import Target
from bus.errors import UsageError
from supervisor.breaker import Breaker
from supervisor.retry import Retry


@pytest.mark.parametrize(
    ("asked", "breaker", "waits"),
    [
        (None, None, True),
        (None, Breaker(), True),
        (None, Breaker(on_open="fail"), False),
        ("wait", Breaker(on_open="fail"), True),
        ("fail", Breaker(), False),
        ("fail", None, False),
    ],
)
def test_who_waits_for_an_open_circuit(asked: object, breaker: Breaker | None, waits: bool) -> None:
    """The call's word comes first, then the tool's; agents and jobs have no circuit."""
    policy = CallPolicy(on_open=asked)  # type: ignore[arg-type]
    assert policy.waits_for(Target("tool", "quote", 1, breaker=breaker)) == waits
    assert policy.waits_for(Target("job", "order", 1, breaker=breaker))


def test_options_add_up() -> None:
    """What is said later replaces what was said, and nothing else."""
    first = CallPolicy(Retry(attempts=2), 5.0, "fail")
    assert first.but(CallPolicy(timeout_s=1.0)) == CallPolicy(Retry(attempts=2), 1.0, "fail")
    assert first.but(CallPolicy(on_open="wait")).on_open == "wait"


def test_any_other_word_is_refused() -> None:
    """With the words that there are."""
    with pytest.raises(UsageError, match=r"on_open cannot be 'never' \(wait or fail\)"):
        CallPolicy(on_open="never")  # type: ignore[arg-type]
