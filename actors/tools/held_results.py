"""Results of finished calls that the server cannot take: on disk until it can, whatever becomes of this process.

A result goes to the outbox as soon as its append is in trouble, or has had no answer for a while; its append goes on
trying, and what it has stored is taken out again. If the process is killed meanwhile, its successor or the node's
courier delivers (``bus.courier``). When the outbox has no room the result stays in memory, and the outbox is asked
again in each round: nothing is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import random

from bus import headers as h
from bus.connection import Bus
from bus.courier import Courier
from bus.crash import crash_point
from bus.errors import OutboxError
from bus.outbox import Held, Outbox
from store.log import KeptAppend

log = logging.getLogger("callboard.held")

LOOK_S = 0.25
OFFLINE_S = 0.5
# An answer takes this long only if something is wrong; a busy server is no reason to write to the disk.
SLOW_S = 2.0
SETTLE_S = 30.0
FULL_RETRY_S = 1.0
_SAY_AGAIN_S = 10.0


class HeldResults:
    """The results of one actor that are not stored yet. A ``store.log.Keeper``; without ``outbox`` in memory only."""

    def __init__(self, bus: Bus, outbox: Outbox | None, owner: str) -> None:
        self._bus = bus
        self._outbox = outbox
        self._owner = owner
        self._waiting: dict[str, tuple[KeptAppend, float]] = {}
        self._kept: set[str] = set()
        self._in_memory: set[str] = set()
        self._full = ""
        self._said_s = float("-inf")
        self._try_at_s = 0.0
        self._turn = asyncio.Lock()
        self._looker: asyncio.TimerHandle | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._offline_since_s = 0.0
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._kept | self._in_memory)

    def doing(self) -> str:
        """For people; empty if nothing is held."""
        if not len(self):
            return ""
        count = f"{len(self)} result{'s' if len(self) > 1 else ''}"
        memory = f", {len(self._in_memory)} of them in memory only: {self._full}" if self._in_memory else ""
        return f"holds {count} until the server is back{memory}"

    # ---- the Keeper

    def watch(self, append: KeptAppend) -> None:
        """An append begins."""
        self._waiting[append.event_id] = (append, self._loop.time())
        if self._looker is None:
            self._looker = self._loop.call_later(LOOK_S, self._look)

    def leave(self, append: KeptAppend) -> None:
        """This process gives it up; what is on disk stays there."""
        self._waiting.pop(append.event_id, None)
        self._kept.discard(append.event_id)
        self._in_memory.discard(append.event_id)

    async def keep(self, append: KeptAppend) -> None:
        """Put it on disk, unless it is there or has ended."""
        event_id, outbox = append.event_id, self._outbox
        if outbox is None:
            return
        async with self._turn:
            if event_id in self._kept or event_id not in self._waiting:
                return
            try:
                await outbox.put(self._held(append))
            except OutboxError as error:
                self._complain(event_id, error)
                return
            self._kept.add(event_id)
            self._in_memory.discard(event_id)

    async def drop(self, append: KeptAppend) -> None:
        """It is stored, or refused for good."""
        event_id = append.event_id
        self._waiting.pop(event_id, None)
        # Nothing was ever written in the normal case: no lock, no disk.
        if self._keeping is None and event_id not in self._kept and event_id not in self._in_memory:
            return
        crash_point("outbox.after_send")
        async with self._turn:
            self._in_memory.discard(event_id)
            if event_id in self._kept and self._outbox:
                await self._remove(self._outbox, event_id)

    async def _remove(self, outbox: Outbox, event_id: str) -> None:
        self._kept.discard(event_id)
        try:
            await outbox.remove([event_id])
            if not self._kept:
                await outbox.close(empty=True)
        except OutboxError as error:  # the next courier finds it in the log, and only removes it
            log.warning("a result that is stored could not be taken out: %s", error)

    # ---- what others hold

    async def settle(self, workspace: str, job: str, call: str) -> None:
        """Before a call that came again is run: another replica on this machine may hold its result, or have left it.

        Waits until that is delivered, ``SETTLE_S`` seconds at most; who asks reads the log after this.
        """
        if self._outbox is None or not self._outbox.exists():
            return
        deadline_s = self._loop.time() + SETTLE_S
        try:
            while await self._others(self._outbox, f"{workspace}/{job}/{call}") and self._loop.time() < deadline_s:
                log.info("the result of %s of %s is held on this machine; waiting for its delivery", call, job)
                await Courier(self._bus, [self._outbox.path]).round()
                await asyncio.sleep(0.1 + random.random() * 0.4)
        except OutboxError as error:
            log.warning("whether %s of %s has a result in the outbox cannot be told: %s", call, job, error)

    async def _others(self, outbox: Outbox, about: str) -> bool:
        async with self._turn:
            held = await outbox.about(about)
            if not self._kept:
                await outbox.close(empty=True)
        return any(
            one.holder != outbox.token and not one.trouble and self._bus.destination.reaches(one.destination)
            for one in held
        )

    # ---- what has had no answer for a while

    def _look(self) -> None:
        """One timer for all results under way, like the inbox's: a timer each would show in the success path."""
        now = self._loop.time()
        if self._bus.is_online:
            self._offline_since_s = 0.0
        elif not self._offline_since_s:
            self._offline_since_s = now
        is_away = bool(self._offline_since_s) and now - self._offline_since_s >= OFFLINE_S
        late = [append for append, since_s in self._waiting.values()
                if append.event_id not in self._kept and (is_away or now - since_s >= SLOW_S)]  # fmt: skip
        if late and self._keeping is None and now >= self._try_at_s:
            self._keeping = asyncio.create_task(self._keep_all(late))
        self._looker = self._loop.call_later(LOOK_S, self._look) if self._waiting else None

    async def _keep_all(self, late: list[KeptAppend]) -> None:
        try:
            for append in late:
                await self.keep(append)
        finally:
            self._keeping = None

    # ---- what is written

    def _held(self, append: KeptAppend) -> Held:
        headers = {name: value for name, value in append.headers.items() if name != h.MSG_ID}
        return Held(
            event_id=append.event_id, owner=self._owner, kind="event", about=append.about, subject=append.subject,
            headers=headers, body=append.body, blob=append.blob, since=append.since,
            destination=self._bus.destination,
        )  # fmt: skip

    def _complain(self, event_id: str, error: OutboxError) -> None:
        self._in_memory.add(event_id)
        self._try_at_s = self._loop.time() + FULL_RETRY_S
        self._full = str(error.args[0])
        if self._loop.time() - self._said_s > _SAY_AGAIN_S:
            self._said_s = self._loop.time()
            log.error("%s; the result stays in memory, and is lost if this process is killed", error)

    async def close(self) -> None:
        """Look no more; what is on disk is free for others from now on."""
        if self._looker:
            self._looker.cancel()
        if self._keeping:
            await asyncio.wait({self._keeping}, timeout=1.0)
        if self._outbox:
            await self._outbox.close(empty=not self._kept)
