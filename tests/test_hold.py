"""The fold of pause and resume: the log's order decides, however and how often the words are heard."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors.jobs.hold import Hold, Word, data_of, word_in
from actors.jobs.journal import Journal
from bus.event import BaseEvent
from bus.messages import JobPaused, JobResumed, Signal
from store.log import Recorded

JOB = "j"
parts = st.tuples(st.booleans(), st.booleans(), st.integers(0, 6))


@st.composite
def word_lists(draw: st.DrawFn) -> list[Word]:
    """Words at rising sequences, said to the job or passed on to it, the latter perhaps twice or late."""
    said = draw(st.lists(parts, max_size=12))
    at = BaseEvent(job=JOB).at
    return [Word(3 * n + 1, pauses, "x", at, children, passed) for n, (pauses, children, passed) in enumerate(said)]


def held(words: list[Word]) -> Hold:
    hold = Hold()
    for word in words:
        hold.take(word)
    return hold


@given(word_lists(), st.data())
def test_the_order_of_hearing_changes_nothing(words: list[Word], data: st.DataObject) -> None:
    """Words heard late, early or again make the hold that the log makes."""
    again = data.draw(st.lists(st.sampled_from(words), max_size=6)) if words else []
    heard = data.draw(st.permutations([*words, *again]))
    assert held(list(heard)).word == held(words).word


@given(word_lists())
def test_the_last_word_counts_unless_the_parent_said_it_before(words: list[Word]) -> None:
    """A word to the job itself counts; one that is passed on does if it is newer than all passed on before."""
    counting, newest = None, 0
    for word in words:
        if not word.passed_on or word.passed_on > newest:
            counting, newest = word, max(newest, word.passed_on)
    assert held(words).word == counting
    assert held(words).is_paused == (counting is not None and counting.pauses)


@given(word_lists(), st.integers(0, 40))
def test_a_word_is_heeded_once(words: list[Word], heeded: int) -> None:
    """What the host has recorded is not to be done again, after a crash either; a newer word is."""
    hold = held(words)
    hold.heed(JobPaused(job=JOB, signal=heeded))
    hold.heed(JobResumed(job=JOB, signal=max(0, heeded - 1)))
    if heeded and hold.unheeded:
        assert hold.is_paused, "a resume holds once it is recorded"
        hold.heed(JobResumed(job=JOB, signal=hold.unheeded.sequence))
        assert hold.unheeded is None and hold.word and hold.is_paused == hold.word.pauses
        return
    assert hold.unheeded == (hold.word if hold.word and hold.word.sequence > heeded else None)


@given(st.one_of(st.none(), st.integers(), st.text(), st.dictionaries(st.text(), st.integers())))
def test_a_pause_with_any_data_is_a_pause(data: object) -> None:
    """Whoever sends the signal by hand may add what they like."""
    word = word_in(Signal(job=JOB, name="pause", data=msgspec.Raw(msgspec.json.encode(data)), by="ann"), 5)
    assert word is not None and word.pauses and (word.by, word.passed_on) == ("ann", 0)


def test_words_cross_the_wire() -> None:
    """What a host passes on says so, and what was asked of the children is kept."""
    raw = msgspec.Raw(msgspec.json.encode(data_of(True, 7)))
    word = word_in(Signal(job=JOB, name="resume", data=raw), 9)
    assert word is not None and (word.pauses, word.children, word.passed_on) == (False, True, 7)
    alone = word_in(Signal(job=JOB, name="pause", data=msgspec.Raw(msgspec.json.encode(data_of(False)))), 9)
    assert alone is not None and not alone.children
    assert word_in(Signal(job=JOB, name="go"), 9) is None


def test_a_journal_keeps_words_apart_from_signals() -> None:
    """A pause is no signal that a job's code could take."""
    journal = Journal()
    journal.read([Recorded(1, Signal(job=JOB, name="pause")), Recorded(2, Signal(job=JOB, name="go"))])
    assert journal.hold.is_paused and list(journal.signals) == [2]
    journal.read([Recorded(3, JobPaused(job=JOB, signal=1)), Recorded(4, Signal(job=JOB, name="resume"))])
    assert journal.hold.is_paused
    assert journal.hold.unheeded is not None and journal.hold.unheeded.sequence == 4
    journal.read([Recorded(5, JobResumed(job=JOB, signal=4))])
    assert not journal.hold.is_paused and journal.hold.unheeded is None
