"""The supervision tree with real processes: what starts, what is restarted, what is given up, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bus.errors import UsageError
from supervisor.child import ChildSpec, ChildStatus, spec_findings, validate_specs
from supervisor.restart import Group, Strategy
from supervisor.tether import TETHER_FD_VARIABLE
from supervisor.tree import (
    ChildExited,
    ChildHeld,
    ChildKilled,
    ChildRestarting,
    ChildStarted,
    GroupGivenUp,
    SupervisionEvent,
    Supervisor,
)

DEADLINE_S = 20.0
STAYS = ("/bin/sleep", "600")
# Tells when its trap is set, since a SIGTERM before that would end it.
STUBBORN = ("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 600; done")
MANY = Group(max_restarts=1000, period_s=600.0)


def all_together(strategy: Strategy) -> Group:
    """A group that bears any number of restarts."""
    return Group(strategy, max_restarts=1000, period_s=600.0)


def sh(script: str) -> tuple[str, ...]:
    """A child that runs a line of shell."""
    return ("/bin/sh", "-c", script)


def child(name: str, argv: tuple[str, ...] = STAYS, **more: Any) -> ChildSpec:
    """A spec with a short grace."""
    return ChildSpec(name=name, argv=argv, **{"grace_s": 5.0, **more})


class Stage:
    """A supervisor whose events and lines are recorded, and can be waited for."""

    def __init__(self, *specs: ChildSpec, roll: Callable[[], float] = lambda: 0.0, **settings: Any) -> None:
        self.events: list[SupervisionEvent] = []
        self.lines: list[tuple[str, str, str]] = []
        self._news = asyncio.Event()
        self.supervisor = Supervisor(specs, on_event=self._on_event, on_line=self._on_line, roll=roll, **settings)

    def _on_event(self, event: SupervisionEvent) -> None:
        self.events.append(event)
        self._news.set()

    def _on_line(self, *line: str) -> None:
        self.lines.append(line)  # type: ignore[arg-type]
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something was reported that makes the condition true."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def of(self, kind: type[SupervisionEvent], name: str = "") -> list[Any]:
        """The events of one kind, of one child if named."""
        return [event for event in self.events if isinstance(event, kind) and name in ("", getattr(event, "name", ""))]

    def __getitem__(self, name: str) -> ChildStatus:
        return next(status for status in self.supervisor.statuses() if status.name == name)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Kill a child from outside."""
        pid = self[name].pid
        assert pid is not None
        os.kill(pid, number)

    def order(self, kind: type[SupervisionEvent]) -> list[str]:
        """The names of the children in the order of their events of one kind."""
        return [event.name for event in self.of(kind)]


Staging = Callable[..., Stage]


@pytest.fixture
async def stage() -> AsyncIterator[Staging]:
    """Makes stages, and kills what is left on them at the end."""
    stages: list[Stage] = []

    def make(*specs: ChildSpec, **settings: Any) -> Stage:
        stages.append(Stage(*specs, **settings))
        return stages[-1]

    yield make
    for each in stages:
        await each.supervisor.kill_now()


# ---- start, restart, stop


async def test_children_start_in_order_and_stop_in_reverse(stage: Staging) -> None:
    """Start order is that of the specs; groups, and children that depend on each other, stop backwards."""
    s = stage(child("a"), child("b"), child("c", group="later"), groups={"": all_together("rest_for_one")})
    await s.supervisor.start()
    assert s.order(ChildStarted) == ["a", "b", "c"]
    assert [status.state for status in s.supervisor.statuses()] == ["running"] * 3
    await s.supervisor.stop()
    assert s.order(ChildExited) == ["c", "b", "a"]
    assert all(event.expected and event.description == "SIGTERM" for event in s.of(ChildExited))
    assert {status.state for status in s.supervisor.statuses()} == {"stopped"}
    assert not s.of(ChildRestarting)


async def test_a_killed_child_is_restarted_at_once(stage: Staging) -> None:
    """The first restart has no delay, and only the killed child is touched."""
    s = stage(child("a"), child("b"), roll=lambda: 0.9)
    await s.supervisor.start()
    pids = s["a"].pid, s["b"].pid
    s.kill("a")
    await s.until(lambda: len(s.of(ChildStarted, "a")) == 2)
    assert s.of(ChildExited) == [ChildExited("a", pids[0], "SIGKILL", expected=False)]
    assert s.of(ChildRestarting) == [ChildRestarting("a", 0.0, 1)]
    assert s["a"].pid != pids[0]
    assert (s["a"].restarts, s["a"].last_exit, s["a"].state) == (1, "SIGKILL", "running")
    assert (s["b"].pid, s["b"].restarts) == (pids[1], 0)


async def test_one_for_all_restarts_all_in_order(stage: Staging) -> None:
    """The siblings of the dead child are stopped backwards, then all are started forwards."""
    s = stage(child("a"), child("b"), child("c"), default=all_together("one_for_all"))
    await s.supervisor.start()
    s.kill("b")
    await s.until(lambda: len(s.of(ChildStarted)) == 6)
    assert s.order(ChildExited) == ["b", "c", "a"]
    assert [event.expected for event in s.of(ChildExited)] == [False, True, True]
    assert s.order(ChildStarted)[3:] == ["a", "b", "c"]


async def test_rest_for_one_leaves_the_earlier_ones(stage: Staging) -> None:
    """Only what was started after the dead child goes with it."""
    s = stage(child("a"), child("b"), child("c"), default=all_together("rest_for_one"))
    await s.supervisor.start()
    s.kill("b")
    await s.until(lambda: len(s.of(ChildStarted)) == 5)
    assert s.order(ChildExited) == ["b", "c"]
    assert s.order(ChildStarted)[3:] == ["b", "c"]
    assert s["a"].restarts == 0


async def test_a_temporary_sibling_is_not_brought_back(stage: Staging) -> None:
    """A temporary child that is stopped with the others stays stopped, as in OTP."""
    s = stage(child("a"), child("t", kind="temporary"), child("z"), default=all_together("one_for_all"))
    await s.supervisor.start()
    s.kill("a")
    await s.until(lambda: len(s.of(ChildStarted, "z")) == 2)
    assert s["t"].state == "stopped"
    assert len(s.of(ChildStarted, "t")) == 1


async def test_kinds_decide_who_comes_back(stage: Staging) -> None:
    """Transient ends for good with exit 0 but not with another, temporary in any case."""
    s = stage(
        child("done", sh("exit 0"), kind="transient"),
        child("once", sh("exit 3"), kind="temporary"),
        child("failing", sh("exit 3"), kind="transient"),
        default=MANY,
    )
    await s.supervisor.start()
    await s.until(lambda: len(s.of(ChildStarted, "failing")) == 3)
    await s.until(lambda: len(s.of(ChildExited)) >= 5)
    assert (s["done"].state, s["done"].last_exit, s["done"].restarts) == ("stopped", "exit 0", 0)
    assert (s["once"].state, s["once"].last_exit, s["once"].restarts) == ("stopped", "exit 3", 0)


# ---- crash loops


async def test_a_crash_loop_backs_off_and_is_given_up(stage: Staging) -> None:
    """A child that exits at once waits longer each time; one restart too many ends its group and no other."""
    s = stage(
        child("bad", sh("exit 3"), group="bad"), child("friend", group="bad"), child("good", group="good"),
        default=Group(max_restarts=3, period_s=60.0), roll=lambda: 0.1,
    )  # fmt: skip
    await s.supervisor.start()
    await s.until(lambda: bool(s.of(GroupGivenUp)))
    assert [event.delay_s for event in s.of(ChildRestarting)] == pytest.approx([0.0, 0.05, 0.1])
    [given_up] = s.of(GroupGivenUp)
    assert given_up.group == "bad"
    assert "bad ended with exit 3: restart 4 within 60 s, at most 3 are allowed" in given_up.reason
    assert [status.state for status in s.supervisor.statuses()] == ["given_up", "given_up", "running"]
    assert s.of(ChildExited, "friend")[0].expected


async def test_a_program_that_is_not_there_is_an_exit(stage: Staging) -> None:
    """A failing exec takes the usual way of restarts and giving up; the supervisor and the others live on."""
    s = stage(child("typo", ("/no/such/program",), group="typo"), child("good"), default=Group(max_restarts=2))
    await s.supervisor.start()
    await s.until(lambda: bool(s.of(GroupGivenUp)))
    assert len(s.of(ChildExited, "typo")) == 3
    assert s.of(ChildExited, "typo")[0].pid is None
    assert s["typo"].last_exit == "did not start: /no/such/program: No such file or directory"
    assert s["good"].state == "running"


async def test_two_failures_in_one_go_are_one_restart(stage: Staging) -> None:
    """A sibling that failed as well is restarted along with the first one, and is not counted a second time."""
    missing = ("/no/such/program",)
    s = stage(child("a", missing), child("b", missing), default=Group("one_for_all", 1, 30.0))
    await s.supervisor.start()
    await s.until(lambda: bool(s.of(GroupGivenUp)))
    assert s.order(ChildExited) == ["a", "b", "a", "b"]
    assert s.order(ChildRestarting) == ["a", "b"]


async def test_run_ends_when_everything_is_given_up(stage: Staging) -> None:
    """With every group lost there is nothing left to supervise: the node has to escalate."""
    s = stage(child("a", sh("exit 1"), group="a"), child("b", sh("exit 1"), group="b"), default=Group(max_restarts=0))
    async with asyncio.timeout(DEADLINE_S):
        assert await s.supervisor.run() == "given_up"
    assert {status.state for status in s.supervisor.statuses()} == {"given_up"}


async def test_a_long_life_makes_the_next_restart_immediate(stage: Staging) -> None:
    """The count of a crash loop is forgotten once the child stayed up for a while, by the injected clock."""
    now_s = [0.0]
    s = stage(child("a"), default=MANY, roll=lambda: 0.01, clock=lambda: now_s[0])
    await s.supervisor.start()
    for starts, uptime_s in ((2, 1.0), (3, 1.0), (4, 1000.0)):
        now_s[0] += uptime_s
        s.kill("a")
        await s.until(lambda wanted=starts: len(s.of(ChildStarted)) == wanted)
    assert [event.delay_s > 0 for event in s.of(ChildRestarting)] == [False, True, False]


async def test_stop_in_the_middle_of_a_backoff_starts_nothing(stage: Staging) -> None:
    """A restart that is due later does not outlive the stop."""
    s = stage(child("a", sh("exit 1")), default=MANY, roll=lambda: 0.99)
    await s.supervisor.start()
    await s.until(lambda: len(s.of(ChildRestarting)) == 3)
    assert s["a"].state == "backing_off"
    started = len(s.of(ChildStarted))
    await s.supervisor.stop()
    assert s["a"].state == "stopped"
    assert len(s.of(ChildStarted)) == started


async def test_a_restart_on_request_during_a_backoff_starts_one_process(stage: Staging) -> None:
    """A child that was started before its delay was over is not started a second time when it is."""
    s = stage(child("a"), child("b"), default=all_together("one_for_all"), roll=lambda: 0.6)
    await s.supervisor.start()
    for restarts in (1, 2):
        s.kill("a")
        await s.until(lambda wanted=restarts: len(s.of(ChildRestarting, "b")) == wanted)  # type: ignore[misc]
        if restarts == 1:
            await s.until(lambda: len(s.of(ChildStarted)) == 4)
    await s.supervisor.restart("b")
    await s.until(lambda: len(s.of(ChildStarted, "a")) == 3)
    await s.supervisor.stop()
    assert len(s.of(ChildStarted, "b")) == 3
    assert {event.pid for event in s.of(ChildStarted)} == {event.pid for event in s.of(ChildExited)}


async def test_a_storm_of_kills_ends_with_one_process_per_child(stage: Staging) -> None:
    """Children killed over and over under one_for_all: whatever was interrupted, all run in the end, each once."""
    s = stage(child("a"), child("b"), child("c"), default=all_together("one_for_all"))
    await s.supervisor.start()
    for _ in range(10):
        for name in ("c", "a", "b"):
            if s[name].pid is not None:
                s.kill(name)
        await s.until(lambda: any(status.state != "running" for status in s.supervisor.statuses()))
        await s.until(lambda: all(status.state == "running" for status in s.supervisor.statuses()))
    started = {event.pid for event in s.of(ChildStarted)}
    ended = {event.pid for event in s.of(ChildExited)}
    assert {status.pid for status in s.supervisor.statuses()} == started - ended
    assert len(started - ended) == 3


# ---- stopping


async def test_a_stubborn_child_is_killed_after_its_grace(stage: Staging) -> None:
    """SIGTERM first, SIGKILL after grace_s."""
    s = stage(child("a", STUBBORN, grace_s=0.1))
    await s.supervisor.start()
    await s.until(lambda: bool(s.lines))
    await s.supervisor.stop()
    assert s["a"].last_exit == "SIGKILL"


async def test_a_limit_bounds_all_graces_together(stage: Staging) -> None:
    """stop(limit_s) kills what would take longer, however many groups there are."""
    s = stage(*(child(name, STUBBORN, grace_s=600.0, group=name) for name in "abc"))
    await s.supervisor.start()
    await s.until(lambda: len(s.lines) == 3)
    async with asyncio.timeout(DEADLINE_S):
        await s.supervisor.stop(limit_s=0.1)
    assert {status.last_exit for status in s.supervisor.statuses()} == {"SIGKILL"}


async def test_kill_now_cuts_a_stop_short(stage: Staging) -> None:
    """The second Ctrl-C: a stop that waits for a long grace ends at once."""
    s = stage(child("a", STUBBORN, grace_s=600.0), child("b", STUBBORN, grace_s=600.0, group="b"))
    running = asyncio.create_task(s.supervisor.run())
    await s.until(lambda: len(s.lines) == 2)
    stopping = asyncio.create_task(s.supervisor.stop())
    await s.until(lambda: True)
    async with asyncio.timeout(DEADLINE_S):
        await s.supervisor.kill_now()
        await stopping
        assert await running == "stopped"
    assert {status.last_exit for status in s.supervisor.statuses()} == {"SIGKILL"}


async def test_kill_now_reaches_a_child_that_is_just_being_started(
    stage: Staging,
) -> None:
    """A process that comes into being after the kill was asked for is killed as well, without a grace."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # inherited: the children ignore it from their first moment
    try:
        s = stage(*(child(name, grace_s=600.0) for name in "abc"))
        running = asyncio.create_task(s.supervisor.run())
        await s.until(lambda: len(s.of(ChildStarted)) == 1)
        async with asyncio.timeout(DEADLINE_S):
            await s.supervisor.kill_now()
            assert await running == "stopped"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert {event.description for event in s.of(ChildExited)} == {"SIGKILL"}
    assert {event.pid for event in s.of(ChildStarted)} == {event.pid for event in s.of(ChildExited)}


async def test_a_stop_goes_on_when_its_caller_leaves(stage: Staging) -> None:
    """Who gives up waiting for a stop does not call it off."""
    s = stage(child("a", STUBBORN, grace_s=0.2))
    await s.supervisor.start()
    await s.until(lambda: bool(s.lines))
    impatient = asyncio.create_task(s.supervisor.stop())
    await asyncio.sleep(0)  # lets it begin
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    await s.supervisor.stop()
    assert s["a"].state == "stopped"


async def test_a_cancelled_run_leaves_no_process(stage: Staging) -> None:
    """Cancelling run stops the children before it leaves."""
    s = stage(child("a"), child("b"))
    running = asyncio.create_task(s.supervisor.run())
    await s.until(lambda: len(s.of(ChildStarted)) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert {status.state for status in s.supervisor.statuses()} == {"stopped"}


async def test_stop_during_start_leaves_no_process(stage: Staging) -> None:
    """A stop that comes while children are being started stops those that run and starts no more."""
    s = stage(*(child(f"c{number}", group=f"g{number}") for number in range(6)))
    running = asyncio.create_task(s.supervisor.run())
    await s.until(lambda: len(s.of(ChildStarted)) == 2)
    await s.supervisor.stop()
    assert await running == "stopped"
    assert {status.state for status in s.supervisor.statuses()} == {"stopped"}
    assert {event.pid for event in s.of(ChildStarted)} == {event.pid for event in s.of(ChildExited)}


async def test_stop_in_the_middle_of_a_group_starts_no_more(stage: Staging) -> None:
    """Of a long list the children that come after the stop are never started."""
    s = stage(*(child(f"c{number}") for number in range(30)))
    running = asyncio.create_task(s.supervisor.run())
    await s.until(lambda: len(s.of(ChildStarted)) == 2)
    await s.supervisor.stop()
    assert await running == "stopped"
    assert len(s.of(ChildStarted)) < 30


# ---- requests


async def test_a_restart_on_request_is_no_failure(stage: Staging) -> None:
    """restart stops and starts one child, and does not count for the intensity."""
    s = stage(child("a"), child("b"), default=Group("one_for_all", 0, 30.0))
    await s.supervisor.start()
    for _ in range(2):
        await s.supervisor.restart("a")
    assert [event.expected for event in s.of(ChildExited)] == [True, True]
    assert (s["a"].restarts, s["a"].state, s["b"].restarts) == (2, "running", 0)


async def test_a_restart_lifts_a_given_up_group(stage: Staging) -> None:
    """What was given up can be started by a person once the cause is gone, and its restarts count anew."""
    s = stage(child("a", group="a"), child("b"), default=Group(max_restarts=1))
    await s.supervisor.start()
    s.kill("a")
    await s.until(lambda: len(s.of(ChildStarted, "a")) == 2)
    s.kill("a")
    await s.until(lambda: bool(s.of(GroupGivenUp)))
    await s.supervisor.restart("a")
    assert s["a"].state == "running"
    s.kill("a")
    await s.until(lambda: len(s.of(ChildStarted, "a")) == 4)
    assert len(s.of(GroupGivenUp)) == 1


async def test_scale_changes_only_what_differs(stage: Staging) -> None:
    """Replicas that stay keep their process; the others are started and stopped."""
    s = stage(child("r1"), child("r2"))
    await s.supervisor.start()
    first = s["r1"].pid
    await s.supervisor.scale("", [child("r1"), child("r3"), child("r4")])
    assert [status.name for status in s.supervisor.statuses()] == ["r1", "r3", "r4"]
    assert {status.state for status in s.supervisor.statuses()} == {"running"}
    assert s["r1"].pid == first
    assert s.order(ChildExited) == ["r2"]


async def test_what_is_held_stays_stopped_until_it_is_released(stage: Staging) -> None:
    """Whatever happens to its siblings; release starts it, and only what does not run."""
    s = stage(child("a"), child("b"), child("c"), default=all_together("one_for_all"))
    await s.supervisor.start()
    await s.supervisor.hold(["c", "a"])
    assert s.of(ChildHeld) == [ChildHeld("a"), ChildHeld("c")]
    assert s.order(ChildExited) == ["c", "a"]
    s.kill("b")
    await s.until(lambda: len(s.of(ChildStarted, "b")) == 2)
    assert {name: s[name].state for name in "abc"} == {"a": "stopped", "b": "running", "c": "stopped"}
    before = s["b"].pid
    await s.supervisor.hold(["a"])
    assert len(s.of(ChildHeld)) == 2, "it was held already"
    await s.supervisor.release(["a", "b"])
    assert {name: s[name].state for name in "abc"} == {"a": "running", "b": "running", "c": "stopped"}
    assert s["b"].pid == before
    await s.supervisor.restart("c")
    assert s["c"].state == "running"


async def test_what_is_held_in_a_backoff_is_not_started(stage: Staging) -> None:
    """A restart that was due is called off, and what was given up counts as stopped."""
    s = stage(child("a", sh("exit 1"), group="a"), child("b", sh("exit 1"), group="b"), default=MANY, roll=lambda: 0.99)
    await s.supervisor.start()
    await s.until(lambda: len(s.of(ChildRestarting, "a")) == 3)
    await s.supervisor.hold(["a"])
    starts = len(s.of(ChildStarted, "a"))
    await s.until(lambda: len(s.of(ChildRestarting, "b")) == 4)
    assert (s["a"].state, len(s.of(ChildStarted, "a"))) == ("stopped", starts)


async def test_exit_78_gives_up_at_once(stage: Staging) -> None:
    """A wrong configuration is not tried again: the last error that the process named is the reason."""
    wrong = sh("echo 'error: no key' >&2; echo 'hint: set KEY' >&2; exit 78")
    s = stage(child("a", wrong, group="g"), child("b", group="g"), child("t", wrong, kind="temporary"), child("z"))
    await s.supervisor.start()
    await s.until(lambda: bool(s.of(GroupGivenUp)) and s["t"].state == "stopped")
    [given_up] = s.of(GroupGivenUp)
    assert given_up.group == "g"
    assert given_up.reason.endswith("(exit 78), another start would not help: no key")
    assert not s.of(ChildRestarting)
    assert [(it.group, it.actors) for it in s.supervisor.given_up] == [("g", ("a", "b"))]
    await s.supervisor.hold(["a", "b"])
    assert not s.supervisor.given_up, "who stops it takes note of it"


# ---- drain

# Tells when it is ready, ends in order on SIGUSR1 once the file is gone.
DRAINS = "trap 'while [ -e {0} ]; do sleep 0.05; done; exit 0' USR1; echo ready; while :; do sleep 0.05; done"


async def test_a_drain_lets_children_end_by_themselves(stage: Staging, tmp_path: Path) -> None:
    """All get SIGUSR1 at once; the end of each is expected, and nobody is started again."""
    busy = tmp_path / "busy"
    busy.touch()
    s = stage(child("a", sh(DRAINS.format(busy))), child("b", sh(DRAINS.format("/nonexistent")), group="b"))
    running = asyncio.create_task(s.supervisor.run())
    await s.until(lambda: len(s.lines) == 2)
    draining = asyncio.create_task(s.supervisor.drain(DEADLINE_S))
    await s.until(lambda: bool(s.of(ChildExited, "b")))
    assert s["a"].state == "draining"
    with pytest.raises(UsageError, match="being stopped"):
        await s.supervisor.restart("b")
    busy.unlink()
    async with asyncio.timeout(DEADLINE_S):
        await draining
        assert await running == "stopped"
    assert [(e.name, e.description, e.expected) for e in s.of(ChildExited)] == [
        ("b", "exit 0", True), ("a", "exit 0", True),
    ]  # fmt: skip
    assert not s.of(ChildRestarting)


async def test_a_drain_ends_at_its_time_out(stage: Staging, tmp_path: Path) -> None:
    """What is left then is stopped; of two drains the shorter one counts; a crash meanwhile is told as one."""
    busy = tmp_path / "busy"
    busy.touch()
    s = stage(*(child(name, sh(DRAINS.format(busy)), grace_s=0.1, group=name) for name in "abc"))
    await s.supervisor.start()
    await s.until(lambda: len(s.lines) == 3)
    long = asyncio.create_task(s.supervisor.drain(600))
    await s.until(lambda: True)
    s.kill("b")
    await s.until(lambda: bool(s.of(ChildExited)))
    async with asyncio.timeout(DEADLINE_S):
        await s.supervisor.drain(0.1)
        await long
    assert s.of(ChildExited)[0].expected is False
    assert {e.name for e in s.of(ChildExited) if e.expected} == {"a", "c"}
    assert len(s.of(ChildStarted)) == 3


async def test_a_stop_before_the_start_starts_nothing(stage: Staging) -> None:
    """A supervisor that was drained before it ran ends at once."""
    s = stage(child("a"))
    await s.supervisor.drain(DEADLINE_S)
    async with asyncio.timeout(DEADLINE_S):
        assert await s.supervisor.run() == "stopped"
    assert not s.events


async def test_wrong_requests_say_what_would_be_right(stage: Staging) -> None:
    """Unknown names are answered with the nearest one, and requests after a stop are refused, not left hanging."""
    s = stage(child("quote"))
    await s.supervisor.start()
    with pytest.raises(UsageError, match="did you mean 'quote'"):
        await s.supervisor.restart("qoute")
    with pytest.raises(UsageError, match="no child 'x'"):
        s.supervisor.report("x", "waiting")
    with pytest.raises(UsageError, match="used twice"):
        await s.supervisor.scale("", [child("a"), child("a")])
    with pytest.raises(UsageError, match="started already"):
        await s.supervisor.start()
    await s.supervisor.stop()
    with pytest.raises(UsageError, match="being stopped"):
        await s.supervisor.restart("quote")


async def test_what_a_child_does_shows_until_it_ends(stage: Staging) -> None:
    """report sets ``doing``; a new process starts with none."""
    s = stage(child("a", component="shop.quote"))
    await s.supervisor.start()
    s.supervisor.report("a", "job 17")
    assert (s["a"].doing, s["a"].component) == ("job 17", "shop.quote")
    assert s["a"].started_at is not None
    s.kill("a")
    await s.until(lambda: len(s.of(ChildStarted)) == 2)
    assert s["a"].doing == ""


async def test_broken_hooks_do_not_take_the_supervisor_down() -> None:
    """on_event and on_line that raise are reported to the event loop; supervision goes on."""
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["message"]))

    def broken(*_arguments: object) -> None:
        raise RuntimeError("broken hook")

    specs = [child("a", sh("echo hello; exit 1"))]
    supervisor = Supervisor(specs, on_event=broken, on_line=broken, default=Group(max_restarts=1), roll=lambda: 0.0)
    async with asyncio.timeout(DEADLINE_S):
        assert await supervisor.run() == "given_up"
    assert reported.count("on_line failed for a") == 2
    assert sum(message.startswith("on_event failed") for message in reported) == 6


# ---- found wanting


async def test_a_kill_has_a_reason_and_counts_as_a_failure(stage: Staging) -> None:
    """kill ends the process whatever it does, says why, counts for the intensity, and the successor is told."""
    script = sh('trap "" TERM; echo "after: $CALLBOARD_LAST_EXIT"; while :; do sleep 600; done')
    s = stage(child("a", script), child("b"), default=Group(max_restarts=1))
    await s.supervisor.start()
    await s.until(lambda: len(s.lines) == 1)
    pid = s["a"].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert s.supervisor.kill("a", "stalled", "nothing heard for 15 s")
    assert not s.supervisor.kill("a", "stalled", "a second watcher")
    await s.until(lambda: len(s.lines) == 2)
    assert s.of(ChildKilled) == [ChildKilled("a", pid, "stalled", "nothing heard for 15 s")]
    assert s.of(ChildExited) == [ChildExited("a", pid, "killed: nothing heard for 15 s", expected=False)]
    assert [text for _, _, text in s.lines] == ["after: ", "after: killed: nothing heard for 15 s"]
    assert s["a"].last_exit == "killed: nothing heard for 15 s"
    assert s.supervisor.kill("a", "memory", "600 MB")
    await s.until(lambda: bool(s.of(GroupGivenUp)))
    assert "a ended with killed: 600 MB: restart 2" in s.of(GroupGivenUp)[0].reason
    assert not s.supervisor.kill("a", "cpu", "it does not run any more")


async def test_a_requested_restart_tells_of_no_failure(stage: Staging) -> None:
    """CALLBOARD_LAST_EXIT is for failures: who is restarted on request, or after a sibling, has none."""
    s = stage(child("a", sh('echo "after: $CALLBOARD_LAST_EXIT"; exec sleep 600')))
    await s.supervisor.start()
    await s.until(lambda: len(s.lines) == 1)
    s.kill("a")
    await s.until(lambda: len(s.lines) == 2)
    await s.supervisor.restart("a")
    await s.until(lambda: len(s.lines) == 3)
    assert [text for _, _, text in s.lines] == ["after: ", "after: SIGKILL", "after: "]


# ---- specs


def test_all_findings_come_at_once() -> None:
    """A list of wrong specs is refused with every reason, before anything starts."""
    specs = [
        ChildSpec(name="", argv=()),
        ChildSpec(name="a b", argv=("x", "nul\0")),
        ChildSpec(name="ok", argv=("x",), env={TETHER_FD_VARIABLE: "3", "A=B": "c"}),
        ChildSpec(name="ok", argv=("x",), grace_s=-1.0, kind="sometimes", stall_s=-1.0, limits=5),  # type: ignore[arg-type]
        ChildSpec(name="n" * 200, argv="sleep 3"),  # type: ignore[arg-type]
    ]
    paths = [finding.path.split()[0] + "." + finding.path.rsplit(".", 1)[1] for finding in spec_findings(specs)]
    assert paths == [
        "specs[0].name.name", "specs[0].argv.argv", "specs[1].name", "specs[1].argv", "specs[2].env", "specs[2].env",
        "specs[3].kind", "specs[3].grace_s", "specs[3].stall_s", "specs[3].limits",
        "specs[4].name", "specs[4].argv", "specs[3].name.name",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="used twice"):
        validate_specs(specs)


async def test_wrong_groups_are_refused() -> None:
    """An unknown strategy, a policy that is none, or a policy for an unknown group is wrong use."""
    with pytest.raises(UsageError, match="one_for_none"):
        Group("one_for_none")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a Group"):
        Supervisor([child("a")], default="one_for_all")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no group 'tols'"):
        Supervisor([child("a", group="tools")], groups={"tols": Group("one_for_all")})
