"""Two ways to write an event and learn its sequence: the library's, and a lighter one over the same public API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from itertools import count
from typing import Protocol

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg


class Appender(Protocol):
    """Writes one message to a stream."""

    async def send(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> Awaitable[int]:
        """Send now; the awaitable that comes back gives the stream sequence, or raises if the server refused."""


class PlainAppender:
    """``js.publish``, one task per append so that several can be under way."""

    def __init__(self, nc: Client) -> None:
        self._js = nc.jetstream()

    async def send(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> Awaitable[int]:
        return asyncio.create_task(self._publish(subject, body, headers))

    async def _publish(self, subject: str, body: bytes, headers: dict[str, str] | None) -> int:
        return (await self._js.publish(subject, body, headers=headers)).seq


class Refusal(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct):
    seq: int = 0
    error: Refusal | None = None


class Refused(Exception):
    """The server did not store the message; the text says why."""


class MuxAppender:
    """One wildcard inbox for all acks, a future per append, one sweep for all time-outs.

    ``nc.request`` does the same but pays per call for a NUID, ``os.urandom``, a ``wait_for`` timer and its callbacks;
    ``js.publish`` adds ``json.loads`` and a dataclass.
    """

    _TIMEOUT_S = 5.0

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._loop = asyncio.get_running_loop()
        self._inbox = nc.new_inbox()
        self._prefix_chars = len(self._inbox) + 1
        self._waiting: dict[str, tuple[asyncio.Future[int], float]] = {}
        self._tokens = count()
        self._decode = msgspec.json.Decoder(Ack).decode

    async def open(self) -> None:
        await self._nc.subscribe(f"{self._inbox}.*", cb=self._acked)
        self._sweeper = asyncio.create_task(self._sweep())

    async def send(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> Awaitable[int]:
        token = str(next(self._tokens))
        future: asyncio.Future[int] = self._loop.create_future()
        self._waiting[token] = (future, self._loop.time())
        await self._nc.publish(subject, body, reply=f"{self._inbox}.{token}", headers=headers)
        return future

    async def _acked(self, msg: Msg) -> None:
        future, _ = self._waiting.pop(msg.subject[self._prefix_chars :], (None, 0.0))
        if future is None or future.done():
            return
        if not msg.data:
            future.set_exception(Refused(f"no stream takes it: {msg.headers}"))
            return
        ack = self._decode(msg.data)
        if ack.error is None:
            future.set_result(ack.seq)
        else:
            future.set_exception(Refused(f"{ack.error.err_code}: {ack.error.description}"))

    async def _sweep(self) -> None:
        """Fail what is too old; the dict is in order of sending, so this stops at the first that is not."""
        while True:
            await asyncio.sleep(1.0)
            oldest_allowed = self._loop.time() - self._TIMEOUT_S
            for token, (future, sent) in list(self._waiting.items()):
                if sent > oldest_allowed:
                    break
                del self._waiting[token]
                if not future.done():
                    future.set_exception(TimeoutError("no ack from the server"))


async def appender(nc: Client, style: str) -> Appender:
    """The appender for a style, ``plain`` or ``tuned``."""
    if style == "plain":
        return PlainAppender(nc)
    mux = MuxAppender(nc)
    await mux.open()
    return mux
