"""What became of the assets of a process, in the log of its node.

A refresh by time that went well, after one that did, is not worth an event: it may come each second, for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from actors.assets.definition import AssetDefinition
from actors.assets.failure import AssetFailed
from bus.connection import Bus
from bus.errors import BusError
from bus.objects import Blobs
from bus.subjects import SYSTEM_WORKSPACE
from bus.system_events import AssetLoaded, AssetNotLoaded
from store.log import append_unfenced

log = logging.getLogger("callboard.assets")

# Nothing waits for an event for longer, neither calls nor the end of a process.
_LIMIT_S = 2.0


class AssetNotes:
    """Writes as ``actor`` of ``node``; an event that cannot be written is left out."""

    def __init__(self, bus: Bus, blobs: Blobs, node: str, actor: str, assets: Mapping[str, AssetDefinition]) -> None:
        self._bus = bus
        self._blobs = blobs
        self._node = node or "none"
        self._actor = actor
        self._assets = assets

    async def loaded(self, name: str, *, refreshed: bool = False) -> None:
        """The asset is there, or there anew."""
        version = self._assets[name].version
        await self._write(
            AssetLoaded(job=self._node, actor=self._actor, asset=name, version=version, refreshed=refreshed)
        )

    async def failed(self, error: AssetFailed, *, refreshed: bool = False) -> None:
        """An asset could not be loaded; if ``refreshed``, the value before it stays."""
        version = self._assets[error.asset].version
        await self._write(
            AssetNotLoaded(
                job=self._node, actor=self._actor, asset=error.asset, version=version, refreshed=refreshed,
                reason=str(error),
            )
        )  # fmt: skip

    async def _write(self, event: AssetLoaded | AssetNotLoaded) -> None:
        try:
            async with asyncio.timeout(_LIMIT_S):
                await append_unfenced(self._bus, self._blobs, SYSTEM_WORKSPACE, event)
        except (BusError, TimeoutError) as error:
            log.warning("%s of %s is not recorded: %s", event.kind, event.asset, error)
