"""A snapshot without the data in it: what happened, in which order and when stays; what it was about does not.

Data is whatever people or their code put into an event: inputs, outputs, data of signals, what approvals ask and are
answered, bodies and headers of dead letters, what failures say, notes, reasons, and by whom. Each is replaced by its
sha256 and size, so that equal values stay equal. Names stay: of the job, its calls, components, hosts, exceptions,
and of the code's files and functions.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, TypeVar

import msgspec

from bus.amendment import AddItems, AddSteps, Change
from bus.event import NULL, BaseEvent
from bus.failure import Failure
from bus.messages import Copy, JobAmended, JobSubmitted, ReplyCompleted, encode
from store.snapshot import Snapshot, SnapshotEvent

E = TypeVar("E", bound=BaseEvent)

_JSON = ("input", "output", "data", "details", "answer", "edit", "edited")
_TEXTS = ("body", "reason", "note", "by", "title", "comment")
# A wait is recorded with the instant of its end, a lock with its name, which its key says too: the fold needs them.
_NO_DATA = ("sleep", "timer", "asked", "lock", "unlock")
# The lines of a traceback that name code. Those between them hold values: the exception's own text is one.
_FRAME = re.compile(r'\s+File "[^"]*", line \d+, in \S+')


def redact(snapshot: Snapshot) -> Snapshot:
    """The snapshot with digests for data."""
    events = tuple(
        SnapshotEvent(each.sequence, each.subject, msgspec.Raw(encode(redact_event(each.decoded().event))))
        for each in snapshot.events
    )
    # What could not be read may hold anything, and so may the words of the one who tried.
    incomplete = tuple(msgspec.structs.replace(each, reason="redacted") for each in snapshot.incomplete)
    return msgspec.structs.replace(snapshot, redacted=True, events=events, incomplete=incomplete)


def redact_event(event: E) -> E:
    """One event with digests for data."""
    kept = isinstance(event, ReplyCompleted) and event.op in _NO_DATA
    changes: dict[str, Any] = {name: _json(getattr(event, name)) for name in _JSON if hasattr(event, name) and not kept}
    changes |= {name: _text(getattr(event, name)) for name in _TEXTS if hasattr(event, name)}
    if hasattr(event, "headers"):
        changes["headers"] = None
    if isinstance(event, JobAmended):
        changes["change"] = _change(event.change)
    if isinstance(event, JobSubmitted):
        changes["recorded"] = tuple(Copy(copy.sequence, redact_event(copy.event)) for copy in event.recorded)
    if isinstance(failure := getattr(event, "failure", None), Failure):
        changes["failure"] = _failure(failure)
    return msgspec.structs.replace(event, **changes)


def _change(change: Change | None) -> Change | None:
    match change:
        case AddSteps(steps=raw):
            return msgspec.structs.replace(change, steps=_json(raw))
        case AddItems(items=raw):
            return msgspec.structs.replace(change, items=_json(raw))
        case _:
            return change


def _failure(failure: Failure) -> Failure:
    frames = [line for line in failure.traceback.splitlines() if _FRAME.fullmatch(line)]
    return msgspec.structs.replace(
        failure, message=_text(failure.message), hint=_text(failure.hint), path=_text(failure.path),
        traceback="\n".join(frames), details=_digest(msgspec.json.encode(failure.details)) if failure.details else None,
    )  # fmt: skip


def _json(value: msgspec.Raw) -> msgspec.Raw:
    return value if value == NULL else msgspec.Raw(msgspec.json.encode(_digest(bytes(value))))


def _text(value: str) -> str:
    raw = value.encode(errors="replace")
    return f"sha256 {hashlib.sha256(raw).hexdigest()}, {len(raw)} bytes" if value else value


def _digest(raw: bytes) -> dict[str, str | int]:
    return {"sha256": hashlib.sha256(raw).hexdigest(), "size_bytes": len(raw)}
