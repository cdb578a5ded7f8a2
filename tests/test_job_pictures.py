"""Pictures of jobs: what the log says of operations, what came after what, and how much of a long job is shown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.pictures.drawing import Count, Drawing, Edge, Group, Part, Standing
from actors.pictures.job_drawing import LIST_LIMIT, draw_job
from actors.pictures.picture import picture
from actors.pictures.recorded_operations import operations, places
from bus.event import ForkedFrom
from bus.failure import Failure
from bus.messages import (
    CallJob,
    CallTool,
    Copy,
    Emitted,
    Event,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
)
from store.job_fold import fold_view
from store.log import Recorded
from store.snapshot import decode_snapshot
from tests.record_histories import HISTORIES
from tests.strategies import EVENT_TYPES, events_of

T0 = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOW = T0 + timedelta(seconds=100)


def log(*events: Event) -> list[Recorded]:
    """Events of a job that a host has taken up, a second apart."""
    submitted = JobSubmitted(job="j", workflow="order", version="1.2.0")
    whole = [submitted, JobOwned(job="j", host="n1"), *events]
    return [Recorded(i + 1, msgspec.structs.replace(e, at=T0 + timedelta(seconds=i))) for i, e in enumerate(whole)]


def drawn(*events: Event, is_whole: bool = False) -> Drawing:
    """The job with these events after it was taken up."""
    history = log(*events)
    return draw_job(fold_view("default", history), history, NOW, is_whole=is_whole)


def call(*keys: str) -> list[Event]:
    """Commands to tools."""
    return [CallTool(job="j", call=key, name="quote", version=1) for key in keys]


def done(*keys: str) -> list[Event]:
    """Their replies."""
    return [ReplyCompleted(job="j", call=key) for key in keys]


def noted(key: str, op: str, output: str = "null") -> Event:
    """What the host recorded itself."""
    return ReplyCompleted(job="j", call=key, op=op, output=msgspec.Raw(output.encode()))


def by_id(drawing: Drawing) -> dict[str, Part]:
    """Its boxes."""
    return {part.id: part for part in drawing.all_parts()}


def standing(drawing: Drawing, id_: str) -> Standing:
    """What became of a box."""
    found = by_id(drawing)[id_].standing
    assert found is not None
    return found


def arrows(drawing: Drawing) -> set[tuple[str, str]]:
    """Its arrows."""
    return {(edge.source, edge.target) for edge in drawing.edges}


def test_one_after_the_other_and_side_by_side() -> None:
    """Calls that were under way together stand side by side between what came before and after both."""
    drawing = drawn(*call("a:1"), *done("a:1"), *call("b:1", "b:2"), *done("b:2", "b:1"), *call("c:1"))
    assert arrows(drawing) == {("a:1", "b:1"), ("a:1", "b:2"), ("b:1", "c:1"), ("b:2", "c:1")}
    assert standing(drawing, "b:1").state == "completed" and standing(drawing, "b:1").duration_s == 3
    assert (standing(drawing, "c:1").state, standing(drawing, "c:1").duration_s) == ("running", 92)


def test_a_gather_is_a_box_of_its_branches() -> None:
    """A branch with one call is that call; one with more is a box; the gather counts branches that are done."""
    events = [*call("gather:1.0/a:1", "gather:1.1/a:1"), *done("gather:1.1/a:1"), *call("gather:1.1/b:1")]
    drawing = drawn(*events, *done("gather:1.0/a:1"))
    (gather,) = drawing.parts
    assert isinstance(gather, Group) and gather.standing == Standing(state="running", count=Count(1, 2))
    assert [part.id for part in gather.parts] == ["gather:1.0/a:1", "/gather:1.1"]
    assert arrows(drawing) == {("gather:1.1/a:1", "gather:1.1/b:1")}


def test_rounds_of_a_loop_follow_each_other() -> None:
    """Instances of a step that ran one after the other are joined by arrows; those that overlap are not."""
    one, two = "poll.0/ask/ask:1", "poll.1/ask/ask:1"
    assert arrows(drawn(*call(one), *done(one), *call(two))) == {(one, two)}
    assert not arrows(drawn(*call(one, two), *done(two, one)))


def test_a_step_with_one_operation_is_that_operation() -> None:
    """The log of a document's job is drawn by its steps, though the document is not at hand."""
    drawing = drawn(*call("quote/quote:1"), *done("quote/quote:1"), *call("both/a:1", "both/b:1"))
    assert [(part.id, part.title) for part in drawing.parts] == [("quote/quote:1", "quote"), ("/both", "both")]
    assert arrows(drawing) == {("quote/quote:1", "/both")}


def test_waits_and_what_is_below_them() -> None:
    """A sleep waits until it is due, a wait for a signal holds its timer, and what is only waited for is drawn."""
    due = (NOW + timedelta(seconds=5)).isoformat()
    events = [noted("sleep:1", "sleep", f'"{due}"'), noted("signal-go:1/timer", "timer", f'"{due}"')]
    drawing = drawn(*events, JobWaiting(job="j", on=("sleep:1", "signal-go:1", "signal-other:1", "paused")))
    states = {part.id: part.standing.state for part in drawing.parts if part.standing}
    assert states == {"sleep:1": "waiting", "signal-go:1": "waiting", "signal-other:1": "waiting"}
    assert not arrows(drawing)


def test_ends_failures_and_retries() -> None:
    """What has no outcome ended with its job; a failure says why; after a retry it runs again."""
    boom = Failure(code="error", message="boom")
    failed = [*call("a:1", "b:1"), ReplyFailed(job="j", call="a:1", failure=boom), JobFailed(job="j", failure=boom)]
    drawing = drawn(*failed)
    assert standing(drawing, "a:1").state == "failed" and standing(drawing, "a:1").note == "boom"
    assert standing(drawing, "b:1").state == "cancelled" and drawing.note == "failed after 5.0 s: boom"
    again = drawn(*failed, JobRetried(job="j", calls=("a:1",)), *call("a:1"))
    assert {standing(again, key).state for key in ("a:1", "b:1")} == {"running"}
    child = drawn(
        CallJob(job="j", call="ship:1", name="ship", version=1, child="c1"), JobCancelled(job="j", reason="no")
    )
    assert "job c1" in standing(child, "ship:1").note and child.note == "cancelled after 3.0 s: no"


def test_a_job_without_operations_is_one_box() -> None:
    """There is always something to be seen."""
    (part,) = drawn(JobCompleted(job="j")).parts
    assert (part.id, part.title, part.standing) == ("job", "order", Standing(state="completed"))


def test_events_of_the_users_and_what_a_fork_brings() -> None:
    """An event that was emitted stands where it was; what a fork has from its source comes before what it did."""
    told = Emitted(job="j", name="told", call="emit-told:1")
    chain = {("a:1", "emit-told:1"), ("emit-told:1", "b:1")}
    assert arrows(drawn(*call("a:1"), *done("a:1"), told, *call("b:1"))) == chain
    copies = tuple(Copy(40 + n, event) for n, event in enumerate((*call("a:1"), *done("a:1"), told)))
    source = ForkedFrom(workspace="default", job="i", sequence=43, step="b:1")
    submitted = JobSubmitted(job="j", at=T0, workflow="order", version="1", forked_from=source, recorded=copies)
    history = [Recorded(50, submitted), Recorded(51, call("b:1")[0])]
    drawing = draw_job(fold_view("default", history), history, NOW)
    assert arrows(drawing) == chain
    assert "forked from" in standing(drawing, "a:1").note and ", forked from i" in drawing.note


def test_long_jobs_are_cut_in_the_middle() -> None:
    """Both ends and what is not done are shown, the rest is told in sums; all of it if that is asked for."""
    keys = [f"a:{n}" for n in range(200)]
    events = [event for key in keys if key != "a:77" for event in (*call(key), *done(key))]
    drawing = drawn(*call("a:77"), *events)
    shown = by_id(drawing)
    assert len(shown) <= LIST_LIMIT and {"a:0", "a:77", "a:199"} <= shown.keys()
    more = next(part for part in shown.values() if "more" in part.title)
    assert more.title == "180 more" and more.standing == Standing(state="completed")
    assert len(list(drawn(*call("a:77"), *events, is_whole=True).all_parts())) == 200
    lanes = [f"gather:1.{n}/a:1" for n in range(300)]
    (gather,) = drawn(*call(*lanes), *done(*lanes[:299])).parts
    assert isinstance(gather, Group) and len(gather.parts) <= LIST_LIMIT
    assert gather.standing == Standing(state="running", count=Count(299, 300))


@pytest.mark.parametrize(
    "key", ["", "/", "a//b:1", "a", "a/b", "gather:1.99999999999/a:1", "?a", "x/", "/x:1", "ü.1/ß:2"]
)
def test_strange_keys_are_drawn_too(key: str) -> None:
    """A log may hold anything; each operation has its box all the same."""
    assert len(list(drawn(*call(key, "a:1")).all_parts())) >= 2
    assert places("a/b.3/c:1/timer") == ((("a", None), ("b", 3)), "a/b.3/c:1")


pieces = st.sampled_from(["a:1", "a:2", "sleep:1", "step", "gather:1.0", "gather:1.1", "each.0", "each.1", "timer", ""])
keys = st.lists(pieces, min_size=1, max_size=4).map("/".join)
any_event = st.sampled_from(EVENT_TYPES).flatmap(lambda t: events_of(t, job=st.just("j"), call=keys))


def numbered(events: Iterable[Event]) -> list[Recorded]:
    """As a log would."""
    return [Recorded(i + 1, event) for i, event in enumerate(events)]


@settings(deadline=60_000)
@given(st.lists(any_event, min_size=1, max_size=25).map(numbered), st.booleans())
def test_any_log_can_be_drawn(history: list[Recorded], is_whole: bool) -> None:
    """No log breaks the drawing; every operation is in it, and arrows lead from what ended to what began later."""
    view = fold_view("default", history)
    drawing = draw_job(view, history, NOW, is_whole=is_whole)
    found = {one.key: one for one in operations(view, history, NOW)}
    shown = by_id(drawing)
    assert {key if all(key.split("/")) else f"?{key}" for key in found} <= shown.keys()
    for edge in drawing.edges:
        source, target = found.get(edge.source), found.get(edge.target)
        assert source is None or target is None or source.ended < target.begun
    assert picture(drawing, "svg").endswith("</svg>\n")


@pytest.mark.parametrize("file", sorted(HISTORIES.glob("*.json")), ids=lambda file: file.stem)
def test_what_the_examples_did_can_be_drawn(file: Path) -> None:
    """Each recorded job, at each of its events, has a picture with all of its calls."""
    whole = decode_snapshot(file.read_bytes(), file.name).history()
    for cut in range(1, len(whole) + 1):
        view = fold_view("default", whole[:cut])
        drawing = draw_job(view, whole[:cut], whole[cut - 1].event.at)
        assert {places(each.call)[1] for each in view.calls} <= by_id(drawing).keys()
    assert "running" not in {part.standing.state for part in drawing.all_parts() if part.standing}


def test_edges_of_many_are_few() -> None:
    """Thousands of calls in a row cost an arrow each, not one for each pair."""
    events = [event for n in range(2_000) for event in (*call(f"a:{n}"), *done(f"a:{n}"))]
    drawing = drawn(*events, is_whole=True)
    assert len(drawing.edges) == 1_999 and drawing.edges[0] == Edge("a:0", "a:1")
