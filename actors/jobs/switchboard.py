"""How a host hears the replies of its jobs: one subscription for all of them, or one for each job.

A subscription of its own costs a job 25 us here and as much at the server, which has to change its routing twice. One
for all jobs costs nothing, but brings the replies of every other host too, at 10 us each. So a host begins with one for
all, counts whose replies come, and changes to one for each when most are strangers'; from time to time it tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine

from bus import subjects
from bus.connection import Bus, Message, Subscription

log = logging.getLogger("callboard.switchboard")

SAMPLE = 2_000
STRANGERS_LIMIT = 2.5
RETRY_AFTER_JOBS = 20_000

Ring = Callable[[Message], None]
Key = tuple[str, str]


class Switchboard:
    """Gives each job's replies to the ``ring`` that it was connected with."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._rings: dict[Key, Ring] = {}
        self._own: dict[Key, Subscription] = {}
        self._shared: Subscription | None = None
        self._changing: asyncio.Task[None] | None = None
        self._heard = 0
        self._strangers = 0
        self._jobs_alone = 0

    @property
    def is_shared(self) -> bool:
        """Whether one subscription serves all jobs."""
        return self._shared is not None

    async def start(self) -> None:
        """Begin with one subscription for all."""
        self._heard = self._strangers = 0
        self._shared = await self._bus.subscribe(subjects.live("*", "*", "reply.*"), self._on_reply)

    async def connect(self, key: Key, ring: Ring) -> None:
        """Hear the replies of job ``key`` (workspace, id) from now on."""
        self._rings[key] = ring
        if self._shared is None:
            await self._listen_alone(key)
            self._jobs_alone += 1
            if self._jobs_alone >= RETRY_AFTER_JOBS:
                self._change(self._share)

    async def disconnect(self, key: Key) -> None:
        """Hear no more of job ``key``."""
        self._rings.pop(key, None)
        if (sub := self._own.pop(key, None)) is not None:
            await _unsubscribe(sub)

    async def stop(self) -> None:
        """Hear nothing more."""
        if self._changing:
            self._changing.cancel()
        for sub in [*self._own.values(), *([self._shared] if self._shared else [])]:
            await _unsubscribe(sub)
        self._own.clear()
        self._shared = None

    def _on_reply(self, msg: Message) -> None:
        _, workspace, job, _ = msg.subject.split(".", 3)
        ring = self._rings.get((workspace, job))
        self._heard += 1
        if ring is not None:
            ring(msg)
        else:
            self._strangers += 1
        if self._heard >= SAMPLE:
            self._weigh()

    def _weigh(self) -> None:
        own, strangers = self._heard - self._strangers, self._strangers
        self._heard = self._strangers = 0
        if strangers > STRANGERS_LIMIT * own:
            self._change(self._part)

    def _change(self, to: Callable[[], Coroutine[None, None, None]]) -> None:
        if self._changing is None or self._changing.done():
            self._changing = asyncio.create_task(to())

    async def _part(self) -> None:
        """One subscription for each job: all of them first, then the shared one goes, so that nothing is missed."""
        shared, self._shared = self._shared, None
        self._jobs_alone = 0
        for key in list(self._rings):
            await self._listen_alone(key)
        if shared is not None:
            await _unsubscribe(shared)
        log.info("most replies are for other hosts: one subscription for each job from now on")

    async def _share(self) -> None:
        self._jobs_alone = 0
        await self.start()
        for key in list(self._own):
            if (sub := self._own.pop(key, None)) is not None:
                await _unsubscribe(sub)

    async def _listen_alone(self, key: Key) -> None:
        ring = self._rings.get(key)
        if ring is not None and key not in self._own:
            workspace, job = key
            self._own[key] = await self._bus.subscribe(subjects.live(workspace, job, "reply.*"), ring)


async def _unsubscribe(sub: Subscription) -> None:
    with contextlib.suppress(Exception):  # the connection may be gone, and the subscription with it
        await sub.unsubscribe()
