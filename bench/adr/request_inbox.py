"""ADR 004: CPU of one fenced append, with nats-py's ``js.publish`` and with the bus's own request inbox.

    python -m bench.adr.request_inbox

Many appends are under way at once, as in a busy host, so that CPU and not the way to the server is what is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import nats
import uvloop

from bus import headers as h
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.options import resolve_options
from bus.streams import ensure_streams

APPENDS = 20_000
AT_ONCE = 100
ROUNDS = 3
BODY = b'{"type":"call.tool","job":"8f2c1d0a7b3e","call":"quote:1","name":"quote","version":1,"input":{"sku":"A1"}}'

Append = Callable[[dict[str, str]], Awaitable[object]]


async def append_us(append: Append, epoch: int) -> float:
    """CPU microseconds of this process for each append."""
    headers = {h.EXPECTED_SEQUENCE: str(epoch), h.EXPECTED_SUBJECT: "log.d.j.job.owned"}

    async def lane() -> None:
        for _ in range(APPENDS // AT_ONCE):
            await append(headers)

    began_s = time.process_time()
    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    return (time.process_time() - began_s) / APPENDS * 1e6


async def main() -> None:
    """The best of some rounds: noise only adds."""
    async with await EmbeddedServer.start() as server, await Bus.connect(resolve_options(server.url)) as bus:
        await ensure_streams(bus)
        epoch = await bus.append("log.d.j.job.owned", b"{}")
        client = await nats.connect(server.url)
        js = client.jetstream()
        ways: dict[str, Append] = {
            "js.publish": lambda headers: js.publish("log.d.j.call.tool.quote.v1", BODY, headers=headers),
            "request inbox": lambda headers: bus.append("log.d.j.call.tool.quote.v1", BODY, headers=headers),
        }
        for label, append in ways.items():
            spent_us = min([await append_us(append, epoch) for _ in range(ROUNDS)])
            print(f"{label:<14} {spent_us:5.1f} us CPU for each fenced append")
        await client.close()


if __name__ == "__main__":
    uvloop.run(main())
