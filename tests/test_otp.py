"""The groups of the supervisor against a model of OTP's supervisor.erl, over random histories of children that end.

The model is a transcription of the functions of supervisor.erl (OTP 27) that their names say. What is compared is what
an onlooker sees: which processes are started and stopped, in which order, and when all is given up.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from supervisor.child import ChildSpec
from supervisor.events import GroupGivenUp, SupervisionEvent
from supervisor.group import ChildGroup, World
from supervisor.orders import StartAll, StopAll
from supervisor.process import ChildProcess, Exit, OnLine, describe_exit
from supervisor.restart import RESTART_KINDS, STRATEGIES, Group, RestartKind, Strategy

Sight = tuple[str, str]  # ("start" | "stop" | "give up", name)

# ---- OTP


@dataclass
class OtpChild:
    """#child: ``alive`` stands for its pid."""

    name: str
    kind: RestartKind
    alive: bool = True


@dataclass
class OtpSupervisor:
    """#state of supervisor.erl, with the children in start order."""

    strategy: Strategy
    intensity: int
    period_s: float
    children: list[OtpChild]
    restarts: list[float] = field(default_factory=list)
    seen: list[Sight] = field(default_factory=list)
    is_shut_down: bool = False

    def exits(self, batch: list[tuple[str, int]], now: float) -> None:
        """The processes of these children end at the same moment; their 'EXIT' messages come in this order."""
        waiting = [(child, code) for name, code in batch if (child := self._find(name)) and child.alive]
        for child, _ in waiting:
            child.alive = False
        self._pending = {child.name for child, _ in waiting}
        for child, code in waiting:
            if child.name in self._pending and not self.is_shut_down:
                self._pending.discard(child.name)
                self._do_restart(child, code, now)

    def _find(self, name: str) -> OtpChild | None:
        return next((child for child in self.children if child.name == name), None)

    def _do_restart(self, child: OtpChild, code: int, now: float) -> None:
        if child.kind == "permanent" or (child.kind == "transient" and code != 0):
            self._restart(child, now)
        elif child.kind == "temporary":
            self.children.remove(child)

    def _restart(self, child: OtpChild, now: float) -> None:
        if not self._add_restart(now):
            self._terminate(self.children)
            self.seen.append(("give up", ""))
            self.is_shut_down = True
        elif self.strategy == "one_for_one":
            self._start([child])
        elif self.strategy == "rest_for_one":
            position = self.children.index(child)
            after = self._terminate(self.children[position:])
            self.children = self.children[:position] + after
            self._start(after)
        else:
            self.children = self._terminate(self.children)
            self._start(self.children)

    def _add_restart(self, now: float) -> bool:
        kept = [now]
        for then in self.restarts:
            if now > then + self.period_s:
                break
            kept.append(then)
        self.restarts = kept
        return len(kept) <= self.intensity

    def _terminate(self, children: Iterable[OtpChild]) -> list[OtpChild]:
        """terminate_children: backwards; temporary children are left out of what is started again."""
        for child in reversed(list(children)):
            if child.alive:
                self.seen.append(("stop", child.name))
            child.alive = False
            self._pending.discard(child.name)  # shutdown/1 takes the 'EXIT' message of one that is dead already
        return [child for child in children if child.kind != "temporary"]

    def _start(self, children: Iterable[OtpChild]) -> None:
        for child in children:
            child.alive = True
            self.seen.append(("start", child.name))


# ---- ours, with processes that are none


class PretendProcess:
    """A process as far as a group looks at it."""

    pids = itertools.count(1)

    def __init__(self, spec: ChildSpec, seen: list[Sight]) -> None:
        self.spec = spec
        self.pid = next(self.pids)
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._seen = seen

    def end(self, code: int) -> None:
        """It ends by itself."""
        self.exited.set_result(describe_exit(code))

    async def stop(self, grace_s: float) -> Exit:
        """It is stopped in order."""
        del grace_s
        if not self.exited.done():
            self._seen.append(("stop", self.spec.name))
            self.end(-signal.SIGTERM)
        return self.exited.result()


@dataclass
class Ours:
    """One group of the supervisor under an injected clock."""

    group: ChildGroup
    seen: list[Sight]
    now: list[float]

    async def settle(self) -> None:
        """Until it has nothing left to do. Delays are zero, so that takes some turns of the loop and no time."""
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0)
            busy = any(seat.state in ("starting", "stopping", "backing_off") for seat in self.group.seats.values())
            quiet = 0 if busy or not self.group._mailbox.empty() else quiet + 1

    def alive(self) -> dict[str, PretendProcess]:
        """The processes that run."""
        return {name: seat.process for name, seat in self.group.seats.items() if seat.process}  # type: ignore[misc]


Step = tuple[int, list[tuple[int, int]]]  # seconds later, which of the living end with which codes

kinds = st.sampled_from(RESTART_KINDS)
crews = st.lists(kinds, min_size=1, max_size=5)
codes = st.sampled_from((0, 1, -9))
deaths = st.lists(st.tuples(st.integers(0, 9), codes), min_size=1, max_size=2)
histories: Any = st.lists(st.tuples(st.integers(0, 8), deaths), max_size=12)
policies = st.builds(
    Group, strategy=st.sampled_from(STRATEGIES), max_restarts=st.integers(0, 4), period_s=st.sampled_from((1.0, 5.0))
)


@settings(max_examples=300, deadline=None)
@given(crews, policies, histories)
@example(["permanent"] * 3, Group("rest_for_one", 5, 5.0), [(0, [(2, 1), (0, 1)])])
@example(["permanent", "temporary", "transient"], Group("one_for_all", 5, 5.0), [(0, [(2, 0)]), (0, [(0, -9)])])
@example(["permanent"] * 2, Group("one_for_one", 1, 1.0), [(0, [(0, 0), (1, 0)])])
@example(["permanent"] * 2, Group("one_for_one", 1, 5.0), [(0, [(0, 1)]), (5, [(1, 1)]), (1, [(0, 1)])])
def test_a_group_does_what_otp_does(crew: list[RestartKind], policy: Group, history: list[Step]) -> None:
    """Over any history the same processes are started and stopped in the same order, and given up at the same time."""
    asyncio.run(_compare(crew, policy, history))


async def _compare(crew: list[RestartKind], policy: Group, history: list[Step]) -> None:
    seen: list[Sight] = []
    names = [f"c{index}" for index in range(len(crew))]
    specs = [ChildSpec(name=name, argv=("x",), kind=kind) for name, kind in zip(names, crew, strict=True)]
    children = [OtpChild(name, kind) for name, kind in zip(names, crew, strict=True)]
    theirs = OtpSupervisor(policy.strategy, policy.max_restarts, policy.period_s, children)

    async def start(spec: ChildSpec, on_line: OnLine, *, last_exit: str = "") -> Any:
        del on_line, last_exit
        seen.append(("start", spec.name))
        return PretendProcess(spec, seen)

    def emit(event: SupervisionEvent) -> None:
        if isinstance(event, GroupGivenUp):
            seen.append(("give up", ""))

    now = [0.0]
    world = World(lambda: now[0], lambda: 0.0, lambda *_: None, emit)
    ours = Ours(ChildGroup("g", specs, policy, world), seen, now)
    serving = asyncio.create_task(ours.group.serve())
    with patch.object(ChildProcess, "start", start):
        await ours.group.ask(StartAll)
        seen.clear()
        for later_s, batch in history:
            now[0] += later_s
            await _step(ours, theirs, batch)
        await ours.group.ask(StopAll)
        await serving


async def _step(ours: Ours, theirs: OtpSupervisor, batch: list[tuple[int, int]]) -> None:
    living = ours.alive()
    ending = {list(living)[index % len(living)]: code for index, code in batch if living}
    for name, code in ending.items():
        living[name].end(code)
    theirs.exits(list(ending.items()), ours.now[0])
    await ours.settle()
    look = _started if len(ending) > 1 else _exactly
    assert look(ours, ours.seen) == look(ours, theirs.seen)
    assert set(ours.alive()) == {child.name for child in theirs.children if child.alive}
    ours.seen.clear()
    theirs.seen.clear()


def _started(_: Ours, seen: list[Sight]) -> set[Sight]:
    """What two deaths at the same moment have in common: between them OTP starts processes that it then stops again,
    where ours, which has a delay before a start, has not begun.
    """
    gave_up = ("give up", "")
    return {gave_up} if gave_up in seen else {sight for sight in seen if sight[0] != "stop"}


def _exactly(ours: Ours, seen: list[Sight]) -> list[Sight] | set[Sight]:
    """Children of one_for_one know nothing of each other: at the end they are stopped all at once, in no order."""
    gave_up = ("give up", "") in seen
    return set(seen) if gave_up and ours.group._policy.strategy == "one_for_one" else seen
