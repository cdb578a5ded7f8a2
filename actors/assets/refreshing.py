"""When the assets of a process are refreshed: when they are old, and when somebody says so on the bus.

The word is a plain message that all processes hear, so ``nats pub asset.catalogue.refresh ''`` does it too. It is not
kept: a process that starts later loads anew anyway.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec

from actors.assets.definition import AssetDefinition
from actors.assets.failure import AssetFailed
from actors.assets.notes import AssetNotes
from actors.assets.shelf import Shelf
from bus import subjects
from bus.connection import Bus, Message, Subscription

log = logging.getLogger("callboard.assets")

# Replicas that began together do not go to the source together.
_SPREAD = 0.1


class RefreshOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of the word: of which ``app`` the asset is (empty: of any). An empty body says nothing more."""

    app: str = ""


class Refresher:
    """Refreshes the assets of ``shelf``, one refresh at a time."""

    def __init__(
        self, bus: Bus, shelf: Shelf, assets: Mapping[str, AssetDefinition], notes: AssetNotes | None = None
    ) -> None:
        self._bus = bus
        self._notes = notes
        self._failed: set[str] = set()
        self._shelf = shelf
        self._assets = {name: assets[name] for name in shelf.order}
        self._asked: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Begin to listen, and to count the time. Raises: BusError."""
        for name, asset in self._assets.items():
            subject = subjects.asset_refresh(name)
            self._subscriptions.append(await self._bus.subscribe(subject, self._on_word))
            if asset.refresh_s is not None:
                self._begin(self._keep_fresh(name, asset.refresh_s))

    async def stop(self) -> None:
        """Leave all as it is; a refresh under way is called off."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_word(self, msg: Message) -> None:
        name = subjects.asset_of(msg.subject)
        try:
            order = msgspec.json.decode(msg.data, type=RefreshOrder) if msg.data.strip() else RefreshOrder()
        except msgspec.DecodeError as error:
            log.warning("%s: no order to refresh: %s", msg.subject, error)
            return
        # A second word before the first one's refresh has begun asks for nothing more.
        if order.app in ("", self._assets[name].app) and name not in self._asked:
            self._asked.add(name)
            self._begin(self._refresh(name, is_asked=True))

    async def _keep_fresh(self, name: str, refresh_s: float) -> None:
        while True:
            await asyncio.sleep(refresh_s * (1 - _SPREAD * random.random()))
            await self._refresh(name)

    async def _refresh(self, name: str, *, is_asked: bool = False) -> None:
        label = self._assets[name].label
        try:
            await self._shelf.refresh(name, begun=lambda: self._asked.discard(name))
        except AssetFailed as error:
            log.warning("%s is not refreshed, the earlier value stays: %s", label, error)
            if self._notes and (is_asked or name not in self._failed):
                await self._notes.failed(error, refreshed=True)
            self._failed.add(name)
        else:
            log.info("%s is refreshed", label)
            if self._notes and (is_asked or name in self._failed):
                await self._notes.loaded(name, refreshed=True)
            self._failed.discard(name)
