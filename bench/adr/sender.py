"""Sends messages as fast as it can: ``python -m bench.adr.sender URL NUMBER``; the other side of ``read_loop``."""

from __future__ import annotations

import sys

import nats
import uvloop

from bench.adr.read_loop import BODY


async def main(url: str, number: int) -> None:
    """Flushed now and then, so that the receiver sets the pace."""
    client = await nats.connect(url)
    for i in range(number):
        await client.publish("m", BODY)
        if i % 200 == 0:
            await client.flush()
    await client.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
