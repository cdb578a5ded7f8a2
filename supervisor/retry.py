"""Whether a failed call is tried again, and when: a pure function of the policy, the failure and one random number.

Exactly one layer retries: whoever ran the call asks :func:`decide` and hands the call back with the delay. The policy
travels as JSON with the component, so every process decides alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from bus.errors import UsageError
from supervisor.number import is_count, is_number

if TYPE_CHECKING:
    from bus.failure import Failure

# A peer may ask for any wait at all; beyond a day it is a mistake, and 1e300 seconds would not fit into a NATS delay.
RETRY_AFTER_LIMIT_S = 86_400.0


class BadRetry(UsageError, ValueError):
    """A policy that cannot be. Also a ValueError, so that msgspec turns it into a ValidationError on decoding."""


class Retry(msgspec.Struct, frozen=True, omit_defaults=True):
    """How often and how fast a call is tried again.

    ``attempts`` counts the first one. Waits are full jitter below
    ``min(max_wait_s, backoff_s * factor**(attempt - 1))`` seconds. ``on`` names the exceptions (classes or their
    names, subclasses included) that are worth another attempt when the tool did not say; empty means all.
    Raises: BadRetry (a UsageError) with the path of the wrong field.
    """

    attempts: int = 3
    backoff_s: float = 0.5
    factor: float = 2.0
    max_wait_s: float = 60.0
    jitter: bool = True
    # Callers may pass classes, but what is stored and sent are names: the two views of one field.
    if TYPE_CHECKING:
        on: tuple[str | type[BaseException], ...] = ()
    else:
        on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_count(self.attempts):
            raise _bad("attempts", self.attempts, "a whole number from 1; 1 means no retry")
        for field, least in (("backoff_s", 0.0), ("factor", 1.0), ("max_wait_s", 0.0)):
            _check_number(field, getattr(self, field), least)
        if not isinstance(self.jitter, bool):
            raise _bad("jitter", self.jitter, "True or False")
        msgspec.structs.force_setattr(self, "on", _names(self.on))


class Again(msgspec.Struct, frozen=True, tag=True):
    """Try again, not before ``delay_s`` seconds from now."""

    delay_s: float


class GiveUp(msgspec.Struct, frozen=True, tag=True):
    """No further attempt; ``reason`` is for people."""

    reason: str


Decision = Again | GiveUp


def decide(policy: Retry, attempt: int, failure: Failure, roll: float) -> Decision:
    """What follows the failure of attempt number ``attempt`` (from 1); ``roll`` is a random number in [0, 1).

    The author's word comes first: ``failure.retryable`` False ends it, True retries; None asks ``policy.on``. All stay
    within ``policy.attempts``. A ``retry_after_s`` of the failure is a lower bound of the delay, up to a day.
    """
    if failure.retryable is False:
        return GiveUp(f"{failure.code}: the failure is marked as not retryable")
    if failure.retryable is None and not _covers(policy, failure):
        return GiveUp(f"{failure.exception or failure.code} is not among the exceptions to retry on")
    if attempt >= policy.attempts:
        return GiveUp(f"{attempt} of {policy.attempts} attempts spent")
    return Again(max(_wait_s(policy, attempt, roll), _asked_s(failure)))


def wait_cap_s(policy: Retry, attempt: int) -> float:
    """The longest wait after attempt number ``attempt``: min(max_wait_s, backoff_s * factor**(attempt - 1)).

    With jitter the wait is uniform in [0, cap] ("full jitter" of "Exponential Backoff And Jitter", AWS Architecture
    Blog, 2015): many callers that failed together come back spread out, with the least work in total.
    """
    try:
        return min(policy.max_wait_s, policy.backoff_s * policy.factor ** (attempt - 1))
    except OverflowError:
        return policy.max_wait_s if policy.backoff_s else 0.0


def _wait_s(policy: Retry, attempt: int, roll: float) -> float:
    cap_s = wait_cap_s(policy, attempt)
    return cap_s * roll if policy.jitter else cap_s


def _asked_s(failure: Failure) -> float:
    """The wait that the peer asked for; what came over the wire may be any number."""
    asked_s = failure.retry_after_s
    if asked_s is None or not asked_s > 0:  # not NaN either
        return 0.0
    return min(asked_s, RETRY_AFTER_LIMIT_S)


def _covers(policy: Retry, failure: Failure) -> bool:
    return not policy.on or not {failure.exception, *failure.bases}.isdisjoint(policy.on)


def _names(on: Any) -> tuple[str, ...]:
    """Exception names from classes or names; a single one is refused, since a bare string would be read as letters."""
    if not isinstance(on, (tuple, list)):
        raise _bad("on", on, "a tuple of exception classes or names, such as (ConnectionError,)")
    return tuple(dict.fromkeys(_name(item, f"on[{index}]") for index, item in enumerate(on)))


def _name(item: Any, path: str) -> str:
    if isinstance(item, type) and issubclass(item, BaseException):
        return item.__name__
    if isinstance(item, str) and item.isidentifier():
        return item
    raise _bad(path, item, "an exception class or the name of one, without its module")


def _check_number(field: str, value: Any, least: float) -> None:
    if not is_number(value) or value < least:
        raise _bad(field, value, f"a finite number from {least:g}")


def _bad(field: str, value: Any, right: str) -> BadRetry:
    return BadRetry(f"Retry.{field} is {value!r}", code="bad_retry", path=field, hint=f"it has to be {right}")
