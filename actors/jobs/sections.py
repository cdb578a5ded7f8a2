"""The critical sections of a job, as its log tells of them: which lock each asked for, and how far it has come. Pure.

A section is three records: ``lock-x:1/asked`` before anything is done outside of the log, ``lock-x:1`` when the lock
was granted or did not come in time, and ``lock-x:1/left`` when it was given back. What was asked for and not given back
has to be dropped at the job's end.

A failed job holds nothing any more. When it is retried, its sections that were not left in order are void, and so is
one in which a call is made anew: they are asked for again, under the same keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import msgspec

from actors.locks.claim import Kind, LockName
from bus.messages import ReplyCompleted

ASKED, GRANTED, LEFT = "asked", "lock", "unlock"
OPS = frozenset({ASKED, GRANTED, LEFT})


class Asked(msgspec.Struct, frozen=True):
    """What is recorded when a lock is asked for; ``until`` is when the job will have waited long enough."""

    name: str
    limit: int
    kind: Kind = "lock"
    until: str | None = None


class Left(msgspec.Struct, frozen=True):
    """What is recorded when a lock was given back; ``raised``: the section was left by an exception."""

    raised: bool = False


class _Granted(msgspec.Struct, frozen=True):
    timed_out: bool = False


class Section(msgspec.Struct):
    """One of them. ``granted_at`` and ``left_at`` are sequences, 0 if that has not happened."""

    asked: Asked
    granted_at: int = 0
    left_at: int = 0
    timed_out: bool = False
    raised: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left in the lock."""
        return self.left_at > 0 or self.timed_out


class Sections:
    """The fold, by key. ``earlier`` are the locks of sections that a retry has made void."""

    def __init__(self) -> None:
        self._by_key: dict[str, Section] = {}
        self._earlier: set[tuple[Kind, str]] = set()

    def locks(self, workspace: str) -> list[LockName]:
        """What the job may hold or wait for."""
        now = {(s.asked.kind, s.asked.name) for s in self._by_key.values() if not s.is_over}
        return [LockName(workspace, kind, name) for kind, name in sorted(now | self._earlier)]

    def apply(self, event: ReplyCompleted, sequence: int) -> None:
        """Fold one record of a section that is the first of its kind. What says nothing we know says nothing."""
        with contextlib.suppress(msgspec.DecodeError):
            self._apply(event, sequence)

    def _apply(self, event: ReplyCompleted, sequence: int) -> None:
        if event.op == ASKED:
            self._by_key[event.call.removesuffix("/asked")] = Section(msgspec.json.decode(event.output, type=Asked))
        elif event.op == GRANTED and (section := self._by_key.get(event.call)):
            section.timed_out = msgspec.json.decode(event.output, type=_Granted).timed_out
            section.granted_at = sequence
        elif event.op == LEFT and (section := self._by_key.get(event.call.removesuffix("/left"))):
            section.raised = msgspec.json.decode(event.output, type=Left).raised
            section.left_at = sequence

    def open_before(self, point: int) -> Iterator[str]:
        """The keys of the records of sections that had not been left before sequence ``point``."""
        for key, section in self._by_key.items():
            over_at = section.granted_at if section.timed_out else section.left_at
            if not 0 < over_at < point:
                yield from (key, f"{key}/asked", f"{key}/left")

    def void(self, anew: Iterable[int], last: int) -> Iterator[str]:
        """Forget the sections that a retry opens again; the keys of their records.

        ``anew``: where the calls that are made anew were asked for. ``last``: the last thing that the job did.
        """
        asked_at = list(anew)
        for key, section in list(self._by_key.items()):
            if _is_void(section, asked_at, last):
                del self._by_key[key]
                self._earlier.add((section.asked.kind, section.asked.name))
                yield from (key, f"{key}/asked", f"{key}/left")


def _is_void(section: Section, anew: list[int], last: int) -> bool:
    if section.timed_out:
        return section.granted_at >= last  # the job failed by it
    if not section.left_at or section.raised:
        return True
    return any(section.granted_at < sequence < section.left_at for sequence in anew)
