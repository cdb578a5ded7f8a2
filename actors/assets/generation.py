"""One value of an asset, from its load to its unload, which comes after its last user.

The author's code runs in one task from the load to the unload, since what a generator opens before its ``yield``, such
as a task group, has to be closed by the task that opened it.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from actors.assets.definition import AssetDefinition
from actors.assets.failure import AssetFailed
from actors.assets.opening import Opened, open_asset

log = logging.getLogger("callboard.assets")

_REASON_LIMIT_CHARS = 300
_YIELD_GRACE_S = 3.0


class Generation:
    """``needs``: parameter to the value's own assets, which are held as long as this one is.

    Whoever uses it says ``take`` and, once, ``release``; who made it has taken it.
    """

    def __init__(self, definition: AssetDefinition, needs: dict[str, Generation]) -> None:
        self.definition = definition
        self.value: Any = None
        self.loaded_at: datetime | None = None
        self.ended = asyncio.Event()
        self._needs = needs
        self._users = 1
        self._unwanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def take(self) -> None:
        """One user more."""
        self._users += 1

    def release(self) -> None:
        """One user less; after the last one it is unloaded."""
        self._users -= 1
        if self._users == 0:
            self._unwanted.set()

    async def load(self) -> None:
        """Load and validate. Raises: AssetFailed; then it is unloaded again, and needs no release."""
        for needed in self._needs.values():
            needed.take()
        ready: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(ready), name=self.definition.label)
        try:
            await asyncio.wait({ready}, timeout=self.definition.timeout_s)
        except asyncio.CancelledError:
            await self._abandon()
            raise
        if not ready.done():
            await self._abandon()
            raise self._failed(f"is not loaded within {self.definition.timeout_s:g} s")
        if (error := ready.result()) is not None:
            raise self._failed(f"cannot be loaded: {_reason(error)}") from error

    async def _abandon(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=_YIELD_GRACE_S)

    async def _live(self, ready: asyncio.Future[BaseException | None]) -> None:
        opened: Opened | None = None
        try:
            opened = await open_asset(self.definition, {name: need.value for name, need in self._needs.items()})
            await opened.check()
            self.value, self.loaded_at = opened.value, datetime.now(UTC)
            _settle(ready, None)
            await self._unwanted.wait()
        except asyncio.CancelledError:
            _settle(ready, AssetFailed(self.definition.name, "the load was called off"))
        except BaseException as error:  # noqa: BLE001 - an author's code may raise anything, SystemExit too
            _settle(ready, error)
        finally:
            await self._close(opened)

    async def _close(self, opened: Opened | None) -> None:
        try:
            if opened is not None:
                await opened.close()
        except BaseException as error:  # noqa: BLE001 - as above; what it stood on is given back all the same
            log.warning("%s cannot be unloaded: %s", self.definition.label, _reason(error))
        self.value = None
        for needed in self._needs.values():
            needed.release()
        self.ended.set()

    def _failed(self, what: str) -> AssetFailed:
        return AssetFailed(self.definition.name, f"{self.definition.label} {what}")


def _settle(ready: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
    if not ready.done():
        ready.set_result(error)


def _reason(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - an error's own text may raise anything
        text = "its text cannot be made"
    return f"{type(error).__name__}: {text}"[:_REASON_LIMIT_CHARS]
