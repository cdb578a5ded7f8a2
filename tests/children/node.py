"""A node to be killed: supervises an app's actors, and prints their pids once all run.

Arguments: the node's name, the test's folder, how to connect (JSON), the app.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bus.options import ConnectOptions
from tests.stage import stage


async def main(node: str, folder: str, options: str, target: str) -> None:
    """Supervise until killed."""
    url = msgspec.json.decode(options, type=ConnectOptions).servers[0]
    env = {"CALLBOARD_LEASE_S": "2", "CALLBOARD_TETHER_GRACE_S": "1"}
    async with stage(url, Path(folder), target, env=env, node=node) as on:
        pids = [status.pid for status in on.supervisor.statuses()]
        print(msgspec.json.encode(pids).decode(), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
