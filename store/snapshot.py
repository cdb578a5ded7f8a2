"""A job as one JSON file: everything that its log holds, to be looked at or replayed where there is no bus.

The format is a contract like the events themselves and is pinned by ``tests/test_snapshot.py``. The events stand in it
as they were written, with what the claim check had put aside; one line each, so that two snapshots can be compared.
What cannot be read is named under ``incomplete`` and is no reason to give nothing: a report of a bug is made
when something is wrong.
"""

from __future__ import annotations

import itertools

import msgspec

from bus import subjects
from bus.connection import Bus
from bus.errors import Unreadable, UsageError
from bus.messages import Event, decode
from bus.objects import BlobMissing, Blobs
from bus.reader import Stored, read_all
from bus.streams import EVENTS
from store.log import Recorded

FORMAT = 1


class SnapshotEvent(msgspec.Struct, frozen=True):
    """One event as JSON, and where it stood."""

    sequence: int
    subject: str
    event: msgspec.Raw

    def decoded(self) -> Recorded:
        """Raises: Unreadable."""
        return Recorded(self.sequence, decode(bytes(self.event), subject=self.subject, sequence=self.sequence))


class Incomplete(msgspec.Struct, frozen=True):
    """A message that the snapshot does not hold whole, and why."""

    sequence: int
    subject: str
    reason: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One job. ``redacted``: its data was replaced by digests (``store.redaction``)."""

    format: int = msgspec.field(name="callboard_snapshot", default=FORMAT)
    workspace: str
    job: str
    redacted: bool = False
    events: tuple[SnapshotEvent, ...]
    incomplete: tuple[Incomplete, ...] = ()

    def history(self, at: int | None = None) -> list[Recorded]:
        """The events in order; with ``at`` those up to that sequence. Raises: UsageError if that is before all."""
        chosen = [each.decoded() for each in self.events if at is None or each.sequence <= at]
        if not chosen and self.events:
            raise UsageError(
                f"job {self.job} had no event at sequence {at} yet", code="too_early", path="at",
                hint=f"its first one is {self.events[0].sequence}, its last one {self.events[-1].sequence}",
            )  # fmt: skip
        return chosen

    def recorded_values(self, at: int | None = None) -> list[Recorded]:
        """The history, to be given to a function again. Raises: UsageError if it holds digests in place of values."""
        if self.redacted:
            raise UsageError("the snapshot is redacted: it holds no values that the function could be given",
                             code="redacted", hint="take one without --redact")  # fmt: skip
        return self.history(at)


async def take_snapshot(bus: Bus, blobs: Blobs, workspace: str, job: str) -> Snapshot:
    """The job's log as it stands; without events there is no such job. Raises: BusError."""
    events: list[SnapshotEvent] = []
    incomplete: list[Incomplete] = []
    for stored in await read_all(bus, EVENTS, f"{subjects.log_prefix(workspace, job)}.>"):
        try:
            events.append(SnapshotEvent(stored.sequence, stored.subject, msgspec.Raw(await _whole(blobs, stored))))
        except Unreadable as error:
            incomplete.append(Incomplete(stored.sequence, stored.subject, error.reason))
        except BlobMissing as error:  # what the log itself says of the event is still worth having
            events.append(SnapshotEvent(stored.sequence, stored.subject, msgspec.Raw(stored.body)))
            incomplete.append(Incomplete(stored.sequence, stored.subject, str(error)))
    return Snapshot(workspace=workspace, job=job, events=tuple(events), incomplete=tuple(incomplete))


async def _whole(blobs: Blobs, stored: Stored) -> bytes:
    event = decode(stored.body, subject=stored.subject, sequence=stored.sequence)
    if event.blob is None:
        return stored.body
    body = await blobs.get(event.blob.sha256)
    decode(body, subject=stored.subject, sequence=stored.sequence)
    return body


# ---- the file

_encode = msgspec.json.Encoder().encode


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The file: one JSON object, each event on a line of its own."""
    head = _encode(msgspec.structs.replace(snapshot, events=(), incomplete=()))
    head = head.removesuffix(b'"events":[],"incomplete":[]}')
    return head + b'"events":[' + _lines(snapshot.events) + b'],"incomplete":[' + _lines(snapshot.incomplete) + b"]}\n"


def _lines(items: tuple[SnapshotEvent, ...] | tuple[Incomplete, ...]) -> bytes:
    return b"\n" + b",\n".join(map(_encode, items)) + b"\n" if items else b""


class _Head(msgspec.Struct):
    format: int = msgspec.field(name="callboard_snapshot")


def decode_snapshot(body: bytes, where: str) -> Snapshot:
    """The snapshot in a file; ``where`` is its name for errors. Raises: UsageError that says what is wrong with it."""
    try:
        found = msgspec.json.decode(body, type=_Head).format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(
            where, f"no snapshot of a job: {error}", hint="callboard snapshot JOB --out FILE makes one"
        ) from error
    if found != FORMAT:
        raise _bad(where, f"a snapshot in format {found}, and this callboard reads {FORMAT}",
                   hint="use the version of callboard that made it, or a newer one")  # fmt: skip
    try:
        snapshot = msgspec.json.decode(body, type=Snapshot)
        _check(snapshot, where)
    except (msgspec.DecodeError, Unreadable) as error:
        raise _bad(where, f"a snapshot that cannot be read: {error}") from error
    return snapshot


def _check(snapshot: Snapshot, where: str) -> None:
    if not snapshot.events:
        raise _bad(where, "a snapshot without events")
    for earlier, later in itertools.pairwise(snapshot.events):
        if earlier.sequence >= later.sequence:
            raise _bad(where, f"out of order: sequence {later.sequence} comes after {earlier.sequence}")
    for each in snapshot.events:
        _check_job(snapshot, each.decoded().event, each.sequence, where)


def _check_job(snapshot: Snapshot, event: Event, sequence: int, where: str) -> None:
    if event.job != snapshot.job:
        raise _bad(where, f"of job {snapshot.job}, and its event {sequence} is of job {event.job}")


def _bad(where: str, what: str, *, hint: str = "") -> UsageError:
    return UsageError(f"{where} is {what}", code="bad_snapshot", path=where, hint=hint)


__all__ = ["FORMAT", "Incomplete", "Snapshot", "SnapshotEvent", "decode_snapshot", "encode_snapshot", "take_snapshot"]
