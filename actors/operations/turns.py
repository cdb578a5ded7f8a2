"""Replay in the log's order: what a resumed job has recorded comes back one outcome at a time.

Parallel branches share variables, and the first failure gives the others up; so which branch went on first is part of
what a job did. The live host lets branches go on as their outcomes are stored. A replay that gave every branch all its
recorded outcomes at once would run a branch further than it ever got, and could ask for a call that was never made.
Here each outcome waits for its turn: the lowest sequence goes first, and the next one only when the job's tasks have
come to rest. Something new comes after everything that is recorded. Without open branches nothing has to wait.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys

# Loop turns for which tasks may be on their way to their next operation, for each level of gathers within gathers: a
# branch that ends wakes its gather, that ends its own branch. Measured need: 4 a level.
REST_TURNS = 8
NEW = sys.maxsize


class Turns:
    """The turns of one job's branches. ``last`` is the last recorded sequence; 0 for a fresh job, which never waits.

    ``given`` counts turns, so that one can see whether a replay gets on.
    """

    def __init__(self, last: int) -> None:
        self.replaying = last > 0
        self.given = 0
        self._settling: list[int] = []
        self._last = last
        self._open = 0
        self._depth = 0
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = itertools.count()
        self._pacer: asyncio.Task[None] | None = None

    def enter(self, depth: int) -> None:
        """A gather opens its branches, at that depth of gathers within gathers."""
        self._open += 1
        self._depth = max(self._depth, depth)

    def leave(self) -> None:
        """A gather has ended."""
        self._open -= 1

    async def wait(self, sequence: int) -> None:
        """Until it is the turn of the outcome at ``sequence``; ``NEW`` for what is not recorded."""
        if not self._open:
            self.given += 1
            self.replaying = self.replaying and sequence <= self._last
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (sequence, next(self._count), turn))
        if self._pacer is None:
            self._pacer = asyncio.create_task(self._pace())
        await turn

    async def settle(self, depth: int) -> None:
        """For a gather in which a branch has failed: until branches that were woken at the same time have got on."""
        self._settling.append(depth)
        try:
            left = REST_TURNS
            while left:
                await asyncio.sleep(0)
                left = REST_TURNS if any(d > depth for d in self._settling) else left - 1
        finally:
            self._settling.remove(depth)

    async def _rest(self) -> None:
        """Until every task of the job waits for something."""
        left = REST_TURNS * (1 + self._depth)
        while left:
            await asyncio.sleep(0)
            left = REST_TURNS * (1 + self._depth) if self._settling else left - 1

    async def _pace(self) -> None:
        while self._queue:
            await self._rest()
            sequence, _, turn = heapq.heappop(self._queue)
            if turn.done():
                continue
            turn.set_result(None)
            self.given += 1
            if sequence > self._last:
                self._end()
        self._pacer = None

    def _end(self) -> None:
        """All that is recorded has been taken up: the job is live."""
        self.replaying = False
        while self._queue:
            _, _, turn = heapq.heappop(self._queue)
            if not turn.done():
                turn.set_result(None)
