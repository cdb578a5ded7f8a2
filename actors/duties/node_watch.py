"""The node watch: who is there is asked of the nodes themselves; who falls silent is declared lost, once.

The leader asks ``sup.ps`` every five seconds, one message to all and one answer from each. To listen to heartbeats
instead would bring it one message for each actor every two seconds: fifty times as many (ADR 008).
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import msgspec

from actors.duties.roll import Away, Roll
from actors.duties.term import Term, TermOver
from actors.duties.timing import Timing
from bus import subjects
from bus.connection import Message
from bus.errors import BusError, Fenced, Unreadable, UsageError
from bus.lease import own_clock_s
from bus.messages import decode
from bus.reader import scan
from bus.streams import EVENTS
from bus.system_events import NodeLost, NodeReturned

log = logging.getLogger("callboard.duties")

PS_SUBJECT = "sup.ps"
NODE_EVENTS = subjects.event(subjects.SYSTEM_WORKSPACE, "*", "node.*")


class _Answer(msgspec.Struct):
    node: str


class NodeWatch:
    """Watches during one term; what former leaders declared is in the log and is not declared again."""

    def __init__(self, term: Term, timing: Timing) -> None:
        self.roll = Roll()
        self._term = term
        self._timing = timing
        self._read_to = 0
        self._listened_s = own_clock_s()

    async def run(self) -> None:
        """Until cancelled. Raises: Fenced, TermOver."""
        while True:
            try:
                await self.look()
            except (Fenced, TermOver):
                raise
            except BusError as error:
                log.warning("node watch: %s; trying again", error)
                self.roll.deafen(own_clock_s())
            except Exception:
                log.exception("the node watch failed; trying again")
            await asyncio.sleep(self._timing.ask_s)

    async def look(self) -> None:
        """One round: read the log, ask everybody, declare. Raises: Fenced, TermOver, BusError."""
        await self._read_on()
        heard = await self._ask()
        now_s = own_clock_s()
        # Nobody answers, or we were stopped ourselves: that says nothing about the nodes.
        if not heard or now_s - self._listened_s > 3 * self._timing.ask_s:
            self.roll.deafen(now_s)
        self._listened_s = now_s
        for name in sorted(heard):
            if away := self.roll.hear(name, now_s):
                await self._welcome(name, away)
        if any(self.roll.silent(now_s, self._timing.lost_after_s)):
            await self._read_on()  # it may have stopped in order meanwhile
        for name, silent_s in list(self.roll.silent(now_s, self._timing.lost_after_s)):
            await self._declare(name, silent_s)
        self.roll.forget(now_s, datetime.now(UTC))

    async def _read_on(self) -> None:
        async for page in scan(self._term.bus, EVENTS, NODE_EVENTS, since=self._read_to):
            now_s = own_clock_s()
            for stored in page:
                self._read_to = stored.sequence
                try:
                    self.roll.read(decode(stored.body, subject=stored.subject, sequence=stored.sequence), now_s)
                except Unreadable as error:
                    log.warning("left out: %s", error)

    async def _ask(self) -> set[str]:
        """The names of all nodes that answer."""
        wait_s = min(2.0, self._timing.ask_s / 2)
        answers = await self._term.bus.gather(
            PS_SUBJECT, done=lambda m: bool(m.headers), timeout_s=wait_s, strict=False
        )
        return {name for msg in answers if (name := _name_of(msg))}

    async def _declare(self, name: str, silent_s: float) -> None:
        event = NodeLost(job=name, silent_s=round(silent_s, 3), by=self._term.node)
        await self._term.append(subjects.SYSTEM_WORKSPACE, event)
        self.roll.read(event, own_clock_s())
        log.warning("node %s is lost: nothing was heard of it for %.1f s", name, silent_s)

    async def _welcome(self, name: str, away: Away) -> None:
        away_s = max(0.0, (datetime.now(UTC) - away.lost_at).total_seconds()) + away.silent_s
        event = NodeReturned(job=name, away_s=round(away_s, 3), by=self._term.node)
        await self._term.append(subjects.SYSTEM_WORKSPACE, event)
        self.roll.read(event, own_clock_s())
        log.warning("node %s is back after %.1f s", name, away_s)


def _name_of(msg: Message) -> str:
    """The node that answers; what cannot be read is none of ours."""
    try:
        return subjects.check_name(msgspec.json.decode(msg.data, type=_Answer).node, "node")
    except (msgspec.DecodeError, UsageError):
        return ""
