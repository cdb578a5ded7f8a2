"""A lock in bucket ``locks``: its head at ``<workspace>.<kind>.<name>.head``, its queue at ``….queue.<job>.<call>``.

Reads ask the stream's leader, since a replica may lag and a claim that is not seen would not be told. An answer that is
lost makes no difference: what was to be written is looked for in what is read next. A head that nobody is in is written
to expire, so that a lock that is not used any more leaves nothing; that is longer than any process may be stopped
between reading a head and writing it.
"""

from __future__ import annotations

import asyncio
import base64
import random
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from actors.jobs.requests import publish_wake
from actors.locks.claim import Claim, Head, Held, Kind, LockName, Waiting
from actors.locks.protocol import Moved
from bus import headers as h
from bus.connection import ApiError, Bus, NoResponder
from bus.crash import crash_point
from bus.errors import Ambiguous, BusError, Fenced, StreamFull, UsageError
from bus.messages import ReplyCompleted
from bus.objects import Blobs
from bus.outage import through_outage
from bus.reader import Stored, read_all
from bus.streams import LOCKS, stream_info
from store.log import append_unfenced

T = TypeVar("T")

PREFIX = "$KV.locks."
FREE_FOR_S = 600
_TTL = "Nats-TTL"
_NOT_FOUND = (10037, 10043)  # no such message; no message at that sequence to delete


class Granted(msgspec.Struct, frozen=True):
    """What is recorded of a lock that was granted, or of one that was not in time."""

    token: int = 0
    timed_out: bool = False


class LockStore:
    """One lock of one workspace."""

    def __init__(self, bus: Bus, blobs: Blobs, name: LockName) -> None:
        self.name = name
        self._bus = bus
        self._blobs = blobs
        self._head = f"{PREFIX}{name.key}.head"
        self._queue = f"{PREFIX}{name.key}.queue."

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)

    # ---- reading

    async def head(self) -> tuple[Head, int]:
        """The head and its revision, 0 if there is none. Raises: BusError."""
        found = await self._get({"last_by_subj": self._head})
        return (Head(name=self.name.name), 0) if found is None else (_decoded(found, Head), found["seq"])

    async def first(self) -> Waiting | None:
        """The message that has waited longest. Raises: BusError."""
        return _waiting(await self._get({"seq": 1, "next_by_subj": self._queue + ">"}))

    async def of_job(self, job: str) -> list[Waiting]:
        """The messages of one job. Raises: BusError."""
        found: list[Waiting] = []
        after = 0
        while waiting := _waiting(await self._get({"seq": after + 1, "next_by_subj": f"{self._queue}{job}.*"})):
            found.append(waiting)
            after = waiting.place
        return found

    async def _get(self, what: dict[str, Any]) -> dict[str, Any] | None:
        try:
            answer = await through_outage(self._bus, lambda: self._bus.api(f"STREAM.MSG.GET.{LOCKS}", what))
        except ApiError as error:
            if error.err_code in _NOT_FOUND:
                return None
            raise
        message: dict[str, Any] = answer["message"]
        return message

    # ---- writing

    async def write(self, head: Head, revision: int) -> int:
        """Change the head if ``revision`` is the last one; the new one. Raises: Moved, BusError."""
        crash_point("lock.before", "write")
        expires = {} if head.holders else {_TTL: f"{FREE_FOR_S}s"}
        sequence = await self._put(
            self._head, msgspec.json.encode(head), {h.EXPECTED_SEQUENCE: str(revision)} | expires
        )
        crash_point("lock.after", "write")
        return sequence

    async def enqueue(self, claim: Claim, revision: int) -> None:
        """Begin to wait, if ``revision`` is still the head's last one. Raises: Moved, BusError."""
        crash_point("lock.before", "enqueue")
        condition = {h.EXPECTED_SEQUENCE: str(revision), h.EXPECTED_SUBJECT: self._head}
        await self._put(f"{self._queue}{claim.job}.{claim.token}", msgspec.json.encode(claim), condition)
        crash_point("lock.after", "enqueue")

    async def remove(self, place: int) -> None:
        """Wait no more; nothing happens if it is gone already. Raises: BusError."""
        crash_point("lock.before", "remove")
        try:
            body = {"seq": place, "no_erase": True}
            await through_outage(self._bus, lambda: self._bus.api(f"STREAM.MSG.DELETE.{LOCKS}", body))
        except ApiError:
            # What is gone has more than one code: a sequence before the stream's first one counts as a failure (10057).
            if await self._get({"seq": place}) is not None:
                raise
        crash_point("lock.after", "remove")

    async def tell(self, held: Held) -> None:
        """Record in the job's log that it holds the lock, and wake it. Raises: BusError."""
        claim, workspace = held.claim, self.name.workspace
        crash_point("lock.before", "tell")
        output = msgspec.Raw(msgspec.json.encode(Granted(held.token)))
        reply = ReplyCompleted(job=claim.job, call=claim.call, op="lock", output=output, actor="lock")
        await append_unfenced(self._bus, self._blobs, workspace, reply)
        crash_point("lock.before", "wake")
        await publish_wake(self._bus, workspace, claim.workflow, claim.job, "lock")
        crash_point("lock.after", "wake")

    async def _put(self, subject: str, body: bytes, headers: dict[str, str]) -> int:
        """Raises: Moved if it was refused or may have been stored, and then what is read next says which."""
        try:
            return await self._bus.append(subject, body, headers=headers)
        except Fenced as error:
            await asyncio.sleep(random.random() * 0.005)
            raise Moved(str(error)) from error
        except (Ambiguous, NoResponder) as error:
            await self._bus.settle()
            raise Moved(str(error)) from error
        except StreamFull as error:
            await asyncio.sleep(0.5 + random.random())
            raise Moved(str(error)) from error


def _decoded(message: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.json.decode(base64.b64decode(message.get("data", "")), type=kind)
    except msgspec.DecodeError as error:
        raise BusError(
            f"{message['subject']} (seq {message['seq']}) is no {kind.__name__.lower()} of a lock"
        ) from error


def _waiting(message: dict[str, Any] | None) -> Waiting | None:
    return None if message is None else Waiting(_decoded(message, Claim), message["seq"])


# ---- all of them, for people and for the sweep


class LockState(msgspec.Struct, frozen=True, kw_only=True):
    """One lock as it stands, for people and programs: who holds it, and who waits, in order."""

    workspace: str
    kind: str
    name: str
    holders: tuple[Held, ...] = ()
    queue: tuple[Waiting, ...] = ()

    @property
    def limit(self) -> int:
        """How many may hold it, as its holders and the first in the queue have said."""
        claims = [held.claim for held in self.holders] + [waiting.claim for waiting in self.queue[:1]]
        return max((claim.limit for claim in claims), default=0)


async def lock_states(bus: Bus, workspace: str = "*") -> list[LockState]:
    """Every lock that is held or waited for, by name. Raises: BusError."""
    if await stream_info(bus, LOCKS) is None:  # no node has ever been here
        return []
    heads: dict[str, tuple[Head, int]] = {}
    queues: dict[str, list[Waiting]] = {}
    for stored in await read_all(bus, LOCKS, f"{PREFIX}{workspace}.>"):
        _sort(stored, heads, queues)
    states = [_state(key, *heads.get(key, (Head(name=""), 0)), queues.get(key, [])) for key in heads.keys() | queues]
    return sorted((s for s in states if s.holders or s.queue), key=lambda s: (s.workspace, s.kind, s.name))


def _sort(stored: Stored, heads: dict[str, tuple[Head, int]], queues: dict[str, list[Waiting]]) -> None:
    """Put one message of the bucket where it belongs; what is none of ours is left out."""
    parts = stored.subject.removeprefix(PREFIX).split(".")
    key = ".".join(parts[:3])
    try:
        if parts[3:] == ["head"]:
            heads[key] = msgspec.json.decode(stored.body, type=Head), stored.sequence
        elif parts[3:4] == ["queue"]:
            queues.setdefault(key, []).append(Waiting(msgspec.json.decode(stored.body, type=Claim), stored.sequence))
    except msgspec.DecodeError:
        return


def _state(key: str, head: Head, revision: int, queue: list[Waiting]) -> LockState:
    workspace, kind, token = key.split(".")
    name = head.name or (queue[0].claim.lock if queue else token)
    return LockState(
        workspace=workspace, kind=kind, name=name, holders=head.seen_at(revision).holders,
        queue=tuple(sorted(queue, key=lambda waiting: waiting.place)),
    )  # fmt: skip


def lock_name(state: LockState) -> LockName:
    """Where a lock that was read from the bucket lives. Raises: UsageError for what is no kind of lock."""
    try:
        return LockName(state.workspace, msgspec.convert(state.kind, Kind), state.name)
    except msgspec.ValidationError as error:
        raise UsageError(f"{state.kind} is no kind of lock", code="bad_lock") from error
