"""The pure parts of the duties: which nodes are there, and which open jobs are suspect."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.duties.open_jobs import OpenJobs, Overslept, Ownerless, Suspect, Unanswered, Unheard
from actors.duties.roll import FORGET_AFTER, Away, Here, Roll
from actors.duties.timing import Timing, timing_of
from bus.errors import UsageError
from bus.event import Parent
from bus.failure import Failure
from bus.messages import (
    Event,
    JobAmended,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    Signal,
)
from bus.system_events import NodeDraining, NodeLost, NodeReturned, NodeStarted, NodeStopped

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOST_S = 15.0

# ---- nodes


def lost_of(roll: Roll, now_s: float) -> list[str]:
    """Who would be declared lost."""
    return [name for name, _ in roll.silent(now_s, LOST_S)]


def test_silent_node_is_lost_once() -> None:
    """A node that was heard and falls silent is due after the limit, and no more once it was declared."""
    roll = Roll()
    roll.read(NodeStarted(job="a", pid=1), 0)
    roll.hear("a", 5)
    roll.hear("b", 5)
    assert lost_of(roll, 19.9) == []
    roll.hear("b", 20)
    assert lost_of(roll, 20) == ["a"]
    roll.read(NodeLost(job="a", silent_s=15), 20)
    assert lost_of(roll, 100) == ["b"]


def test_lost_node_that_is_heard_has_returned() -> None:
    """Heard again it is told as such until its return stands in the log, also when it was started anew."""
    roll = Roll()
    roll.read(NodeLost(job="a", silent_s=15, at=NOW), 0)
    roll.read(NodeStarted(job="a", pid=2), 1)
    assert roll.hear("a", 2) == Away(NOW, 15)
    assert roll.hear("a", 3) == Away(NOW, 15), "its return could not be written"
    roll.read(NodeReturned(job="a", away_s=1), 4)
    assert roll.hear("a", 5) is None and roll.nodes == {"a": Here(5)}


def test_stopped_node_is_not_lost() -> None:
    """Who stopped in order is not missed, even if an answer of its last moment comes late; started anew it counts."""
    roll = Roll()
    roll.read(NodeStarted(job="a", pid=1), 0)
    roll.read(NodeDraining(job="a"), 1)
    roll.read(NodeStopped(job="a"), 2)
    roll.hear("a", 2.5)
    assert lost_of(roll, 100) == []
    roll.read(NodeStarted(job="a", pid=2), 3)
    assert lost_of(roll, 100) == ["a"]


def test_node_that_was_lost_while_nobody_led() -> None:
    """A new leader knows it from the log, and gives it the whole time to answer."""
    roll = Roll()
    for event in (NodeStarted(job="a", pid=1), NodeStarted(job="b", pid=1), NodeLost(job="b", silent_s=15, at=NOW)):
        roll.read(event, 1000)
    assert lost_of(roll, 1014) == [] and lost_of(roll, 1015) == ["a"]


def test_own_deafness_is_nobodys_silence() -> None:
    """What we could not hear does not count; who is away already stays so."""
    roll = Roll()
    roll.hear("a", 0)
    roll.read(NodeLost(job="b", silent_s=15, at=NOW), 0)
    roll.deafen(100)
    assert lost_of(roll, 110) == [] and lost_of(roll, 115) == ["a"]
    assert isinstance(roll.nodes["b"], Away)


def test_roll_forgets() -> None:
    """Nodes that stopped, and those that are lost for more than a day, are not kept for ever."""
    roll = Roll()
    roll.hear("here", 0)
    roll.read(NodeStopped(job="stopped"), 0)
    roll.read(NodeLost(job="lost", silent_s=15, at=NOW), 0)
    roll.forget(1, NOW + FORGET_AFTER)
    assert set(roll.nodes) == {"here", "stopped", "lost"}
    roll.forget(20, NOW + FORGET_AFTER + timedelta(seconds=1))
    assert set(roll.nodes) == {"here"}


happenings = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), st.sampled_from("ab")),
        st.tuples(st.sampled_from([NodeStarted, NodeStopped]), st.sampled_from("ab")),
        st.tuples(st.just("look"), st.just("")),
    ),
    max_size=40,
)


@given(happenings, st.lists(st.floats(0.1, 40), min_size=40, max_size=40))
def test_lost_and_returned_alternate(events: list[tuple[object, str]], steps_s: list[float]) -> None:
    """Whatever happens, a node is declared lost only when it is not lost already, and returns only when it is."""
    roll, now_s, away = Roll(), 0.0, set[str]()
    for (what, name), step_s in zip(events, steps_s, strict=False):
        now_s += step_s
        if what == "hear" and roll.hear(name, now_s):
            assert name in away
            away.discard(name)
            roll.read(NodeReturned(job=name, away_s=1), now_s)
        elif what is NodeStarted:
            roll.read(NodeStarted(job=name, pid=1), now_s)
        elif what is NodeStopped:
            roll.read(NodeStopped(job=name), now_s)
            away.discard(name)
        elif what == "look":
            for lost, silent_s in list(roll.silent(now_s, LOST_S)):
                assert lost not in away and silent_s >= LOST_S
                away.add(lost)
                roll.read(NodeLost(job=lost, silent_s=silent_s, at=NOW), now_s)


# ---- jobs

SETTLE_S = 30.0
SUBMITTED = JobSubmitted(job="j", workflow="w", version="1.0.0")
OWNED = JobOwned(job="j", host="h", request=7)
KEY = ("default", "j")


def suspects(*events: tuple[float, Event], now_s: float, now_at: datetime = NOW) -> list[Suspect]:
    """Who is suspect after ``events`` (learnt of at a time) at 1, 2, 3..."""
    jobs = OpenJobs()
    for sequence, (at_s, event) in enumerate(events, 1):
        jobs.read("default", sequence, event, at_s)
    return list(jobs.suspects(now_s, now_at, SETTLE_S))


def test_owned_job_is_suspect_once_settled() -> None:
    """Whether it is owned indeed the queue says; a parked job and an ended one are no suspects."""
    owned = ((0.0, SUBMITTED), (5.0, OWNED))
    assert suspects(*owned, now_s=34.9) == []
    assert suspects(*owned, now_s=35) == [Ownerless(KEY, "w", 2, 7)]
    assert suspects((0, SUBMITTED), now_s=30) == [Ownerless(KEY, "w", 0, 0)]
    assert suspects(*owned, (6, JobWaiting(job="j", on=("ok:1",))), now_s=1000) == []
    failed = JobFailed(job="j", failure=Failure(code="x", message="x"))
    for end in (JobCompleted(job="j"), failed, JobCancelled(job="j")):
        assert suspects(*owned, (6, end), now_s=1000) == []


def test_job_that_was_woken_is_owned_again() -> None:
    """The newest ownership counts, wherever the wait stands."""
    again = JobOwned(job="j", host="h", request=9)
    events = ((0.0, SUBMITTED), (0.0, OWNED), (0.0, JobWaiting(job="j", until=NOW)), (0.0, again))
    assert suspects(*events, now_s=30, now_at=NOW + timedelta(days=1)) == [Ownerless(KEY, "w", 4, 9)]


def test_sleeper_whose_time_is_long_over() -> None:
    """Twice the time of settling after its instant a parked job has overslept."""
    parked = ((0.0, SUBMITTED), (0.0, OWNED), (0.0, JobWaiting(job="j", on=("sleep:1",), until=NOW)))
    assert suspects(*parked, now_s=1000, now_at=NOW + timedelta(seconds=59)) == []
    assert suspects(*parked, now_s=1000, now_at=NOW + timedelta(seconds=60)) == [Overslept(KEY, "w", 3)]


def test_signal_that_woke_nobody() -> None:
    """A signal after the parking is followed by a wake-up soon; one before it the job has seen."""
    waiting, signal = JobWaiting(job="j", on=("ok:1",)), Signal(job="j", name="ok")
    assert suspects((0, SUBMITTED), (0, OWNED), (0, signal), (0, waiting), now_s=1000) == []
    parked = ((0.0, SUBMITTED), (0.0, OWNED), (0.0, waiting), (100.0, signal))
    assert suspects(*parked, now_s=129) == []
    assert suspects(*parked, now_s=130) == [Unheard(KEY, "w", 3, "signal.ok")]
    amended = (*parked[:-1], (100.0, JobAmended(job="j")))
    assert suspects(*amended, now_s=130) == [Unheard(KEY, "w", 3, "job.amended")]


def test_child_whose_end_was_not_told() -> None:
    """A parent that still waits for the call of a child that ended a while ago."""
    parent = Parent(workspace="default", job="j", call="x:1", workflow="w")
    child = JobSubmitted(job="c", workflow="x", version="1.0.0", parent=parent)
    waiting = JobWaiting(job="j", on=("x:1",))
    events = ((0.0, SUBMITTED), (0.0, OWNED), (0.0, child), (0.0, waiting), (100.0, JobCompleted(job="c")))
    assert suspects(*events, now_s=129) == []
    assert suspects(*events, now_s=130) == [Unanswered(KEY, "w", 4, "x:1", "c")]
    elsewhere = (*events[:3], (0.0, JobWaiting(job="j", on=("y:1",))), events[4])
    assert suspects(*elsewhere, now_s=1000) == []


def test_ended_jobs_are_not_kept() -> None:
    """Memory is for open jobs only; a job that is retried is asked for again."""
    jobs = OpenJobs()
    for n in range(100):
        jobs.read("default", n, JobSubmitted(job=f"j{n}", workflow="w", version="1"), 0)
        jobs.read("default", n, JobCompleted(job=f"j{n}"), 0)
    assert not jobs.jobs
    jobs.read("default", 200, JobRetried(job="j1"), 0)
    assert jobs.reopened == {("default", "j1")}


# ---- settings


def test_timing_from_the_environment() -> None:
    """Each time can be set; what is no time is refused with the variable's name."""
    assert timing_of({}) == Timing()
    assert timing_of({"CALLBOARD_NODE_LOST_S": "3"}).ask_s == 1.0
    with pytest.raises(UsageError, match="CALLBOARD_SWEEP_S is 'soon'"):
        timing_of({"CALLBOARD_SWEEP_S": "soon"})
    for bad in ("0", "nan", "inf", "-1"):
        with pytest.raises(UsageError, match="CALLBOARD_DUTIES_LEASE_S"):
            timing_of({"CALLBOARD_DUTIES_LEASE_S": bad})
