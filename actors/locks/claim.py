"""What a lock is made of: claims, who of them holds it, and the names under which all that is kept. Pure.

A lock is two things in bucket ``locks``: a *head*, which says who holds it and is changed by compare-and-set, and a
*queue*, one message for each claim that waits. The sequence of that message is the claim's place, so the order of
waiting is the order in which the server stored them, and ten thousand may wait without anything growing.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from bus.errors import UsageError

# A lock that jobs ask for by name, the right of a job to run at all, or (no locks, but kept beside them) a rate, and
# the places of a tool's calls.
Kind = Literal["lock", "slot", "rate", "place"]

NAME_LIMIT_BYTES = 512
LIMIT_MOST = 10_000
_KEPT_CHARS = 96
_PLAIN = re.compile(rb"[A-Za-z0-9_-]")


class LockName(NamedTuple):
    """One lock of one workspace; ``name`` may be any text."""

    workspace: str
    kind: Kind
    name: str

    @property
    def token(self) -> str:
        """The name as one token of a subject."""
        return token_of(self.name)

    @property
    def key(self) -> str:
        """The key in the bucket that head and queue begin with."""
        return f"{self.workspace}.{self.kind}.{self.token}"


def token_of(name: str) -> str:
    """Any text as one token: other characters than letters, digits, ``_`` and ``-`` as ``=`` and their UTF-8 in hex.

    A long one ends in its digest instead. Two texts never give the same token.
    """
    raw = name.encode()
    token = "".join(chr(b) if _PLAIN.match(bytes([b])) else f"={b:02X}" for b in raw)
    if len(token) <= _KEPT_CHARS:
        return token
    return f"{token[:32]}=={hashlib.sha256(raw).hexdigest()[:40]}"


def check_lock(name: object, limit: object) -> None:
    """Raises: UsageError that says what cannot be."""
    if not isinstance(name, str) or not name:
        raise UsageError(f"{name!r} is no name of a lock", code="bad_lock", path="name", hint="a text, not empty")
    if len(name.encode()) > NAME_LIMIT_BYTES:
        raise UsageError("the name of the lock is too long", code="bad_lock", path="name",
                         hint=f"at most {NAME_LIMIT_BYTES} bytes")  # fmt: skip
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= LIMIT_MOST:
        raise UsageError(f"limit of lock {name!r} cannot be {limit!r}", code="bad_lock", path="limit",
                         hint=f"a whole number from 1 to {LIMIT_MOST}")  # fmt: skip


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of one job that wants the lock, to be one of ``limit`` holders at most.

    ``lock`` is the lock's own name. ``era`` tells one life of a job from the next: the sequence of the ``job.retried``
    that it goes on from, 0 before any.
    """

    lock: str
    job: str
    call: str
    workflow: str
    limit: int
    asked_at: datetime
    era: int = 0

    def is_same(self, other: Claim) -> bool:
        """Whether both are the same wish, though one may have been written down twice."""
        return (self.job, self.call, self.era) == (other.job, other.call, other.era)

    def is_over(self, job: str, era: int) -> bool:
        """Whether it ended with that job, of that era."""
        return self.job == job and self.era <= era

    @property
    def token(self) -> str:
        """What its message in the queue is called after the job's id."""
        return hashlib.sha256(f"{self.call} {self.era}".encode()).hexdigest()[:16]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that holds the lock. ``place``: where it stood in the queue, 0 if it did not have to wait.

    ``token`` is the revision of the head at which it was granted; 0 in that very revision, which does not know itself.
    """

    claim: Claim
    since: datetime
    place: int = 0
    token: int = 0


class Waiting(msgspec.Struct, frozen=True):
    """A claim in the queue, and its place."""

    claim: Claim
    place: int


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lock. ``name`` is the lock's own, for people."""

    name: str
    holders: tuple[Held, ...] = ()

    def find(self, claim: Claim) -> Held | None:
        """That claim, if it holds the lock."""
        return next((held for held in self.holders if held.claim.is_same(claim)), None)

    def has_room(self, claim: Claim) -> bool:
        """Whether fewer than the claim's limit hold it."""
        return len(self.holders) < claim.limit

    def grant(self, claim: Claim, now: datetime, *, place: int = 0) -> Head:
        """The head after this one, with one holder more."""
        return msgspec.structs.replace(self, holders=(*self.holders, Held(claim=claim, since=now, place=place)))

    def without(self, claim: Claim) -> Head:
        """The head after this one, without that claim."""
        return self._keep(*(held for held in self.holders if not held.claim.is_same(claim)))

    def without_job(self, job: str, era: int) -> Head:
        """The head after this one, without anything of that job up to that era."""
        return self._keep(*(held for held in self.holders if not held.claim.is_over(job, era)))

    def _keep(self, *holders: Held) -> Head:
        return msgspec.structs.replace(self, holders=holders)

    def seen_at(self, revision: int) -> Head:
        """This head with the tokens of those that were granted in it, which the next head has to carry on."""
        return self._keep(
            *(held if held.token else msgspec.structs.replace(held, token=revision) for held in self.holders)
        )
