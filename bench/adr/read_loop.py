"""ADR 003: CPU of a message, and of a subscription's life, with nats-py's callbacks and with handlers in the read loop.

python -m bench.adr.read_loop
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus.embedded import EmbeddedServer
from bus.subscription import subscribe_direct

MESSAGES = 100_000
SUBSCRIPTIONS = 10_000
AT_ONCE = 100
ROUNDS = 3
BODY = b'{"type":"reply.completed","job":"8f2c1d0a7b3e","call":"quote:1","output":{"sku":"A1","total":7}}'

Subscribe = Callable[[Client, str, Callable[[Msg], None]], Awaitable[Any]]


async def with_callback(client: Client, subject: str, on_message: Callable[[Msg], None]) -> Any:
    """As nats-py does it: a queue and a task for each subscription."""

    async def callback(msg: Msg) -> None:
        on_message(msg)

    return await client.subscribe(subject, cb=callback)


async def message_us(url: str, subscribe: Subscribe) -> float:
    """CPU microseconds of this process for each message that is received; the sender is another connection's."""
    receiver, count, done = await nats.connect(url), 0, asyncio.Event()

    def on_message(_: Msg) -> None:
        nonlocal count
        count += 1
        if count == MESSAGES:
            done.set()

    await subscribe(receiver, "m", on_message)
    await receiver.flush()
    sender = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.adr.sender", url, str(MESSAGES))
    began_s = time.process_time()
    await done.wait()
    spent_s = time.process_time() - began_s
    await sender.wait()
    await receiver.close()
    return spent_s / MESSAGES * 1e6


async def subscription_us(url: str, subscribe: Subscribe) -> float:
    """CPU microseconds for each subscription that is made, hears one message and ends."""
    client = await nats.connect(url)

    async def lane(first: int) -> None:
        for i in range(first, SUBSCRIPTIONS, AT_ONCE):
            heard = asyncio.Event()
            sub = await subscribe(client, f"s.{i}", lambda _, heard=heard: heard.set())  # type: ignore[misc]
            await client.publish(f"s.{i}", BODY)
            await heard.wait()
            await sub.unsubscribe()

    began_s = time.process_time()
    await asyncio.gather(*(lane(first) for first in range(AT_ONCE)))
    spent_s = time.process_time() - began_s
    await client.close()
    return spent_s / SUBSCRIPTIONS * 1e6


async def main() -> None:
    """The best of some rounds: noise only adds."""
    async with await EmbeddedServer.start() as server:
        for label, subscribe in (("callback task", with_callback), ("in the read loop", subscribe_direct)):
            message = min([await message_us(server.url, subscribe) for _ in range(ROUNDS)])
            life = min([await subscription_us(server.url, subscribe) for _ in range(ROUNDS)])
            print(f"{label:<18} {message:5.1f} us a message, {life:5.1f} us a subscription with one message")


if __name__ == "__main__":
    uvloop.run(main())
