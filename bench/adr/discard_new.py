"""ADR 002: what the server answers to a stream that holds schedules and refuses new messages at a limit.

python -m bench.adr.discard_new
"""

from __future__ import annotations

import asyncio

from bus.connection import ApiError, Bus
from bus.embedded import EmbeddedServer
from bus.options import resolve_options


async def main() -> None:
    """Try to make such a stream."""
    async with await EmbeddedServer.start() as server, await Bus.connect(resolve_options(server.url)) as bus:
        config = {
            "name": "JOBS", "subjects": ["jobs.>", "timers.>"], "retention": "workqueue", "storage": "file",
            "discard": "new", "max_bytes": 1_000_000, "allow_msg_schedules": True,
        }  # fmt: skip
        try:
            await bus.api("STREAM.CREATE.JOBS", config)
            print(f"nats-server {bus.server_version}: taken")
        except ApiError as error:
            print(f"nats-server {bus.server_version}: {error.description} (error {error.err_code})")


if __name__ == "__main__":
    asyncio.run(main())
