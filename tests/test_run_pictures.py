"""Pictures of jobs whose document is at hand: the state of every step, at every point of the log."""

from __future__ import annotations

import asyncio
import functools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.pictures.drawing import Count, Drawing, Standing
from actors.pictures.run_drawing import draw_run
from actors.workflow.document import Document
from bus.errors import UsageError
from bus.failure import Failure
from bus.messages import (
    CallTool,
    Event,
    JobCancelled,
    JobFailed,
    JobOwned,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
    Signal,
    encode,
)
from store.job_fold import fold_view
from store.log import Recorded
from store.snapshot import Snapshot, SnapshotEvent, encode_snapshot
from tests.play import document
from tests.test_cli import Shell

T0 = datetime(2024, 1, 2, 12, tzinfo=UTC)  # long ago: its sleeps are over by any clock
STEPS = """\
steps:
  - {id: one, kind: tool, run: double, with: {n: "${ input.n }"}, compensate: {tool: undo, with: {what: one}}}
  - id: each
    kind: map
    over: "[1, 2, 3]"
    needs: [one]
    steps:
      - {id: twice, kind: tool, run: double, with: {n: "${ item }"}}
      - {id: odd, kind: set, values: {a: 1}, needs: [twice], when: "index == 1"}
  - id: poll
    kind: loop
    until: round >= 1
    max_rounds: 5
    needs: [one]
    steps: [{id: rest, kind: sleep, for_s: 1}]
  - id: how
    kind: switch
    needs: [each]
    cases:
      - {when: input.n > 100, steps: [{id: big, kind: tool, run: double, with: {n: 1}}]}
    else: [{id: small, kind: tool, run: double, with: {n: 1}}]
  - {id: go, kind: wait, signal: go, needs: [how, poll]}
  - {id: bad, kind: tool, run: broken, needs: [go], on_error: compensate}
  - {id: never, kind: emit, event: never, needs: [bad]}
"""
BROKEN = Failure(code="broken", message="it is broken", retryable=False)
ENDED = Failure(code="broken", message="step bad: it is broken", retryable=False)


def call(key: str, name: str = "double", **values: Any) -> Event:
    """A command to a tool."""
    return CallTool(job="j", call=key, name=name, version=1, input=msgspec.Raw(json.dumps(values).encode()))


def done(key: str, output: Any = None, op: str = "") -> Event:
    """Its reply, or what the host recorded."""
    return ReplyCompleted(job="j", call=key, op=op, output=msgspec.Raw(json.dumps(output).encode()))


def nap(key: str, second: int) -> list[Event]:
    """A sleep of a second that began in that second of the job."""
    due = (T0 + timedelta(seconds=second + 1)).isoformat()
    return [done(key, due, "sleep"), done(f"{key}/woke", None, "timer")]


BEGUN: list[Event] = [JobSubmitted(job="j", workflow="made", version="1.0.0", input=msgspec.Raw(b'{"n":5}'))]
LOG: list[Event] = [
    *BEGUN, JobOwned(job="j", host="h"),
    call("one/double:1", n=5), done("one/double:1", 10),
    *(call(f"each.{n}/twice/double:1", n=n + 1) for n in range(3)),
    done("each.0/twice/double:1", 2), done("each.1/twice/double:1", 4),
    *nap("poll.0/rest/sleep:1", 9), done("each.2/twice/double:1", 6),
    call("small/double:1", n=1), done("small/double:1", 2),
    *nap("poll.1/rest/sleep:1", 14), JobWaiting(job="j", on=("go/signal-go:1",)),
    Signal(job="j", name="go"), done("go/signal-go:1", {"sequence": 18, "data": None, "by": ""}, "signal"),
    call("bad/broken:1", "broken"), ReplyFailed(job="j", call="bad/broken:1", failure=BROKEN),
    call("one/undo/undo:1", "undo", what="one"), done("one/undo/undo:1"),
    JobFailed(job="j", failure=ENDED),
]  # fmt: skip


def log(events: list[Event]) -> list[Recorded]:
    """The events, a second apart."""
    return [Recorded(i + 1, msgspec.structs.replace(e, at=T0 + timedelta(seconds=i))) for i, e in enumerate(events)]


@functools.cache
def made() -> Document:
    """The document; an input without a schema is a plain value."""
    return document(STEPS)


def drawn(events: list[Event]) -> Drawing:
    """The job as these events leave it."""
    history = log(events)
    return asyncio.run(draw_run(made(), fold_view("default", history), history, history[-1].event.at))


def standings(events: list[Event]) -> dict[str, Standing]:
    """What became of each step that has begun."""
    return {part.id: part.standing for part in drawn(events).all_parts() if part.standing}


def after(key: str) -> list[Event]:
    """The log up to the last word about an operation."""
    last = max(number for number, event in enumerate(LOG) if getattr(event, "call", "") == key)
    return LOG[: last + 1]


def test_a_step_has_the_state_that_it_is_in() -> None:
    """Of a map it is counted what is done; what has not begun has no state; a way that was not taken is skipped."""
    found = standings(after("each.1/twice/double:1"))
    assert found["one"] == Standing(state="completed", duration_s=1)
    assert (found["each"].state, found["each"].count) == ("running", Count(2, 3))
    assert (found["twice"].state, found["twice"].count) == ("running", Count(2, 3))
    assert (found["poll"].state, found["rest"].state) == ("running", "waiting")
    assert found.keys() == {"one", "each", "twice", "odd", "poll", "rest"}
    found = standings(after("small/double:1"))
    assert (found["small"].state, found["big"].state, found["how"].state) == ("completed", "skipped", "completed")
    assert (found["each"].count, found["odd"].count) == (Count(3, 3), Count(1, 3))


def test_a_wait_and_what_comes_of_it() -> None:
    """A wait for a signal waits since the job is parked; what failed says why, what was undone is compensated."""
    found = standings(LOG[:17])
    assert found["go"].state == "waiting" and "bad" not in found
    assert found["poll"].count == Count(2) and found["rest"].count == Count(2, 2)
    found = standings(LOG)
    assert (found["one"].state, found["go"].state, found["never"].state) == ("compensated", "completed", "skipped")
    assert found["bad"].state == "failed" and "it is broken" in found["bad"].note
    assert found["go"].duration_s == 2
    assert drawn(LOG).note == "failed after 23 s: step bad: it is broken"


def test_a_job_that_is_cut_off_has_no_running_step() -> None:
    """What was under way when the job was terminated is cancelled; what had not begun is skipped."""
    found = standings([*LOG[:9], JobCancelled(job="j", by="boss")])
    assert found.keys() == {part.id for part in drawn(LOG).all_parts() if "/" not in part.id}
    assert {standing.state for standing in found.values()} == {"completed", "cancelled", "skipped"}
    assert found["each"].state == "cancelled" and found["go"].state == "skipped"


def test_it_can_be_drawn_at_every_point() -> None:
    """However far the log goes, the steps are drawn, and what has ended stays so, but for what is undone later."""
    ended: dict[str, str] = {}
    for cut in range(1, len(LOG) + 1):
        found = standings(LOG[:cut])
        assert found.keys() >= ended.keys()
        assert {name for name in ended if found[name].state != ended[name]} <= {"one"}
        ended = {name: standing.state for name, standing in found.items() if standing.state in ("completed", "skipped")}
    assert found["one"].state == "compensated"


def test_a_long_log_is_gone_to_its_end() -> None:
    """Hundreds of outcomes of calls that were asked for long before are all taken up."""
    count = 400
    steps = [{"id": "twice", "kind": "tool", "run": "double", "with": {"n": "${ item }"}}]
    of = {"name": "made", "version": "1.0.0", "steps": [{"id": "m", "kind": "map", "over": "input", "steps": steps}]}
    begun = JobSubmitted(
        job="j", workflow="made", version="1.0.0", input=msgspec.Raw(msgspec.json.encode(list(range(count))))
    )
    calls = [call(f"m.{n}/twice/double:1", n=n) for n in range(count)]
    history = log([begun, *calls, *(done(f"m.{n}/twice/double:1", 0) for n in range(count - 5))])
    drawing = asyncio.run(
        draw_run(msgspec.convert(of, Document), fold_view("default", history), history, history[-1].event.at)
    )
    assert {part.standing.count for part in drawing.all_parts() if part.standing} == {Count(count - 5, count)}


def test_another_document_did_not_make_this_log() -> None:
    """A document that does not fit the log is refused, with the first difference."""
    history = log(LOG)
    other = document(STEPS.replace("{n: 1}}]", "{n: 2}}]"))
    with pytest.raises(UsageError, match="did not make this history: at small/double:1"):
        asyncio.run(draw_run(other, fold_view("default", history), history, T0))


def test_the_command_takes_the_document(tmp_path: Path) -> None:
    """A snapshot is drawn by the steps of a document if that is given, and from its log alone if not."""
    shell = Shell("nats://127.0.0.1:9", tmp_path)
    (tmp_path / "made.yaml").write_text(f"name: made\nversion: 1.0.0\n{STEPS}")
    events = tuple(SnapshotEvent(r.sequence, "x", msgspec.Raw(encode(r.event))) for r in log(LOG))
    (tmp_path / "job.json").write_bytes(encode_snapshot(Snapshot(workspace="default", job="j", events=events)))
    command = ("workflow", "graph", str(tmp_path / "job.json"))
    code, out, _ = shell(*command, "--document", str(tmp_path / "made.yaml"))
    assert code == 0 and 's_one["one: tool double<br/>compensated, 1.0 s"]' in out
    code, out, _ = shell(*command)
    assert code == 0 and "completed, 3 of 3" in out and "s_one" not in out
    code, _, err = shell("workflow", "graph", str(tmp_path / "made.yaml"), "--document", "x.yaml")
    assert code == 2 and "--document is for jobs" in err
