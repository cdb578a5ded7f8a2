"""The state of one circuit, shared by all who use it, and how it moves. Pure.

Closed: calls flow. Open: none does until ``until``, or until a person closes it. Half-open: one of the users, the
prober, lets one call through; it holds that right as a lease, so that another can take it over when it dies.

Instants are for people and for a process that has just started. Whoever sees a state come in counts from then on by a
clock of its own (:func:`remaining_s`), so clocks that differ between machines neither prolong nor shorten anything.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, assert_never

import msgspec

from bus.system_events import BREAKERS_LOG, BreakerClosed, BreakerEvent, BreakerHalfOpened, BreakerOpened
from supervisor.breaker import Breaker
from supervisor.window import Counts, Outcome, trip_reason

# A prober that is not heard of for so long is succeeded; it renews three times as often.
LEASE_S = 6.0
# Those who wait for the moment to probe spread out over this share of the wait, so that they do not all write at once.
SPREAD = 0.05


class _State(msgspec.Struct, frozen=True, kw_only=True, tag_field="state", omit_defaults=True):
    since: datetime | None = None
    by: str = ""
    forced: bool = False


class Closed(_State, frozen=True, kw_only=True, tag="closed"):
    """Calls flow."""


class Open(_State, frozen=True, kw_only=True, tag="open"):
    """No calls until ``until`` (None: until it is closed by hand); ``streak`` probes in a row have failed."""

    until: datetime | None = None
    streak: int = 0
    reason: str = ""
    counts: Counts = Counts()


class HalfOpen(_State, frozen=True, kw_only=True, tag="half_open"):
    """``prober`` may let one call through; it has to renew this before ``until``."""

    prober: str
    until: datetime
    streak: int = 0
    reason: str = ""
    counts: Counts = Counts()


State = Closed | Open | HalfOpen
CLOSED = Closed()


# ---- what may happen to a circuit


class Seen(msgspec.Struct, frozen=True):
    """So many calls ended within the window, all users together; said by ``by``."""

    counts: Counts
    by: str


class Due(msgspec.Struct, frozen=True):
    """The time of the present state is up, and ``by`` is ready to probe."""

    by: str


class Renewed(msgspec.Struct, frozen=True):
    """The prober ``by`` is alive and still at it."""

    by: str


class Probed(msgspec.Struct, frozen=True):
    """The call that ``by`` let through has ended."""

    by: str
    outcome: Outcome


class ForcedOpen(msgspec.Struct, frozen=True):
    """A person holds the calls back: for ``open_s`` seconds, or until it is closed by hand."""

    by: str
    reason: str = "opened by hand"
    open_s: float | None = None


class ForcedClosed(msgspec.Struct, frozen=True):
    """A person lets the calls flow."""

    by: str


Evidence = Seen | Due | Renewed | Probed | ForcedOpen | ForcedClosed


# ---- how it moves


def step(policy: Breaker, state: State, evidence: Evidence, now: datetime) -> State:
    """The state after ``evidence``; the very same object if that changes nothing."""
    match evidence:
        case Seen(counts, by):
            return _seen(policy, state, counts, by, now)
        case Due(by):
            return _due(state, by, now)
        case Renewed(by):
            return _renewed(state, by, now)
        case Probed(by, outcome):
            return _probed(policy, state, by, outcome, now)
        case ForcedOpen(by, reason, open_s):
            return Open(since=now, until=_after(now, open_s), reason=reason, by=by, forced=True)
        case ForcedClosed(by):
            return state if isinstance(state, Closed) else Closed(since=now, by=by, forced=True)
    assert_never(evidence)


def _seen(policy: Breaker, state: State, counts: Counts, by: str, now: datetime) -> State:
    reason = trip_reason(policy, counts) if isinstance(state, Closed) else ""
    if not reason:
        return state
    return Open(since=now, until=_after(now, open_s(policy, 0)), reason=reason, counts=counts, by=by)


def _due(state: State, by: str, now: datetime) -> State:
    match state:
        case Open(until=datetime()):
            since = now
        case HalfOpen(prober=prober) if prober != by:
            since = now
        case HalfOpen(since=since):
            pass
        case _:
            return state
    return HalfOpen(
        since=since, prober=by, until=now + timedelta(seconds=LEASE_S), streak=state.streak, reason=state.reason,
        counts=state.counts, by=by,
    )  # fmt: skip


def _renewed(state: State, by: str, now: datetime) -> State:
    if isinstance(state, HalfOpen) and state.prober == by:
        return msgspec.structs.replace(state, until=now + timedelta(seconds=LEASE_S))
    return state


def _probed(policy: Breaker, state: State, by: str, outcome: Outcome, now: datetime) -> State:
    """Only the word of the present prober counts: another one's lease had run out."""
    if not isinstance(state, HalfOpen) or state.prober != by:
        return state
    if outcome == "ok":
        return Closed(since=now, by=by)
    streak = state.streak + 1
    what = "failed" if outcome == "failed" else "was slow"
    reason = f"the probe {what}" + (f", {streak} in a row" if streak > 1 else "")
    return Open(since=now, until=_after(now, open_s(policy, streak)), streak=streak, reason=reason, by=by)


def _after(now: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)


def open_s(policy: Breaker, streak: int) -> float:
    """How long it stays open after ``streak`` failed probes in a row."""
    longest_s = max(policy.open_s, policy.max_open_s)
    # 2.0**1024 would overflow; after 64 doublings any limit is reached.
    return float(min(longest_s, policy.open_s * 2.0 ** min(streak, 64)))


# ---- time


def remaining_s(state: State, now: datetime, *, is_news: bool) -> float | None:
    """Seconds until a circuit that is seen now may be probed (by another prober); None: not by itself.

    ``is_news``: it was written just now, so its whole length is ahead, whatever the clocks say. Else the instant in it
    is all there is, bound by that length.
    """
    match state:
        case Closed() | Open(until=None):
            return None
        case Open(since=since, until=datetime() as until):
            whole_s = max(0.0, (until - since).total_seconds()) if since else 0.0
        case HalfOpen(until=until):
            whole_s = LEASE_S
        case _:
            raise AssertionError(state)
    return whole_s if is_news else min(whole_s, max(0.0, (until - now).total_seconds()))


def spread_s(wait_s: float, roll: float) -> float:
    """The wait of one of many who all wait for the same moment; ``roll`` is a random number in [0, 1)."""
    return wait_s * (1 + SPREAD * roll)


# ---- records


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[State] = msgspec.json.Decoder(State)


def encode_state(state: State) -> bytes:
    """The state as it is kept in the bucket."""
    return _encoder.encode(state)


def decode_state(body: bytes) -> State:
    """The state in the bucket. What nobody can read is no reason to hold calls back, so it counts as closed."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return CLOSED


def event_of(key: str, before: State, after: State) -> BreakerEvent | None:
    """What the log has to say of the move; None for a lease that was renewed."""
    common: dict[str, Any] = {"job": BREAKERS_LOG, "breaker": key, "by": after.by}
    match after:
        case Closed(forced=forced):
            return BreakerClosed(**common, forced=forced)
        case Open(counts=counts):
            return BreakerOpened(
                **common, reason=after.reason, open_s=_length_s(after), calls=counts.calls, failures=counts.failures,
                slow=counts.slow, forced=after.forced,
            )  # fmt: skip
        case HalfOpen(prober=prober):
            is_same = isinstance(before, HalfOpen) and before.prober == prober
            return None if is_same else BreakerHalfOpened(**common)
    assert_never(after)


def _length_s(state: Open) -> float:
    if state.until is None or state.since is None:
        return 0.0
    return (state.until - state.since).total_seconds()
