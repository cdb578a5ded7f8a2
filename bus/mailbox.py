"""A mailbox: the messages that one shared durable consumer hands to this process, many in flight at once.

Our own pull loop over raw requests, since ``fetch`` of nats-py parks one request at a time, hides its statuses and
can stall after an orphaned pull (nats.py #986). Nothing polls: a pull waits on the server for ``EXPIRES_S``, with an
idle heartbeat every ``HEARTBEAT_S``. A pull that is lost (reconnect, missed heartbeats, consumer gone) is forgotten
and asked again; a message that a forgotten pull still brings is taken all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus import headers as h
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, BusError
from bus.leases import LeaseBook

log = logging.getLogger("callboard.mailbox")

EXPIRES_S = 60.0
HEARTBEAT_S = 4.0
STOP_S = 2.0
# Silence for so many heartbeats is a gap. Above 1, or any late timer were one; and 4.6 s are less than the shortest ack
# time-out in use (5 s), so that no message can be another's by then without a gap before it.
LATE_HEARTBEATS = 1.15
_NS = 1_000_000_000


class Delivery:
    """One message to work on, leased to this process until exactly one of ack, nak, term or forget ends it."""

    __slots__ = ("_bus", "_done", "_mailbox", "_parts", "body", "headers", "reply", "subject")

    def __init__(self, mailbox: Mailbox, msg: Msg) -> None:
        self._mailbox = mailbox
        self._bus = mailbox.bus
        self._done = False
        self.subject: str = msg.subject
        self.body: bytes = msg.data
        self.headers: dict[str, str] = msg.headers or {}
        self.reply: str = msg.reply
        self._parts: list[str] = []

    # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>, or with domain, account
    # and a random token: both end alike, so count from the end (ADR-15).
    def _field(self, from_end: int) -> int:
        parts = self._parts = self._parts or self.reply.split(".")
        return int(parts[from_end if len(parts) <= 9 else from_end - 1])

    @property
    def is_in_a_crowd(self) -> bool:
        """Whether its mailbox is nearly full, so that what it holds keeps others out."""
        return self._mailbox.is_crowded

    @property
    def attempt(self) -> int:
        """How often the server has delivered this message, this time included."""
        return self._field(-5)

    @property
    def sequence(self) -> int:
        """The message's sequence in its stream."""
        return self._field(-4)

    @property
    def stored_ns(self) -> int:
        """When the server stored it, in ns since the epoch."""
        return self._field(-2)

    @property
    def stored_at(self) -> datetime:
        """When the server stored it."""
        return datetime.fromtimestamp(self.stored_ns / _NS, UTC)

    async def ack(self) -> None:
        """The work is done and recorded."""
        await self._end(b"")

    async def nak(self, delay_s: float = 0.0) -> None:
        """Hand it back; it is delivered again, to anyone, after ``delay_s`` seconds."""
        body = b'-NAK {"delay": %d}' % int(delay_s * _NS) if delay_s > 0 else b"-NAK"
        await self._end(body)

    async def term(self, reason: str) -> None:
        """Never deliver it again."""
        await self._end(b"+TERM " + reason.encode()[:200].replace(b"\n", b" "))

    def forget(self) -> None:
        """Let go without a word: somebody else holds this message now, and an ack of ours would end *their* lease."""
        if not self._done:
            self._done = True
            self._mailbox.release(self)

    async def in_progress(self) -> None:
        """The work goes on: the server starts its ack time-out anew."""
        if not self._done:
            await self._bus.publish(self.reply, b"+WPI")

    async def _end(self, body: bytes) -> None:
        if self._done:
            return
        self._done = True
        await self._bus.publish(self.reply, body)
        self._mailbox.release(self)


class _Pull:
    __slots__ = ("left", "seen_s")

    def __init__(self, left: int, seen_s: float) -> None:
        self.left = left
        self.seen_s = seen_s


class Mailbox:
    """Keeps up to ``capacity`` messages of one consumer in flight; ``on_delivery`` gets each and must not block.

    ``rebuild`` is called when the consumer turns out to be missing, to make it again. ``on_gap`` is called before a
    message that may be late: nothing was heard for longer than a heartbeat takes, since this process was stopped or the
    link stood still. What comes now the server may have sent long ago, and given to somebody else meanwhile.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        on_delivery: Callable[[Delivery], None],
        *,
        capacity: int,
        rebuild: Callable[[], Awaitable[None]],
        leases: LeaseBook | None = None,
        on_gap: Callable[[], None] = lambda: None,
    ) -> None:
        self.bus = bus
        self.stream = stream
        self.consumer = consumer
        self.in_flight: set[Delivery] = set()
        self.taken = 0
        self.handled = 0
        self.last_sequence = 0
        self._next = f"{bus.js_api}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._on_delivery = on_delivery
        self._capacity = self._usual = capacity
        self._allowance: int | None = None
        self._rebuild = rebuild
        self._leases = leases
        self._on_gap = on_gap
        self._heard_s = 0.0
        self._was_silent = False
        self._pulls: dict[str, _Pull] = {}
        self._ids = itertools.count()
        self._inbox = ""
        self._sub: Subscription | None = None
        self._wake = asyncio.Event()
        self._trouble: str = ""
        self._recovering = False
        self._backoff_s = 0.0
        self._loop_task: asyncio.Task[None] | None = None
        self._time = asyncio.get_running_loop().time

    # ---- life

    async def start(self) -> None:
        """Make the consumer and begin to take messages. Raises what ``rebuild`` raises, but for an outage."""
        try:
            await self._rebuild()
        except (Ambiguous, NoResponder) as error:
            self._trouble = str(error)  # it is tried again until it works, as at any later time
        await self._listen()
        self.bus.on_reconnect.append(self._forget_pulls)
        self._wake.set()
        self._loop_task = asyncio.create_task(self._run(), name=f"mailbox {self.consumer}")

    async def _listen(self) -> None:
        self._inbox = self.bus.client.new_inbox() + "."
        self._sub = await self.bus.subscribe(self._inbox + "*", self._on_message)

    async def hold(self, allowance: int = 0) -> None:
        """Take ``allowance`` messages more, and then none until :meth:`resume`; what is in flight goes on.

        What the server had sent by now still comes, whatever the allowance; its worker hands it back.
        """
        self._allowance = allowance
        if self._loop_task and sum(pull.left for pull in self._pulls.values()) > allowance:
            await self._recall_pulls()
        self._wake.set()

    async def resume(self) -> None:
        """Take as many messages as there is room for again."""
        self._allowance = None
        self._wake.set()

    def widen(self, capacity: int) -> None:
        """Keep up to ``capacity`` messages in flight from here; less than there are means that none is asked for."""
        if self._capacity and capacity != self._capacity:
            self._capacity = capacity
            self._wake.set()

    async def _recall_pulls(self) -> None:
        """The server gives nothing to a pull whose inbox nobody listens to, so the inbox changes."""
        old = self._sub
        self._pulls.clear()
        await self._listen()
        if old:
            await _drain(old)

    async def stop_taking(self) -> None:
        """Ask for no more; what is in flight stays with its workers. Idempotent."""
        loop_task, self._loop_task = self._loop_task, None  # at once: a stop may come in the middle of a drain
        if loop_task:
            self.bus.on_reconnect.remove(self._forget_pulls)
            loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop_task
        self._capacity = 0
        sub, self._sub = self._sub, None
        if sub:
            await _drain(sub)

    async def hand_back(self) -> None:
        """Nak all that is still in flight, so that another process gets it at once."""
        for delivery in list(self.in_flight):
            await delivery.nak()

    async def keep_leases(self) -> None:
        """Tell the server that everything in flight is being worked on."""
        for delivery in list(self.in_flight):
            await delivery.in_progress()
        if self._leases:
            self._leases.touch()

    def release(self, delivery: Delivery) -> None:
        """Called by a delivery that has ended: there is room again."""
        self.in_flight.discard(delivery)
        self.handled += 1
        self.last_sequence = delivery.sequence
        if self._leases:
            self._leases.release(delivery.reply)
        if not self._wake.is_set() and self._room() >= self._threshold():
            self._wake.set()

    # ---- credit

    @property
    def room(self) -> int:
        """How many messages it has asked for, or is about to.

        0 while it does not wait for any, and knows it: not begun, stopped, on hold, or in trouble with its consumer.
        """
        if self._loop_task is None or self._trouble or self._recovering:
            return 0
        asked, more = sum(p.left for p in self._pulls.values()), self._room()
        return asked + more if more >= self._threshold() else asked

    @property
    def is_crowded(self) -> bool:
        """Whether three quarters of the room are taken: below that the server is asked for more."""
        return len(self.in_flight) > self._usual * 3 // 4

    def _room(self) -> int:
        asked = sum(p.left for p in self._pulls.values())
        if self._allowance is not None:  # beside what was in flight when it was given
            return self._allowance - asked if self._capacity else 0
        return self._capacity - len(self.in_flight) - asked

    def _threshold(self) -> int:
        """Ask again when a quarter is free: few large pulls are cheaper than many of one."""
        return 1 if self._allowance is not None else max(1, self._capacity // 4)

    async def _run(self) -> None:
        while True:
            await self._wait_for_cause()
            if self._trouble:
                await self._recover()
            elif self._room() >= self._threshold():
                await self._pull(self._room())

    async def _wait_for_cause(self) -> None:
        """Until there is room, trouble, or a pull that should have been heard of."""
        oldest = min((p.seen_s for p in self._pulls.values()), default=None)
        limit = None if oldest is None else max(0.1, oldest + HEARTBEAT_S * 2 - self._time())
        try:
            async with asyncio.timeout(limit):
                await self._wake.wait()
        except TimeoutError:
            self._drop_silent_pulls()
        self._wake.clear()

    async def _pull(self, batch: int) -> None:
        token = str(next(self._ids))
        if not self._pulls:  # with no pull out, silence says nothing
            self._heard_s = self._time()
        self._pulls[token] = _Pull(batch, self._time())
        body = {"batch": batch, "expires": int(EXPIRES_S * _NS), "idle_heartbeat": int(HEARTBEAT_S * _NS)}
        await self.bus.publish(self._next, msgspec.json.encode(body), reply=self._inbox + token)

    def _forget_pulls(self) -> None:
        """After a reconnect the server knows none of our pulls."""
        self._pulls.clear()
        self._wake.set()

    def _drop_silent_pulls(self) -> None:
        oldest = self._time() - HEARTBEAT_S * 2
        for token in [t for t, p in self._pulls.items() if p.seen_s <= oldest]:
            log.warning("%s: a pull was not heard of for %g s, asking again", self.consumer, HEARTBEAT_S * 2)
            del self._pulls[token]
            self._was_silent = True

    # ---- what comes

    def _on_message(self, msg: Msg) -> None:
        now = self._time()
        if self._was_silent or now - self._heard_s > HEARTBEAT_S * LATE_HEARTBEATS:
            self._was_silent = False
            self._on_gap()
        self._heard_s = now
        if msg.reply.startswith("$JS.ACK."):
            self._take(msg)
        elif msg.headers and h.STATUS in msg.headers:
            token = msg.subject[len(self._inbox) :]
            self._on_status(msg.headers[h.STATUS], msg.headers.get(h.DESCRIPTION, ""), token)

    def _take(self, msg: Msg) -> None:
        self._backoff_s = 0.0
        self._count_delivery()
        if self._allowance:
            self._allowance -= 1
        delivery = Delivery(self, msg)
        self.taken += 1
        self.in_flight.add(delivery)
        if self._leases:
            self._leases.hold(delivery.reply)
        self._on_delivery(delivery)

    def _count_delivery(self) -> None:
        """Charge the oldest pull: a message keeps its own subject, and the server serves pulls in their order.

        When a pull ends its status names it, and what it was charged too little or too much goes with it.
        """
        for token, pull in self._pulls.items():
            pull.left -= 1
            pull.seen_s = self._time()
            if pull.left <= 0:
                del self._pulls[token]
            return

    def _on_status(self, status: str, description: str, token: str) -> None:
        if status == "100":
            if pull := self._pulls.get(token):
                pull.seen_s = self._time()
            return
        self._pulls.pop(token, None)
        benign = status in ("404", "408") or "Batch Completed" in description
        if not benign:
            self._trouble = f"{status} {description}"
        self._wake.set()

    async def _recover(self) -> None:
        trouble, self._trouble, self._recovering = self._trouble, "", True
        self._backoff_s = min(5.0, max(0.1, self._backoff_s * 2))
        log.warning("%s: %s; trying again in at most %.1f s", self.consumer, trouble, self._backoff_s)
        await asyncio.sleep(random.random() * self._backoff_s)
        try:
            await self._rebuild()
        except BusError as error:
            self._trouble = str(error)
        self._recovering = False
        self._pulls.clear()
        self._wake.set()


async def _drain(sub: Subscription) -> None:
    """What the server has sent already is taken, and handed back, instead of waiting for its time-out."""
    with contextlib.suppress(Exception):  # the connection may be gone, and with it all that was sent
        async with asyncio.timeout(STOP_S):
            await sub.drain()  # type: ignore[no-untyped-call]


async def hand_back_inherited(bus: Bus, leases: LeaseBook) -> int:
    """Nak what the killed predecessor of this process held; returns how many."""
    for reply in leases.inherited:
        await bus.publish(reply, b"-NAK")
        leases.release(reply)
    return len(leases.inherited)
