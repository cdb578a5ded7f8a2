"""Snapshots: the format is pinned, everything of a job is in one, and a redacted one holds no data."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.testing import load_history
from bus.amendment import AddItems, AddSteps
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.failure import Failure
from bus.messages import (
    CallTool,
    Copy,
    DeadDropped,
    DeadKept,
    Event,
    JobAmended,
    JobCancelled,
    JobFailed,
    JobRejected,
    JobSubmitted,
    ReplyCompleted,
    ReplyFailed,
    ReplyProgress,
    ReplyRetrying,
    Signal,
    encode,
)
from bus.objects import BUCKET, Blobs
from bus.options import ConnectOptions
from bus.schedule_events import ScheduleEvent
from bus.streams import ensure_streams
from bus.system_events import BreakerEvent, NodeEvent
from store.log import append_unfenced
from store.redaction import redact, redact_event
from store.snapshot import Incomplete, Snapshot, SnapshotEvent, decode_snapshot, encode_snapshot, take_snapshot
from tests.strategies import EVENT_TYPES, events

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def snapshot_of(*found: Event, job: str = "j1") -> Snapshot:
    """These events as a job's snapshot."""
    return Snapshot(
        workspace="default",
        job=job,
        events=tuple(
            SnapshotEvent(n, f"log.default.{job}.x", msgspec.Raw(encode(event))) for n, event in enumerate(found, 1)
        ),
    )


# ---- the format

PINNED = b"""{"callboard_snapshot":1,"workspace":"default","job":"j1","redacted":false,"events":[
{"sequence":7,"subject":"log.default.j1.job.submitted","event":{"type":"job.submitted","workflow":"order",\
"version":"1.2.0","input":{"sku":"A1"},"job":"j1","at":"2026-01-02T03:04:05Z"}},
{"sequence":9,"subject":"log.default.j1.signal.go","event":{"type":"signal","name":"go","data":5,"job":"j1",\
"at":"2026-01-02T03:04:05Z"}}
],"incomplete":[
{"sequence":8,"subject":"log.default.j1.signal.x","reason":"no JSON"}
]}
"""


def pinned() -> Snapshot:
    """What the pinned file holds."""
    submitted = JobSubmitted(job="j1", at=AT, workflow="order", version="1.2.0", input=msgspec.Raw(b'{"sku":"A1"}'))
    signal = Signal(job="j1", at=AT, name="go", data=msgspec.Raw(b"5"))
    return Snapshot(
        workspace="default",
        job="j1",
        events=(
            SnapshotEvent(7, "log.default.j1.job.submitted", msgspec.Raw(encode(submitted))),
            SnapshotEvent(9, "log.default.j1.signal.go", msgspec.Raw(encode(signal))),
        ),
        incomplete=(Incomplete(8, "log.default.j1.signal.x", "no JSON"),),
    )


def test_the_format_is_pinned() -> None:
    """A snapshot of today is, byte by byte, this file; and this file is read as that snapshot."""
    assert encode_snapshot(pinned()) == PINNED
    assert json.loads(PINNED)["callboard_snapshot"] == 1
    read = decode_snapshot(PINNED, "file")
    assert [(r.sequence, r.event) for r in read.history()] == [(r.sequence, r.event) for r in pinned().history()]
    assert (read.job, read.workspace, read.redacted, read.incomplete) == ("j1", "default", False, pinned().incomplete)


@given(st.lists(events, min_size=1, max_size=5))
def test_snapshots_are_read_as_they_were_written(found: list[Any]) -> None:
    """Whatever the events: the file has one line for each, reads back as the same, and so does it when redacted."""
    found = [msgspec.structs.replace(event, job="j1", blob=None) for event in found]
    snapshot = snapshot_of(*found)
    for each in (snapshot, redact(snapshot)):
        body = encode_snapshot(each)
        assert body.count(b"\n") == len(found) + 2
        assert encode_snapshot(decode_snapshot(body, "file")) == body
    assert [r.event for r in snapshot.history()] == found


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "f.json is no snapshot of a job"),
        (b"{}", "f.json is no snapshot of a job"),
        (b"\xff\xfe", "f.json is no snapshot of a job"),
        (b"[" * 100_000, "f.json is no snapshot of a job"),
        (PINNED.replace(b'snapshot":1', b'snapshot":2'), "f.json is a snapshot in format 2, .* reads 1"),
        (PINNED.replace(b'"sequence":7', b'"sequence":"x"'), "f.json is a snapshot that cannot be read"),
        (PINNED.replace(b'"type":"signal"', b'"type":"unheard.of"'), "f.json is a snapshot that cannot .* log.*9"),
        (PINNED.replace(b'"sequence":9', b'"sequence":7'), "f.json is out of order: sequence 7 comes after 7"),
        (PINNED.replace(b'"job":"j1","at"', b'"job":"j2","at"'), "f.json is of job j1, and its event 7 is of job j2"),
        (encode_snapshot(snapshot_of()), "f.json is a snapshot without events"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(body: bytes, said: str) -> None:
    """What is no snapshot, or one that was damaged, is refused with its name and what is wrong."""
    with pytest.raises(UsageError, match=said):
        decode_snapshot(body, "f.json")


def test_history_up_to_a_sequence() -> None:
    """``at`` is inclusive, may fall between events, and is refused before the first one."""
    assert [len(pinned().history(at)) for at in (7, 8, 9, 100, None)] == [1, 1, 2, 2, 2]
    with pytest.raises(UsageError, match=r"had no event at sequence 6 yet .its first one is 7, its last one 9."):
        pinned().history(6)


# ---- redaction

SECRET = "s3cret"
RAW = msgspec.Raw(b'{"deep":["s3cret"]}')
FAILURE = Failure(
    code="refused", message=f"no {SECRET}", hint=SECRET, exception="ValueError", path=f"$.{SECRET}",
    details={"card": SECRET},
    traceback=f'Traceback (most recent call last):\n  File "/x/shop.py", line 4, in order\n    pay("{SECRET}")\n'
    f"ValueError: {SECRET}\n",
)  # fmt: skip
HOLDING: list[Event] = [
    JobSubmitted(job="j1", workflow="w", version="1.0.0", input=RAW),
    JobFailed(job="j1", failure=FAILURE),
    JobCancelled(job="j1", reason=SECRET, by=SECRET),
    JobRejected(job="j1", workflow="w", failure=FAILURE, input=RAW),
    JobAmended(job="j1", change=AddItems("each", RAW)),
    JobAmended(job="j1", change=AddSteps(RAW, "each")),
    JobSubmitted(job="j1", workflow="w", version="1.0.0",
                 recorded=(Copy(3, ReplyCompleted(job="j0", call="t:1", output=RAW)),)),
    CallTool(job="j1", call="t:1", name="t", version=1, input=RAW),
    ReplyCompleted(job="j1", call="t:1", output=RAW),
    ReplyCompleted(job="j1", call="lambda:1", op="local", output=RAW),
    ReplyFailed(job="j1", call="t:1", failure=FAILURE),
    ReplyRetrying(job="j1", call="t:1", attempt=1, failure=FAILURE),
    ReplyProgress(job="j1", call="t:1", attempt=1, done=1, note=SECRET),
    Signal(job="j1", name="go", data=RAW),
    DeadKept(job="j1", failure=FAILURE, subject="s", stream="JOBS", stream_sequence=1, deliveries=1, body=SECRET,
             headers={"X": SECRET}),
    DeadDropped(job="j1", letter=1, reason=SECRET),
]  # fmt: skip


@pytest.mark.parametrize("event", HOLDING, ids=lambda event: event.kind)
def test_redacted_events_hold_no_data(event: Event) -> None:
    """Nothing of what people or their code have put in is left, and all the rest is."""
    assert SECRET.encode() in encode(event)
    redacted = redact_event(event)
    assert SECRET.encode() not in encode(redacted)
    assert (type(redacted), redacted.job, redacted.at, redacted.kind) == (type(event), event.job, event.at, event.kind)


def test_digests() -> None:
    """A value becomes its sha256 and size; equal ones stay equal, null stays null, and a failure keeps its code."""
    event = redact_event(Signal(job="j1", name="go", data=msgspec.Raw(b"5")))
    assert isinstance(event, Signal)
    found = json.loads(bytes(event.data))
    digest = "ef2d127de37b942baad06145e54b0c619a1f22327b2ebbcfbec78f5564afe39d"  # printf 5 | sha256sum
    assert found == {"sha256": digest, "size_bytes": 1}
    nothing = redact_event(Signal(job="j1", name="go"))
    assert isinstance(nothing, Signal) and bytes(nothing.data) == b"null"
    failed = redact_event(JobFailed(job="j1", failure=FAILURE))
    assert isinstance(failed, JobFailed)
    assert (failed.failure.code, failed.failure.exception) == ("refused", "ValueError")
    assert failed.failure.traceback == '  File "/x/shop.py", line 4, in order'
    assert failed.failure.details == {"sha256": hashlib.sha256(b'{"card":"s3cret"}').hexdigest(), "size_bytes": 17}


def test_waits_keep_their_instants() -> None:
    """The end of a sleep is no data: without it nobody could say how long a job slept."""
    slept = ReplyCompleted(job="j1", call="sleep:1", op="sleep", output=msgspec.Raw(b'"2026-01-01T00:00:00Z"'))
    assert redact_event(slept) == slept


# Fields that hold names, numbers and instants. Whoever adds a field says here or in store/redaction.py what it is.
# fmt: off
NO_DATA = {
    "actor", "amendable", "app", "approved", "at", "attempt", "blob", "cached", "call", "calls", "child", "host",
    "deadline_at", "delay_s", "deliveries", "done", "duration_s", "escalations", "expires_at", "fork", "forked_from",
    "handed_back", "job", "letter", "level", "name", "node", "on", "op", "parent", "pid", "point", "priority", "quorum",
    "request", "requested_at", "requested_job", "retry", "roles", "signal", "step", "stream", "stream_sequence",
    "subject", "timeout_s", "total", "traceparent", "until", "version", "workflow",
}
DATA = {
    "input", "output", "data", "details", "answer", "edit", "edited", "title", "comment", "body", "headers", "failure",
    "reason", "note", "by", "recorded", "change",
}
# fmt: on


def test_every_field_of_a_jobs_events_is_data_or_is_not() -> None:
    """A field that is added to an event of a job cannot be forgotten by the redaction."""
    of_jobs = set(EVENT_TYPES) - set(get_args(NodeEvent)) - set(get_args(BreakerEvent)) - set(get_args(ScheduleEvent))
    assert len(of_jobs) > 20
    assert {name for t in of_jobs for name in t.__struct_fields__} - NO_DATA == DATA


def test_nothing_redacted_is_run_again(tmp_path: Path) -> None:
    """Digests are no inputs: a redacted snapshot is refused as a history."""
    (tmp_path / "j.json").write_bytes(encode_snapshot(redact(pinned())))
    with pytest.raises(UsageError, match="redacted"):
        load_history(tmp_path / "j.json")
    (tmp_path / "j.json").write_bytes(PINNED)
    assert load_history(tmp_path / "j.json") == pinned().history()


# ---- from the log


async def test_everything_is_in_it(nats_server: EmbeddedServer) -> None:
    """Big bodies are resolved; what is lost or unreadable is named, and the rest is there all the same."""
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await ensure_streams(bus)
        blobs, big = Blobs(bus), _big(b"x")
        first = await append_unfenced(bus, blobs, "default", Signal(job="j", name="a", data=msgspec.Raw(b"1")))
        second = await append_unfenced(bus, blobs, "default", Signal(job="j", name="b", data=big))
        third = await bus.append("log.default.j.signal.c", b"no JSON")
        await append_unfenced(bus, blobs, "default", Signal(job="other", name="b"))
        whole = await take_snapshot(bus, blobs, "default", "j")
        fourth = await append_unfenced(bus, blobs, "default", Signal(job="j", name="d", data=_big(b"y")))
        await bus.api(f"STREAM.DELETE.OBJ_{BUCKET}")
        holed = await take_snapshot(bus, Blobs(bus), "default", "j")
    assert [(e.sequence, e.subject) for e in whole.events] == [
        (first, "log.default.j.signal.a"), (second, "log.default.j.signal.b"),
    ]  # fmt: skip
    assert [getattr(r.event, "data", None) for r in whole.history()] == [msgspec.Raw(b"1"), big]
    assert [(i.sequence, i.subject) for i in whole.incomplete] == [(third, "log.default.j.signal.c")]
    assert "malformed" in whole.incomplete[0].reason
    assert [e.sequence for e in holed.events] == [first, second, fourth]
    assert [i.sequence for i in holed.incomplete] == [second, third, fourth]
    assert "not in the object store" in holed.incomplete[-1].reason
    assert "malformed" not in encode_snapshot(redact(holed)).decode()
    decode_snapshot(encode_snapshot(holed), "file")


def _big(letter: bytes) -> msgspec.Raw:
    return msgspec.Raw(b'"' + letter * 300_000 + b'"')
