"""The children that share a strategy and an intensity: one task that reads a mailbox, so nothing overlaps.

Exits, due restarts and requests are messages. The number ``run`` of a child changes with every start and stop; an exit
that carries an old one is that of a process which we stopped ourselves and have accounted for already.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from bus.errors import UsageError
from bus.system_events import KillCause
from supervisor.child import ChildSpec, ChildState, ChildStatus
from supervisor.events import ChildExited, ChildKilled, ChildRestarting, ChildStarted, GroupGivenUp, SupervisionEvent
from supervisor.process import ChildProcess, Exit, OnLine, failed_start
from supervisor.restart import (
    Exceeded,
    Intensity,
    Strategy,
    add_restart,
    affected,
    backoff,
    restart_streak,
    should_restart,
)


@dataclass(frozen=True)
class World:
    """What a group needs from outside: time, chance, and those who watch."""

    clock: Callable[[], float]
    roll: Callable[[], float]
    on_line: OnLine
    emit: Callable[[SupervisionEvent], None]


@dataclass(frozen=True, eq=False)
class StartAll:
    """Start every child, in order."""

    done: asyncio.Future[None]


@dataclass(frozen=True, eq=False)
class Restart:
    """Stop and start one child because someone asked for it; lifts a given-up group."""

    done: asyncio.Future[None]
    name: str


@dataclass(frozen=True, eq=False)
class Replace:
    """Make the group's children exactly these: stop what is gone or changed, start what is new or changed."""

    done: asyncio.Future[None]
    specs: tuple[ChildSpec, ...]


@dataclass(frozen=True, eq=False)
class StopAll:
    """Stop every child and end the group."""

    done: asyncio.Future[None]


Request = StartAll | Restart | Replace | StopAll


@dataclass(frozen=True, eq=False)
class _Exited:
    name: str
    run: int
    exit: Exit


@dataclass(frozen=True, eq=False)
class _Due:
    """The delay of a restart is over, for those of ``names`` that still wait for this very one."""

    names: tuple[str, ...]


@dataclass(eq=False)
class _Seat:
    """The place of one child, whichever process sits in it."""

    spec: ChildSpec
    state: ChildState = "stopped"
    process: ChildProcess | None = None
    run: int = 0
    restarts: int = 0
    streak: int = 0
    up_since: float | None = None
    started_at: datetime | None = None
    last_exit: str = ""
    doing: str = ""
    due: _Due | None = None
    killed_for: str = ""
    failure: str = ""

    def status(self) -> ChildStatus:
        return ChildStatus(
            name=self.spec.name,
            component=self.spec.component,
            state=self.state,
            pid=None if self.process is None else self.process.pid,
            restarts=self.restarts,
            started_at=self.started_at,
            last_exit=self.last_exit,
            doing=self.doing,
        )


class Group:
    """Runs the children of one group; ``closing`` (set from outside) forbids every further start at once."""

    def __init__(
        self, name: str, specs: Iterable[ChildSpec], strategy: Strategy, intensity: Intensity, world: World
    ) -> None:
        self.name = name
        self.seats = {spec.name: _Seat(spec) for spec in specs}
        self.given_up = False
        self._strategy = strategy
        self._intensity = intensity
        self._world = world
        self._restart_times: tuple[float, ...] = ()
        self._mailbox: asyncio.Queue[Request | _Exited | _Due] = asyncio.Queue()
        self._closing = False
        self._killing = False
        self._ended = False
        self._stop_by: float | None = None

    # ---- from outside

    def ask(self, kind: Callable[[asyncio.Future[None]], Request]) -> asyncio.Future[None]:
        """Put a request into the mailbox; the future resolves when it was carried out."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._ended:
            done.set_exception(_ended(self.name))
        else:
            self._mailbox.put_nowait(kind(done))
        return done

    def close(self, stop_by: float | None) -> None:
        """No start from now on; ``stop_by`` (loop time) bounds the grace of every child."""
        self._closing = True
        self._stop_by = stop_by

    def kill(self) -> None:
        """SIGKILL to every process, also to one that is just being started."""
        self._closing = self._killing = True
        for seat in self.seats.values():
            if seat.process is not None:
                seat.process.kill()

    def kill_one(self, name: str, cause: KillCause, reason: str) -> bool:
        """SIGKILL to a child that runs, with all that it has started; the exit that follows counts as its failure."""
        seat = self.seats[name]
        if seat.state != "running" or seat.process is None or seat.process.exited.done() or seat.killed_for:
            return False
        seat.killed_for = reason
        self._world.emit(ChildKilled(name, seat.process.pid, cause, reason))
        seat.process.kill()
        return True

    async def serve(self) -> None:
        """Read the mailbox until the group is stopped. What a message breaks is reported, and the next one is read."""
        while not self._ended:
            message = await self._mailbox.get()
            try:
                await self._handle(message)
            except Exception as error:  # noqa: BLE001 - a supervisor that ends leaves its children unsupervised
                _report(message, error, self.name)
        while not self._mailbox.empty():
            message = self._mailbox.get_nowait()
            _report(message, _ended(self.name), self.name)

    # ---- messages

    async def _handle(self, message: Request | _Exited | _Due) -> None:
        match message:
            case _Exited():
                await self._on_exit(message)
            case _Due():
                await self._on_due(message)
            case StartAll():
                await self._start_each(self.seats)
            case Restart(name=name):
                await self._on_restart(name)
            case Replace(specs=specs):
                await self._on_replace(specs)
            case StopAll():
                await self._on_stop()
            case _:
                assert_never(message)
        if not isinstance(message, (_Exited, _Due)) and not message.done.done():
            message.done.set_result(None)

    async def _on_exit(self, message: _Exited) -> None:
        seat = self.seats.get(message.name)
        if seat is None or seat.run != message.run:
            return
        up_since = seat.up_since
        if seat.process is not None:  # a start that failed was noted when it did
            self._note_exit(seat, message.exit, expected=False)
        if self._closing or not should_restart(seat.spec.kind, message.exit.code):
            return
        now = self._world.clock()
        self._restart_times, verdict = add_restart(self._restart_times, now, self._intensity)
        if isinstance(verdict, Exceeded):
            await self._give_up(seat, verdict)
            return
        seat.streak = restart_streak(seat.streak, 0.0 if up_since is None else now - up_since)
        await self._restart_with_others(seat, backoff(seat.streak, self._world.roll()))

    async def _restart_with_others(self, failed: _Seat, delay_s: float) -> None:
        to_stop, to_start = affected(self._strategy, tuple(self.seats), failed.spec.name)
        await self._stop_each(to_stop)
        # As in OTP a temporary child that went down with the others is not started again.
        due = _Due(tuple(name for name in to_start if self.seats[name].spec.kind != "temporary"))
        for name in due.names:
            seat = self.seats[name]
            seat.due, seat.state = due, "backing_off"
            seat.restarts += 1
            self._world.emit(ChildRestarting(name, delay_s, seat.restarts))
        asyncio.get_running_loop().call_later(delay_s, self._mailbox.put_nowait, due)

    async def _on_due(self, due: _Due) -> None:
        await self._start_each(name for name in due.names if name in self.seats and self.seats[name].due is due)

    async def _on_restart(self, name: str) -> None:
        self._reopen()
        if name not in self.seats:
            raise UsageError(f"{name} was taken out of group {self.name!r}", code="unknown_child", path=name)
        seat = self.seats[name]
        await self._stop_each((name,))
        seat.streak = 0
        seat.restarts += 1
        self._world.emit(ChildRestarting(name, 0.0, seat.restarts))
        await self._start_each((name,))

    async def _on_replace(self, specs: tuple[ChildSpec, ...]) -> None:
        self._reopen()
        wanted = {spec.name: spec for spec in specs}
        kept = {
            name: seat
            for name, seat in self.seats.items()
            if wanted.get(name) == seat.spec and seat.state != "given_up"
        }
        await self._stop_each([name for name in reversed(self.seats) if name not in kept])
        self.seats = {name: kept.get(name) or _Seat(spec) for name, spec in wanted.items()}
        await self._start_each(name for name in wanted if name not in kept)

    def _reopen(self) -> None:
        """A person's request lifts a given-up group; nothing lifts a closing one."""
        if self._closing:
            raise _ended(self.name)
        if self.given_up:
            self.given_up, self._restart_times = False, ()

    async def _on_stop(self) -> None:
        await self._stop_all()
        self._ended = True

    async def _give_up(self, failed: _Seat, verdict: Exceeded) -> None:
        self.given_up = True
        last_exit = failed.last_exit
        await self._stop_all()
        for seat in self.seats.values():
            seat.state = "given_up"
        reason = (
            f"{failed.spec.name} ended with {last_exit}: restart {verdict.restarts} within "
            f"{self._intensity.period_s:g} s, at most {self._intensity.max_restarts} are allowed"
        )
        self._world.emit(GroupGivenUp(self.name, reason))

    # ---- starting and stopping

    async def _start_each(self, names: Iterable[str]) -> None:
        for name in tuple(names):
            if not self._closing:
                await self._launch(self.seats[name])

    async def _launch(self, seat: _Seat) -> None:
        seat.run += 1
        seat.due, seat.state = None, "starting"
        name, run = seat.spec.name, seat.run
        try:
            process = await ChildProcess.start(seat.spec, self._world.on_line, last_exit=seat.failure)
        except Exception as error:  # noqa: BLE001 - whatever the reason: this child has failed, not the supervisor
            failure = failed_start(seat.spec, error)
            self._note_exit(seat, failure, expected=False)
            self._mailbox.put_nowait(_Exited(name, seat.run, failure))
            return
        seat.process, seat.state = process, "running"
        seat.up_since, seat.started_at = self._world.clock(), datetime.now(UTC)
        process.exited.add_done_callback(lambda exited: self._mailbox.put_nowait(_Exited(name, run, exited.result())))
        self._world.emit(ChildStarted(name, process.pid))
        if self._killing:
            process.kill()

    async def _stop_all(self) -> None:
        """All at once if the children know nothing of each other, else in reverse order, one after the other."""
        if self._strategy == "one_for_one":
            await asyncio.gather(*(self._stop_one(seat) for seat in self.seats.values()))
        else:
            await self._stop_each(tuple(reversed(self.seats)))

    async def _stop_each(self, names: Sequence[str]) -> None:
        for name in names:
            await self._stop_one(self.seats[name])

    async def _stop_one(self, seat: _Seat) -> None:
        seat.due = None
        process = seat.process
        if process is None:
            seat.run += 1
            seat.state = "given_up" if seat.state == "given_up" else "stopped"
            return
        expected = not process.exited.done()  # it may have crashed while its message is still in the mailbox
        seat.state = "stopping"
        self._note_exit(seat, await process.stop(self._grace_s(seat.spec)), expected=expected)

    def _grace_s(self, spec: ChildSpec) -> float:
        if self._stop_by is None:
            return spec.grace_s
        return max(0.0, min(spec.grace_s, self._stop_by - asyncio.get_running_loop().time()))

    def _note_exit(self, seat: _Seat, ended: Exit, *, expected: bool) -> None:
        pid = None if seat.process is None else seat.process.pid
        if seat.killed_for and ended.code == -signal.SIGKILL:
            ended = Exit(ended.code, f"killed: {seat.killed_for}")
        seat.run += 1
        seat.killed_for = ""
        seat.failure = "" if expected else ended.description
        seat.process, seat.up_since, seat.state = None, None, "stopped"
        seat.last_exit, seat.doing = ended.description, ""
        self._world.emit(ChildExited(seat.spec.name, pid, ended.description, expected))


def _ended(group: str) -> UsageError:
    return UsageError(f"group {group!r} is being stopped", code="stopped", path=group)


def _report(message: Request | _Exited | _Due, error: Exception, group: str) -> None:
    """Give the error to the one who asked, or to the event loop's handler if nobody did."""
    if isinstance(message, (_Exited, _Due)):
        if not isinstance(error, UsageError):
            context = {"message": f"supervision of group {group!r} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
    elif not message.done.done():
        message.done.set_exception(error)
