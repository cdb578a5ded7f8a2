"""Outputs of tools with ``cache_ttl_s`` answer calls with the same input: whoever asks, whichever process has them."""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec
import pytest

from actors import App, Job, Retry, TerminalError
from actors.components.announcement import announce
from actors.components.component import Component
from actors.components.registry import Registry
from actors.node.process import Actor
from actors.operations.output_cache import key_of_call
from actors.tools.tool_actor import ToolActor
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import JobCompleted, JobFailed, ReplyCompleted
from bus.service import ask
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

LIMIT_S = 40.0


def shop(calls: list[str], *, version: str = "1.0.0", ttl_s: float = 60.0) -> App:
    """An app whose tool is kept; each time that it really runs it says so."""
    app = App("shop", version=version)

    @app.tool(cache_ttl_s=ttl_s, retry=Retry(attempts=1))
    async def quote(sku: str, qty: int = 1) -> float:
        calls.append(f"{sku} {qty}")
        if sku == "none":
            raise TerminalError("there is none")
        return qty * 2.5

    @app.job
    async def order(job: Job, sku: str, qty: int = 1) -> float:
        return await job.call(quote, sku=sku, qty=qty)

    return app


async def reply_of(on: Troupe, job: str, body: dict[str, object]) -> ReplyCompleted | None:
    """The tool's answer in a job with that input; None if it failed."""
    await on.submit("order", job, body)
    ended = await on.end(job, deadline_s=LIMIT_S)
    assert isinstance(ended, JobCompleted | JobFailed)
    replies = [r.event for r in await on.events(job) if isinstance(r.event, ReplyCompleted) and not r.event.op]
    return replies[0] if replies else None


async def test_the_same_input_is_answered_from_the_cache(nats_server: EmbeddedServer) -> None:
    """Another replica has it too; another input, a failure and another kind of caller have not; the reply says so."""
    calls: list[str] = []
    app = shop(calls)
    async with troupe(nats_server.url, app) as on:
        first = await reply_of(on, "a", {"sku": "A1"})
        assert first is not None and not first.cached and msgspec.json.decode(first.output) == 2.5
        again = await reply_of(on, "b", {"qty": 1, "sku": "A1"})
        assert again is not None and again.cached and again.output == first.output and calls == ["A1 1"]
        other = await reply_of(on, "c", {"sku": "A1", "qty": 2})
        assert other is not None and not other.cached and calls == ["A1 1", "A1 2"]
        for job in ("d", "e"):
            assert await reply_of(on, job, {"sku": "none"}) is None
        assert calls == ["A1 1", "A1 2", "none 1", "none 1"]
        quote = app.components[0]
        replica = ToolActor(on.bus, on.blobs, quote, name="replica")
        output = await replica._cache.look("default", b'{"sku":"A1"}')
        assert output == b"2.5" and await replica._cache.look("elsewhere", b'{"sku":"A1"}') is None
        await replica.stop(0.1)
        await _direct(on, quote, calls)


async def _direct(on: Troupe, quote: Component[..., float], calls: list[str]) -> None:
    """Calls without a job share among themselves."""

    class Here:
        bus, blobs, node = on.bus, on.blobs, "n1"

    service = await announce(cast("Actor", Here), Registry(on.bus), quote)
    for _ in range(2):
        assert await ask(on.bus, "tool.quote.v1.call", b'{"sku":"A1","qty":3}') == b"7.5"
    assert calls.count("A1 3") == 1
    await service.stop()


async def test_an_output_is_kept_no_longer_than_said(nats_server: EmbeddedServer) -> None:
    """When its time is over the tool runs again."""
    calls: list[str] = []
    async with troupe(nats_server.url, shop(calls, ttl_s=0.2)) as on:
        number = 0

        async def ran_again() -> bool:
            nonlocal number
            number += 1
            await reply_of(on, f"j{number}", {"sku": "A1"})
            return len(calls) == 2

        await wait_until(ran_again, LIMIT_S)


def test_what_a_key_is_made_of() -> None:
    """App, whole version and input count; how the input was written does not."""
    one, newer = (shop([], version=version).components[0] for version in ("1.0.0", "1.0.1"))
    same = {key_of_call("w", one, one.decode_input(raw)) for raw in (b'{"sku":"A"}', b'{"qty":1, "sku":"A"}')}
    assert len(same) == 1
    others = [key_of_call("w", newer, {"sku": "A", "qty": 1}), key_of_call("v", one, {"sku": "A", "qty": 1})]
    assert len({*same, *others}) == 3
    with pytest.raises(UsageError, match="cache_ttl_s cannot be 0"):
        shop([], ttl_s=0)
    assert asyncio.run(one("A", 2)) == 5.0
