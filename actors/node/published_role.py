"""The role "workflows": a host of all published workflows in all versions, those too that come while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

from actors.components.app import App
from actors.components.registry import Registry
from actors.hosts.host import JobHost
from actors.interpreter.repertoire import Repertoire
from actors.node.process import Actor
from actors.operations.hosting import Hosting
from actors.workflow_versions.definitions import Definitions
from bus.errors import BusError, UsageError
from bus.service import Service
from bus.streams import wait_for_streams
from bus.subjects import PUBLISHED_SERVICE

log = logging.getLogger("callboard.workflows")

RETRY_S = 1.0


async def host_published(actor: Actor) -> Callable[[], Awaitable[None]]:
    """Run what is published. Raises: BusError."""
    await wait_for_streams(actor.bus)
    registry, definitions = Registry(actor.bus), Definitions(actor.bus)
    await registry.start()
    await definitions.start()
    repertoire = Repertoire(definitions)
    hosting = Hosting(
        actor.bus, actor.blobs, App("published"), registry, host=f"{actor.node}/{actor.name}", node=actor.node,
        repertoire=repertoire,
    )  # fmt: skip
    host = JobHost(hosting, [], leases=actor.leases)
    await host.start()
    follower = Follower(host, registry, repertoire)
    await follower.start()
    service = Service()
    about = "Runs published workflows"
    await service.start(actor.bus, PUBLISHED_SERVICE, _own_version(), about, {"node": actor.node})
    actor.heartbeat = host.heartbeat

    async def stop() -> None:
        await follower.stop()
        await host.stop()
        await definitions.stop()
        await registry.stop()
        await service.stop()

    return stop


class Follower:
    """Lets a host serve each workflow from the moment at which it is published, and registers what nobody has."""

    def __init__(self, host: JobHost, registry: Registry, repertoire: Repertoire) -> None:
        self._host = host
        self._registry = registry
        self._repertoire = repertoire
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what there is, then follow."""
        self._repertoire.definitions.on_change.append(self._on_change)
        self._news.set()
        await self._take_up()
        self._task = asyncio.create_task(self._run(), name="follow workflows")

    async def stop(self) -> None:
        """Follow no more."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _on_change(self, *_: str) -> None:
        self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            await self._take_up()
            if self._news.is_set():
                await asyncio.sleep(RETRY_S)

    async def _take_up(self) -> None:
        """All that is published; what cannot be now is tried again."""
        self._news.clear()
        for name in self._repertoire.definitions.names():
            try:
                await self._host.add(name)
                await self._register(name)
            except (BusError, UsageError) as error:
                log.warning("workflow %s: %s; trying again", name, error)
                self._news.set()

    async def _register(self, name: str) -> None:
        """Whoever publishes registers; this is for those who were cut short."""
        for definition in self._repertoire.definitions.versions(name):
            if self._registry.get("job", name, definition.version) is None:
                component = self._repertoire.exact(name, definition.version)
                if component is not None:
                    await self._registry.register(component.info())


def _own_version() -> str:
    try:
        return version("callboard")
    except PackageNotFoundError:  # run from a checkout
        return "0.0.0"
