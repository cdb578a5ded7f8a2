"""The lines of a bulk submit: which job each is, and what is wrong with those that are none."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.clients.entries import Batch, Entries, Entry, json_in
from actors.clients.terms import Terms
from bus.errors import UsageError


def check(body: bytes) -> None:
    """A workflow that takes objects with a whole number ``n``."""
    value = json_in(body)
    if not isinstance(value, dict) or not isinstance(value.get("n"), int):
        raise UsageError("no whole number", path="$.n")


def batch(**words: object) -> Batch:
    return Batch(**({"workspace": "w", "workflow": "order", "key": "k", "check": check} | words))  # type: ignore[arg-type]


def read(lines: list[bytes], **words: object) -> tuple[list[Entry], Entries]:
    """The good entries, and what else was found."""
    entries = Entries(batch(**words))
    return list(entries.read(lines)), entries


@given(st.lists(st.integers(0, 3), max_size=20))
def test_the_same_batch_is_the_same_jobs(numbers: list[int]) -> None:
    """Ids are the same on each reading, differ for equal lines, and are others in another batch or workflow."""
    lines = [b'{"n": %d}\n' % n for n in numbers]
    first, second = (read(lines)[0] for _ in range(2))
    ids = [entry.job for entry in first]
    assert ids == [entry.job for entry in second] and len(set(ids)) == len(lines)
    assert [entry.number for entry in first] == list(range(1, len(lines) + 1))
    for other in ({"key": "k2"}, {"workflow": "other"}, {"workspace": "w2"}):
        assert not set(ids) & {entry.job for entry in read(lines, **other)[0]}
    grown, _ = read([*lines, b'{"n": 9}'])
    assert [entry.job for entry in grown][: len(ids)] == ids, "a batch that has grown"


def test_all_bad_lines_are_found() -> None:
    """With their numbers, and where in the line it is; empty lines are none."""
    lines = [b'{"n": 1}', b"", b"{n: 2}", b'{"n": "3"}', b"  \n", b"\xff\xfe", b'{"n": 4}']
    good, entries = read(lines)
    assert [entry.number for entry in good] == [1, 7] and entries.good == 2
    assert [(bad.line, bad.path) for bad in entries.bad] == [(3, "$"), (4, "$.n"), (6, "$")]


def test_ids_from_a_field() -> None:
    """Text or a whole number; each once, and such that it can be an id."""
    lines = [
        b'{"n":1,"k":"a"}',
        b'{"n":1,"k":7}',
        b'{"n":1}',
        b'{"n":1,"k":"a"}',
        b'{"n":1,"k":"a b"}',
        b'{"n":1,"k":true}',
    ]
    good, entries = read(lines, id_field="k")
    assert [entry.job for entry in good] == ["a", "7"]
    assert [bad.line for bad in entries.bad] == [3, 4, 5, 6]
    assert "that of line 1" in entries.bad[1].error


def test_envelopes_say_more() -> None:
    """What a line says outranks what is said for all; what it does not know is refused."""
    lines = [
        b'{"input":{"n":1},"id":"x","priority":"high","delay_s":60}', b'{"input":{"n":2},"deadline_s":5}', b'{"n":3}',
        b'{"input":{"n":4},"delay_s":-1}', b'{"input":{"n":5},"at":"2030-01-01T00:00:00Z","delay_s":1}', b'{"id":"y"}',
    ]  # fmt: skip
    good, entries = read(lines, is_enveloped=True, terms=Terms("low", None, 30.0))
    assert [(entry.job == "x", bytes(entry.input)) for entry in good] == [(True, b'{"n":1}'), (False, b'{"n":2}')]
    assert [entry.terms for entry in good] == [Terms("high", 60.0, 30.0), Terms("low", None, 5.0)]
    assert [bad.line for bad in entries.bad] == [3, 4, 5, 6]


def test_an_input_that_is_too_big() -> None:
    """It is found with the others, before anything is sent."""
    _, entries = read([b'{"n":1,"x":"' + b"x" * (9 << 20) + b'"}'])
    assert "the input" in entries.bad[0].error and msgspec.json.encode(entries.bad)
    with pytest.raises(UsageError):
        json_in(b"[" * 100_000)
