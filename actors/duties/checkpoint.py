"""How far the sweep has read, and which jobs were open there, so that the next leader need not read all of history.

Kept in bucket ``duties``. It holds names only: the jobs themselves are read anew from their logs. An older checkpoint
is as good as a newer one, it only costs the reading in between; so no order between writers is needed.
"""

from __future__ import annotations

import logging

import msgspec

from actors.duties.open_jobs import OpenJobs
from bus.connection import Bus
from bus.errors import BusError
from bus.kv import Kv

log = logging.getLogger("callboard.duties")

BUCKET = "duties"
KEY = "open-jobs"


class Checkpoint(msgspec.Struct, frozen=True):
    """``log`` is when the stream was made: its sequences mean nothing in another one.

    ``jobs_to``, ``signals_to`` and ``answers_to`` are the sequences to read on from; ``jobs`` are (workspace, job),
    ``ended_children`` (workspace, job, call, child) of parents that may not have been told.
    """

    log: str
    jobs_to: int
    signals_to: int
    jobs: list[tuple[str, str]] = []
    ended_children: list[tuple[str, str, str, str]] = []
    answers_to: int = 0


def checkpoint_of(jobs: OpenJobs, log: str, jobs_to: int, signals_to: int, answers_to: int) -> Checkpoint:
    """What the next leader needs; pure."""
    children = [
        (*key, call, job.ended_children[call][0])
        for key, job in jobs.jobs.items()
        if job.is_parked
        for call in job.on
        if call in job.ended_children
    ]
    # A signal or answer that its job has not reacted to is read again: only the fold knows of it.
    unheard = [job.signal_at - 1 for job in jobs.jobs.values() if job.is_parked and job.signal_at > job.waiting_at]
    words_to = [min([to, *unheard]) for to in (signals_to, answers_to)]
    return Checkpoint(log, jobs_to, words_to[0], list(jobs.jobs), children, words_to[1])


async def load_checkpoint(bus: Bus, log: str) -> Checkpoint:
    """The last one of that stream, or one that says to begin at the start. Raises: BusError."""
    entry = await Kv(bus, BUCKET).get(KEY)
    start = Checkpoint(log, 0, 0)
    if entry is None or entry.deleted:
        return start
    try:
        found = msgspec.json.decode(entry.value, type=Checkpoint)
    except msgspec.DecodeError:
        return start
    return found if found.log == log else start


async def save_checkpoint(bus: Bus, checkpoint: Checkpoint) -> bool:
    """Whether it was stored; one that does not fit a message (some 40,000 open jobs) is not, and the last one stays."""
    body = msgspec.json.encode(checkpoint)
    if len(body) > bus.max_body_bytes:
        log.info("%d open jobs: too many for a checkpoint, the last one stays", len(checkpoint.jobs))
        return False
    try:
        await Kv(bus, BUCKET).put(KEY, body)
    except BusError as error:
        log.warning("no checkpoint of the open jobs: %s", error)
        return False
    return True
