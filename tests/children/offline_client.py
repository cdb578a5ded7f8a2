"""A client to be killed: submits jobs whenever it is told how many, with ``offline_ok``, and says when they are kept.

Arguments: the server's address. Each line on standard input is a number of jobs, and the prefix of their ids.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from actors.clients.client import Client
from tests.apps.five import five


async def main(url: str) -> None:
    """Submit until killed."""
    async with Client.connect(url) as client:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            count, prefix = line.split()
            for n in range(int(count)):
                handle = await client.submit(five, start=1, job_id=f"{prefix}-{n}", offline_ok=True)
                print("held" if handle.held else "sent", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
