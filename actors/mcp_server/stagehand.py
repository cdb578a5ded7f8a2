"""What an MCP server of ours does when it is asked: lists what runs, calls tools at once, runs jobs to their end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from actors.clients.direct_call import call_directly
from actors.components.component import ComponentInfo
from actors.components.registry import Registry
from actors.console.event_line import event_line
from actors.console.page import one_line
from actors.mcp_server.answer import answer, is_shown, refusal
from actors.mcp_server.offer import Offer, offers
from bus.errors import BusError, CallboardError, UsageError
from bus.service import discover
from bus.subjects import CALL_KINDS
from store.artifact import Artifact, artifacts_in

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from actors.clients.client import Client
    from actors.clients.handle import JobHandle

log = logging.getLogger("callboard.mcp")

OnProgress = Callable[[float, str], Awaitable[None]]
CANCEL_LIMIT_S = 10.0
_BY = "an MCP client"


class Stagehand:
    """Serves what runs on the bus of ``client``, or of that only the components in ``only``."""

    def __init__(self, client: Client, registry: Registry, only: Sequence[str] = ()) -> None:
        self._client = client
        self._registry = registry
        resolved = [registry.resolve(ref, CALL_KINDS) for ref in only]
        self._only = {(info.kind, info.name) for info in resolved}
        self._told: dict[str, Offer] = {}

    async def offers(self) -> list[Offer]:
        """What can be called now. Raises: BusError."""
        live = await self._live()
        chosen = [info for info in self._registry.all() if not self._only or (info.kind, info.name) in self._only]
        found = offers(info for info in chosen if (info.kind, info.name) in live)
        self._told = {offer.name: offer for offer in found}
        return found

    async def _live(self) -> set[tuple[str, str]]:
        """The components that some process announces, and the published workflows if somebody runs them.

        The registry also holds what ran once.
        """
        from bus.subjects import PUBLISHED_SERVICE

        services = await discover(self._client.bus)
        live = {(service.meta("kind"), service.name) for service in services}
        if any(service.name == PUBLISHED_SERVICE for service in services):
            definitions = await self._client.workflows.definitions()
            live |= {("job", name) for name in definitions.names()}
        return live

    async def call(self, name: str, arguments: dict[str, Any], on_progress: OnProgress | None) -> CallToolResult | None:
        """The result; None if there is no such tool. Cancelled, it cancels the job that it waits for."""
        if name not in self._told:
            await self.offers()
        if (offer := self._told.get(name)) is None:
            return None
        try:
            if offer.info.kind == "tool":
                raw = await call_directly(self._client.bus, offer.info, msgspec.json.encode(arguments))
                return answer(raw, await self._images(raw))
        except CallboardError as error:
            return refusal(error)
        return await self._run(offer.info, arguments, on_progress)

    # ---- jobs and agents

    async def _run(
        self, info: ComponentInfo, arguments: dict[str, Any], on_progress: OnProgress | None
    ) -> CallToolResult:
        try:
            handle = await self._client.submit(f"{info.name}@{info.major}", input=arguments)
        except CallboardError as error:
            return refusal(error)
        telling = asyncio.create_task(self._tell(handle, on_progress)) if on_progress else None
        try:
            raw = msgspec.json.encode(await handle.result())
            return answer(raw, await self._images(raw), job=handle.id)
        except CallboardError as error:
            return refusal(error, job=handle.id)
        except asyncio.CancelledError:
            await self._cancel(handle)
            raise
        finally:
            if telling:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

    async def _tell(self, handle: JobHandle[Any], on_progress: OnProgress) -> None:
        """Each event of the job as a step of its progress; how many there will be nobody knows."""
        number = 0
        with contextlib.suppress(BusError, UsageError):
            async with contextlib.aclosing(handle.follow()) as items:
                async for item in items:
                    number += 1
                    said = event_line(item, workspace=handle.workspace).plain
                    await on_progress(number, one_line(said))

    async def _cancel(self, handle: JobHandle[Any]) -> None:
        """Nobody waits for the job any more. Shielded: the SDK cancels again and again until its handler is gone."""
        import anyio

        with anyio.move_on_after(CANCEL_LIMIT_S, shield=True):
            try:
                await handle.cancel("the client cancelled its call", by=_BY)
            except (UsageError, BusError) as error:  # it has ended by itself, or the server is away
                log.info("job %s is not cancelled: %s", handle.id, error)

    async def _images(self, raw: bytes) -> list[tuple[Artifact, bytes]]:
        shown = [each for each in artifacts_in(msgspec.json.decode(raw)) if is_shown(each)]
        return [(each, await self._client.blobs.get(each.sha256)) for each in dict.fromkeys(shown)]
