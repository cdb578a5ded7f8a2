"""What a circuit breaker has seen lately: how many calls ended within its window, and how. Pure.

``now_s`` is the reading of any clock that only goes on. The window slides in tenths of its length, so it costs the same
however many calls there are: one small tuple, no list of instants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from bus.errors import PeerError, UsageError
from bus.failure import RetryableError, TerminalError

if TYPE_CHECKING:
    from supervisor.breaker import Breaker

SLICES = 10
CIRCUIT_OPEN = "circuit_open"

Outcome = Literal["ok", "failed", "slow"]


class Counts(msgspec.Struct, frozen=True, omit_defaults=True):
    """``calls`` ended, of which ``failures`` failed and ``slow`` others took too long."""

    calls: int = 0
    failures: int = 0
    slow: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.calls + other.calls, self.failures + other.failures, self.slow + other.slow)

    def plus(self, outcome: Outcome) -> Counts:
        """One call more."""
        return Counts(self.calls + 1, self.failures + (outcome == "failed"), self.slow + (outcome == "slow"))


class Slice(NamedTuple):
    """What ended within one tenth of the window's length; ``tick`` counts the tenths."""

    tick: int
    counts: Counts


Window = tuple[Slice, ...]
EMPTY: Window = ()
_NOTHING = Counts()


def observe(window: Window, window_s: float, outcome: Outcome, now_s: float) -> Window:
    """The window with one call more, which ended at ``now_s``."""
    tick = int(now_s * SLICES / window_s)
    if window and tick <= window[-1].tick:
        last = window[-1]
        return (*window[:-1], Slice(last.tick, last.counts.plus(outcome)))
    kept = window if not window or window[0].tick > tick - SLICES else _kept(window, tick)
    return (*kept, Slice(tick, _NOTHING.plus(outcome)))


def counted(window: Window, window_s: float, now_s: float) -> Counts:
    """What is in the window at ``now_s``."""
    tick = int(now_s * SLICES / window_s)
    return sum((piece.counts for piece in _kept(window, tick)), _NOTHING)


def _kept(window: Window, tick: int) -> Window:
    return tuple(piece for piece in window if piece.tick > tick - SLICES)


class Heard(NamedTuple):
    """What a replica said of its own window, and when."""

    counts: Counts
    at_s: float


def fresh(peers: Mapping[str, Heard], window_s: float, now_s: float) -> dict[str, Heard]:
    """What may still be counted: half a window later most of it has slid out of the replica's own window."""
    return {name: heard for name, heard in peers.items() if heard.at_s > now_s - window_s / 2}


def sum_of(own: Counts, peers: Mapping[str, Heard]) -> Counts:
    """The counts of all replicas together."""
    return sum((heard.counts for heard in peers.values()), own)


def outcome_of(error: BaseException | None, duration_s: float, policy: Breaker) -> Outcome | None:
    """What the end of a call says of what was called; None if it says nothing."""
    if error is not None:
        return None if _is_no_fault(error) else "failed"
    return "slow" if policy.slow_s is not None and duration_s > policy.slow_s else "ok"


def _is_no_fault(error: BaseException) -> bool:
    """Wrong input, a decision that no attempt can change, or another circuit that is open."""
    match error:
        case TerminalError() | UsageError():
            return True
        case PeerError(failure=failure):
            return failure.retryable is False or failure.code == CIRCUIT_OPEN
        case RetryableError():
            return error.code == CIRCUIT_OPEN
    return False


def trip_reason(policy: Breaker, counts: Counts) -> str:
    """Why the circuit has to open, in words; empty if it has not."""
    if counts.calls < policy.min_calls:
        return ""
    within = f"of {counts.calls} calls within {policy.window_s:g} s"
    if counts.failures >= policy.failure_share * counts.calls:
        return f"{counts.failures} {within} failed"
    if policy.slow_s is not None and counts.slow >= policy.slow_share * counts.calls:
        return f"{counts.slow} {within} took longer than {policy.slow_s:g} s"
    return ""
