"""Histories that replays are made against: taken from the log, and kept in files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from actors.clients.client import Client
from bus.errors import UsageError
from bus.messages import JobSubmitted, decode, encode
from store.log import Recorded, read_job
from store.snapshot import decode_snapshot


async def record_history(client: Client, job: str) -> list[Recorded]:
    """The job's whole log. Raises: UsageError if there is none, BusError."""
    history = await read_job(client.bus, client.blobs, client.workspace, job)
    submission_in(history)
    return history


def save_history(path: Path, history: Iterable[Recorded]) -> None:
    """Write a history as JSON lines, one event each with its sequence."""
    lines = [b'{"sequence":%d,"event":%s}\n' % (r.sequence, encode(r.event)) for r in history]
    path.write_bytes(b"".join(lines))


_SNAPSHOT = b'{"callboard_snapshot"'


class _Line(msgspec.Struct):
    sequence: int
    event: msgspec.Raw


def load_history(path: Path) -> list[Recorded]:
    """Read what :func:`save_history` or ``callboard snapshot`` wrote. Raises: UsageError that names the line."""
    body = path.read_bytes()
    if body.lstrip().startswith(_SNAPSHOT):
        return decode_snapshot(body, str(path)).recorded_values()
    history = []
    for number, text in enumerate(body.splitlines(), 1):
        try:
            line = msgspec.json.decode(text, type=_Line)
            history.append(Recorded(line.sequence, decode(bytes(line.event), subject=str(path), sequence=number)))
        except Exception as error:
            raise UsageError(f"{path}, line {number}: {error}", code="bad_history") from error
    return history


def submission_in(history: Sequence[Recorded]) -> JobSubmitted:
    """The event that the job began with. Raises: UsageError if it is not there."""
    for recorded in history:
        if isinstance(recorded.event, JobSubmitted):
            return recorded.event
    raise UsageError("the history holds no job.submitted", code="bad_history", hint="it needs the whole log of a job")
