"""``callboard mcp``: from a connection to the bus to an MCP server."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from actors.command_bodies.session import EXIT_DONE, Session
from actors.components.registry import Registry
from actors.mcp_server.server import TOKEN_VARIABLE, check_sdk, parse_address, serve_http, serve_stdio
from actors.mcp_server.stagehand import Stagehand


async def serve(session: Session, only: Sequence[str], http: str) -> int:
    """Serve until the client, or a signal, ends it. Raises: UsageError, BusError."""
    check_sdk()
    address = parse_address(http) if http else None
    # Standard output belongs to the protocol.
    logging.basicConfig(level=os.environ.get("CALLBOARD_LOG", "WARNING"), stream=sys.stderr,
                        format="[mcp] %(message)s")  # fmt: skip
    async with await session.client() as client:
        registry = Registry(client.bus)
        await registry.start()
        try:
            stagehand = Stagehand(client, registry, only)
            if address is None:
                await serve_stdio(stagehand)
            else:
                await serve_http(stagehand, *address, os.environ.get(TOKEN_VARIABLE, ""))
        finally:
            await registry.stop()
    return EXIT_DONE
