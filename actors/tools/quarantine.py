"""Calls whose process died run alone, so that the one that kills takes no other with it again.

Which of the calls in flight killed the process nobody can say, so all of them are suspects. Suspects run one after
the other, and calls that are above suspicion wait meanwhile. All of it is bounded: a suspect waits ``ALONE_S`` at most
for those that run already, and after ``ALONE_S`` of its own run it no longer keeps the others waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

ALONE_S = 10.0


class Quarantine:
    """Who may run now, among the calls of one process."""

    def __init__(self, *, alone_s: float = ALONE_S) -> None:
        self._alone_s = alone_s
        self._running = 0
        self._suspects = 0
        self._turn = asyncio.Lock()
        self._waiters: list[asyncio.Future[None]] = []

    @contextlib.asynccontextmanager
    async def place(self, *, suspect: bool) -> AsyncIterator[None]:
        """Wait until this call may run, and keep others from it as long as it must be alone."""
        if suspect:
            async with self._alone():
                yield
            return
        while self._suspects:
            await self._change()
        self.enter()
        try:
            yield
        finally:
            self.leave()

    @property
    def is_open(self) -> bool:
        """Whether a call above suspicion may enter at once."""
        return not self._suspects

    def enter(self) -> None:
        """A call above suspicion begins."""
        self._running += 1

    def leave(self) -> None:
        """It has ended."""
        self._running -= 1
        if self._waiters:
            self._wake()

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        self._suspects += 1
        held = contextlib.ExitStack()
        held.callback(self._let_others_go)
        try:
            await self._turn.acquire()
            held.callback(self._turn.release)
            await self._until_quiet()
            timer = asyncio.get_running_loop().call_later(self._alone_s, held.close)
            held.callback(timer.cancel)
            yield
        finally:
            held.close()

    def _let_others_go(self) -> None:
        self._suspects -= 1
        self._wake()

    async def _until_quiet(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._alone_s):
                while self._running:
                    await self._change()

    async def _change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
