"""A tool run in this process, without a bus: for a try from the shell. What it makes is held in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actors.assets.definition import AssetDefinition
from actors.assets.shelf import Shelf, loaded
from actors.assets.supply import Supply
from actors.components.component import Component
from actors.tools.invocation import describe, invoke
from actors.tools.tool_context import ToolContext
from bus import jobid
from bus.errors import PeerError
from bus.objects import BlobMissing, Blobs


class HeldBlobs(Blobs):
    """Blobs in memory, named as in the object store."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    async def put(self, data: bytes) -> str:
        """Hold ``data``; its sha256 in hex."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._held[sha256] = data
        return sha256

    async def get(self, sha256: str) -> bytes:
        """What is held under that digest. Raises: BlobMissing."""
        if sha256 not in self._held:
            raise BlobMissing(sha256)
        return self._held[sha256]


async def run_here(
    component: Component[..., Any], body: bytes, blobs: Blobs, *, timeout_s: float | None = None, workspace: str = "",
    assets: Mapping[str, AssetDefinition] | None = None, wires: Mapping[str, str] | None = None,
) -> bytes:  # fmt: skip
    """One attempt at the tool; its output as JSON. ``timeout_s`` None: as long as the tool says.

    ``wires`` say which of the ``assets`` fills which parameter; these are loaded before, and unloaded after it.
    Raises: UsageError for input that does not fit, AssetFailed, PeerError for what the tool raised.
    """
    arguments = component.decode_input(body)
    context = ToolContext(workspace=workspace, job=f"here-{jobid.new()}", call="direct", _blobs=blobs)
    wires = wires or {}
    async with loaded(Shelf(assets or {}, wires.values())) as shelf:
        with (
            ThreadPoolExecutor(1, thread_name_prefix=component.name) as executor,
            Supply(shelf, wires).lend() as lent,
        ):
            return await _attempt(component, context, arguments | lent, timeout_s, executor)


async def _attempt(
    component: Component[..., Any], context: ToolContext, arguments: dict[str, Any], timeout_s: float | None,
    executor: ThreadPoolExecutor,
) -> bytes:  # fmt: skip
    try:
        limit_s = timeout_s or component.timeout_s
        value = await invoke(component, context, arguments, timeout_s=limit_s, executor=executor)
        return component.encode_output(value)
    except asyncio.CancelledError:
        raise
    except (Exception, SystemExit) as error:
        raise PeerError(describe(error)) from error
