"""Which tools an MCP server has, asked once and kept on the disk of the machine for the other processes of its node.

Components are declared before anything runs, with their schemas, in every process that loads the app. The process that
describes the app asks the server; a tool's process, a host and a shell take what it was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from actors.toolbox.kit import asks_anew
from actors.toolbox.mcp.connection import connected
from actors.toolbox.mcp.target import McpTarget
from bus.paths import data_dir

log = logging.getLogger("callboard.mcp")

_PAGES_LIMIT = 100


class ListedTool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool as its server tells it."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = {}
    output_schema: dict[str, Any] | None = None


class Listing(msgspec.Struct, frozen=True):
    """What a server has, and what it says to whoever uses it."""

    tools: list[ListedTool]
    instructions: str = ""


def listing_of(target: McpTarget, *, start_timeout_s: float) -> Listing:
    """The listing that is kept, else the server's. Blocks. Raises: UsageError, ServerAway."""
    file = data_dir(os.environ) / "mcp" / f"{target.digest}.json"
    if not asks_anew() and (kept := _kept(file)):
        return kept
    with ThreadPoolExecutor(1, thread_name_prefix="mcp-listing") as executor:  # our own thread may have a loop already
        listing = executor.submit(asyncio.run, _ask(target, start_timeout_s)).result()
    _keep(file, listing)
    return listing


def _kept(file: Path) -> Listing | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Listing)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s cannot be read: %s; asking the server", file, error)
        return None


def _keep(file: Path, listing: Listing) -> None:
    """Whole or not at all, since others read it. A disk that takes nothing costs each process a listing of its own."""
    draft = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(listing))
        draft.replace(file)
    except OSError as error:
        log.warning("%s cannot be written: %s", file, error)
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


async def _ask(target: McpTarget, start_timeout_s: float) -> Listing:
    tools: list[ListedTool] = []
    async with connected(target, start_timeout_s=start_timeout_s, is_quiet=True) as client:
        cursor = None
        for _ in range(_PAGES_LIMIT):
            page = await client.list_tools(cursor=cursor)
            tools += [_listed(tool) for tool in page.tools]
            if not (cursor := page.next_cursor):
                break
        return Listing(tools, client.instructions or "")


def _listed(tool: Any) -> ListedTool:
    return ListedTool(
        name=tool.name, description=tool.description or tool.title or "", input_schema=tool.input_schema,
        output_schema=tool.output_schema,
    )  # fmt: skip
