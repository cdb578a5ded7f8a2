"""Following the log: history first, then live, every event once and in order.

A tail reads with a pull consumer of its own, without acks, and trusts it only as far as its count goes: the consumer
numbers what it delivers, so a hole is seen. On a hole, a reconnect, a lost consumer or silence the tail makes a new
consumer that begins after the last sequence it has seen. (An ordered consumer of nats-py does the same, but takes up to
20 s after a server restart and may begin anew from the start: NATS-FACTS, finding 7.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from bus import headers as h
from bus.connection import ApiError, Bus, Message, NoResponder, Subscription
from bus.errors import Ambiguous, BusError, ServerUnsuitable, Unreadable, UsageError
from bus.messages import Event, decode
from bus.objects import BlobMissing, Blobs
from bus.reader import Stored
from bus.streams import EVENTS, stream_info, tail_consumer
from bus.subjects import check_job_id, check_name, parse_event
from store.artifacts import unclaim
from store.log import Recorded

log = logging.getLogger("callboard.tail")

BATCH = 500
EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
SILENCE_S = 2.5 * HEARTBEAT_S
_NS = 1_000_000_000
_BLOB_TRIES = 3


@dataclass(frozen=True, slots=True)
class Followed(Recorded):
    """An event of a tail, which may go over many workspaces."""

    workspace: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A message in the log that nobody can read: told, so that nothing vanishes."""

    sequence: int
    subject: str
    reason: str


TailItem = Followed | Unread


def live_filter(workspace: str | None = None, job: str | None = None, kind: str | None = None) -> str:
    """The subject to tail: all events, or those of one workspace, job and kind.

    A kind may be a beginning: ``job.failed``, ``reply``, ``call.tool.quote``.
    Raises: UsageError for what cannot be a token of a subject.
    """
    first = check_name(workspace, "workspace") if workspace else "*"
    second = check_job_id(job) if job else "*"
    return f"log.{first}.{second}.{_kind_filter(kind) if kind else '>'}"


_WHOLE_TOKENS = {"job": 2, "reply": 2, "signal": 2, "call": 4}


def _kind_filter(kind: str) -> str:
    """A kind as a filter; the beginning of a kind stands for all that begin so."""
    tokens = kind.removesuffix(".>").split(".")
    whole = _WHOLE_TOKENS.get(tokens[0])
    if whole is None or len(tokens) > whole:
        raise UsageError(
            f"{kind!r} is no kind of event",
            code="bad_kind",
            path="kind",
            hint="job.failed, reply, call.tool.quote, ...",
        )
    for token in tokens[1:]:
        if token != "*":  # noqa: S105 - a token of a subject
            check_name(token, "kind")
    return kind if len(tokens) == whole else ".".join([*tokens, ">"])


async def tail(
    bus: Bus, blobs: Blobs, subject: str, *, since: int = 0, new_only: bool = False
) -> AsyncIterator[TailItem]:
    """Every event of ``subject`` (see ``live_filter``) after sequence ``since``, then each new one as it is stored.

    ``new_only`` begins at the end of the log as it is when the first item is asked for. Goes on over any trouble of the
    connection; close it (``contextlib.aclosing``) to leave nothing behind on the server.
    Raises: ServerUnsuitable (JetStream off, no log yet), ApiError, PermissionRefused, BusClosed.
    """
    info = await stream_info(bus, EVENTS)
    if info is None:
        raise ServerUnsuitable(
            f"there is no stream {EVENTS} yet", hint="start a node: 'callboard up' or 'callboard node'"
        )
    source = _Source(bus, subject, info["state"]["last_seq"] if new_only else since)
    await source.open()
    try:
        while True:
            yield await _item(bus, blobs, await source.next())
    finally:
        await source.close()


async def _item(bus: Bus, blobs: Blobs, stored: Stored) -> TailItem:
    try:
        workspace = parse_event(stored.subject).workspace
        event = decode(stored.body, subject=stored.subject, sequence=stored.sequence)
        whole = event if event.blob is None else await _unclaim(bus, blobs, event)
    except Unreadable as error:
        return Unread(stored.sequence, stored.subject, error.reason)
    except (UsageError, BusError) as error:
        return Unread(stored.sequence, stored.subject, str(error))
    return Followed(stored.sequence, whole, workspace)


async def _unclaim(bus: Bus, blobs: Blobs, event: Event) -> Event:
    """The whole event; a connection that breaks meanwhile is waited for, a blob that is not there is not."""
    for _ in range(_BLOB_TRIES - 1):
        try:
            return await unclaim(blobs, event)
        except BlobMissing:
            raise
        except BusError as error:
            log.info("blob of %s: %s; trying again", event.job, error)
            await bus.settle()
    return await unclaim(blobs, event)


# ---- the consumer behind a tail


class _Source:
    """Stored messages after ``last``, each once, in order. Asks for more only when all that came has been taken."""

    def __init__(self, bus: Bus, subject: str, since: int) -> None:
        self.last = since
        self._bus = bus
        self._subject = subject
        self._queue: deque[Stored] = deque()
        self._inbox = bus.client.new_inbox() + "."
        self._sub: Subscription | None = None
        self._consumer = ""
        self._count = 0  # how many messages the consumer has numbered
        self._pulls = 0
        self._left = 0  # of the present pull; 0 when none is out
        self._trouble = "no consumer yet"
        self._heard = asyncio.Event()

    async def open(self) -> None:
        self._sub = await self._bus.subscribe(self._inbox + "*", self._on_message)
        self._bus.on_reconnect.append(self._on_reconnect)

    async def next(self) -> Stored:
        while not self._queue:
            await self._wait()
        return self._queue.popleft()

    async def close(self) -> None:
        self._bus.on_reconnect.remove(self._on_reconnect)
        await self._drop()
        if self._sub:
            with contextlib.suppress(Exception):  # a connection that is closed already has no subscriptions
                await self._sub.unsubscribe()

    async def _wait(self) -> None:
        """Until something is heard: an event, the end of a pull, a heartbeat, or trouble."""
        while self._trouble:  # again if the connection broke meanwhile
            await self._renew()
        self._heard.clear()
        if not self._left:
            await self._pull()
        try:
            async with asyncio.timeout(SILENCE_S):
                await self._heard.wait()
        except TimeoutError:
            self._trouble = f"nothing heard for {SILENCE_S} s"

    async def _pull(self) -> None:
        self._pulls += 1
        self._left = BATCH
        body = {"batch": BATCH, "expires": int(EXPIRES_S * _NS), "idle_heartbeat": int(HEARTBEAT_S * _NS)}
        subject = f"{self._bus.js_api}.CONSUMER.MSG.NEXT.{EVENTS}.{self._consumer}"
        await self._bus.publish(subject, msgspec.json.encode(body), reply=f"{self._inbox}{self._pulls}")

    # ---- what comes

    def _on_message(self, msg: Message) -> None:
        if msg.reply.startswith("$JS.ACK."):  # stored messages keep the subject that they were written to
            self._take(msg)
        elif msg.subject == f"{self._inbox}{self._pulls}" and msg.headers:
            self._on_status(msg.headers.get(h.STATUS, ""), msg.headers.get(h.DESCRIPTION, ""))

    def _take(self, msg: Message) -> None:
        consumer, sequence, count = _place(msg.reply)
        if consumer != self._consumer or self._trouble:
            return
        if count != self._count + 1:
            self._fail(f"the consumer is at its message {count}, {self._count + 1} was expected")
            return
        self._count = count
        self._left -= 1
        self.last = sequence
        self._queue.append(Stored(msg.subject, sequence, msg.data, msg.headers or {}))
        self._heard.set()

    def _on_status(self, status: str, description: str) -> None:
        if status in ("404", "408"):  # the pull's time is over
            self._left = 0
        elif status != "100":
            self._fail(f"{status} {description}")
        self._heard.set()

    def _on_reconnect(self) -> None:
        # Without acks the server counts as delivered what was lost with the old connection.
        self._fail("reconnected")

    def _fail(self, trouble: str) -> None:
        self._trouble = trouble
        self._heard.set()

    # ---- trouble

    async def _renew(self) -> None:
        """Make a new consumer after ``last``; goes on until it stands, however long the server is away."""
        log.info("%s: %s; reading from %d", self._subject, self._trouble, self.last + 1)
        await self._drop()
        wait_s = 0.05
        while True:
            await self._bus.settle()
            try:
                return await self._create()
            except (Ambiguous, NoResponder) as error:
                log.info("%s: %s; trying again", self._subject, error)
            except ApiError as error:
                if error.code != 503:  # no leader yet, resources short
                    raise
            await asyncio.sleep(random.random() * wait_s)
            wait_s = min(2.0, wait_s * 2)

    async def _create(self) -> None:
        self._consumer, self._count, self._left = f"tail-{secrets.token_hex(6)}", 0, 0
        self._trouble = ""  # before the request: a reconnect during it has to count
        try:
            await tail_consumer(self._bus, EVENTS, self._consumer, self._subject, since=self.last)
        except BaseException:
            self._trouble = self._trouble or "no consumer yet"
            raise

    async def _drop(self) -> None:
        """Leave nothing behind; what cannot be deleted now the server removes when it has been idle for a while."""
        consumer, self._consumer = self._consumer, ""
        if consumer and self._bus.is_online:
            with contextlib.suppress(BusError):
                await self._bus.api(f"CONSUMER.DELETE.{EVENTS}.{consumer}", timeout_s=2)


def _place(reply: str) -> tuple[str, int, int]:
    """Consumer, stream sequence and consumer sequence in an ack subject.

    ``$JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<ns>.<pending>``; with a domain and
    an account there is one more token at the end, so count from there (ADR-15).
    """
    parts = reply.split(".")
    end = len(parts) if len(parts) <= 9 else len(parts) - 1
    return parts[end - 6], int(parts[end - 4]), int(parts[end - 3])
