"""One connection to NATS, with the rules that nats-py leaves to its user (NATS-FACTS, findings 3, 4, 5 and item 11).

- It reconnects for ever. When the client closes for good, ``closed`` is set and the process has to end.
- A body is checked against the server's limit with its headers: too big a message would close the connection.
- Requests go through one wildcard inbox: 19 us of CPU per fenced append, where ``js.publish`` takes 38.
- Nothing here retries. A lost answer is ``Ambiguous``; whoever published reads back (``store.log``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
from collections.abc import Callable, Mapping
from typing import Any, Self

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus import headers as h
from bus.acks import is_duplicate, sequence_of
from bus.destination import Destination, destination_of
from bus.errors import (
    Ambiguous,
    ApiError,
    BusClosed,
    BusRefused,
    BusUnreachable,
    NoResponder,
    PermissionRefused,
    ServerUnsuitable,
    TooLarge,
)
from bus.inbox import Inbox
from bus.lean_client import LeanClient
from bus.options import ConnectOptions
from bus.subscription import subscribe_direct

log = logging.getLogger("callboard.bus")

Message = Msg
__all__ = ["ApiError", "Bus", "Message", "NoResponder", "Subscription", "is_duplicate", "sequence_of"]

HEADER_ROOM_BYTES = 1024
SERVER_MIN = (2, 12)
_REFUSED = re.compile(r"permissions violation for (publish|subscription) to \"?([^\"\s]+)\"?", re.IGNORECASE)

Headers = Mapping[str, str]
OnMessage = Callable[[Msg], None]


class Bus:
    """A live connection. Make one with :meth:`connect`; use it as an async context manager or call :meth:`close`."""

    def __init__(self, client: LeanClient, name: str) -> None:
        self.name = name
        self.closed = asyncio.Event()
        self.reconnects = 0
        self.on_reconnect: list[Callable[[], None]] = []
        self.last_error: str = ""
        self.js_api = "$JS.API"
        self.destination = Destination()
        self._refused = ""
        self._nc = client
        self._inbox = Inbox()
        self._near_limit_bytes = 0
        self._online = asyncio.Event()
        self._closing = False
        self._loop = asyncio.get_running_loop()

    # ---- life

    @classmethod
    async def connect(cls, options: ConnectOptions, *, name: str = "callboard", timeout_s: float = 5.0) -> Bus:
        """Connect, or say within ``timeout_s`` seconds why not. ``timeout_s`` inf waits for the server.

        Raises: BusUnreachable (no server, wrong credentials), ServerUnsuitable (older than 2.12), PermissionRefused
        (the inbox, without which no answer can come).
        """
        client = LeanClient()
        bus = cls(client, name)
        bus.destination = destination_of(options)
        if options.jetstream_domain:
            bus.js_api = f"$JS.{options.jetstream_domain}.API"
        await bus._dial(options, timeout_s)
        try:
            bus._check_server()
            bus._check_tls(options)
            await bus._open_inbox()
        except BaseException:
            await bus.close()
            raise
        return bus

    async def _dial(self, options: ConnectOptions, timeout_s: float) -> None:
        refused: asyncio.Future[str] = self._loop.create_future()

        async def on_error(error: Exception) -> None:
            self._note_error(error, refused)

        dial = asyncio.create_task(
            self._nc.connect(
                **options.to_nats_kwargs(), name=self.name, allow_reconnect=True, max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]
                connect_timeout=2, ping_interval=10, max_outstanding_pings=2,
                pending_size=32 * 1024 * 1024, skip_subject_validation=True, error_cb=on_error,
                disconnected_cb=self._on_disconnected, reconnected_cb=self._on_reconnected, closed_cb=self._on_closed,
            )
        )  # fmt: skip
        limit = None if timeout_s == float("inf") else timeout_s
        waiting: set[asyncio.Future[Any]] = {dial, refused}
        await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if dial.done() and dial.exception() is None:
            self._online.set()
            return
        reason = refused.result() if refused.done() else self._dial_error(dial)
        await self._abandon(dial)
        raise _unreachable(options, reason)

    def _dial_error(self, dial: asyncio.Task[None]) -> str:
        error = dial.exception() if dial.done() and not dial.cancelled() else None
        return str(error or self.last_error or "no answer in time")

    async def _abandon(self, dial: asyncio.Task[None]) -> None:
        self._closing = True
        dial.cancel()
        with contextlib.suppress(BaseException):
            await dial
        with contextlib.suppress(Exception):
            await self._nc.close()

    def _check_server(self) -> None:
        try:
            version = self._nc.connected_server_version
            numbers = (version.major, version.minor)
        except ValueError as error:
            raise ServerUnsuitable(str(error), hint="a nats-server, 2.12 or later, is needed") from error
        if numbers < SERVER_MIN:
            raise ServerUnsuitable(
                f"nats-server {self.server_version} is too old",
                hint="2.12 or later is needed (message schedules, per-message TTL)",
            )

    def _check_tls(self, options: ConnectOptions) -> None:
        """nats-py goes on in plain text when TLS was asked for and the server does not insist on it."""
        info = self._nc._server_info
        if options.uses_tls and not (info.get("tls_required") or info.get("tls_available")):
            raise ServerUnsuitable(
                f"TLS was asked for, and {', '.join(options.servers)} does not offer it",
                hint="configure 'tls' on the server, or connect without tls://, ca and cert",
            )

    async def _open_inbox(self) -> None:
        # Headers are only counted for bodies near the limit; ours and a user's traceparent are far below 8 KB.
        self._near_limit_bytes = self.max_body_bytes - 8 * HEADER_ROOM_BYTES
        self._inbox.prefix = self._nc.new_inbox() + "."
        await self.subscribe(self._inbox.prefix + "*", self._inbox.take)
        # Without it every request would end as a time-out. The server's refusal comes before its answer to the flush.
        with contextlib.suppress(nats.errors.Error):
            await self._nc.flush(timeout=5)
        if self._inbox.prefix.lower() in self._refused:
            hint = "allow it, or set the inbox_prefix that this user may subscribe to"
            raise PermissionRefused(f"{self._refused} ({hint})", subject=self._inbox.prefix + "*")

    async def close(self) -> None:
        """Flush what is buffered (2 s at most) and close."""
        self._closing = True
        with contextlib.suppress(Exception):
            await self._nc.flush(timeout=2)
        with contextlib.suppress(Exception):
            await self._nc.close()
        self._inbox.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def server_version(self) -> str:
        """The connected server's version."""
        version = self._nc.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    @property
    def max_body_bytes(self) -> int:
        """The largest body that fits one message beside its headers."""
        return self._nc.max_payload - HEADER_ROOM_BYTES

    @property
    def is_online(self) -> bool:
        """Whether the connection stands at this moment."""
        return self._nc.is_connected

    @property
    def client(self) -> LeanClient:
        """The nats-py client, for package ``bus`` only."""
        return self._nc

    # ---- callbacks of nats-py

    def _note_error(self, error: Exception, refused: asyncio.Future[str]) -> None:
        previous, self.last_error = self.last_error, str(error) or type(error).__name__
        if "authoriz" in self.last_error.lower() or "authentic" in self.last_error.lower():
            if not refused.done():
                refused.set_result(self.last_error)
        elif found := _REFUSED.search(self.last_error):
            self._fail_refused(found[2], self.last_error)
        elif self.last_error != previous and not isinstance(
            error, nats.errors.UnexpectedEOF | ConnectionError | OSError
        ):
            log.warning("bus error: %s", self.last_error)

    def _fail_refused(self, subject: str, reason: str) -> None:
        self._refused = reason
        log.error("%s", reason)
        self._inbox.fail(subject, PermissionRefused(reason, subject=subject))

    async def _on_disconnected(self) -> None:
        self._online.clear()
        if not self._closing:
            log.warning("%s: connection lost, reconnecting", self.name)

    async def _on_reconnected(self) -> None:
        self.reconnects += 1
        self._online.set()
        log.warning("%s: reconnected", self.name)
        for hook in list(self.on_reconnect):
            hook()

    async def _on_closed(self) -> None:
        if not self._closing:
            log.error("%s: the client closed for good: %s", self.name, self.last_error)
            self.closed.set()

    # ---- publish and subscribe

    async def publish(
        self, subject: str, body: bytes = b"", *, headers: Headers | None = None, reply: str = ""
    ) -> None:
        """Send and forget. Raises: TooLarge, BusClosed, Ambiguous (the server is away, and 32 MiB wait for it)."""
        size = len(body)
        if size > self._near_limit_bytes:
            self._check_size(subject, size, headers)
        if self._nc.publish_now(subject, body, reply, headers):
            return
        try:
            await self._nc.publish(subject, body, reply, headers)  # type: ignore[arg-type]
        except nats.errors.ConnectionClosedError as error:
            raise BusClosed("the connection is closed") from error
        except nats.errors.OutboundBufferLimitError as error:
            raise Ambiguous(f"not sent to {subject}: too much waits for the server already") from error

    def _check_size(self, subject: str, size: int, headers: Headers | None) -> None:
        total = size + _headers_size(headers or {})
        if total > self._nc.max_payload - 64:
            raise TooLarge(f"the message to {subject}", size_bytes=total, limit_bytes=self.max_body_bytes)

    async def subscribe(self, subject: str, on_message: OnMessage, *, queue: str = "") -> Subscription:
        """Call ``on_message`` (which must not block) for each message, in order."""
        return await subscribe_direct(self._nc, subject, on_message, queue)

    async def settle(self) -> None:
        """Wait until the connection stands and all that was sent before has reached the server.

        After this a publish whose answer is missing either is stored or never will be (nats-py keeps what it could
        not send and sends it on reconnect). Waits as long as the server is away. Raises: BusClosed.
        """
        while True:
            await self._wait_online()
            try:
                await self._nc.flush(timeout=5)
                return
            except (nats.errors.Error, ConnectionError, OSError):
                await asyncio.sleep(0.1 + random.random() * 0.4)

    async def _wait_online(self) -> None:
        online, closed = asyncio.ensure_future(self._online.wait()), asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait({online, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            online.cancel()
            closed.cancel()
        if self.closed.is_set():
            raise BusClosed(f"the connection is closed for good: {self.last_error}")

    # ---- requests

    async def begin(
        self, subject: str, body: bytes, *, headers: Headers | None = None, timeout_s: float = 5.0
    ) -> asyncio.Future[Msg]:
        """Send a request and return the future of its answer, so that several can be under way without a task each."""
        token, waiter = self._inbox.expect(subject, timeout_s)
        future = waiter.future
        reply = self._inbox.prefix + token
        if len(body) <= self._near_limit_bytes and self._nc.publish_now(subject, body, reply, headers):
            return future
        try:
            await self.publish(subject, body, headers=headers, reply=reply)
        except BaseException:
            self._inbox.forget(token)
            raise
        return future

    async def request(
        self, subject: str, body: bytes = b"", *, headers: Headers | None = None, timeout_s: float = 5.0
    ) -> Msg:
        """One request, one answer. Raises: Ambiguous on time-out, NoResponder, PermissionRefused, TooLarge."""
        msg = await (await self.begin(subject, body, headers=headers, timeout_s=timeout_s))
        if msg.headers and msg.headers.get(h.STATUS) == "503":
            raise NoResponder(subject)
        return msg

    async def gather(
        self,
        subject: str,
        body: bytes = b"",
        *,
        done: Callable[[Msg], bool],
        timeout_s: float = 5.0,
        strict: bool = True,
    ) -> list[Msg]:
        """One request, many answers, up to and without the one for which ``done`` is true.

        With ``strict`` a time-out raises Ambiguous; else what came by then is the answer.
        """
        token, waiter = self._inbox.expect(subject, timeout_s)
        future, messages = waiter.future, []

        def feed(msg: Msg) -> bool:
            waiter.deadline = self._loop.time() + timeout_s if strict else waiter.deadline
            if done(msg):
                future.set_result(None)
                return True
            messages.append(msg)
            return False

        waiter.feed = feed
        try:
            await self.publish(subject, body, reply=self._inbox.prefix + token)
            await future
        except Ambiguous:
            if strict:
                raise
        finally:
            self._inbox.forget(token)
            waiter.feed = None  # or the two hold each other, and all the messages, until the collector comes by
        return messages

    async def append(self, subject: str, body: bytes, *, headers: Headers | None = None, timeout_s: float = 5.0) -> int:
        """Store one message; the stream sequence that it got.

        Raises: Fenced (an expected sequence did not hold), StreamFull, NoResponder (no stream or no leader),
        Ambiguous (no answer: it may be stored), ApiError, TooLarge, PermissionRefused.
        """
        future = await self.begin(subject, body, headers=headers, timeout_s=timeout_s)
        return sequence_of(subject, await future, headers)

    async def api(self, verb: str, body: Any = None, *, timeout_s: float = 5.0) -> dict[str, Any]:
        """A JetStream API request, e.g. ``STREAM.INFO.JOBS``. Raises: ApiError, NoResponder, Ambiguous."""
        subject = f"{self.js_api}.{verb}"
        payload = b"" if body is None else msgspec.json.encode(body)
        msg = await self.request(subject, payload, timeout_s=timeout_s)
        answer: dict[str, Any] = msgspec.json.decode(msg.data)
        if error := answer.get("error"):
            raise ApiError(subject, error.get("code", 0), error.get("err_code", 0), error.get("description", ""))
        return answer


def _headers_size(headers: Headers) -> int:
    return 12 + sum(len(k) + len(v) + 4 for k, v in headers.items())


def _unreachable(options: ConnectOptions, reason: str) -> BusUnreachable:
    where = ", ".join(options.servers)
    if "uthoriz" in reason or "uthentic" in reason:
        hint = "check the user, creds, nkey or context that you connect with"
        return BusRefused(f"{where} refuses these credentials: {reason}", hint=hint)
    if "INFO" in reason or "info message" in reason:
        return BusRefused(f"what listens at {where} is no NATS server: {reason}", hint="check host and port")
    return BusUnreachable(
        f"no NATS server at {where}: {reason}",
        hint="start one with 'callboard up', or name one with --nats, --context or NATS_URL",
    )
