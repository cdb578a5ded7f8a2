"""The leader: wants the lease for as long as it runs, and does the duties while it has it.

Every gateway has one; one of them leads. A duty that fails tries again in its own time; one that finds out that
another leads ends the term of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from actors.duties.node_watch import NodeWatch
from actors.duties.stray_locks import StrayLocks
from actors.duties.stuck_jobs import StuckJobs
from actors.duties.term import LEASE, Term, TermOver, begin_term
from actors.duties.timing import Timing
from bus.connection import Bus
from bus.errors import Fenced
from bus.lease import Lease
from bus.objects import Blobs

log = logging.getLogger("callboard.duties")


class Leader:
    """``node`` and ``actor`` name this process; ``bus`` should be one that does nothing lengthy in its callbacks."""

    def __init__(self, bus: Bus, blobs: Blobs, node: str, actor: str, timing: Timing | None = None) -> None:
        self.term: Term | None = None
        self._timing = timing or Timing()
        self._bus = bus
        self._blobs = blobs
        self._node = node or "none"
        self._lease = Lease(bus, LEASE, f"{self._node}/{actor}", ttl_s=self._timing.lease_s)
        self._task: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        """Whether this process does the duties at this moment."""
        return self.term is not None and self._lease.is_held

    def start(self) -> None:
        """Want the lease from here on."""
        self._task = asyncio.create_task(self._lease.run(self._lead), name="duties")

    async def stop(self) -> None:
        """Lead no more; a lease that is held is given back, so that the next leader need not wait."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _lead(self) -> None:
        try:
            term = self.term = await begin_term(self._bus, self._blobs, self._lease, self._node)
            log.info("this node does the duties of the cluster from here, epoch %d", term.epoch)
            async with asyncio.TaskGroup() as duties:
                duties.create_task(NodeWatch(term, self._timing).run(), name="node watch")
                duties.create_task(StuckJobs(term, self._timing).run(), name="stuck jobs")
                duties.create_task(StrayLocks(term, self._timing).run(), name="stray locks")
        except* (Fenced, TermOver) as errors:
            log.warning("this node leads no more: %s", errors.exceptions[0])
        finally:
            self.term = None
