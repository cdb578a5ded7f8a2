"""One process's part in one circuit: what it lets through, what it counts, and when it asks for a move.

While the circuit is closed a call costs some arithmetic here and no message. Once calls fail, the processes that share
the circuit tell each other what they have counted, so that a component is judged by the calls of all its replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from bus.connection import Message, Subscription
from bus.errors import BusError
from supervisor.breaker import Breaker
from supervisor.circuit import (
    LEASE_S,
    Closed,
    Due,
    Evidence,
    HalfOpen,
    Probed,
    Renewed,
    Seen,
    State,
    spread_s,
    step,
)
from supervisor.window import EMPTY, Counts, Heard, Outcome, counted, fresh, observe, sum_of, trip_reason

if TYPE_CHECKING:
    from actors.breakers.breakers import Breakers, Known

log = logging.getLogger("callboard.breaker")

# In trouble a process says so often what it has counted; among many, each of them less often.
TELL_S = 0.3
TELL_PEERS = 8
TRY_AGAIN_S = 1.0
# A timer of uvloop counts in milliseconds, and may come a little early.
TIMER_S = 0.002
ENTER_S = 2.0


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``by`` has counted within its window; an answer asks for no answer."""

    by: str
    counts: Counts
    is_answer: bool = False


_decode = msgspec.json.Decoder(Told).decode


class Permit:
    """The right to make one call, or any number of them while the circuit is closed. Told apart by identity."""

    __slots__ = ()


class Circuit:
    """Made by ``Breakers.circuit``. All of it belongs to the event loop, but for reading ``closed_permit``."""

    def __init__(self, breakers: Breakers, key: str, policy: Breaker, known: Known, *, is_eager: bool) -> None:
        self.key = key
        self.policy = policy
        self.on_change: list[Callable[[], None]] = []
        self.closed_permit: Permit | None = Permit() if isinstance(known.state, Closed) else None
        self.known = known
        self._breakers = breakers
        self._is_eager = is_eager
        self._window = EMPTY
        self._peers: dict[str, Heard] = {}
        self._probe: Permit | None = None
        self._is_concluding = False
        self._is_moving = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._told_s = self._rests_until_s = float("-inf")
        self._asks = False
        self._sub: Subscription | None = None
        self._time = breakers.loop.time
        self._arm()

    async def listen(self) -> None:
        """Hear what the others count."""
        try:
            self._sub = await self._breakers.bus.subscribe(f"brk.{self.key}", self._on_told)
        except BusError as error:
            log.warning("circuit %s: %s; it counts alone", self.key, error)

    async def close(self) -> None:
        """Take no more part in it."""
        for timer in (self._timer, self._telling):
            if timer:
                timer.cancel()
        self._timer = self._telling = None
        if self._sub:
            with contextlib.suppress(Exception):  # the connection may be gone already
                await self._sub.unsubscribe()

    # ---- where it stands

    @property
    def state(self) -> State:
        """The last known state."""
        return self.known.state

    @property
    def is_mine(self) -> bool:
        """Whether this process is the prober, and its lease has not run out by its own clock."""
        state, due_s = self.known.state, self.known.due_s
        return (
            isinstance(state, HalfOpen) and state.prober == self._breakers.me
            and due_s is not None and self._time() < due_s
        )  # fmt: skip

    @property
    def may_probe(self) -> bool:
        """Whether the next call is let through as the probe."""
        return self._probe is None and self.is_mine

    @property
    def is_due(self) -> bool:
        """Whether somebody has to probe."""
        return self.known.due_s is not None and self._time() >= self.known.due_s

    @property
    def left_s(self) -> float | None:
        """Seconds until the present state may be probed; None: not by itself."""
        return None if self.known.due_s is None else max(0.0, self.known.due_s - self._time())

    # ---- calls

    def admit(self) -> Permit | None:
        """Leave for a call to begin; None: it must not. Every permit has to be given back by ``end``."""
        if self.closed_permit is not None:
            return self.closed_permit
        if self.may_probe:
            self._probe = Permit()
            self._arm()  # from here on the lease is kept
            return self._probe
        return None

    async def enter(self) -> Permit | None:
        """As :meth:`admit`; if it is time to probe and nobody does, this call is the probe."""
        permit = self.admit()
        if permit is None and self.is_due:
            # Not cancelled when it takes too long: it may be done all the same, and who did it has to say so.
            await asyncio.wait({self._breakers.spawn(self._try_to_probe())}, timeout=ENTER_S)
            permit = self.admit()
        return permit

    def want(self) -> None:
        """A call would be made if it might: if it is time to probe, become the prober for the next one."""
        if self.is_due:
            self._breakers.spawn(self._try_to_probe())

    def end(self, permit: Permit, outcome: Outcome | None) -> None:
        """The call has ended; None says nothing of the component, and a probe that says nothing is made again."""
        if permit is self.closed_permit:
            if outcome is not None:
                self.count(outcome)
        elif permit is self._probe and not self._is_concluding:
            if outcome is None:
                self._probe = None
                self._tell_change()
            else:
                self._is_concluding = True
                self._breakers.spawn(self._conclude(permit, outcome))

    def count(self, outcome: Outcome) -> None:
        """One call more has ended, in this process or in one that died over it."""
        if self.closed_permit is None:
            return
        self._window = observe(self._window, self.policy.window_s, outcome, self._time())
        if outcome != "ok":
            self._tell(asks=True)
            self._weigh()

    # ---- together with the others

    def _counts(self) -> Counts:
        return counted(self._window, self.policy.window_s, self._time())

    def _weigh(self) -> None:
        self._peers = fresh(self._peers, self.policy.window_s, self._time())
        counts = sum_of(self._counts(), self._peers)
        is_free = not self._is_moving.locked() and self._time() >= self._rests_until_s
        if is_free and trip_reason(self.policy, counts):
            self._breakers.spawn(self._move(Seen(counts, self._breakers.me)))

    def _on_told(self, msg: Message) -> None:
        try:
            told = _decode(msg.data)
        except msgspec.DecodeError:
            return
        if told.by == self._breakers.me or self.closed_permit is None:
            return
        self._peers[told.by] = Heard(told.counts, self._time())
        if not told.is_answer and self._window:
            self._tell(asks=False)
        self._weigh()

    def _tell(self, *, asks: bool) -> None:
        """Say what is counted here, now or when it is time again."""
        self._asks = self._asks or asks
        if self._telling is None:
            pause_s = TELL_S * max(1.0, len(self._peers) / TELL_PEERS)
            wait_s = max(0.0, self._told_s + pause_s - self._time())
            self._telling = self._breakers.loop.call_later(wait_s, self._tell_now)

    def _tell_now(self) -> None:
        self._telling = None
        asks, self._asks = self._asks, False
        if self.closed_permit is None:
            return
        self._told_s = self._time()
        told = Told(self._breakers.me, self._counts(), not asks)
        self._breakers.spawn(self._publish(msgspec.json.encode(told)))

    async def _publish(self, body: bytes) -> None:
        with contextlib.suppress(BusError):
            await self._breakers.bus.publish(f"brk.{self.key}", body)

    # ---- moves

    def take(self, known: Known) -> None:
        """The state in the bucket, from now on."""
        is_renewal = _place(known.state) == _place(self.known.state)
        self.known = known
        if not is_renewal:
            self._window, self._probe = EMPTY, None
            self._peers.clear()
            self.closed_permit = Permit() if isinstance(known.state, Closed) else None
        self._arm()
        if not is_renewal:
            self._tell_change()

    def _tell_change(self) -> None:
        for hook in self.on_change:
            hook()

    def _arm(self) -> None:
        """Have a look again when something is to be done."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        left_s = self.left_s
        if left_s is None:
            return
        if self.is_mine:
            self._timer = self._breakers.loop.call_later(min(left_s / 2, LEASE_S / 3), self._renew)
        elif self._is_eager:
            wait_s = spread_s(left_s, random.random()) + TIMER_S
            self._timer = self._breakers.loop.call_later(wait_s, self._on_due)

    def _on_due(self) -> None:
        if self.is_due:
            self.want()
        else:
            self._arm()

    def _renew(self) -> None:
        """Who found no call to probe with yet, or has it under way, stays the prober; an idle caller does not."""
        if self._is_eager or self._probe is not None:
            self._breakers.spawn(self._move(Renewed(self._breakers.me)))

    async def _try_to_probe(self) -> None:
        if self.is_due:
            await self._move(Due(self._breakers.me), only_if=lambda: self.is_due)

    async def _conclude(self, permit: Permit, outcome: Outcome) -> None:
        """Say what the probe has found, for as long as that is this process's to say."""
        try:
            while self._probe is permit and self.is_mine:
                if await self._move(Probed(self._breakers.me, outcome)):
                    return
                await asyncio.sleep(TRY_AGAIN_S * random.random())
        finally:
            self._is_concluding = False
            if self._probe is permit:  # too late: it was another one's to say
                self._probe = None

    async def _move(self, evidence: Evidence, *, only_if: Callable[[], bool] = lambda: True) -> bool:
        """Whether nothing is left to do about it."""
        async with self._is_moving:
            if not only_if():
                return True
            before = self.known
            after = step(self.policy, before.state, evidence, datetime.now(UTC))
            if after is before.state or await self._breakers.move(self.key, before, after):
                return True
        if self.known is before:  # nobody was faster: the bus could not be asked
            self._try_later()
        return False

    def _try_later(self) -> None:
        self._rests_until_s = self._time() + TRY_AGAIN_S
        if self._timer:
            self._timer.cancel()
        act = self._renew if self.is_mine else self._on_due
        if self._is_eager or self.is_mine:
            self._timer = self._breakers.loop.call_later(TRY_AGAIN_S * (0.5 + random.random()), act)


def _place(state: State) -> tuple[type, str]:
    """What makes two states the same one, renewed."""
    return type(state), state.prober if isinstance(state, HalfOpen) else str(state.since)
