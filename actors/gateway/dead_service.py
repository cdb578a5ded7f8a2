"""Dead letters and retries as NATS services: ``api.<workspace>.dead.list|show|redrive|drop``, ``…jobs.retry``.

nats req api.default.dead.redrive '{"letters": [1234]}'
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.changes.job_retry import retry_job
from actors.dead_letters.dead_letters import Letter, drop, list_letters, read_letter, redrive
from bus.connection import Bus
from bus.errors import UsageError
from bus.objects import Blobs

LIST_LIMIT = 500
# Room for the rest of an answer beside the letters or the body.
_MARGIN_BYTES = 16 * 1024


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An unknown field is refused, since it is most likely a misspelt one."""


class RetryJob(_Body, frozen=True):
    """``jobs.retry``; ``calls`` are failed calls to be made anew beside those that the job failed by."""

    job: str
    calls: tuple[str, ...] = ()
    by: str = ""


class ListLetters(_Body, frozen=True):
    """``dead.list``; ``closed`` adds letters that were re-driven or dropped."""

    job: str = ""
    closed: bool = False
    offset: int = 0
    limit: int = LIST_LIMIT


class ShowLetter(_Body, frozen=True):
    """``dead.show``."""

    letter: int


class RedriveLetters(_Body, frozen=True):
    """``dead.redrive``: these letters, or all of one job, or ``everything``."""

    letters: tuple[int, ...] = ()
    job: str = ""
    everything: bool = False
    by: str = ""


class DropLetters(_Body, frozen=True):
    """``dead.drop``: these letters, or all of one job."""

    letters: tuple[int, ...] = ()
    job: str = ""
    by: str = ""
    reason: str = ""


class DeadService:
    """Answers for the gateway. Every method may raise UsageError and BusError."""

    def __init__(self, bus: Bus, blobs: Blobs) -> None:
        self._bus = bus
        self._blobs = blobs

    async def retry(self, workspace: str, body: RetryJob) -> dict[str, Any]:
        """A failed job goes on from where it failed."""
        retried = await retry_job(self._bus, self._blobs, workspace, body.job, calls=body.calls, by=body.by)
        return {"job": retried.job, "calls": retried.calls, "sequence": retried.sequence}

    async def list(self, workspace: str, body: ListLetters) -> dict[str, Any]:
        """A page of letters, cut so that it fits one message; ``next_offset`` if there is more."""
        found = await list_letters(self._bus, workspace, job=body.job, closed=body.closed)
        offset, page, room = max(0, body.offset), list[Letter](), self._room_bytes
        for letter in found[offset : offset + max(1, body.limit)]:
            room -= len(msgspec.json.encode(letter)) + 1
            if page and room < 0:
                break
            page.append(letter)
        answer: dict[str, Any] = {"letters": page, "total": len(found)}
        return answer | ({"next_offset": offset + len(page)} if offset + len(page) < len(found) else {})

    async def show(self, workspace: str, body: ShowLetter) -> dict[str, Any]:
        """One letter whole; without its body, and ``body_left_out``, if that is too big for one message."""
        shown = (await read_letter(self._bus, self._blobs, workspace, body.letter)).shown()
        if len(msgspec.json.encode(shown)) <= self._room_bytes:
            return shown
        return {"letter": shown["letter"], "attempts": shown["attempts"], "body_left_out": True}

    async def redrive(self, workspace: str, body: RedriveLetters) -> dict[str, Any]:
        """What became of each letter; ``how`` is "refused" for those of which nothing was done."""
        ids = await self._chosen(workspace, body.letters, body.job, everything=body.everything)
        return {"letters": await redrive(self._bus, self._blobs, workspace, ids, by=body.by)}

    async def drop(self, workspace: str, body: DropLetters) -> dict[str, Any]:
        """The letters that are of no interest any more."""
        ids = await self._chosen(workspace, body.letters, body.job)
        dropped = await drop(self._bus, workspace, ids, by=body.by, reason=body.reason)
        return {"letters": [letter.id for letter in dropped]}

    @property
    def _room_bytes(self) -> int:
        return self._bus.max_body_bytes - _MARGIN_BYTES

    async def _chosen(
        self, workspace: str, letters: tuple[int, ...], job: str, *, everything: bool = False
    ) -> tuple[int, ...]:
        if bool(letters) + bool(job) + everything != 1:
            raise UsageError("which letters?", code="bad_request", path="$.letters", hint="letters, or job")
        if letters:
            return letters
        return tuple(letter.id for letter in await list_letters(self._bus, workspace, job=job))
