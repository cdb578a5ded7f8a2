"""The entries of a bulk submit: each line, or value, as one job with its id, checked before anything is sent. Pure.

The job's id is the one that the entry names, else it follows from the batch, the number of the line and its text. So
the same file submitted again asks for the same jobs, hours later as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from actors.clients.terms import Terms, terms_of
from actors.jobs.requests import MAX_INPUT_BYTES
from bus import jobid
from bus.errors import TooLarge, UsageError
from bus.subjects import Priority, check_job_id

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line that says more than its input; what it does not say the whole batch does."""

    input: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    id: str | int | None = None
    priority: Priority | None = None
    delay_s: float | None = None
    at: datetime | None = None
    deadline_s: float | None = None
    deadline_at: datetime | None = None


_decode_envelope = msgspec.json.Decoder(Envelope).decode


class Entry(msgspec.Struct, frozen=True):
    """One job of a batch. ``number`` is its line, from 1."""

    number: int
    job: str
    input: bytes
    terms: Terms


class BadEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line that cannot become a job, and why."""

    line: int
    error: str
    path: str = ""
    hint: str = ""


class BadEntries(UsageError):
    """Some entries cannot become jobs; ``bad`` has each of them."""

    def __init__(self, bad: list[BadEntry]) -> None:
        first = bad[0]
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        super().__init__(
            f"entry {first.line}: {first.error}{more}", code="bad_entries", path=first.path, hint=first.hint
        )
        self.bad = bad


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What is common to all entries.

    ``version`` of a published workflow, if one was asked for. ``key`` tells one batch from another: a digest of the
    file, or a name that somebody gave. ``id_field`` is the field of the input that is the job's id; ``is_enveloped``:
    each line is an :class:`Envelope`. ``check`` raises UsageError for an input that the workflow does not take, or that
    is no JSON.
    """

    workspace: str
    workflow: str
    key: str
    check: Callable[[bytes], None]
    terms: Terms = Terms()
    id_field: str = ""
    version: str = ""
    is_enveloped: bool = False

    def read(self, number: int, line: bytes) -> Entry:
        """The entry on a line. Raises: UsageError that says what is wrong with it."""
        envelope = _envelope(line) if self.is_enveloped else None
        body = bytes(envelope.input) if envelope else line
        if len(body) > MAX_INPUT_BYTES:
            raise TooLarge("the input", size_bytes=len(body), limit_bytes=MAX_INPUT_BYTES)
        self.check(body)
        terms = self._terms_of(envelope) if envelope else self.terms
        return Entry(number, self._id_of(number, line, body, envelope), body, terms)

    def _id_of(self, number: int, line: bytes, body: bytes, envelope: Envelope | None) -> str:
        if envelope is not None and envelope.id is not None:
            return check_job_id(str(envelope.id))
        if self.id_field:
            return _id_in(body, self.id_field)
        return jobid.of_line(self.workspace, self.workflow, self.key, number, line)

    def _terms_of(self, envelope: Envelope) -> Terms:
        priority = envelope.priority or self.terms.priority
        own = terms_of(priority, envelope.delay_s, envelope.at, envelope.deadline_s, envelope.deadline_at)
        return Terms(
            priority,
            self.terms.start if own.start is None else own.start,
            self.terms.deadline if own.deadline is None else own.deadline,
        )


def json_in(body: bytes) -> Any:
    """The value of an input. Raises: UsageError."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}", code="invalid_json", path="$") from error


def _envelope(line: bytes) -> Envelope:
    try:
        return _decode_envelope(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = f"fields: {', '.join(Envelope.__struct_fields__)}"
        raise UsageError(f"no envelope: {error}", code="bad_envelope", path="$", hint=hint) from error


def _id_in(body: bytes, field: str) -> str:
    """The job's id in a field of the input."""
    try:
        raw = _decode_object(body).get(field)
        value = None if raw is None else _decode(raw)
    except msgspec.DecodeError:  # an input that is no object
        value = None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UsageError(f"field {field!r} holds no job id", code="bad_job_id", path=f"$.{field}",
                         hint="text or a whole number in each input")  # fmt: skip
    return check_job_id(str(value))


def conflict_of(entry: Entry) -> BadEntry:
    """What is wrong with an entry whose id is another job's."""
    hint = "another id, or the same workflow and input"
    return BadEntry(entry.number, f"job id {entry.job!r} belongs to another job", hint=hint)


# ---- all of them


class Entries:
    """Reads the lines of a batch: entries come out, what is bad is kept in ``bad``. Empty lines are passed over."""

    def __init__(self, batch: Batch) -> None:
        self.bad: list[BadEntry] = []
        self.good = 0
        self.batch = batch
        self._line_of: dict[str, int] = {}
        self._names_ids = bool(batch.id_field) or batch.is_enveloped

    def read(self, lines: Iterable[bytes]) -> Iterator[Entry]:
        """The good entries, in order."""
        for number, line in enumerate(lines, 1):
            if text := line.strip():
                entry = self._read(number, text)
                if entry is not None:
                    self.good += 1
                    yield entry

    def _read(self, number: int, line: bytes) -> Entry | None:
        try:
            entry = self.batch.read(number, line)
        except UsageError as error:
            self.bad.append(BadEntry(number, str(error.args[0]), error.path, error.hint))
            return None
        if self._names_ids and (first := self._line_of.setdefault(entry.job, number)) != number:
            self.bad.append(BadEntry(number, f"job id {entry.job!r} is that of line {first} already"))
            return None
        return entry
