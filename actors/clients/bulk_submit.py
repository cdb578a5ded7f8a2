"""Bulk submit: many requests on their way at once, and none for a job that is there already.

A job that has been taken up is in the log; that is looked up for a few hundred at once, which costs next to nothing for
new ones. A request that still waits in the queue is not. If it was published in the last two minutes the server knows
its message id; a later duplicate is dropped by the host that gets it. So it is harmless to submit a batch again,
whenever that is, and wherever the last time stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterable
from itertools import islice
from typing import Literal

import msgspec

from actors.clients.entries import Batch, Entry
from actors.jobs.requests import JobRequest, message_of, publish_again, same_json
from bus import subjects
from bus.connection import Bus, Message, NoResponder, is_duplicate, sequence_of
from bus.crash import crash_point
from bus.errors import Ambiguous, StreamFull
from bus.messages import JobSubmitted
from bus.objects import Blobs
from bus.reader import Stored, last_of_each
from bus.streams import EVENTS
from store.log import recorded

# Three subjects each, and a read answers for 1,024 at most.
CHUNK = 340
_CHUNKS_AT_ONCE = 4
_FULL_RETRY_S = 1.0
_SUBMITTED, _REJECTED, _CANCELLED = "job.submitted", "job.rejected", "job.cancelled"

Outcome = Literal["submitted", "existing", "conflict"]


class Sent(msgspec.Struct, frozen=True):
    """What became of an entry. ``conflict``: its id is that of a job of another workflow or input.

    Its end comes after sequence ``since``: before, it had been rejected.
    """

    entry: Entry
    outcome: Outcome
    since: int = 0


class _Known(msgspec.Struct, frozen=True):
    """What the log has of an id; ``rejected_at`` is the sequence of a rejection, after which it is asked for anew."""

    outcome: Outcome | None = None
    rejected_at: int = 0


_UNKNOWN = _Known()


async def submit_entries(bus: Bus, blobs: Blobs, batch: Batch, entries: Iterable[Entry]) -> AsyncGenerator[list[Sent]]:
    """Publish all entries that are not there yet; yields what became of them, in their order, some hundreds at once.

    When a list is yielded its requests are stored. Waits while the server is away or full.
    Raises: PermissionRefused, BusClosed, ApiError; then some entries may have been sent.
    """
    bulk = _Bulk(bus, blobs, batch)
    source = iter(entries)
    running: list[asyncio.Task[list[Sent]]] = []
    try:
        while True:
            while len(running) < _CHUNKS_AT_ONCE and (chunk := list(islice(source, CHUNK))):
                running.append(asyncio.create_task(bulk.submit(chunk)))
                await asyncio.sleep(0)
            if not running:
                return
            yield await running.pop(0)
            crash_point("bulk.after_chunk")
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class _Bulk:
    def __init__(self, bus: Bus, blobs: Blobs, batch: Batch) -> None:
        self._bus = bus
        self._blobs = blobs
        self._workspace = batch.workspace
        self._workflow = batch.workflow
        self._version = batch.version

    async def submit(self, chunk: list[Entry]) -> list[Sent]:
        known = await self._look(chunk)
        waiting = [
            None if found.outcome else await self._begin(entry, found)
            for entry, found in zip(chunk, known, strict=True)
        ]
        return [
            Sent(entry, found.outcome or await self._finish(publishing), found.rejected_at)
            for entry, found, publishing in zip(chunk, known, waiting, strict=True)
        ]

    # ---- what is there

    async def _look(self, chunk: list[Entry]) -> list[_Known]:
        """What the log has of these jobs; asked again while the server is away."""
        kinds = (_SUBMITTED, _REJECTED, _CANCELLED)
        wanted = [subjects.event(self._workspace, entry.job, kind) for entry in chunk for kind in kinds]
        stored = await self._last_of_each(wanted)
        found: dict[str, dict[str, Stored]] = {}
        for each in stored:
            place = subjects.parse_event(each.subject)
            found.setdefault(place.job, {})[place.kind] = each
        return [await self._known(entry, found[entry.job]) if entry.job in found else _UNKNOWN for entry in chunk]

    async def _last_of_each(self, wanted: list[str]) -> list[Stored]:
        while True:
            try:
                return await last_of_each(self._bus, EVENTS, wanted)
            except Ambiguous:
                await self._bus.settle()

    async def _known(self, entry: Entry, life: dict[str, Stored]) -> _Known:
        if (stored := life.get(_SUBMITTED)) is not None:
            event = (await recorded(self._blobs, stored)).event
            assert isinstance(event, JobSubmitted)
            is_same = event.workflow == self._workflow and same_json(bytes(event.input), entry.input)
            return _Known("existing" if is_same else "conflict")
        if _CANCELLED in life:  # while it was planned; its id is used up
            return _Known("existing")
        return _Known(rejected_at=life[_REJECTED].sequence)

    # ---- sending

    async def _begin(self, entry: Entry, known: _Known) -> _Publishing:
        terms = entry.terms
        request = JobRequest(
            workflow=self._workflow, job=entry.job, input=entry.input, workspace=self._workspace,
            priority=terms.priority, start=terms.start, deadline=terms.deadline, version=self._version,
            message_id=_message_id(self._workspace, self._workflow, entry, known.rejected_at),
        )  # fmt: skip
        body, headers = await message_of(self._blobs, request)
        subject = subjects.job_request(self._workspace, self._workflow, terms.priority)
        publishing = _Publishing(self._bus, subject, body, headers)
        await publishing.begin()
        return publishing

    async def _finish(self, publishing: _Publishing | None) -> Outcome:
        assert publishing is not None
        return "existing" if await publishing.was_there() else "submitted"


class _Publishing:
    """One request on its way."""

    __slots__ = ("_answer", "_body", "_bus", "_headers", "_subject")

    def __init__(self, bus: Bus, subject: str, body: bytes, headers: dict[str, str]) -> None:
        self._bus = bus
        self._subject = subject
        self._body = body
        self._headers = headers
        self._answer: asyncio.Future[Message] | None = None

    async def begin(self) -> None:
        """Send it, unless too much waits for the server already: then it is sent later."""
        try:
            self._answer = await self._bus.begin(self._subject, self._body, headers=self._headers)
        except Ambiguous:
            self._answer = None

    async def was_there(self) -> bool:
        """Once it is stored: whether the server had it before. Unknown, so false, if an answer was lost."""
        try:
            if self._answer is not None:
                msg = await self._answer
                sequence_of(self._subject, msg, self._headers)
                return is_duplicate(msg)
        except StreamFull:
            await asyncio.sleep(_FULL_RETRY_S)
        except (Ambiguous, NoResponder):
            pass
        await self._again()
        return False

    async def _again(self) -> None:
        while True:
            try:
                return await publish_again(self._bus, self._subject, self._body, self._headers)
            except StreamFull:
                await asyncio.sleep(_FULL_RETRY_S)


def _message_id(workspace: str, workflow: str, entry: Entry, rejected_at: int) -> str:
    """The same for the same job with the same input: another one under its id has to reach a host, which refuses it."""
    content = f"{workspace}\n{workflow}\n{rejected_at}\n".encode() + entry.input
    return f"{entry.job}.{hashlib.sha256(content).hexdigest()[:16]}"
