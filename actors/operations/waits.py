"""Waits that may take days: for a time, and for a signal. The job may be parked meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from actors.jobs.journal import Pending
from actors.jobs.signals import RESERVED
from actors.operations.branches import current_branch
from actors.operations.records import Records
from actors.operations.turns import REST_TURNS
from actors.operations.values import instant_in, raw_of, signal_data
from bus.errors import UsageError
from bus.messages import Signal
from bus.subjects import check_name


class Waits(Records):
    """``sleep`` and ``wait_for``."""

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """See ``Job.sleep``."""
        if not 0 <= seconds < 10 * 366 * 86_400:
            raise UsageError(f"cannot sleep for {seconds!r} seconds", hint="0 or more, ten years at most")
        return self._sleep(self.new_key("sleep"), seconds)

    async def _sleep(self, key: str, seconds: float) -> None:
        due_at = await self._due(key, "sleep", seconds)
        while datetime.now(UTC) < due_at:
            await self._wait(key, due_at)
        if not self.turns.replaying:
            await self.unpaused()
        if current_branch.get():
            # Beside other branches its end has a place among theirs, which a replay has to find again.
            await self._record(f"{key}/woke", "timer", "woke", lambda: None)

    async def _due(self, key: str, op: str, seconds: float) -> datetime:
        """The instant at which a wait ends, fixed in the log when the wait was first reached."""
        due = await self._record(key, op, op, partial(instant_in, seconds))
        return datetime.fromisoformat(due)

    def wait_for(self, signal: str, timeout_s: float | None, *, fresh: bool = False) -> Coroutine[Any, Any, Any]:
        """See ``Job.wait_for``; ``fresh``: a signal that came before this was first reached does not count."""
        if check_name(signal, "signal") in RESERVED:
            raise UsageError(f"a job cannot wait for signal {signal!r}: the system acts on it", code="reserved_signal",
                             path="signal", hint="choose another name")  # fmt: skip
        return self._wait_for(self.new_key(f"signal-{signal}"), signal, timeout_s, fresh=fresh)

    async def _wait_for(self, key: str, signal: str, timeout_s: float | None, *, fresh: bool) -> Any:
        since = await self._mark(f"{key}/from") if fresh else 0
        due_at = await self._due(f"{key}/timer", "timer", timeout_s) if timeout_s is not None else None
        entry = self.journal.recall(key, "signal", f"signal-{signal}")
        if entry is None or isinstance(entry.outcome, Pending):
            if taken := await self._look(key, signal, since, due_at):
                return await self._take_signal(key, *taken)
            return await self._no_signal(key, signal, timeout_s)
        await self._take_up(entry.sequence)
        answer = msgspec.json.decode(raw_of(entry))
        return signal_data(answer, signal, timeout_s)

    async def _look(self, key: str, signal: str, since: int, due_at: datetime | None) -> tuple[int, Signal] | None:
        """The next signal of that name once there is one; None when the time is over."""
        self.wanted[key] = signal, since
        try:
            while True:
                await self._may_begin()
                await self._after_older(signal, since)
                if taken := self.journal.next_signal(signal, since):
                    return taken
                if due_at is not None and datetime.now(UTC) >= due_at:
                    return None
                await self._wait(key, due_at)
        finally:
            del self.wanted[key]

    async def _after_older(self, signal: str, since: int) -> None:
        """Let others take what came before: of several signals that are there the oldest is taken first.

        Not for long, since a branch that wants an older one may be given up, or have something else to do first.
        """
        for _ in range(REST_TURNS):
            mine = self.journal.next_signal(signal, since)
            theirs = (self.journal.next_signal(*other) for other in self.wanted.values())
            if mine is None or all(found is None or found[0] >= mine[0] for found in theirs):
                return
            await asyncio.sleep(0)

    async def _mark(self, key: str) -> int:
        """A place in the log, the same on every replay."""
        await self._record(key, "timer", "from", lambda: None)
        return self.journal.entries[key].sequence

    async def _take_signal(self, key: str, sequence: int, signal: Signal) -> Any:
        self.journal.take_signal(sequence)
        data = msgspec.json.decode(signal.data)
        # Shielded: a branch that is given up just now has taken the signal all the same, and the log must say so.
        answer = msgspec.json.encode({"sequence": sequence, "data": data, "by": signal.by})
        await asyncio.shield(self._note(key, "signal", answer))
        return data

    async def _no_signal(self, key: str, signal: str, timeout_s: float | None) -> Any:
        answer = {"sequence": 0, "timed_out": True}
        await self._note(key, "signal", msgspec.json.encode(answer))
        return signal_data(answer, signal, timeout_s)
