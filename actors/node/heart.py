"""An actor's heart: it says every few seconds what the actor is at, for as long as the event loop turns.

That is what a heartbeat proves: a loop that is blocked, a thread that keeps the GIL, a process that is stopped send
none. Whether messages are taken as well, the node tells from the mailboxes' counters.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from actors.metering.call_counts import COUNTS
from bus import subjects
from bus.connection import Bus
from bus.mailbox import Mailbox
from supervisor.heartbeat import STALL_VARIABLE, AssetBeat, Heartbeat, MailboxBeat, encode, interval_of

log = logging.getLogger("callboard.heart")

Beat = Callable[[], Heartbeat]


def starting(assets: tuple[AssetBeat, ...] = ()) -> Heartbeat:
    """The heartbeat of an actor that does not serve yet."""
    return Heartbeat(pid=os.getpid(), doing="", assets=assets)


def heartbeat_of(
    doing: str, since_s: float, handled: int = 0, busy: int = 0, mailboxes: Sequence[Mailbox] = ()
) -> Heartbeat:
    """A heartbeat; ``since_s`` is by ``time.monotonic``."""
    return Heartbeat(
        pid=os.getpid(),
        doing=doing,
        since=datetime.now(UTC) - timedelta(seconds=time.monotonic() - since_s),
        handled=handled,
        busy=busy,
        sequence=max((mailbox.last_sequence for mailbox in mailboxes), default=0),
        models=COUNTS.beats(),
        mailboxes=tuple(MailboxBeat(m.stream, m.consumer, m.room, m.taken) for m in mailboxes),
    )


def with_warnings(beat: Beat, warnings: tuple[str, ...]) -> Beat:
    """The same heartbeat, and what will not work as the process is set up."""
    return (lambda: msgspec.structs.replace(beat(), warnings=warnings)) if warnings else beat


class Heart:
    """Says what ``beat()`` gives, for actor ``actor`` of node ``node``."""

    def __init__(self, bus: Bus, node: str, actor: str, beat: Beat) -> None:
        self._bus = bus
        self._subject = subjects.heartbeat(node or "none", actor)
        self._beat = beat
        self._interval_s = interval_of(os.environ.get(STALL_VARIABLE))

    async def beat(self) -> None:
        """One heartbeat; if it fails it is left out. Who is silent is killed, so nothing else may silence us."""
        try:
            await self._bus.publish(self._subject, encode(self._beat()))
        except Exception:
            log.exception("a heartbeat was left out")

    async def keep_beating(self) -> None:
        """A heartbeat as often as the supervisor asked for, until this is cancelled."""
        while True:
            await self.beat()
            await asyncio.sleep(self._interval_s)
