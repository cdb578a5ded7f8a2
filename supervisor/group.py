"""The children that share a strategy and an intensity: one task that reads a mailbox, so nothing overlaps.

Exits, due restarts and orders are messages. The number ``run`` of a child changes with every start and stop; an exit
that carries an old one is that of a process which we stopped ourselves and have accounted for already.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from bus.errors import UsageError
from bus.system_events import KillCause
from supervisor.child import ChildSpec, GivenUp
from supervisor.events import (
    ChildExited,
    ChildHeld,
    ChildKilled,
    ChildRestarting,
    ChildStarted,
    GroupGivenUp,
    SupervisionEvent,
)
from supervisor.orders import Hold, Order, Release, Replace, Restart, StartAll, StopAll
from supervisor.process import ChildProcess, Exit, OnLine, failed_start
from supervisor.restart import (
    EXIT_CONFIG,
    Exceeded,
    Group,
    add_restart,
    affected,
    backoff,
    restart_streak,
    should_restart,
)
from supervisor.seat import Seat

_DRAINED_CODES = (0, -signal.SIGUSR1)  # the signal itself ends a process that has not begun to serve


@dataclass(frozen=True)
class World:
    """What a group needs from outside: time, chance, and those who watch."""

    clock: Callable[[], float]
    roll: Callable[[], float]
    on_line: OnLine
    emit: Callable[[SupervisionEvent], None]


@dataclass(frozen=True, eq=False)
class _Exited:
    name: str
    run: int
    exit: Exit


@dataclass(frozen=True, eq=False)
class _Due:
    """The delay of a restart is over, for those of ``names`` that still wait for this very one."""

    names: tuple[str, ...]


class ChildGroup:
    """Runs the children of one group; ``closing`` (set from outside) forbids every further start at once."""

    def __init__(self, name: str, specs: Iterable[ChildSpec], policy: Group, world: World) -> None:
        self.name = name
        self.seats = {spec.name: Seat(spec) for spec in specs}
        self.given_up_for = ""
        self._policy = policy
        self._world = world
        self._restart_times: tuple[float, ...] = ()
        self._mailbox: asyncio.Queue[Order | _Exited | _Due] = asyncio.Queue()
        self._closing = False
        self._draining = False
        self._killing = False
        self._ended = False
        self._stop_by: float | None = None

    # ---- from outside

    @property
    def given_up(self) -> GivenUp | None:
        """Why children of it are not started again, as long as there are such children."""
        names = tuple(name for name, seat in self.seats.items() if seat.state == "given_up")
        return GivenUp(group=self.name, actors=names, reason=self.given_up_for) if names else None

    @property
    def is_lost(self) -> bool:
        """Whether it has children and all of them are given up."""
        return bool(self.seats) and all(seat.state == "given_up" for seat in self.seats.values())

    @property
    def processes(self) -> list[ChildProcess]:
        """Those that run at this moment."""
        return [seat.process for seat in self.seats.values() if seat.process is not None]

    def ask(self, kind: Callable[[asyncio.Future[None]], Order]) -> asyncio.Future[None]:
        """Put an order into the mailbox; the future resolves when it was carried out."""
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

    def drain(self) -> None:
        """No start from now on, and SIGUSR1 to every process: finish what you have begun, take nothing, and end."""
        self._closing = self._draining = True
        for seat in self.seats.values():
            seat.drain()

    def kill(self) -> None:
        """SIGKILL to every process, also to one that is just being started."""
        self._closing = self._killing = True
        for process in self.processes:
            process.kill()

    def kill_one(self, name: str, cause: KillCause, reason: str) -> bool:
        """SIGKILL to a child that runs, with all that it has started; the exit that follows counts as its failure."""
        seat = self.seats[name]
        process = seat.process if seat.state in ("running", "draining") else None
        if process is None or process.exited.done() or seat.killed_for:
            return False
        seat.killed_for = reason
        self._world.emit(ChildKilled(name, process.pid, cause, reason))
        process.kill()
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

    async def _handle(self, message: Order | _Exited | _Due) -> None:
        match message:
            case _Exited():
                await self._on_exit(message)
            case _Due():
                await self._on_due(message)
            case StartAll():
                await self._start_each(self.seats)
            case Restart(name=name):
                await self._on_restart(name)
            case Hold(names=names):
                await self._on_hold(names)
            case Release(names=names):
                await self._on_release(names)
            case Replace(specs=specs):
                await self._on_replace(specs)
            case StopAll():
                await self._stop_all(self.seats.values())
                self._ended = True
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
            drained = seat.state == "draining" and message.exit.code in _DRAINED_CODES
            self._note_exit(seat, message.exit, expected=drained)
        if self._closing or not should_restart(seat.spec.kind, message.exit.code):
            return
        if message.exit.code == EXIT_CONFIG:
            await self._give_up(_refusal(seat))
            return
        now = self._world.clock()
        self._restart_times, verdict = add_restart(self._restart_times, now, self._policy.intensity)
        if isinstance(verdict, Exceeded):
            await self._give_up(_excess(seat, verdict, self._policy))
            return
        seat.streak = restart_streak(seat.streak, 0.0 if up_since is None else now - up_since)
        await self._restart_with_others(seat, backoff(seat.streak, self._world.roll()))

    async def _restart_with_others(self, failed: Seat, delay_s: float) -> None:
        to_stop, to_start = affected(self._policy.strategy, tuple(self.seats), failed.spec.name)
        await self._stop_each([self.seats[name] for name in to_stop])
        # As in OTP a temporary child that went down with the others is not started again. Unlike in OTP neither is
        # one that someone has stopped.
        due = _Due(tuple(name for name in to_start if self._comes_back(self.seats[name])))
        for name in due.names:
            seat = self.seats[name]
            seat.due, seat.state = due, "backing_off"
            seat.restarts += 1
            self._world.emit(ChildRestarting(name, delay_s, seat.restarts))
        asyncio.get_running_loop().call_later(delay_s, self._mailbox.put_nowait, due)

    def _comes_back(self, seat: Seat) -> bool:
        return seat.spec.kind != "temporary" and not seat.held

    async def _on_due(self, due: _Due) -> None:
        await self._start_each(name for name in due.names if name in self.seats and self.seats[name].due is due)

    async def _on_restart(self, name: str) -> None:
        [seat] = self._asked((name,))
        self._reopen()
        await self._stop_one(seat)
        seat.streak, seat.held = 0, False
        seat.restarts += 1
        self._world.emit(ChildRestarting(name, 0.0, seat.restarts))
        await self._start_each((name,))

    async def _on_hold(self, names: tuple[str, ...]) -> None:
        seats = [seat for seat in self._asked(names) if not seat.held]
        for seat in seats:
            seat.held = True
        await self._stop_all(seats)
        for seat in seats:
            seat.state = "stopped"
            self._world.emit(ChildHeld(seat.spec.name))

    async def _on_release(self, names: tuple[str, ...]) -> None:
        seats = [seat for seat in self._asked(names) if seat.process is None]
        self._reopen()
        for seat in seats:
            seat.streak, seat.held = 0, False
        await self._start_each(seat.spec.name for seat in seats)

    async def _on_replace(self, specs: tuple[ChildSpec, ...]) -> None:
        self._check_open()
        self._reopen()
        wanted = {spec.name: spec for spec in specs}
        kept = {
            name: seat
            for name, seat in self.seats.items()
            if wanted.get(name) == seat.spec and seat.state != "given_up"
        }
        await self._stop_all([seat for name, seat in self.seats.items() if name not in kept])
        self.seats = {name: kept.get(name) or Seat(spec) for name, spec in wanted.items()}
        await self._start_each(name for name in wanted if name not in kept)

    def _asked(self, names: tuple[str, ...]) -> list[Seat]:
        """The seats of these names, in start order. Raises: UsageError if one is gone, or the group is closing."""
        self._check_open()
        for name in names:
            if name not in self.seats:
                raise UsageError(f"{name} was taken out of group {self.name!r}", code="unknown_child", path=name)
        return [seat for name, seat in self.seats.items() if name in names]

    def _check_open(self) -> None:
        if self._closing:
            raise _ended(self.name)

    def _reopen(self) -> None:
        """A person's request lifts a given-up group: its restarts count anew."""
        if self.given_up_for:
            self.given_up_for, self._restart_times = "", ()

    async def _give_up(self, reason: str) -> None:
        await self._stop_all(self.seats.values())
        self.given_up_for = reason
        for seat in self.seats.values():
            seat.state = "stopped" if seat.held else "given_up"
        self._world.emit(GroupGivenUp(self.name, reason))

    # ---- starting and stopping

    async def _start_each(self, names: Iterable[str]) -> None:
        for name in tuple(names):
            if not self._closing and not self.seats[name].held:
                await self._launch(self.seats[name])

    async def _launch(self, seat: Seat) -> None:
        seat.run += 1
        seat.due, seat.state = None, "starting"
        name, run = seat.spec.name, seat.run
        try:
            process = await seat.launch(self._world.on_line)
        except Exception as error:  # noqa: BLE001 - whatever the reason: this child has failed, not the supervisor
            failure = failed_start(seat.spec, error)
            self._note_exit(seat, failure, expected=False)
            self._mailbox.put_nowait(_Exited(name, seat.run, failure))
            return
        seat.take(process, self._world.clock())
        process.exited.add_done_callback(lambda exited: self._mailbox.put_nowait(_Exited(name, run, exited.result())))
        self._world.emit(ChildStarted(name, process.pid))
        if self._killing:
            process.kill()
        elif self._draining:
            seat.drain()

    async def _stop_all(self, seats: Iterable[Seat]) -> None:
        """All at once if the children know nothing of each other, else in reverse order, one after the other."""
        seats = list(seats)
        if self._policy.strategy == "one_for_one":
            await asyncio.gather(*(self._stop_one(seat) for seat in seats))
        else:
            await self._stop_each(seats[::-1])

    async def _stop_each(self, seats: Sequence[Seat]) -> None:
        for seat in seats:
            await self._stop_one(seat)

    async def _stop_one(self, seat: Seat) -> None:
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

    def _note_exit(self, seat: Seat, ended: Exit, *, expected: bool) -> None:
        pid = None if seat.process is None else seat.process.pid
        ended = seat.vacate(ended, expected=expected)
        self._world.emit(ChildExited(seat.spec.name, pid, ended.description, expected))


def _refusal(seat: Seat) -> str:
    what = seat.complaint or "it said why on its standard error"
    return f"{seat.spec.name} cannot run as it is configured (exit {EXIT_CONFIG}), another start would not help: {what}"


def _excess(seat: Seat, verdict: Exceeded, policy: Group) -> str:
    return (
        f"{seat.spec.name} ended with {seat.last_exit}: restart {verdict.restarts} within {policy.period_s:g} s, "
        f"at most {policy.max_restarts} are allowed"
    )


def _ended(group: str) -> UsageError:
    return UsageError(f"group {group!r} is being stopped", code="stopped", path=group)


def _report(message: Order | _Exited | _Due, error: Exception, group: str) -> None:
    """Give the error to the one who asked, or to the event loop's handler if nobody did."""
    if isinstance(message, (_Exited, _Due)):
        if not isinstance(error, UsageError):
            context = {"message": f"supervision of group {group!r} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
    elif not message.done.done():
        message.done.set_exception(error)
