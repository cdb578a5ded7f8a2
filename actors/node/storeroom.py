"""The assets of a process: loaded before its role serves, refreshed while it does, unloaded at its end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from actors.assets.failure import AssetFailed
from actors.assets.notes import AssetNotes
from actors.assets.refreshing import Refresher
from actors.assets.shelf import Shelf
from actors.assets.supply import Supply
from actors.node.heart import starting
from supervisor.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actors.components.app import App
    from actors.components.component import Component
    from actors.node.heart import Beat
    from actors.node.process import Actor

log = logging.getLogger("callboard.assets")


class Storeroom:
    """Of the app's assets those that ``components`` ask for, and what these stand on. Raises: UsageError."""

    def __init__(self, actor: Actor, app: App, components: Iterable[Component[..., Any]]) -> None:
        self._actor = actor
        self._wires = {id(component): app.assets_of(component) for component in components}
        self.shelf = Shelf(app.assets, {name for wires in self._wires.values() for name in wires.values()})
        self._notes = AssetNotes(actor.bus, actor.blobs, actor.node, actor.name, app.assets)
        self._refresher = Refresher(actor.bus, self.shelf, app.assets, self._notes)

    async def open(self) -> bool:
        """Load all; False if the process is asked to end meanwhile. Raises: AssetFailed, BusError."""
        if not self.shelf.order:
            return True
        self._actor.heartbeat = lambda: starting(self.shelf.beats())
        log.info("loading assets: %s", ", ".join(self.shelf.order))
        loading = asyncio.create_task(self.shelf.load())
        stopping = asyncio.create_task(self._actor.stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            loading.cancel()
            await asyncio.wait({loading})
            return False
        try:
            loading.result()
        except AssetFailed as error:
            await self._notes.failed(error)
            raise
        for name in self.shelf.order:
            await self._notes.loaded(name)
        await self._refresher.start()
        return True

    def supply(self, component: Component[..., Any]) -> Supply:
        """What one of the components is lent for each call."""
        return Supply(self.shelf, self._wires[id(component)])

    def beat(self, beat: Beat) -> Beat:
        """The same heartbeat, with the state of the assets."""
        if not self.shelf.order:
            return beat

        def with_assets() -> Heartbeat:
            return msgspec.structs.replace(beat(), assets=self.shelf.beats())

        return with_assets

    async def close(self) -> None:
        """Unload all. No call runs any more."""
        await self._refresher.stop()
        await self.shelf.close()
