"""Who is next when more wait than may run: by priority in proportion to weights, in each in turn by workspace. Pure.

High is served before normal and normal before low, but never so that the others get nothing: of 21 that are let in
while all three wait, 16 are high, 4 normal and 1 low. Within a priority each workspace that waits gets every n-th
place, however many it has waiting; its own stay in their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import Generic, TypeVar

from bus.subjects import PRIORITIES, Priority

T = TypeVar("T")

WEIGHTS: dict[Priority, int] = {"high": 16, "normal": 4, "low": 1}


class FairLine(Generic[T]):
    """What waits, sorted."""

    def __init__(self) -> None:
        # For each priority its workspaces, in the order in which their turns come.
        self._lanes: dict[Priority, dict[str, deque[T]]] = {priority: {} for priority in PRIORITIES}
        self._waiting = dict.fromkeys(PRIORITIES, 0)
        self._credit = dict.fromkeys(PRIORITIES, 0)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def waiting(self, priority: Priority) -> int:
        """How many of that priority wait."""
        return self._waiting[priority]

    def put(self, priority: Priority, workspace: str, item: T) -> None:
        """Wait behind all others of the same workspace and priority."""
        self._lanes[priority].setdefault(workspace, deque()).append(item)
        self._waiting[priority] += 1
        self._length += 1

    def pop(self, among: Container[Priority]) -> tuple[Priority, T] | None:
        """The next one of these priorities, None if none of them waits."""
        able = [priority for priority in PRIORITIES if self._waiting[priority] and priority in among]
        if not able:
            return None
        priority = self._choose(able)
        lane = self._lanes[priority]
        workspace, items = next(iter(lane.items()))
        item = items.popleft()
        del lane[workspace]
        if items:
            lane[workspace] = items  # behind the other workspaces
        self._waiting[priority] -= 1
        self._length -= 1
        if not self._waiting[priority]:
            self._credit[priority] = 0  # who does not wait saves nothing up
        return priority, item

    def _choose(self, able: list[Priority]) -> Priority:
        """Smooth weighted turns: each gets its weight, the richest one goes and pays for all."""
        if len(able) == 1:
            return able[0]
        for priority in able:
            self._credit[priority] += WEIGHTS[priority]
        chosen = max(able, key=lambda priority: self._credit[priority])
        self._credit[chosen] -= sum(WEIGHTS[priority] for priority in able)
        return chosen
