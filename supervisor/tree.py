"""The supervisor: groups of child processes, started in order, restarted by OTP's rules, stopped in reverse order.

It waits for events only (exits, timers, requests), so an idle tree costs nothing. It knows no bus: a node joins its
events and statuses to NATS.
"""

from __future__ import annotations

import asyncio
import difflib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Literal

from bus.errors import UsageError
from bus.system_events import KillCause
from supervisor.child import ChildSpec, ChildStatus, GivenUp, validate_specs
from supervisor.events import (
    ChildExited,
    ChildHeld,
    ChildKilled,
    ChildRestarting,
    ChildStarted,
    GroupGivenUp,
    SupervisionEvent,
)
from supervisor.group import ChildGroup, World
from supervisor.heartbeat import AssetBeat
from supervisor.orders import Hold, Release, Replace, Restart, StartAll, StopAll
from supervisor.process import Exit, OnLine, write_line
from supervisor.restart import Group

__all__ = [
    "ChildExited",
    "ChildHeld",
    "ChildKilled",
    "ChildRestarting",
    "ChildStarted",
    "GroupGivenUp",
    "Outcome",
    "SupervisionEvent",
    "Supervisor",
]

Outcome = Literal["stopped", "given_up"]
_DEFAULT = Group()


class Supervisor:
    """Supervises ``specs``, group by group in the order of their first children; ``default`` is for groups not named.

    ``on_line(name, stream, text)`` gets what children print, ``on_event`` what happens to them; both are called in
    the event loop, must not block, and what they raise is reported and ignored. To be made inside a running loop.
    Raises: UsageError that lists everything that is wrong with the specs or groups; nothing was started then.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        groups: Mapping[str, Group] | None = None,
        default: Group = _DEFAULT,
        on_line: OnLine | None = None,
        on_event: Callable[[SupervisionEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        roll: Callable[[], float] = random.random,
    ) -> None:
        validate_specs(specs)
        policies = dict(groups or {})
        _check_groups(policies, default, {spec.group for spec in specs})
        world = World(clock, roll, on_line or write_line, self._emit)
        self._on_event = on_event
        self._groups = {
            name: ChildGroup(name, members, policies.get(name, default), world)
            for name, members in by_group(specs).items()
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping: asyncio.Task[None] | None = None
        self._all_at_once = False
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    # ---- life

    async def start(self) -> None:
        """Start every child, in order; a child that cannot be started is treated like one that exits at once."""
        if self._tasks:
            raise UsageError("this supervisor was started already", code="started_twice")
        if self._stopping is not None:
            return  # stopped before it began
        self._tasks = [asyncio.create_task(group.serve(), name=f"group {name}") for name, group in self._groups.items()]
        for group in self._groups.values():
            if self._stopping is None:
                await group.ask(StartAll)

    async def run(self) -> Outcome:
        """Start if that was not done, and stay until :meth:`stop` was called or every group is given up.

        All children are gone when this returns, also when it was cancelled.
        """
        try:
            if not self._tasks:
                await self.start()
            return await asyncio.shield(self._outcome)
        finally:
            await self.stop()

    async def stop(self, limit_s: float | None = None) -> None:
        """Stop all children: groups in reverse order, each child with its grace, then SIGKILL.

        ``limit_s`` bounds the graces of all children together, in seconds. A second call waits for the first.
        """
        if self._stopping is None:
            stop_by = None if limit_s is None else asyncio.get_running_loop().time() + limit_s
            for group in self._groups.values():
                group.close(stop_by)
            self._stopping = asyncio.create_task(self._stop_groups(), name="stop supervisor")
        await asyncio.shield(self._stopping)  # who gives up waiting does not call the stop off

    async def drain(self, timeout_s: float) -> None:
        """Ask all children to finish what they have begun (SIGUSR1), wait for their end, then stop what is left.

        Nothing is started from the first moment on. :meth:`stop` cuts it short; of two drains the shorter one counts.
        A program that knows nothing of SIGUSR1 is ended by it.
        """
        for group in self._groups.values():
            if self._stopping is None:
                group.drain()
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self._stopping is None and (running := self._running_ends()):
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            await asyncio.wait(running, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        self._all_at_once = True  # nobody takes anything any more, so nobody needs another to go first
        await self.stop()

    def _running_ends(self) -> list[asyncio.Future[Exit]]:
        ends = (process.exited for group in self._groups.values() for process in group.processes)
        return [end for end in ends if not end.done()]

    async def kill_now(self) -> None:
        """SIGKILL to every child and its process group at once: what a second Ctrl-C asks for."""
        for group in self._groups.values():
            group.kill()
        await self.stop()

    async def _stop_groups(self) -> None:
        if self._tasks:
            if self._all_at_once:
                await asyncio.gather(*(group.ask(StopAll) for group in self._groups.values()))
            for group in () if self._all_at_once else reversed(self._groups.values()):
                await group.ask(StopAll)
            await asyncio.gather(*self._tasks)
        if not self._outcome.done():
            self._outcome.set_result("stopped")

    # ---- while it runs

    def statuses(self) -> list[ChildStatus]:
        """Every child as it is now, in start order."""
        return [seat.status() for group in self._groups.values() for seat in group.seats.values()]

    @property
    def specs(self) -> list[ChildSpec]:
        """The specs of all children as they are now, in start order."""
        return [seat.spec for group in self._groups.values() for seat in group.seats.values()]

    def running(self) -> list[tuple[ChildSpec, int]]:
        """The children whose processes run, each with its pid; without those that are being stopped."""
        seats = (seat for group in self._groups.values() for seat in group.seats.values())
        return [
            (seat.spec, seat.process.pid) for seat in seats if seat.state in ("running", "draining") and seat.process
        ]

    @property
    def given_up(self) -> list[GivenUp]:
        """The groups that have given children up."""
        return [given_up for group in self._groups.values() if (given_up := group.given_up)]

    def report(
        self, name: str, doing: str, since: datetime | None = None, sequence: int = 0, *, busy: int = 0,
        assets: tuple[AssetBeat, ...] = (), warnings: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Note what a child says that it does. Raises: UsageError for an unknown name."""
        seat = self._group_of(name).seats[name]
        seat.doing, seat.since, seat.sequence, seat.busy, seat.assets = doing, since, sequence, busy, assets
        seat.warnings = warnings

    def kill(self, name: str, cause: KillCause, reason: str) -> bool:
        """SIGKILL to a child and its process group: ``cause`` for programs, ``reason`` for people.

        The exit counts as the child's own failure, and a restart follows by its rules. False if it does not run.
        Raises: UsageError for an unknown name.
        """
        return self._group_of(name).kill_one(name, cause, reason)

    async def restart(self, name: str) -> None:
        """Stop one child and start it again, outside of the intensity; a given-up or ended one is started.

        Raises: UsageError for an unknown name, or if the supervisor is being stopped.
        """
        await self._group_of(name).ask(partial(Restart, name=name))

    async def hold(self, names: Sequence[str]) -> None:
        """Stop these children, all at once, until :meth:`release` or :meth:`restart`; their siblings go on.

        Raises: UsageError for an unknown name, or if the supervisor is being stopped.
        """
        await self._ask_for(names, Hold)

    async def release(self, names: Sequence[str]) -> None:
        """Start those of these children that do not run, the given-up ones too.

        Raises: UsageError for an unknown name, or if the supervisor is being stopped.
        """
        await self._ask_for(names, Release)

    async def _ask_for(self, names: Sequence[str], order: type[Hold | Release]) -> None:
        by_group: dict[str, list[str]] = {}
        for name in names:
            by_group.setdefault(self._group_of(name).name, []).append(name)
        orders = [self._groups[group].ask(partial(order, names=tuple(some))) for group, some in by_group.items()]
        await asyncio.gather(*orders)

    async def scale(self, group: str, specs: Sequence[ChildSpec]) -> None:
        """Make ``specs`` the children of a group: stop what is gone or changed, start what is new or changed.

        Raises: UsageError for an unknown group, wrong specs, or if the supervisor is being stopped.
        """
        if group not in self._groups:
            raise _unknown("group", group, self._groups)
        if strays := [spec.name for spec in specs if spec.group != group]:
            raise UsageError(f"{', '.join(strays)} belong to another group than {group!r}", path="group")
        others = [seat.spec for name, it in self._groups.items() if name != group for seat in it.seats.values()]
        validate_specs([*others, *specs])
        await self._groups[group].ask(partial(Replace, specs=tuple(specs)))

    def _group_of(self, name: str) -> ChildGroup:
        for group in self._groups.values():
            if name in group.seats:
                return group
        raise _unknown("child", name, [name for group in self._groups.values() for name in group.seats])

    def _emit(self, event: SupervisionEvent) -> None:
        try:
            if self._on_event is not None:
                self._on_event(event)
        except Exception as error:  # noqa: BLE001 - a broken hook must not take the supervisor down
            context = {"message": f"on_event failed for {event}", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        everything_lost = all(group.is_lost for group in self._groups.values())
        if isinstance(event, GroupGivenUp) and everything_lost and not self._outcome.done():
            self._outcome.set_result("given_up")


def by_group(specs: Sequence[ChildSpec]) -> dict[str, list[ChildSpec]]:
    """The specs of each group, both in their order."""
    groups: dict[str, list[ChildSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.group, []).append(spec)
    return groups


def _check_groups(policies: Mapping[str, object], default: object, groups: set[str]) -> None:
    for path, policy in (("default", default), *((f"groups[{name!r}]", policy) for name, policy in policies.items())):
        if not isinstance(policy, Group):
            raise UsageError(f"{path} is {policy!r}", code="bad_group", path=path, hint="a Group")
    for name in policies:
        if name not in groups:
            raise _unknown("group", name, groups)


def _unknown(what: str, name: str, known: Sequence[str] | Mapping[str, object] | set[str]) -> UsageError:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
    return UsageError(f"there is no {what} {name!r}", code=f"unknown_{what}", path=name, hint=hint)
