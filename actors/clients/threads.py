"""Conversations of agents that go on over jobs, as a client sees them."""

from __future__ import annotations

from actors.threads.thread import Thread
from actors.threads.thread_store import ThreadStore
from bus.connection import Bus
from bus.objects import Blobs


class Threads:
    """``client.threads``: lists, shows and forgets threads. Each method raises BusError."""

    def __init__(self, bus: Bus, blobs: Blobs, workspace: str) -> None:
        self._parts = (bus, blobs, workspace)

    async def list(self) -> list[Thread]:
        """All of the workspace, the one that was used last first; of long ones only the newest exchanges."""
        return await ThreadStore(*self._parts).all()

    async def get(self, name: str) -> Thread:
        """One with all its exchanges. Raises: UsageError if there is none of that name."""
        return await ThreadStore(*self._parts).whole(name)

    async def forget(self, name: str) -> Thread:
        """Remove it; what it was, as far as it stood in the bucket. The logs of its jobs stay as they are.

        Raises: UsageError if there is none of that name.
        """
        return await ThreadStore(*self._parts).forget(name)
