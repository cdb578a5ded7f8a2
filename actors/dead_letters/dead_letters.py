"""Dead letters: messages that nobody can work on, taken out of their queue and kept with the reason.

A letter is an event in the log of its job (``dead.kept``), so it is as durable as the job, and listing is reading. It
is written before the event that ends what its message asked for, and before the message leaves its queue: a crash in
between repeats the letter at worst, and letters of one message are listed as one. Its id is its event's sequence.

To re-drive a letter of a call, or of a job that took its hosts down, is to retry its job; a request that was refused is
published again as it came. Either comes before the ``dead.redriven`` that says so, and is harmless when it comes twice.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

import msgspec

from actors.changes.job_retry import Retried, retry_job
from actors.jobs.journal import Entry, Journal, Spent, Succeeded
from actors.jobs.requests import publish_again
from bus import headers as h
from bus import subjects
from bus.connection import Bus
from bus.crash import crash_point
from bus.errors import Unreadable, UsageError
from bus.failure import Failure
from bus.messages import DeadDropped, DeadKept, DeadRedriven, ReplyRetrying, decode
from bus.objects import Blobs
from bus.reader import read_all
from bus.streams import EVENTS
from store.artifacts import unclaim
from store.log import Recorded, append_unfenced, read_job

LetterState = Literal["kept", "redriven", "dropped"]
LetterKind = Literal["call", "command", "job", "request"]


class Letter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One dead letter. ``subject``, ``stream`` and ``sequence`` say where its message stood.

    ``closed_at``, ``closed_by`` and ``reason`` say when it was re-driven or dropped, by whom, and why.
    """

    id: int
    workspace: str
    job: str
    at: datetime
    failure: Failure
    subject: str
    stream: str
    sequence: int
    deliveries: int
    call: str = ""
    actor: str = ""
    headers: dict[str, str] = {}
    state: LetterState = "kept"
    closed_at: datetime | None = None
    closed_by: str = ""
    reason: str = ""

    @property
    def kind(self) -> LetterKind:
        """A call, a command that does not say its call, a job that took its hosts down, or a refused request."""
        if self.call:
            return "call"
        if self.stream == EVENTS:
            return "command"
        return "job" if self.failure.code == "poison" else "request"


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A try of a letter's call before it was given up."""

    attempt: int
    at: datetime
    failure: Failure | None = None
    actor: str = ""


class WholeLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A letter with the bytes of its message, and what was tried."""

    letter: Letter
    body: bytes
    attempts: tuple[Attempt, ...] = ()

    def shown(self) -> dict[str, Any]:
        """As JSON: ``body`` is the message if that is JSON itself, else null, and ``body_base64`` has its bytes."""
        try:
            msgspec.json.decode(self.body)
            fields: dict[str, Any] = {"body": msgspec.Raw(self.body)}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            fields = {"body": None, "body_base64": letter_body(self.body)}
        return {"letter": self.letter, "attempts": self.attempts, **fields}


class Redriven(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a letter that was to be re-driven.

    ``how``: its job was retried; its request was published again; or that had been done already. ``refused`` says why
    nothing was done, ``hint`` what can be.
    """

    letter: int
    job: str
    how: Literal["retried", "published", "already", "refused"]
    refused: str = ""
    hint: str = ""


# ---- keep


def letter_body(body: bytes) -> str:
    """A message's bytes as a letter holds them."""
    return base64.b64encode(body).decode()


async def keep_letter(bus: Bus, blobs: Blobs, workspace: str, letter: DeadKept) -> int:
    """Write a letter into the log of its job; its id. To be called before anything else is done about its message.

    Raises: ApiError, PermissionRefused, BusClosed.
    """
    crash_point("dead.before_kept")
    letter_id = await append_unfenced(bus, blobs, workspace, letter)
    crash_point("dead.after_kept")
    return letter_id


# ---- read


def fold_letters(workspace: str, events: Iterable[Recorded]) -> list[Letter]:
    """The letters that these events, in order, make, with what became of each. Pure."""
    letters: dict[int, Letter] = {}
    firsts: dict[tuple[str, int], int] = {}
    ids: dict[int, int] = {}
    for recorded in events:
        match recorded.event:
            case DeadKept() as event:
                first = ids[recorded.sequence] = firsts.setdefault(
                    (event.stream, event.stream_sequence), recorded.sequence
                )
                letters.setdefault(first, _kept(workspace, recorded.sequence, event))
            case DeadRedriven(letter=number) | DeadDropped(letter=number) as event if number in ids:
                letters[ids[number]] = _closed(letters[ids[number]], event)
            case _:
                pass
    return list(letters.values())


def _kept(workspace: str, sequence: int, event: DeadKept) -> Letter:
    return Letter(
        id=sequence, workspace=workspace, job=event.job, at=event.at, failure=event.failure, subject=event.subject,
        stream=event.stream, sequence=event.stream_sequence, deliveries=event.deliveries, call=event.call,
        actor=event.actor, headers=event.headers or {},
    )  # fmt: skip


def _closed(letter: Letter, event: DeadRedriven | DeadDropped) -> Letter:
    state: LetterState = "dropped" if isinstance(event, DeadDropped) else "redriven"
    reason = event.reason if isinstance(event, DeadDropped) else ""
    return msgspec.structs.replace(letter, state=state, closed_at=event.at, closed_by=event.by, reason=reason)


async def list_letters(bus: Bus, workspace: str, *, job: str = "", closed: bool = False) -> list[Letter]:
    """The letters of a workspace, or of one job, the oldest first; ``closed``: also those re-driven or dropped.

    Raises: UsageError, BusError.
    """
    letters = fold_letters(workspace, await _read(bus, workspace, job))
    return [letter for letter in letters if closed or letter.state == "kept"]


async def _read(bus: Bus, workspace: str, job: str = "") -> list[Recorded]:
    subjects.check_name(workspace, "workspace")
    subject = subjects.event(workspace, subjects.check_job_id(job) if job else "*", "dead.*")
    events: list[Recorded] = []
    for stored in await read_all(bus, EVENTS, subject):
        try:
            events.append(Recorded(stored.sequence, decode(stored.body)))
        except Unreadable:
            continue  # anybody may write there who may write into the log
    return events


async def read_letter(bus: Bus, blobs: Blobs, workspace: str, letter_id: int) -> WholeLetter:
    """One letter with the whole of its message. Raises: UsageError ``no_such_letter``, BlobMissing, BusError."""
    events = await _read(bus, workspace)
    (letter,) = _chosen(fold_letters(workspace, events), [letter_id], events)
    event = next(r.event for r in events if r.sequence == letter.id)
    whole = await unclaim(blobs, event)
    assert isinstance(whole, DeadKept)
    return WholeLetter(letter=letter, body=_bytes(whole.body), attempts=await _attempts(bus, blobs, letter))


def _bytes(body: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return body.encode()


async def _attempts(bus: Bus, blobs: Blobs, letter: Letter) -> tuple[Attempt, ...]:
    if not letter.call:
        return ()
    events = await read_job(bus, blobs, letter.workspace, letter.job, since=letter.sequence)
    return tuple(
        Attempt(r.event.attempt, r.event.at, r.event.failure, r.event.actor)
        for r in events
        if isinstance(r.event, ReplyRetrying) and r.event.call == letter.call and not r.event.handed_back
        and r.sequence < letter.id
    )  # fmt: skip


def _chosen(letters: list[Letter], ids: Iterable[int], events: list[Recorded]) -> list[Letter]:
    """The letters with these ids; a letter that was written twice has two. Raises: UsageError."""
    by_id = {letter.id: letter for letter in letters}
    place = {(letter.stream, letter.sequence): letter for letter in letters}
    for recorded in events:
        if isinstance(recorded.event, DeadKept):
            by_id[recorded.sequence] = place[recorded.event.stream, recorded.event.stream_sequence]
    for number in (ids := list(ids)):
        if number not in by_id:
            raise UsageError(f"there is no dead letter {number}", code="no_such_letter", path="letter",
                             hint="callboard dead --all lists them; check the workspace")  # fmt: skip
    return list({by_id[number].id: by_id[number] for number in ids}.values())


# ---- close


async def drop(bus: Bus, workspace: str, ids: Iterable[int], *, by: str = "", reason: str = "") -> list[Letter]:
    """Note that these letters are of no interest any more; their messages stay readable.

    Raises: UsageError ``no_such_letter``, and then nothing is dropped; BusError.
    """
    events = await _read(bus, workspace)
    letters = _chosen(fold_letters(workspace, events), ids, events)
    for letter in letters:
        if letter.state != "dropped":
            event = DeadDropped(job=letter.job, letter=letter.id, by=by, reason=reason)
            await append_unfenced(bus, Blobs(bus), workspace, event)
    return letters


async def redrive(bus: Bus, blobs: Blobs, workspace: str, ids: Iterable[int], *, by: str = "") -> list[Redriven]:
    """Give out again what these letters hold; one answer for each letter.

    Letters of one job are one retry of it. Raises: UsageError ``no_such_letter``, and then nothing is done; BusError.
    """
    events = await _read(bus, workspace)
    letters = _chosen(fold_letters(workspace, events), ids, events)
    done: list[Redriven] = []
    by_job: dict[str, list[Letter]] = {}
    for letter in letters:
        if letter.kind == "request":
            done.append(await _publish(bus, blobs, letter, events))
        elif letter.kind == "command":
            done.append(_refused(letter, "the call that it was cannot be told", "nobody waits for it: drop it"))
        else:
            by_job.setdefault(letter.job, []).append(letter)
    for job, of_job in by_job.items():
        done += await _retry(bus, blobs, workspace, job, of_job, by)
    for one in done:
        if one.how != "refused":
            event = DeadRedriven(job=one.job, letter=one.letter, by=by)
            crash_point("dead.before_redriven")
            await append_unfenced(bus, blobs, workspace, event)
    return done


def _refused(letter: Letter, why: str, hint: str = "") -> Redriven:
    return Redriven(letter.id, letter.job, "refused", why, hint)


async def _publish(bus: Bus, blobs: Blobs, letter: Letter, events: list[Recorded]) -> Redriven:
    """The request as it came. Under the id that was meant, so that twice is once."""
    if not letter.subject.startswith("jobs."):
        return _refused(letter, f"{letter.subject} is no place for a request", "drop the letter")
    event = next(r.event for r in events if r.sequence == letter.id)
    whole = await unclaim(blobs, event)
    assert isinstance(whole, DeadKept)
    headers = {name: value for name, value in letter.headers.items() if not name.lower().startswith("nats-")}
    await publish_again(bus, letter.subject, _bytes(whole.body), {h.JOB_ID: letter.job, **headers})
    return Redriven(letter.id, letter.job, "published")


async def _retry(bus: Bus, blobs: Blobs, workspace: str, job: str, letters: list[Letter], by: str) -> list[Redriven]:
    journal = Journal()
    journal.read(await read_job(bus, blobs, workspace, job))
    verdicts = {letter.id: _verdict(journal, letter) for letter in letters}
    due = [letter for letter in letters if verdicts[letter.id] is None]
    if due:
        named = [x.call for x in due if (entry := journal.entries.get(x.call)) and isinstance(entry.outcome, Spent)]
        try:
            await retry_job(bus, blobs, workspace, job, calls=named, by=by)
        except UsageError as error:
            failed = [_refused(letter, str(error.args[0]), error.hint) for letter in due]
        else:
            failed = [Redriven(letter.id, job, "retried") for letter in due]
        return [verdict for verdict in verdicts.values() if verdict] + failed
    return [verdict for verdict in verdicts.values() if verdict]


def _verdict(journal: Journal, letter: Letter) -> Redriven | None:
    """What can be said without a retry; None if the job has to be retried for this letter."""
    entry = journal.entries.get(letter.call) or Entry(letter.call, "", "")
    is_taken_up = journal.ended is not None or journal.owned_at > journal.retried_at
    if is_taken_up and max(entry.void_to, 0 if letter.call else journal.retried_at) > letter.id:
        return Redriven(letter.id, letter.job, "already")
    if isinstance(entry.outcome, Succeeded):
        return _refused(letter, f"{letter.call} has an output", "drop the letter")
    return None


__all__ = [
    "Attempt", "Letter", "LetterKind", "LetterState", "Redriven", "Retried", "WholeLetter", "drop", "fold_letters",
    "keep_letter", "letter_body", "list_letters", "read_letter", "redrive", "retry_job",
]  # fmt: skip
