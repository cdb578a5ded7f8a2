"""Handlers run in the read loop, in order; pins the private attribute of nats-py that this leans on."""

from __future__ import annotations

import pytest

from bus.connection import Bus, Message
from bus.embedded import EmbeddedServer
from bus.errors import BusUnreachable, ServerUnsuitable
from bus.options import ConnectOptions
from tests.waiting import wait_until


async def test_messages_reach_the_handler_in_order_without_a_queue(server: EmbeddedServer) -> None:
    """2,000 messages arrive in order, and nothing is kept behind the handler's back."""
    got: list[bytes] = []
    async with await Bus.connect(ConnectOptions(servers=[server.url]), name="test") as bus:
        sub = await bus.subscribe("subscription.test", lambda m: got.append(m.data))
        for number in range(2000):
            await bus.publish("subscription.test", b"%d" % number)
        await wait_until(lambda: len(got) == 2000)
        assert got == [b"%d" % n for n in range(2000)]
        assert sub._pending_queue.empty()
        assert sub._wait_for_msgs_task is None, "nats-py started a task although no callback was given"


async def test_a_handler_that_raises_does_not_end_the_subscription(server: EmbeddedServer) -> None:
    """The error is logged, and the next message arrives."""
    got: list[bytes] = []

    def handle(msg: Message) -> None:
        if msg.data == b"bad":
            raise ValueError("no")
        got.append(msg.data)

    async with await Bus.connect(ConnectOptions(servers=[server.url]), name="test") as bus:
        await bus.subscribe("subscription.errors", handle)
        for body in (b"bad", b"good"):
            await bus.publish("subscription.errors", body)
        await wait_until(lambda: got == [b"good"])


async def test_tls_that_was_asked_for_is_never_dropped(server: EmbeddedServer) -> None:
    """A server without TLS is refused when the address says tls://, where nats-py would go on in plain text."""
    url = server.url.replace("nats://", "tls://")
    with pytest.raises((ServerUnsuitable, BusUnreachable)):
        await Bus.connect(ConnectOptions(servers=[url]), name="test", timeout_s=3)
