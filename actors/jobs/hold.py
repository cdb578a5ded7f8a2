"""Pause and resume, as the log orders them: whether a job is held, by whose word, and if its host has heeded it. Pure.

The newest word counts. A word that a parent passes on carries the place of the parent's own word in the parent's log:
one that is not newer than what was passed on before is ignored. So a host that passes a word on twice, after a crash or
after a long sleep, changes nothing in a child that somebody has resumed meanwhile.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from actors.jobs.signals import PAUSE, RESUME
from bus.messages import JobPaused, JobResumed, Signal

# What a paused job is said to wait for, in job.waiting; keys of operations have a colon.
HOLD = "paused"


class Word(msgspec.Struct, frozen=True):
    """One pause or resume. ``passed_on`` is the sequence of the parent's word, 0 if it was said to this very job."""

    sequence: int
    pauses: bool
    by: str
    at: datetime
    children: bool = True
    passed_on: int = 0


class _Data(msgspec.Struct, frozen=True):
    children: bool = True
    passed_on: int = 0


def data_of(children: bool, passed_on: int = 0) -> dict[str, bool | int]:
    """The data of a pause or resume signal."""
    return msgspec.to_builtins(_Data(children, passed_on)) if passed_on else {"children": children}


def word_in(signal: Signal, sequence: int) -> Word | None:
    """The word that a signal is, None for any other signal. Data that says nothing we know is no data."""
    if signal.name not in (PAUSE, RESUME):
        return None
    try:
        data = msgspec.json.decode(signal.data, type=_Data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        data = _Data()
    return Word(sequence, signal.name == PAUSE, signal.by, signal.at, data.children, data.passed_on)


class Hold:
    """The fold of all words that were heard, in any order, any number of times."""

    def __init__(self) -> None:
        self.word: Word | None = None
        self.heeded_at = 0
        self._heard: dict[int, Word] = {}
        self._passed_on = 0
        self._newest = 0
        self._recorded = False

    @property
    def is_paused(self) -> bool:
        """Whether nothing new may begin. A resume counts once it is recorded, before anything that follows from it."""
        return self.word is not None and (self.word.pauses or (self._recorded and self.unheeded is not None))

    @property
    def unheeded(self) -> Word | None:
        """The word that counts, if the host has not recorded yet that it follows it."""
        return self.word if self.word is not None and self.word.sequence > self.heeded_at else None

    def take(self, word: Word) -> None:
        """Fold one word in."""
        if word.sequence in self._heard:
            return
        self._heard[word.sequence] = word
        if word.sequence > self._newest:
            self._fold(word)
            return
        self.word, self._passed_on, self._newest = None, 0, 0
        for sequence in sorted(self._heard):
            self._fold(self._heard[sequence])

    def _fold(self, word: Word) -> None:
        self._newest = word.sequence
        if word.passed_on and word.passed_on <= self._passed_on:
            return
        self._passed_on = max(self._passed_on, word.passed_on)
        self.word = word

    def heed(self, event: JobPaused | JobResumed) -> None:
        """The host has recorded that it follows a word."""
        if event.signal > self.heeded_at:
            self.heeded_at, self._recorded = event.signal, isinstance(event, JobPaused)
