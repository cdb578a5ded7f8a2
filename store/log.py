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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from bus import headers as h
from bus import subjects
from bus.connection import Bus, Message, NoResponder, sequence_of
from bus.crash import crash_point
from bus.errors import (
    Ambiguous,
    ApiError,
    BusClosed,
    BusError,
    Contended,
    Fenced,
    PermissionRefused,
    StreamFull,
    Unreadable,
)
from bus.messages import Event, JobOwned, JobSubmitted, decode, encode
from bus.objects import Blobs
from bus.reader import Stored, find_event, last_sequence, read_all
from bus.streams import EVENTS
from store.artifacts import CLAIM_BYTES, claim, split, unclaim

log = logging.getLogger("callboard.log")

FULL_RETRY_S = 1.0
# Some 20 s in all: longer than a cluster takes to choose a new leader. Who is refused for so long is not the owner.
CONTENDED_TRIES = 200
_CONTENDED_WAIT_S = 0.1
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
        self._claiming: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()
        self._takes_turns = False

    async def create(self, submitted: JobSubmitted, owned: JobOwned) -> bool:
        """Take up a new job: both events in one round trip. False if the log holds anything of this id already.

        That may be more than another job: a signal that was faster, or a rejection. See :meth:`create_late`.
        """
        nothing = {h.EXPECTED_SEQUENCE: "0", h.EXPECTED_SUBJECT: f"{self._prefix}.>"}
        return await self._create(submitted, nothing, owned, 0)

    async def create_late(self, submitted: JobSubmitted, owned: JobOwned, last_owned: int, life_at: int) -> bool:
        """Take up a new job though its log is not empty. False if somebody else did, or ended it before it began.

        ``life_at``: the last sequence of ``job.*`` in its log.
        """
        # One that nobody can read is not among what was read, and would be passed over by the condition.
        if await last_sequence(self._bus, EVENTS, f"{self._prefix}.job.submitted"):
            return False
        condition = {h.EXPECTED_SEQUENCE: str(life_at), h.EXPECTED_SUBJECT: f"{self._prefix}.job.*"}
        return await self._create(submitted, condition, owned, last_owned)

    async def _create(
        self, submitted: JobSubmitted, condition: dict[str, str], owned: JobOwned, last_owned: int
    ) -> bool:
        first = await self._prepare(submitted, condition)
        second = await self._prepare(owned, {h.EXPECTED_SEQUENCE: str(last_owned)})
        answers = [await append.begin() for append in (first, second)]
        accepted = [await _accepted(append, answer) for append, answer in zip((first, second), answers, strict=True)]
        if not all(accepted):
            return False
        self.epoch = accepted[1]
        return True

    async def claim(self, owned: JobOwned, last_owned: int) -> int:
        """Own the job if nobody has claimed it since ``last_owned``. Raises: Fenced."""
        # Appends that begin meanwhile wait for the new epoch: the old one would fence this very host.
        done = self._claiming = asyncio.get_running_loop().create_future()
        try:
            self.epoch = await self._append(owned, {h.EXPECTED_SEQUENCE: str(last_owned)}, since=last_owned)
        finally:
            self._claiming = None
            done.set_result(None)
        return self.epoch

    async def append(self, event: Event) -> int:
        """Append as the owner. Waits while the server is away or the stream is full. Raises: Fenced."""
        kind = event.kind
        while self._claiming is not None:
            await asyncio.shield(self._claiming)
        crash_point("host.before", kind)
        headers = {h.EXPECTED_SEQUENCE: str(self.epoch), h.EXPECTED_SUBJECT: self._owned}
        append = await self._prepare(event, headers, kind=kind, since=self.epoch)
        sequence = await self._store(append)
        crash_point("host.after", kind)
        return sequence

    async def confirm(self) -> None:
        """Ask the log, as an append would: for who is about to write somewhere else. Raises: Fenced, BusError."""
        while True:
            epoch = self.epoch
            last = await last_sequence(self._bus, EVENTS, self._owned)
            while self._claiming is not None:
                await asyncio.shield(self._claiming)
            if last == self.epoch:
                return
            if epoch == self.epoch:
                raise Fenced(self._owned, expected=epoch)

    async def _store(self, append: Append) -> int:
        """Side by side with the job's other appends, or in turn where the server takes one at a time.

        A replicated stream refuses a write under a condition while another one under the same condition is on its way,
        and all appends of a job have the same fence.
        """
        if not self._takes_turns:
            try:
                return await append.finish(await append.begin(), tries=0)
            except Contended:
                self._takes_turns = True
        async with self._turn:
            return await append.finish(await append.begin())

    async def _append(self, event: Event, condition: dict[str, str], *, since: int = 0) -> int:
        append = await self._prepare(event, condition, since=since)
        return await append.finish(await append.begin())

    async def _prepare(self, event: Event, condition: dict[str, str], *, kind: str = "", since: int = 0) -> Append:
        return await prepare(self._bus, self._blobs, self._prefix, event, condition, kind=kind, since=since)

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
    append = await prepare(bus, blobs, prefix, event, condition, since=since)
    return await append.finish(await append.begin())


async def prepare(
    bus: Bus, blobs: Blobs, prefix: str, event: Event, condition: dict[str, str], *, kind: str = "", since: int = 0
) -> Append:
    """Make an append ready: encode the event, put a big body into the object store, give the event an id."""
    body = encode(event)
    if len(body) > CLAIM_BYTES:
        body = await _claim(bus, blobs, event)
    headers = {h.EVENT_ID: f"{_writer}-{next(_event_ids)}", **condition}
    return Append(bus, f"{prefix}.{kind or event.kind}", body, headers, since)


async def _claim(bus: Bus, blobs: Blobs, event: Event) -> bytes:
    """Put the body aside; like an append this waits while the server is away or full."""
    while True:
        try:
            return await claim(blobs, event)
        except (StreamFull, Ambiguous, NoResponder) as error:
            log.warning("%s of job %s: %s; going on", event.kind, event.job, error)
        await bus.settle()
        await asyncio.sleep(FULL_RETRY_S * (0.5 + random.random()))


def prepare_kept(bus: Bus, blobs: Blobs, workspace: str, event: Event, keeper: Keeper, *, since: int = 0) -> KeptAppend:
    """Make ready the append of an unfenced event that must outlive this process while the server is away."""
    body, blob = split(event)
    headers = {h.EVENT_ID: f"{_writer}-{next(_event_ids)}"}
    about = f"{workspace}/{event.job}" + (f"/{call}" if (call := getattr(event, "call", "")) else "")
    subject = subjects.event(workspace, event.job, event.kind)
    return KeptAppend(bus, subject, body, headers, since, about, blobs, blob, keeper)


async def _accepted(append: Append, answer: asyncio.Future[Message]) -> int:
    """The sequence, 0 if the condition did not hold."""
    try:
        return await append.finish(answer)
    except Fenced:
        return 0


@dataclass(slots=True)
class Append:
    """One event on its way into the log. ``since``: it cannot stand at or before that sequence."""

    bus: Bus
    subject: str
    body: bytes
    headers: dict[str, str]
    since: int

    async def begin(self) -> asyncio.Future[Message]:
        """Send it; several may be under way at once."""
        try:
            return await self.bus.begin(self.subject, self.body, headers=self.headers)
        except Ambiguous as error:  # nothing more can wait for the server
            failed: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    async def finish(self, answer: asyncio.Future[Message], *, tries: int = CONTENDED_TRIES) -> int:
        """Its sequence, once it is stored; sent up to ``tries`` times more while other writes are in its way.

        Raises: Fenced (Contended after the last try), ApiError, PermissionRefused, BusClosed.
        """
        try:
            return sequence_of(self.subject, await answer, self.headers)
        except Contended:
            return await self._past_others(tries)
        except (StreamFull, Ambiguous, NoResponder) as error:
            return await self._through_trouble(error)

    async def _past_others(self, tries: int) -> int:
        """Send it again, until the writes that were in its way are stored."""
        for wait_s in _waits_s(tries):
            await asyncio.sleep(wait_s)
            try:
                return await self.bus.append(self.subject, self.body, headers=self.headers)
            except Contended:
                continue
            except (StreamFull, Ambiguous, NoResponder) as error:
                return await self._through_trouble(error)
        raise Contended(self.subject, expected=int(self.headers.get(h.EXPECTED_SEQUENCE, "0")))

    async def _through_trouble(self, trouble: Exception) -> int:
        """Go on until the event is stored or refused; each round first looks whether an earlier one was stored."""
        wait_s = 0.1
        while True:
            log.warning("append to %s: %s; going on", self.subject, trouble)
            await self._on_trouble()
            await self._pause(trouble, wait_s)
            wait_s = min(2.0, wait_s * 2)
            try:
                return await self._find() or await self.bus.append(self.subject, self.body, headers=self.headers)
            except (StreamFull, Ambiguous, NoResponder, Contended) as error:
                trouble = error  # contended: perhaps by an earlier try of our own, which is found next time
            except Fenced:
                if found := await self._find():
                    return found
                raise

    async def _pause(self, trouble: Exception, wait_s: float) -> None:
        if isinstance(trouble, StreamFull):
            await asyncio.sleep(FULL_RETRY_S * (0.5 + random.random()))
        else:
            await self.bus.settle()
            await asyncio.sleep(random.random() * wait_s)

    async def _on_trouble(self) -> None:
        """Called in each round."""

    async def _find(self) -> int | None:
        """The sequence under which an earlier try was stored, by the event's id."""
        return await find_event(self.bus, EVENTS, self.subject, self.headers[h.EVENT_ID], since=self.since)


class Keeper(Protocol):
    """Keeps events outside this process while they cannot be stored. None of its methods raises."""

    def watch(self, append: KeptAppend) -> None:
        """An append begins. What takes long may be kept before it has failed."""

    async def keep(self, append: KeptAppend) -> None:
        """An append is in trouble; called again in each round of it."""

    def leave(self, append: KeptAppend) -> None:
        """This process gives up an append that is neither stored nor refused; what is kept of it stays."""

    async def drop(self, append: KeptAppend) -> None:
        """An append has ended: its event is stored, or refused for good."""


@dataclass(slots=True)
class KeptAppend(Append):
    """An append of an event that ``keeper`` keeps through trouble. ``blob`` goes to the object store first.

    ``about`` is ``workspace/job/call``, or ``workspace/job`` if the event names no call.
    """

    about: str
    blobs: Blobs
    blob: bytes | None
    keeper: Keeper

    @property
    def event_id(self) -> str:
        """By which it is found in the log."""
        return self.headers[h.EVENT_ID]

    async def store(self) -> int:
        """Its sequence, once it is stored, however long that takes. Raises: ApiError, PermissionRefused, BusClosed."""
        self.keeper.watch(self)
        try:
            if self.blob is not None:
                await self._put(self.blob)
            sequence = await self.finish(await self.begin())
        except (ApiError, PermissionRefused):
            await self.keeper.drop(self)
            raise
        except BaseException:
            self.keeper.leave(self)
            raise
        await self.keeper.drop(self)
        return sequence

    async def _put(self, blob: bytes) -> None:
        while True:
            try:
                await self.blobs.put(blob)
                return
            except (ApiError, PermissionRefused, BusClosed):
                raise
            except BusError as error:
                log.warning("%s for %s: %s; going on", self.event_id, self.subject, error)
            await self._on_trouble()
            await self.bus.settle()
            await asyncio.sleep(FULL_RETRY_S * (0.5 + random.random()))

    async def _on_trouble(self) -> None:
        # Others may deliver it from now on, if this process dies while a try of its own is still under way.
        self.headers[h.MSG_ID] = self.headers[h.EVENT_ID]
        await self.keeper.keep(self)


def _waits_s(tries: int) -> Iterator[float]:
    """Seconds before each try, from the millisecond that a replicated write takes up to the limit."""
    for number in range(tries):
        yield min(_CONTENDED_WAIT_S, 0.001 * 2.0 ** min(number, 10)) * (0.5 + random.random())
