"""Two ways to take messages from a durable consumer: ``fetch`` in a loop, and one pull that is kept topped up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import TimeoutError as NothingCame

Handler = Callable[[Msg], Coroutine[None, None, None]]
Take = Callable[[Msg], None]

BATCH = 256
EXPIRES_S = 30.0


class FetchIntake:
    """``pull_subscribe_bind`` and ``fetch``, as the library's examples have it."""

    def __init__(self, nc: Client, stream: str, consumer: str, take: Take) -> None:
        self._js, self._stream, self._consumer, self._take = nc.jetstream(), stream, consumer, take

    async def run(self) -> None:
        subscription = await self._js.pull_subscribe_bind(stream=self._stream, durable=self._consumer)
        while True:
            try:
                for msg in await subscription.fetch(BATCH, timeout=EXPIRES_S):
                    self._take(msg)
            except NothingCame:
                continue
            except ConnectionClosedError:
                return


class ToppedUpIntake:
    """A subscription on our own inbox and pull requests (``CONSUMER.MSG.NEXT``) sent before the last one runs dry.

    ``fetch`` pays per message for a task, a ``wait_for`` and a uuid4, and waits for the end of one batch before it asks
    for the next.
    """

    def __init__(self, nc: Client, stream: str, consumer: str, take: Take) -> None:
        self._nc, self._take = nc, take
        self._inbox = nc.new_inbox()
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._asked = 0

    async def run(self) -> None:
        await self._nc.subscribe(self._inbox, cb=self._came)
        await self._top_up()

    async def _came(self, msg: Msg) -> None:
        if msg.headers and "Status" in msg.headers:
            self._asked -= int(msg.headers.get("Nats-Pending-Messages", "0"))
        else:
            self._asked -= 1
            self._take(msg)
        if self._asked <= BATCH // 2:
            await self._top_up()

    async def _top_up(self) -> None:
        self._asked += BATCH
        pull = msgspec.json.encode({"batch": BATCH, "expires": int(EXPIRES_S * 1e9)})
        await self._nc.publish(self._next, pull, reply=self._inbox)


async def take_from(nc: Client, place: tuple[str, str], handler: Handler, style: str) -> set[asyncio.Task[None]]:
    """Start a task of ``handler`` for every message of the consumer; the set holds the tasks that run."""
    running: set[asyncio.Task[None]] = set()

    def take(msg: Msg) -> None:
        task = asyncio.create_task(handler(msg))
        running.add(task)
        task.add_done_callback(running.discard)

    if style == "plain":
        running.add(asyncio.create_task(FetchIntake(nc, *place, take).run()))
    else:
        await ToppedUpIntake(nc, *place, take).run()
    return running
