"""How a lock is taken, waited for, given back and passed on, by many processes of which each may die at any point.

Every step is one message, and what a step means does not depend on who does the next one:

- A claim holds the lock when it is in the head. The head is changed by compare-and-set only.
- A claim waits when its message is in the queue. It is put there on the condition that the head is still the one in
  which there was no room, so nobody who has lost the job can put it there late.
- Whoever has made room, or has begun to wait, *pumps*: while there is room for the first in the queue, it is written
  into the head, told so in the log of its job, and then its message is removed. A first message whose claim is in the
  head already was granted by somebody who did not get to the end: it is told again. So no claim is forgotten: who frees
  the lock writes and then looks at the queue, who waits writes and then looks at the head; one of them sees the other.
- A message is removed before its claim leaves the head, so that no claim comes to hold the lock twice.

``confirm`` is asked between reading the head and writing it: it raises if the job is another host's by now. What the
other host has done since to this lock has moved the head, and then the write is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

import msgspec

from actors.locks.claim import Claim, Head, Held, Waiting
from bus.errors import BusError

Confirm = Callable[[], Awaitable[None]]


class Moved(BusError):
    """The head is not the one that was read, or may not be: read again."""


class Store(Protocol):
    """One lock as the server keeps it. Every method is one step; the reads are of the latest state, in order."""

    def now(self) -> datetime:
        """The present instant."""

    async def head(self) -> tuple[Head, int]:
        """The head and its revision, 0 if there is none."""

    async def write(self, head: Head, revision: int) -> int:
        """Change the head if ``revision`` is the last one; the new one. Raises: Moved."""

    async def first(self) -> Waiting | None:
        """The message that has waited longest."""

    async def of_job(self, job: str) -> list[Waiting]:
        """The messages of one job."""

    async def enqueue(self, claim: Claim, revision: int) -> None:
        """Begin to wait, if ``revision`` is still the head's last one. Raises: Moved."""

    async def remove(self, place: int) -> None:
        """Wait no more; nothing happens if it is gone already."""

    async def tell(self, held: Held) -> None:
        """Record in the job's log that it holds the lock, and wake it."""


async def acquire(store: Store, claim: Claim, confirm: Confirm) -> int | None:
    """The token under which ``claim`` holds the lock; None if it waits, and will be told."""
    while True:
        head, revision = await store.head()
        if held := head.find(claim):
            return held.token or revision
        try:
            if token := await _enter(store, head, revision, claim, confirm):
                return token
        except Moved:
            continue
        await pump(store)
        head, revision = await store.head()
        held = head.find(claim)
        return (held.token or revision) if held else None


async def _enter(store: Store, head: Head, revision: int, claim: Claim, confirm: Confirm) -> int | None:
    """Take the lock if it is free and nobody waits, else be in the queue. Raises: Moved."""
    first = await store.first()
    if first is not None and any(waiting.claim.is_same(claim) for waiting in await store.of_job(claim.job)):
        return None
    await confirm()
    if first is None and head.has_room(claim):
        return await store.write(head.seen_at(revision).grant(claim, store.now()), revision)
    await store.enqueue(claim, revision)
    return None


async def release(store: Store, claim: Claim, confirm: Confirm) -> None:
    """Hold the lock no more, and wait for it no more; let the next one have it."""
    while True:
        head, revision = await store.head()
        await confirm()
        await _remove(store, [each for each in await store.of_job(claim.job) if each.claim.is_same(claim)])
        try:
            # Also if it is not in the head: who has read it in the queue, and is about to write it there, is refused.
            await store.write(head.seen_at(revision).without(claim), revision)
        except Moved:
            continue
        return await pump(store)


async def _remove(store: Store, waiting: list[Waiting]) -> None:
    for each in waiting:
        await store.remove(each.place)


async def withdraw(store: Store, claim: Claim, confirm: Confirm) -> int | None:
    """Wait no more, None; or the token if the lock was granted before that could be done."""
    while True:
        head, revision = await store.head()
        if held := head.find(claim):
            return held.token or revision
        await confirm()
        await _remove(store, [each for each in await store.of_job(claim.job) if each.claim.is_same(claim)])
        try:
            await store.write(head.seen_at(revision), revision)
        except Moved:
            continue
        await pump(store)
        return None


async def drop(store: Store, job: str, era: int) -> bool:
    """Take everything of a life of a job that is over out of the lock; whether there was anything."""
    was_there = False
    while True:
        head, revision = await store.head()
        waiting = [each for each in await store.of_job(job) if each.claim.is_over(job, era)]
        await _remove(store, waiting)
        left = head.seen_at(revision).without_job(job, era)
        was_there = was_there or bool(waiting) or len(left.holders) < len(head.holders)
        try:
            await store.write(left, revision)
        except Moved:
            continue
        await pump(store)
        return was_there


async def pump(store: Store) -> None:
    """Give the lock to those who wait, in their order, as long as there is room."""
    while True:
        head, revision = await store.head()
        waiting = await store.first()
        if waiting is None:
            return
        held = head.find(waiting.claim)
        if held is None:
            if not head.has_room(waiting.claim):
                return
            head = head.seen_at(revision).grant(waiting.claim, store.now(), place=waiting.place)
            try:
                revision = await store.write(head, revision)
            except Moved:
                continue
            held = head.holders[-1]
        await store.tell(held if held.token else msgspec.structs.replace(held, token=revision))
        await store.remove(waiting.place)
