"""The circuits that one process knows: bucket ``breakers`` in memory, and the one way in which a state is written.

Every move is a compare-and-set, so of many processes that come to the same conclusion one makes the move, and that one
writes the event. Nothing here raises into a call: while the bus cannot be asked, the last known states hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, NamedTuple

from actors.breakers.circuit import Circuit
from bus.connection import Bus
from bus.errors import BusError, Fenced
from bus.failure import Failure
from bus.kv import Entry, Kv, KvCache
from bus.objects import Blobs
from bus.streams import ensure_streams
from bus.subjects import SYSTEM_WORKSPACE
from bus.system_events import BreakerEvent
from store.log import append_unfenced
from supervisor.breaker import Breaker
from supervisor.circuit import CLOSED, Open, State, decode_state, encode_state, event_of, remaining_s
from supervisor.window import CIRCUIT_OPEN

log = logging.getLogger("callboard.breaker")

BUCKET = "breakers"
# Doorbells may be missed; a state that was missed is found after so long.
CHECK_S = 15.0
START_S = 2.0
START_AGAIN_S = 5.0
STOP_S = 1.0


def tool_key(name: str, major: int) -> str:
    """The key of a tool's circuit."""
    return f"tool.{name}.v{major}"


def dependency_key(name: str) -> str:
    """The key of the circuit of something that tools depend on."""
    return f"dep.{name}"


class Known(NamedTuple):
    """A state as it stands in the bucket; ``due_s`` is when it may be probed, by the clock of the event loop."""

    state: State = CLOSED
    revision: int = 0
    due_s: float | None = None


class Breakers:
    """``name`` says in events who moved a circuit. Costs nothing until it is started."""

    def __init__(self, bus: Bus, blobs: Blobs, name: str) -> None:
        self.bus = bus
        self.me = f"{name}:{os.getpid()}"
        self.loop = asyncio.get_running_loop()
        self._blobs = blobs
        self._kv = Kv(bus, BUCKET)
        self._cache = KvCache(self._kv, check_s=CHECK_S)
        self._cache.on_change.append(self._on_change)
        self._known: dict[str, Known] = {}
        self._circuits: dict[str, Circuit] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._is_loaded = False

    # ---- life

    async def start(self) -> None:
        """Load the states and keep them live. Idempotent; after 2 s without an answer it goes on in the background."""
        if self._is_loaded:
            return
        if self._starting is None:
            self._starting = asyncio.create_task(self._load())
        await asyncio.wait({self._starting}, timeout=START_S)

    async def _load(self) -> None:
        while True:
            try:
                await self._cache.start()
            except BusError as error:
                log.warning("states of circuits: %s; trying again", error)
                await self._cache.stop()
            else:
                self._is_loaded = True
                return
            await self._make_bucket()
            await asyncio.sleep(START_AGAIN_S)

    async def stop(self) -> None:
        """Let go of everything; events that are on their way get a moment."""
        for circuit in self._circuits.values():
            await circuit.close()
        self._circuits.clear()
        if self._starting:
            self._starting.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)
        for task in self._tasks:
            task.cancel()
        await self._cache.stop()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do it beside everything else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- looking

    def circuit(self, key: str, policy: Breaker, *, is_eager: bool = False) -> Circuit:
        """This process's part in a circuit; made, and subscribed to, when it is first asked for.

        ``is_eager``: it looks for work to probe with by itself, as soon as the time has come.
        """
        found = self._circuits.get(key)
        if found is None:
            found = self._circuits[key] = Circuit(self, key, policy, self.known(key), is_eager=is_eager)
            self.spawn(found.listen())
        return found

    def peek(self, key: str) -> Circuit | None:
        """This process's part in a circuit, if it has one; may be asked from any thread."""
        return self._circuits.get(key)

    def known(self, key: str) -> Known:
        """The state of a circuit, as far as this process knows; closed if it knows nothing."""
        return self._known.get(key, Known())

    def refusal(self, key: str) -> Failure | None:
        """Why a call is refused now; None if it is let through: else nothing would ever probe."""
        known = self.known(key)
        if not isinstance(known.state, Open):
            return None
        left_s = None if known.due_s is None else known.due_s - self.loop.time()
        if left_s is not None and left_s <= 0:
            return None
        return circuit_failure(key, known.state.reason, left_s)

    # ---- what comes from the bucket

    def _on_change(self, key: str, entry: Entry | None) -> None:
        if entry is None:
            self._adopt(key, CLOSED, 0)
        elif entry.revision > self.known(key).revision:
            self._adopt(key, decode_state(entry.value), entry.revision)

    def _adopt(self, key: str, state: State, revision: int) -> None:
        left_s = remaining_s(state, datetime.now(UTC), is_news=self._is_loaded)
        known = Known(state, revision, None if left_s is None else self.loop.time() + left_s)
        self._known[key] = known
        if circuit := self._circuits.get(key):
            circuit.take(known)

    # ---- moving

    async def move(self, key: str, before: Known, after: State) -> bool:
        """Write ``after`` if the state is still ``before``; whether that was done. Never raises BusError."""
        try:
            revision = await self._kv.compare_and_set(key, encode_state(after), before.revision)
        except Fenced:
            await self._look(key)
            return False
        except BusError as error:
            log.warning("circuit %s: %s", key, error)
            if not await self._was_written(key, after):
                return False
        else:
            self._adopt(key, after, revision)
        if (event := event_of(key, before.state, after)) is not None:
            self.spawn(self._record(event))
        return True

    async def _was_written(self, key: str, state: State) -> bool:
        """Whether the answer was lost, and not the write; nobody else writes this very state."""
        await self._make_bucket()
        await self._look(key)
        return self.known(key).state == state

    async def _look(self, key: str) -> None:
        with contextlib.suppress(BusError):
            entry = await self._kv.get(key)
            if entry is None:  # the bucket is a new one, or a replica lags
                await self._cache.check()
            elif entry.revision > self.known(key).revision:
                self._adopt(key, CLOSED if entry.deleted else decode_state(entry.value), entry.revision)

    async def _make_bucket(self) -> None:
        """If somebody has deleted it: without it no circuit could be opened, and none that is open be closed."""
        with contextlib.suppress(BusError):
            if self.bus.is_online:
                await ensure_streams(self.bus)

    async def _record(self, event: BreakerEvent) -> None:
        log.warning("%s %s by %s", event.kind, event.breaker, event.by)
        try:
            await append_unfenced(self.bus, self._blobs, SYSTEM_WORKSPACE, event)
        except BusError as error:
            log.warning("%s of %s was not recorded: %s", event.kind, event.breaker, error)


def circuit_failure(key: str, reason: str, left_s: float | None) -> Failure:
    """The failure of a call that was not made since circuit ``key`` is open for ``left_s`` seconds more."""
    wait_s = None if left_s is None else round(left_s, 3)
    until = "until it is closed by hand" if wait_s is None else f"for {wait_s:g} s more"
    return Failure(
        code=CIRCUIT_OPEN, message=f"the circuit {key} is open {until}: {reason}", retryable=True,
        retry_after_s=wait_s, details={"breaker": key},
    )  # fmt: skip
