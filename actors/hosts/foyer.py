"""Where requests of one workflow wait in their host: as many run as it has room for, and who is next is fair.

The places are shared by the priorities. Jobs of low priority take three quarters of them at most, so a normal one finds
room beside them; and there are a quarter more for high, so that it need not wait until something ends. The host takes
half as many again as it can run, so that it can choose.

The server hands requests out in their order, whosever they are. So while the host has no room it looks now and then at
whose requests there are. If they are of several workspaces it takes more of them, up to ``HELD_MOST``, and lets them in
in turn; else one that has asked for ten thousand jobs would make all others wait for them. While there is room, this
costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from actors.hosts.fair_line import FairLine
from bus import headers as h
from bus import subjects
from bus.connection import Bus
from bus.errors import BusError
from bus.mailbox import Delivery, Mailbox
from bus.streams import JOBS, stream_info
from bus.subjects import PRIORITIES, Priority

log = logging.getLogger("callboard.host")

HELD_MOST = 20_000
LOOK_S = 0.5
# A host with so few places shares none: what it holds and cannot run another one could.
SHARED_FROM = 16


class Places:
    """The places of one workflow, and who is on them. Pure."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken = 0
        self._by_priority = dict.fromkeys(PRIORITIES, 0)

    def has_room(self, priority: Priority) -> bool:
        """Whether one more of that priority may run."""
        own = self._by_priority[priority]
        if priority == "high" and own < self.capacity // 4:
            return True
        return self.taken < self.capacity and (priority != "low" or own < self.capacity - self.capacity // 4)

    def take(self, priority: Priority) -> None:
        """One begins, whether there was room or not."""
        self.taken += 1
        self._by_priority[priority] += 1

    def give_back(self, priority: Priority) -> None:
        """One has ended, or left the host."""
        self.taken -= 1
        self._by_priority[priority] -= 1


class Foyer:
    """One workflow in one host. ``begin`` starts to serve a request, and calls what it is given when that has ended."""

    def __init__(self, workflow: str, capacity: int, begin: Callable[[Delivery, Callable[[], None]], None]) -> None:
        self.mailboxes: dict[Priority, Mailbox] = {}
        self._workflow = workflow
        self.places = Places(capacity)
        self._capacity = capacity
        self._is_shared = capacity >= SHARED_FROM
        self._begin = begin
        self._line = FairLine[Delivery]()

    @property
    def window(self) -> int:
        """How many requests of each priority the host takes: some more than it can run."""
        return self._capacity + self._capacity // 2 if self._is_shared else self._capacity

    def enter(self, delivery: Delivery, priority: Priority) -> None:
        """A request has come: it begins now, or waits for its turn. A wake-up is of a job that has had its turn."""
        has_room = not self._is_shared or (not self._line and self.places.has_room(priority))
        if has_room or h.JOB_WAKE in delivery.headers:
            self._let_in(delivery, priority)
        else:
            self._line.put(priority, subjects.parse_request(delivery.subject).workspace, delivery)
            self._fill()

    def _let_in(self, delivery: Delivery, priority: Priority) -> None:
        self.places.take(priority)
        self._begin(delivery, partial(self._left, priority))

    def _left(self, priority: Priority) -> None:
        self.places.give_back(priority)
        if self._line:
            self._fill()

    def close(self) -> None:
        """Nobody begins any more; what waits is handed back by its mailbox."""
        self._line = FairLine[Delivery]()

    def _fill(self) -> None:
        while found := self._line.pop([p for p in PRIORITIES if self.places.has_room(p)]):
            priority, delivery = found
            self._let_in(delivery, priority)

    # ---- whose they are

    async def look(self, bus: Bus) -> None:
        """Take as many as is fair; trouble is left to the next look."""
        for priority, mailbox in self.mailboxes.items():
            try:
                await self._look_at(bus, priority, mailbox)
            except BusError as error:
                log.warning("whose requests of %s wait: %s", self._workflow, error)

    async def _look_at(self, bus: Bus, priority: Priority, mailbox: Mailbox) -> None:
        if not self._is_shared or not mailbox.is_crowded:
            mailbox.widen(self.window)
            return
        queued = await _by_subject(bus, subjects.request_filters(self._workflow, priority))
        workspaces = {subjects.parse_request(subject).workspace for subject in queued}
        fair = min(HELD_MOST, sum(queued.values())) if len(workspaces) > 1 else 0
        mailbox.widen(max(self.window, fair))


async def _by_subject(bus: Bus, filters: list[str]) -> dict[str, int]:
    """How many requests the queue holds of each subject, taken ones too."""
    counts: dict[str, int] = {}
    for subject in filters:
        info = await stream_info(bus, JOBS, subjects=subject)
        counts |= (info["state"].get("subjects") or {}) if info else {}
    return counts
