"""One time as leader, and its fence.

Who leads appends ``duties.taken`` on the condition that the last such event of the whole cluster is the one it saw;
every event that it then writes as leader is stored only if its own is still the last. A former leader that wakes up
after a stop, and has not looked at its clock yet, is refused by the log, like a former owner of a job.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from bus import headers as h
from bus import subjects
from bus.connection import Bus
from bus.errors import CallboardError, Fenced
from bus.lease import Lease
from bus.messages import Event
from bus.objects import Blobs
from bus.reader import last_sequence
from bus.streams import EVENTS
from bus.system_events import DutiesTaken
from store.log import append_event

LEASE = "leader"
TAKEN = subjects.event(subjects.SYSTEM_WORKSPACE, "*", "duties.taken")


class TermOver(CallboardError):
    """The lease is not ours any more: whatever was about to be done is another's now."""


@dataclass(frozen=True)
class Term:
    """This process leads; ``taken`` is the sequence of its ``duties.taken``, ``epoch`` that of its lease."""

    bus: Bus
    blobs: Blobs
    lease: Lease
    node: str
    epoch: int
    taken: int
    # One append at a time: on a replicated stream two under the same condition get in each other's way.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False, compare=False)

    def check(self) -> None:
        """Look at the clock before an act that the log does not fence. Raises: TermOver."""
        if not self.lease.is_held or self.lease.epoch != self.epoch:
            raise TermOver(f"the lease {self.lease.name} of epoch {self.epoch} is over")

    async def confirm(self) -> None:
        """Ask the log, as an append would: for who has nothing to write. Raises: Fenced, TermOver, BusError."""
        self.check()
        if await _last_taken(self.bus) != self.taken:
            raise Fenced(TAKEN, expected=self.taken)

    async def append(self, workspace: str, event: Event) -> int:
        """Append as leader. Raises: Fenced (another leads), TermOver, BusError."""
        condition = {h.EXPECTED_SEQUENCE: str(self.taken), h.EXPECTED_SUBJECT: TAKEN}
        prefix = subjects.log_prefix(workspace, event.job)
        async with self.turn:
            self.check()
            return await append_event(self.bus, self.blobs, prefix, event, condition, since=self.taken)


async def begin_term(bus: Bus, blobs: Blobs, lease: Lease, node: str) -> Term:
    """Write ``duties.taken`` after the last one. Raises: Fenced (another was faster), TermOver, BusError."""
    last = await _last_taken(bus)
    # Asked after the look at the log: whoever took over since then did so after our time, and the server knows.
    if not await lease.renew():
        raise TermOver(f"the lease {lease.name} went to another before anything was done")
    event = DutiesTaken(job=node, epoch=lease.epoch)
    condition = {h.EXPECTED_SEQUENCE: str(last), h.EXPECTED_SUBJECT: TAKEN}
    prefix = subjects.log_prefix(subjects.SYSTEM_WORKSPACE, node)
    taken = await append_event(bus, blobs, prefix, event, condition, since=last)
    return Term(bus, blobs, lease, node, lease.epoch, taken)


async def _last_taken(bus: Bus) -> int:
    """The sequence of the cluster's last ``duties.taken``, 0 if there is none."""
    return await last_sequence(bus, EVENTS, TAKEN)
