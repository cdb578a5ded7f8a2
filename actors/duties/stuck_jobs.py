"""The sweep for stuck jobs: what no host will ever take up again by itself is given to one.

Each suspect of the fold is looked into once more, in JOBS and then in the log, before anything is done; and all that is
done may be done twice. A wake-up that turns out to be needless is dropped by the host that gets it, an ownership that
was taken over meanwhile refuses a re-drive (``actors.hosts.takeover``), and of two replies the first counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import assert_never

from actors.duties.checkpoint import Checkpoint, checkpoint_of, load_checkpoint, save_checkpoint
from actors.duties.open_jobs import Key, OpenJob, OpenJobs, Overslept, Ownerless, Suspect, Unanswered, Unheard
from actors.duties.term import Term, TermOver
from actors.duties.timing import Timing
from actors.hosts.closing import answer_to
from actors.hosts.takeover import redrive_wake
from actors.jobs.journal import Journal, Pending
from actors.jobs.order import job_id_of
from bus import headers as h
from bus import subjects
from bus.connection import ApiError
from bus.errors import BusError, Fenced, Unreadable, UsageError
from bus.lease import own_clock_s
from bus.messages import Event, JobCancelled, JobCompleted, JobFailed, JobRetried, decode
from bus.reader import Stored, at_sequence, last_of_each, scan
from bus.streams import EVENTS, JOBS, stream_info
from store.log import read_job

log = logging.getLogger("callboard.duties")

_JOB_EVENTS = subjects.event("*", "*", "job.*")
_SIGNALS = subjects.event("*", "*", "signal.*")
_ANSWERS = subjects.event("*", "*", "approval.answered")
# The kinds whose bodies are not needed: an output may be big.
_ENDS = frozenset({"job.completed", "job.failed", "job.cancelled"})
_AT_ONCE = 32
# One answer holds the last messages of 1,024 subjects at most, and a job has twelve kinds of events of its own.
_JOBS_A_READ = 80
# So many events are read again at most after a change of leaders: a second's work.
SAVE_EVENTS = 5_000
# The very first leader of an old log may need minutes; its successor goes on from where it was.
_SAVE_ON_THE_WAY = 20
_NOT_FOUND = 10037
# Between two pages of a long log the gateway gets to answer its callers.
_BREATH_S = 0.005


class StuckJobs:
    """Sweeps during one term. ``redriven`` counts the jobs that it has given out again."""

    def __init__(self, term: Term, timing: Timing) -> None:
        self.jobs = OpenJobs()
        self.redriven = 0
        self._term = term
        self._timing = timing
        self._read_to = {_JOB_EVENTS: 0, _SIGNALS: 0, _ANSWERS: 0}
        self._created = ""
        self._unsaved = 0
        # What was published for a job as it stood at a sequence; it may lie in the queue for long if no host runs.
        self._wakes: dict[Key, tuple[int, int]] = {}

    async def run(self) -> None:
        """Until cancelled. Raises: Fenced, TermOver."""
        while True:
            try:
                await self.sweep()
            except (Fenced, TermOver):
                raise
            except BusError as error:
                log.warning("sweep for stuck jobs: %s; trying again", error)
            except Exception:
                log.exception("the sweep for stuck jobs failed; trying again")
            await asyncio.sleep(self._timing.sweep_s)

    async def sweep(self) -> None:
        """Read what is new, and look into every job that may be stuck. Raises: Fenced, TermOver, BusError."""
        await self._term.confirm()
        await self._check_log()
        for subject in self._read_to:
            await self._read_on(subject)
        await self._reopen(list(self.jobs.reopened))
        await self._save()
        now_s = own_clock_s()
        suspects = list(self.jobs.suspects(now_s, datetime.now(UTC), self._timing.settle_s))
        self._wakes = {key: wake for key, wake in self._wakes.items() if key in self.jobs.jobs}
        for start in range(0, len(suspects), _AT_ONCE):
            self._term.check()
            await asyncio.gather(*(self._look_into(suspect) for suspect in suspects[start : start + _AT_ONCE]))

    # ---- reading

    async def _check_log(self) -> None:
        """A log that was made anew begins anew, and with it the fence. Raises: TermOver."""
        info = await stream_info(self._term.bus, EVENTS)
        created = "" if info is None else str(info["created"])
        if self._created not in ("", created):
            raise TermOver(f"stream {EVENTS} was made anew")
        if not self._created:
            await self._restore(await load_checkpoint(self._term.bus, created))
        self._created = created

    async def _restore(self, saved: Checkpoint) -> None:
        """Begin where a former leader was."""
        await self._reopen(saved.jobs)
        for workspace, job, call, child in saved.ended_children:
            if (parent := self.jobs.jobs.get((workspace, job))) is not None:
                parent.ended_children = {**parent.ended_children, call: (child, own_clock_s())}
        self._read_to = {_JOB_EVENTS: saved.jobs_to, _SIGNALS: saved.signals_to, _ANSWERS: saved.answers_to}

    async def _save(self) -> None:
        if self._unsaved < SAVE_EVENTS:
            return
        checkpoint = checkpoint_of(self.jobs, self._created, *self._read_to.values())
        await save_checkpoint(self._term.bus, checkpoint)
        self._unsaved = 0

    async def _read_on(self, subject: str) -> None:
        async for page in scan(self._term.bus, EVENTS, subject, since=self._read_to[subject]):
            now_s = own_clock_s()
            for stored in page:
                self._fold(stored, now_s)
            self._read_to[subject] = page[-1].sequence
            self._unsaved += len(page)
            if self._unsaved >= _SAVE_ON_THE_WAY * SAVE_EVENTS:
                await self._save()
            await asyncio.sleep(_BREATH_S)

    def _fold(self, stored: Stored, now_s: float) -> None:
        try:
            place = subjects.parse_event(stored.subject)
            if place.kind in _ENDS:
                self.jobs.end(place.workspace, place.job, now_s)
            elif place.kind != "job.rejected":
                self.jobs.read(place.workspace, stored.sequence, _decode(stored), now_s)
        except (Unreadable, UsageError) as error:
            log.warning("left out: %s", error)

    async def _reopen(self, keys: Sequence[Key]) -> None:
        """Take up jobs as their logs say: retried ones, which were forgotten when they ended, those of a checkpoint."""
        for start in range(0, len(keys), _JOBS_A_READ):
            chunk = keys[start : start + _JOBS_A_READ]
            self.jobs.jobs.update(await self._present(chunk))
            self.jobs.reopened.difference_update(chunk)

    async def _present(self, keys: Sequence[Key]) -> dict[Key, OpenJob]:
        """Those of the jobs that are open at this moment. The last event of each kind says all that there is to say."""
        wanted = [subjects.event(workspace, job, "job.*") for workspace, job in keys]
        stored = sorted(await last_of_each(self._term.bus, EVENTS, wanted), key=lambda s: s.sequence)
        events = defaultdict[Key, list[tuple[int, Event]]](list)
        for one in stored:
            if event := _readable(one):
                events[subjects.parse_event(one.subject)[:2]].append((one.sequence, event))
        fresh, now_s = OpenJobs(), own_clock_s()
        for (workspace, _), history in events.items():
            for sequence, event in _since_retried(history):
                fresh.read(workspace, sequence, event, now_s)
        return fresh.jobs

    # ---- looking into one

    async def _look_into(self, suspect: Suspect) -> None:
        """Act if the suspicion holds. Raises: Fenced, TermOver; other trouble is left to the next sweep."""
        try:
            match suspect:
                case Ownerless():
                    await self._redrive(suspect)
                case Overslept():
                    await self._rouse(suspect, "timer")
                case Unheard(signal=signal):
                    await self._rouse(suspect, signal)
                case Unanswered():
                    await self._answer(suspect)
                case _:
                    assert_never(suspect)
        except Fenced:
            raise
        except (BusError, UsageError) as error:
            log.warning("%s: %s; looking again later", suspect.key[1], error)

    async def _redrive(self, suspect: Ownerless) -> None:
        # First the queue, then the log: who acks has written before why it does.
        if suspect.request and await self._is_leased(suspect.key, suspect.request):
            return
        job = await self._still_open(suspect.key)
        if job is None or job.is_parked or job.owned_at != suspect.owned_at:
            return
        await self._wake(suspect.key, suspect.workflow, suspect.owned_at, redrive_wake(suspect.owned_at))

    async def _rouse(self, suspect: Overslept | Unheard | Unanswered, reason: str) -> None:
        job = await self._still_open(suspect.key)
        if job is not None and job.is_parked and job.waiting_at == suspect.waiting_at:
            await self._wake(suspect.key, suspect.workflow, suspect.waiting_at, reason)

    async def _answer(self, suspect: Unanswered) -> None:
        """Give the parent its child's end, if it lacks it, and wake it."""
        parent = await self._journal(suspect.key)
        entry = parent.entries.get(suspect.call)
        child = await self._journal((suspect.key[0], suspect.child))
        if entry is None or child.submitted is None or child.submitted.parent is None:
            return
        if isinstance(entry.outcome, Pending) and child.ended is not None:
            address = child.submitted.parent
            await self._term.append(address.workspace, answer_to(address, child.ended))
            log.warning("%s: its child %s had ended, and it was not told", suspect.key[1], suspect.child)
        await self._rouse(suspect, "reply")

    async def _journal(self, key: Key) -> Journal:
        journal = Journal()
        journal.read(await read_job(self._term.bus, self._term.blobs, *key))
        return journal

    async def _still_open(self, key: Key) -> OpenJob | None:
        job = (await self._present([key])).get(key)
        if job is None:  # its end is not folded yet, or somebody has purged its log
            self.jobs.jobs.pop(key, None)
        return job

    # ---- the queue

    async def _is_leased(self, key: Key, sequence: int) -> bool:
        """Whether the request that some host owns the job by is in the queue still."""
        stored = await self._queued(sequence)
        # A queue that was made anew counts from the start again: the sequence may be another job's.
        return stored is not None and _asks_for(stored, key)

    async def _queued(self, sequence: int) -> Stored | None:
        """The message at that sequence of JOBS; what a replica has not got is asked of the stream's leader."""
        stored = await at_sequence(self._term.bus, JOBS, sequence)
        if stored is not None:
            return stored
        try:
            await self._term.bus.api(f"STREAM.MSG.GET.{JOBS}", {"seq": sequence})
        except ApiError as error:
            if error.err_code == _NOT_FOUND:
                return None
            raise
        raise BusError(f"seq {sequence} of {JOBS} is not on all replicas yet")

    async def _wake(self, key: Key, workflow: str, standing_at: int, reason: str) -> None:
        """Publish a wake-up, unless our earlier one for the same standing of the job still waits for a host."""
        earlier = self._wakes.get(key)
        if earlier is not None and earlier[0] == standing_at and await self._is_leased(key, earlier[1]):
            return
        self._term.check()
        workspace, job = key
        headers = {h.JOB_ID: job, h.JOB_WAKE: reason}
        sequence = await self._term.bus.append(subjects.job_request(workspace, workflow), b"", headers=headers)
        self._wakes[key] = (standing_at, sequence)
        self.redriven += 1
        log.warning("%s: it had nobody and nothing to wait for; given out again (%s)", job, reason)


def _asks_for(stored: Stored, key: Key) -> bool:
    """Whether a request is for that job; its id follows from what the request says, as for a host."""
    workspace, job = key
    try:
        return stored.subject.startswith(f"jobs.{workspace}.") and job_id_of(stored, workspace) == job
    except UsageError:
        return False


def _decode(stored: Stored) -> Event:
    return decode(stored.body, subject=stored.subject, sequence=stored.sequence)


def _readable(stored: Stored) -> Event | None:
    try:
        return _decode(stored)
    except Unreadable as error:
        log.warning("left out: %s", error)
        return None


def _since_retried(events: Sequence[tuple[int, Event]]) -> list[tuple[int, Event]]:
    """The events without the ends that a later retry has made void."""
    retried_at = max((sequence for sequence, event in events if isinstance(event, JobRetried)), default=0)
    ends = (JobCompleted, JobFailed, JobCancelled)
    return [(s, event) for s, event in events if s > retried_at or not isinstance(event, (*ends, JobRetried))]
