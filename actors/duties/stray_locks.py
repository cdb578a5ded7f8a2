"""The sweep for locks that nobody will pass on: held or wanted by a job that has ended, or free while somebody waits.

Whoever finishes a job drops what it held, and is asked again if it dies on the way; so this finds what was lost with a
request, by hand, or by a writer that came to a halt for very long. What was found twice in a row is acted upon, and all
that is done may be done twice.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence

from actors.duties.term import Term, TermOver
from actors.duties.timing import Timing
from actors.locks.lock_store import LockState, LockStore, lock_name, lock_states
from actors.locks.protocol import drop, pump
from bus import subjects
from bus.errors import BusError, Fenced
from bus.reader import last_of_each
from bus.streams import EVENTS

log = logging.getLogger("callboard.duties")

# One answer holds the last messages of 1,024 subjects at most.
_JOBS_A_READ = 250
_SUBMITTED = "job.submitted"
_ENDS = ("job.completed", "job.failed", "job.cancelled")

Stray = tuple[str, str, str, int]  # workspace, key of the lock, job ("" if it is only to be passed on), era


class StrayLocks:
    """Sweeps during one term. ``repaired`` counts what it has found."""

    def __init__(self, term: Term, timing: Timing) -> None:
        self.repaired = 0
        self._term = term
        self._timing = timing
        self._suspects: set[Stray] = set()

    async def run(self) -> None:
        """Until cancelled. Raises: Fenced, TermOver."""
        while True:
            await asyncio.sleep(self._timing.sweep_s)
            try:
                await self.sweep()
            except (Fenced, TermOver):
                raise
            except BusError as error:
                log.warning("sweep of locks: %s; trying again", error)
            except Exception:
                log.exception("the sweep of locks failed; trying again")

    async def sweep(self) -> None:
        """Look at every lock, and repair what was found the last time and is so still. Raises: TermOver, BusError."""
        self._term.check()
        states = {lock_name(state).key: state for state in await lock_states(self._term.bus)}
        found = {stray for key, state in states.items() for stray in _stuck(key, state)}
        found |= await self._ended(list(states.items()))
        for stray in sorted(found & self._suspects):
            self._term.check()
            await self._repair(states[stray[1]], stray)
        self._suspects = found

    async def _repair(self, state: LockState, stray: Stray) -> None:
        store = LockStore(self._term.bus, self._term.blobs, lock_name(state))
        _, key, job, era = stray
        if job:
            await drop(store, job, era)
            log.warning("lock %s: job %s has ended, and it was not dropped", key, job)
        else:
            await pump(store)
            log.warning("lock %s: it was free, and who waited was not told", key)
        self.repaired += 1

    async def _ended(self, states: Sequence[tuple[str, LockState]]) -> set[Stray]:
        """The claims of lives of jobs that are over, and of jobs whose log is gone."""
        claims = {
            (state.workspace, key, claim.job, claim.era)
            for key, state in states
            for claim in [*(held.claim for held in state.holders), *(waiting.claim for waiting in state.queue)]
        }
        jobs = sorted({(workspace, job) for workspace, _, job, _ in claims})
        ends: dict[tuple[str, str], int] = {}
        for start in range(0, len(jobs), _JOBS_A_READ):
            ends |= await self._ends(jobs[start : start + _JOBS_A_READ])
        return {stray for stray in claims if ends.get((stray[0], stray[2]), sys.maxsize) > stray[3]}

    async def _ends(self, jobs: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Where the last end of each job stands, 0 if it has none; a job that the log does not know is left out."""
        wanted = [subjects.event(workspace, job, kind) for workspace, job in jobs for kind in (_SUBMITTED, *_ENDS)]
        ends: dict[tuple[str, str], int] = {}
        for stored in await last_of_each(self._term.bus, EVENTS, wanted):
            place = subjects.parse_event(stored.subject)
            key = (place.workspace, place.job)
            ends[key] = max(ends.get(key, 0), 0 if place.kind == _SUBMITTED else stored.sequence)
        return ends


def _stuck(key: str, state: LockState) -> Iterator[Stray]:
    """A lock with room for the first of its queue, or whose first was granted it and is in the queue still."""
    if not state.queue:
        return
    first = state.queue[0].claim
    if len(state.holders) < first.limit or any(held.claim.is_same(first) for held in state.holders):
        yield state.workspace, key, "", 0
