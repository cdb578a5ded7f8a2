"""The assets of one process: loaded in order before it serves, lent to calls, refreshed, unloaded at the end.

A refresh loads anew an asset and all that stand on it, and then puts all of them into their places at once: no call
ever has an index of yesterday with the connection of today. A call keeps what it was lent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from actors.assets.definition import AssetDefinition
from actors.assets.failure import AssetFailed
from actors.assets.generation import Generation
from actors.assets.wiring import dependents, load_order, wire
from supervisor.heartbeat import AssetBeat, AssetState

log = logging.getLogger("callboard.assets")

CLOSE_LIMIT_S = 5.0


@contextlib.asynccontextmanager
async def loaded(shelf: Shelf) -> AsyncIterator[Shelf]:
    """Load its assets, and unload them at the end. Raises: AssetFailed."""
    await shelf.load()
    try:
        yield shelf
    finally:
        await shelf.close()


class Loan:
    """What a call was lent: ``values`` by parameter, valid inside of the ``with``."""

    def __init__(self, held: Mapping[str, Generation]) -> None:
        self._held = held
        self.values: dict[str, Any] = {parameter: one.value for parameter, one in held.items()}

    def __enter__(self) -> dict[str, Any]:
        for one in self._held.values():
            one.take()
        return self.values

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.values = {}
        for one in self._held.values():
            one.release()


class Shelf:
    """Of ``assets``, all of an app, those that are ``wanted`` and those that they need.

    Raises: UsageError for an asset that needs what there is not, or a cycle.
    """

    def __init__(self, assets: Mapping[str, AssetDefinition], wanted: Iterable[str]) -> None:
        self._assets = assets
        self._wires = wire(assets)
        self.order = load_order(self._wires, wanted)
        self._current: dict[str, Generation] = {}
        self._states: dict[str, AssetState] = dict.fromkeys(self.order, "loading")
        self._errors: dict[str, str] = {}
        self._old: set[Generation] = set()
        self._refreshing = asyncio.Lock()

    async def load(self) -> None:
        """All of them, each as soon as what it needs is there. Raises: AssetFailed; then none is left loaded."""
        self._current = await self._load(self.order)
        self._states = dict.fromkeys(self.order, "loaded")

    def lend(self, wires: Mapping[str, str]) -> Loan:
        """The present value of each asset, by the parameter that it is for."""
        return Loan({parameter: self._current[name] for parameter, name in wires.items()})

    async def refresh(self, name: str, *, begun: Callable[[], object] = lambda: None) -> None:
        """Load it anew, and all that stand on it; what is in use stays until its last call has ended.

        One refresh at a time; ``begun`` is called when this one's turn has come. Raises: AssetFailed; then all stays as
        it was.
        """
        async with self._refreshing:
            begun()
            names = dependents(self._wires, name, self.order)
            self._mark(names, "refreshing")
            try:
                fresh = await self._load(names)
            except AssetFailed as error:
                self._mark(names, "loaded")
                self._mark([error.asset], "failed", str(error))
                raise
            except asyncio.CancelledError:
                self._mark(names, "loaded")
                raise
            old = [self._current[one] for one in names]
            self._current |= fresh
            self._mark(names, "loaded")
            self._discard(old)

    def version(self, name: str) -> str:
        """The version of one of its assets."""
        return self._assets[name].version

    def beats(self) -> tuple[AssetBeat, ...]:
        """What the heartbeat says of them."""
        return tuple(
            AssetBeat(
                name=name, version=self._assets[name].version, state=self._states[name],
                loaded_at=self._current[name].loaded_at if name in self._current else None,
                error=self._errors.get(name, ""),
            )
            for name in self.order
        )  # fmt: skip

    async def close(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Unload all, what stands on others first; what takes longer than ``limit_s`` is left behind."""
        current, self._current = self._current, {}
        self._discard(current.values())
        if self._old:
            waiting = {asyncio.create_task(one.ended.wait()) for one in self._old}
            _, late = await asyncio.wait(waiting, timeout=limit_s)
            for task in late:
                task.cancel()
            if late:
                log.warning("%d assets were not unloaded within %g s", len(late), limit_s)

    # ---- loading

    async def _load(self, names: list[str]) -> dict[str, Generation]:
        """New values of these, on the present ones of others. Raises: AssetFailed of the first that fails."""
        tasks: dict[str, asyncio.Task[Generation]] = {}
        for name in names:
            tasks[name] = asyncio.create_task(self._load_one(name, dict(tasks)))
        try:
            if tasks:  # it refuses to wait for nothing
                await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            await self._give_up(tasks.values())
            raise
        if all(task.done() and not task.cancelled() and task.exception() is None for task in tasks.values()):
            return {name: task.result() for name, task in tasks.items()}
        raise await self._give_up(tasks.values())

    async def _give_up(self, tasks: Iterable[asyncio.Task[Generation]]) -> BaseException:
        """Unload what of them is loaded already; the error that says best what was wrong."""
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        self._discard(one for one in ended if isinstance(one, Generation))
        failed = [one for one in ended if isinstance(one, BaseException)]
        return next((one for one in failed if isinstance(one, AssetFailed)), asyncio.CancelledError())

    async def _load_one(self, name: str, fresh: Mapping[str, asyncio.Task[Generation]]) -> Generation:
        needs = {
            parameter: await asyncio.shield(fresh[needed]) if needed in fresh else self._current[needed]
            for parameter, needed in self._wires[name].items()
        }
        generation = Generation(self._assets[name], needs)
        await generation.load()
        return generation

    def _discard(self, generations: Iterable[Generation]) -> None:
        self._old = {one for one in self._old if not one.ended.is_set()}
        for one in generations:
            self._old.add(one)
            one.release()

    def _mark(self, names: Iterable[str], state: AssetState, error: str = "") -> None:
        for name in names:
            self._states[name] = state
            self._errors.pop(name, None)
            if error:
                self._errors[name] = error
