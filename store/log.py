"""The event log of one job: claim it, append under its fence, read it whole.

Two rules keep it right. *Fence*: to own a job a host appends ``job.owned`` on the condition that the last such event is
the one it saw; the sequence that it gets is its epoch, and each of its later writes is stored only if that event is
still the last one. *Read back*: when an answer is lost, the writer waits until nothing of its own can still be under
way, and looks for its event by its id. So an append happens once, however often the connection breaks, and a lost
race is told from a lost answer (NATS-FACTS, findings 1-3).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import secrets
from dataclasses import dataclass

from bus import headers as h
from bus import subjects
from bus.connection import Bus, NoResponder
from bus.crash import crash_point
from bus.errors import Ambiguous, Fenced, StreamFull, Unreadable
from bus.messages import Event, JobOwned, JobSubmitted, decode, encode
from bus.objects import Blobs
from bus.reader import Stored, read_all
from bus.streams import EVENTS
from store.artifacts import CLAIM_BYTES, claim, unclaim

log = logging.getLogger("callboard.log")

FULL_RETRY_S = 1.0
_writer = secrets.token_hex(6)
_event_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event and its place in the log."""

    sequence: int
    event: Event


async def recorded(blobs: Blobs, stored: Stored) -> Recorded:
    """Decode a stored message, fetching its body if it was too big. Raises: Unreadable, BlobMissing."""
    event = decode(stored.body, subject=stored.subject, sequence=stored.sequence)
    return Recorded(stored.sequence, event if event.blob is None else await unclaim(blobs, event))


async def read_job(bus: Bus, blobs: Blobs, workspace: str, job: str, *, since: int = 0) -> list[Recorded]:
    """All events of a job after ``since``, in order. A message that nobody can read is logged and left out."""
    stored = await read_all(bus, EVENTS, f"{subjects.log_prefix(workspace, job)}.>", since=since)
    return [r for s in stored if (r := await _readable(blobs, s))]


async def _readable(blobs: Blobs, stored: Stored) -> Recorded | None:
    try:
        return await recorded(blobs, stored)
    except Unreadable as error:
        log.warning("left out: %s", error)
        return None


class JobLog:
    """One host's hold on one job's log. ``epoch`` is 0 until the job is claimed."""

    def __init__(self, bus: Bus, blobs: Blobs, workspace: str, job: str) -> None:
        self.workspace = workspace
        self.job = job
        self.epoch = 0
        self._bus = bus
        self._blobs = blobs
        self._prefix = subjects.log_prefix(workspace, job)
        self._owned = f"{self._prefix}.job.owned"

    async def create(self, submitted: JobSubmitted, owned: JobOwned) -> bool:
        """Take up a new job: both events in one round trip. False if the log has a job of this id already."""
        first, second = await asyncio.gather(
            self._append(submitted, {h.EXPECTED_SEQUENCE: "0"}),
            self._append(owned, {h.EXPECTED_SEQUENCE: "0"}),
            return_exceptions=True,
        )
        for outcome in (first, second):
            if isinstance(outcome, BaseException) and not isinstance(outcome, Fenced):
                raise outcome
        if isinstance(first, Fenced) or isinstance(second, Fenced):
            return False
        assert isinstance(second, int)
        self.epoch = second
        return True

    async def claim(self, owned: JobOwned, last_owned: int) -> int:
        """Own the job if nobody has claimed it since ``last_owned``. Raises: Fenced."""
        self.epoch = await self._append(owned, {h.EXPECTED_SEQUENCE: str(last_owned)}, since=last_owned)
        return self.epoch

    async def append(self, event: Event) -> int:
        """Append as the owner. Waits while the server is away or the stream is full. Raises: Fenced."""
        crash_point(f"host.before.{event.kind}")
        headers = {h.EXPECTED_SEQUENCE: str(self.epoch), h.EXPECTED_SUBJECT: self._owned}
        sequence = await self._append(event, headers, since=self.epoch)
        crash_point(f"host.after.{event.kind}")
        return sequence

    async def _append(self, event: Event, headers: dict[str, str], *, since: int = 0) -> int:
        return await append_event(self._bus, self._blobs, self._prefix, event, headers, since=since)

    async def read(self, *, since: int = 0, must_see: int = 0) -> list[Recorded]:
        """All events after ``since``; reads again until sequence ``must_see`` is among them (a replica may lag)."""
        while True:
            events = await read_job(self._bus, self._blobs, self.workspace, self.job, since=since)
            if must_see <= since or (events and events[-1].sequence >= must_see):
                return events
            await asyncio.sleep(0.02)


async def append_unfenced(bus: Bus, blobs: Blobs, workspace: str, event: Event, *, since: int = 0) -> int:
    """Append what anyone may write: a reply, a signal, a rejection. ``since`` bounds the search after a lost answer."""
    return await append_event(bus, blobs, subjects.log_prefix(workspace, event.job), event, {}, since=since)


async def append_event(
    bus: Bus, blobs: Blobs, prefix: str, event: Event, condition: dict[str, str], *, since: int = 0
) -> int:
    """Append once, whatever happens to the connection. Raises: Fenced, ApiError, PermissionRefused, BusClosed."""
    body = encode(event)
    if len(body) > CLAIM_BYTES:
        body = await claim(blobs, event)
    subject = f"{prefix}.{event.kind}"
    event_id = f"{_writer}-{next(_event_ids)}"
    headers = {h.EVENT_ID: event_id, **condition}
    try:
        return await bus.append(subject, body, headers=headers)
    except (StreamFull, Ambiguous, NoResponder) as error:
        return await _append_through_trouble(bus, subject, body, headers, since, error)


async def _append_through_trouble(
    bus: Bus, subject: str, body: bytes, headers: dict[str, str], since: int, trouble: Exception
) -> int:
    """Go on until the event is stored or refused; each round first looks whether an earlier one was stored."""
    wait_s = 0.1
    while True:
        log.warning("append to %s: %s; going on", subject, trouble)
        if isinstance(trouble, StreamFull):
            await asyncio.sleep(FULL_RETRY_S * (0.5 + random.random()))
        else:
            await bus.settle()
            await asyncio.sleep(random.random() * wait_s)
            wait_s = min(2.0, wait_s * 2)
        try:
            found = await _find(bus, subject, headers[h.EVENT_ID], since)
            return found or await bus.append(subject, body, headers=headers)
        except (StreamFull, Ambiguous, NoResponder) as error:
            trouble = error
        except Fenced:
            if found := await _find(bus, subject, headers[h.EVENT_ID], since):
                return found
            raise


async def _find(bus: Bus, subject: str, event_id: str, since: int) -> int | None:
    for stored in await read_all(bus, EVENTS, subject, since=since):
        if stored.headers.get(h.EVENT_ID) == event_id:
            return stored.sequence
    return None
