"""One running job: take it up or over, run its function, record how it ended. The rules are in ``takeover``.

What is recorded always comes before what depends on it: the end of the job, then the parent's reply, then the ack of
the lease. A crash between any two of them brings the lease to another host, which does the rest again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, assert_never

import msgspec

from actors.components.component import Component
from actors.dead_letters.dead_letters import keep_letter, letter_body
from actors.hosts.closing import poison, tell_parent
from actors.hosts.holding import Holding
from actors.hosts.parking import Parking
from actors.hosts.planning import TERMINATED, withdraw
from actors.hosts.takeover import (
    Decision,
    Drop,
    Finish,
    Poisoned,
    Refuse,
    Resume,
    Start,
    Withdraw,
    decide,
    redriven_owner,
)
from actors.hosts.taking import Taking
from actors.jobs.deadline import deadline_of, time_limit
from actors.jobs.doorbell import Doorbell
from actors.jobs.halts import Cancelled, Fenced, Halt, HandedBack, Parked, Raised, Returned, Terminated
from actors.jobs.journal import Journal
from actors.jobs.not_undone import and_not_undone, said_with, with_not_undone
from actors.jobs.order import Order
from actors.jobs.signals import CANCEL, TERMINATE, reason_in
from actors.operations.children import tell_children
from actors.operations.hosting import Hosting
from actors.operations.job import Job
from actors.operations.locks import drop_locks
from actors.operations.operations import Operations
from actors.operations.undos import registered
from actors.tools.invocation import describe
from bus.errors import Fenced as FencedError
from bus.errors import UsageError
from bus.failure import Failure
from bus.mailbox import Delivery
from bus.messages import (
    DeadKept,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobSubmitted,
    Signal,
)
from bus.streams import JOBS
from store.log import JobLog, Recorded

log = logging.getLogger("callboard.job")


class JobActor:
    """A job in this process. ``run`` ends when the job has ended, is parked, or has gone to another host."""

    def __init__(self, hosting: Hosting, order: Order, lease: Delivery) -> None:
        self.order = order
        self.lease = lease
        self.journal = Journal()
        self.doing = "taking"
        self._hosting = hosting
        self._log = JobLog(hosting.bus, hosting.blobs, order.workspace, order.job)
        self._taking = Taking(hosting, order, lease, self._log, self.journal)
        self._bell = Doorbell(hosting.board, self._log, self.journal, self._hear)
        self._halted: Halt | None = None
        self._winding: Cancelled | Raised | None = None
        self._winds_up = False
        self._is_undoing = False
        self._task: asyncio.Task[Any] | None = None
        self._operations: Operations | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._parking: Parking | None = None
        self._holding: Holding | None = None
        self._over: asyncio.Future[None] | None = None

    @property
    def is_parking(self) -> bool:
        """Whether it is on its way out of memory."""
        return self._parking is not None and self._parking.is_under_way

    # ---- take

    async def run(self) -> None:
        """Do what the request asks for, whatever the log says about the job. Raises: UsageError (refused), BusError."""
        try:
            if self._is_plain and self.lease.attempt == 1 and await self._taking.create():
                await self._go()
            else:
                await self._take_over()
        except FencedError:
            self.lease.forget()
        finally:
            await self._bell.close()
            self._let_go()

    @property
    def _is_plain(self) -> bool:
        """Whether it is nothing but a new job, as far as the request can tell."""
        return not self.order.wake and self.order.fork is None

    def _let_go(self) -> None:
        """Break the cycles of this run, so that its memory goes now and not when the collector comes by."""
        self._bell.let_go()
        self._operations = self._parking = self._holding = self._task = self._over = self._deadline = None

    async def _take_over(self) -> None:
        self.journal.read(await self._log.read())
        await self._follow(
            decide(
                self.journal, sequence=self.lease.sequence, wake=bool(self.order.wake), workflow=self.order.workflow,
                body=self.order.body, redriven=redriven_owner(self.order.wake), fork=self.order.fork,
            )
        )  # fmt: skip

    async def _follow(self, decision: Decision) -> None:
        match decision:
            case Start():
                await (self._go() if await self._taking.create_late() else self._taking.create_later())
            case Resume(last_owned):
                self._taking.component()
                await self._claim(last_owned)
                await (self._finish() if self.journal.ended else self._go())
            case Poisoned(last_owned, times):
                await self._claim(last_owned)
                await (self._finish() if self.journal.ended else self._end_poisoned(poison(times)))
            case Finish():
                await self._finish()
            case Drop():
                await self.lease.ack()
            case Withdraw():
                await withdraw(self._hosting, self.order, self.journal, self.lease)
            case Refuse(message):
                raise UsageError(message, code="job_id_conflict", hint="use another Job-Id, or the same input")
            case _:
                assert_never(decision)

    async def _claim(self, last_owned: int) -> None:
        # Listen first: a reply that is stored between the read and the listening would wait for the next poll.
        await self._bell.open()
        await self._taking.claim(last_owned)

    async def _finish(self) -> None:
        await drop_locks(self._hosting, self.order.workspace, self.order.job, self.journal)
        if self.journal.ended:
            await tell_parent(self._hosting, self._taking.submitted().parent, self.journal.ended)
        await self.lease.ack()

    # ---- run

    async def _go(self) -> None:
        component, submitted = self._taking.component(), self._taking.submitted()
        self.doing = "running"
        self._winds_up = component.winds_up
        operations = Operations(self._hosting, self._log, self.journal, submitted, self.halt)
        operations.listen, operations.on_signal = self._bell.open, self._heed_signals
        self._operations = operations
        operations.deadline_at = deadline_of(self.journal)
        ends_at = self._watch_time(component, submitted)
        taking, lease = self._taking, self.lease
        parking = self._parking = Parking(
            operations, lambda: taking.owned(submitted.version), self.halt, ends_at, lambda: lease.is_in_a_crowd
        )
        holding = self._holding = Holding(operations, self.halt)
        self._heed_signals()
        halt = self._halted or await self._run_function(component, operations, submitted)
        await parking.stop()
        await holding.stop()
        if self._deadline:
            self._deadline.cancel()
        await self._end(halt)

    async def _run_function(self, component: Component[..., Any], ops: Operations, submitted: JobSubmitted) -> Halt:
        """Run the user's function in a task of its own, so that a halt can cancel it and nothing else."""
        over = self._over = asyncio.get_running_loop().create_future()
        function = self._task = asyncio.create_task(self._call_function(component, ops, submitted))
        function.add_done_callback(lambda _: _set(over))
        try:
            await over
        except asyncio.CancelledError:
            function.cancel()
            raise
        if not function.done() and isinstance(self._halted, Terminated):
            return self._halted
        try:
            self.halt(function.result())
        except asyncio.CancelledError:
            # Nobody has cancelled it, so the function itself raised this.
            message = "the job's function raised CancelledError, and nobody had cancelled it"
            self.halt(Raised(Failure(code="error", message=message, exception="CancelledError")))
        assert self._halted is not None
        return self._halted

    async def _call_function(self, component: Component[..., Any], ops: Operations, submitted: JobSubmitted) -> Halt:
        try:
            arguments = component.decode_input(bytes(submitted.input))
            assert component.context_param is not None
            if component.has_admission:
                await ops.admit(component, component.limit_fields(arguments))
            with self._hosting.lend(component) as assets:
                own = {component.context_param: component.context(Job(ops))}
                value = await component.fn(**own, **arguments, **assets)
            halt: Halt = Returned(msgspec.Raw(component.encode_output(value)))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything
            halt = Raised(describe(error))
        if self.journal.hold.is_paused:
            await ops.unpaused()
        if self._winding is not None:
            return with_not_undone(self._winding, ops.not_undone)
        return halt

    def _forget_halt(self) -> None:
        """What ended the function is known; what ends the undoing may come."""
        self._halted = None

    def halt(self, reason: Halt) -> None:
        """End this run for ``reason``; only the first reason counts, unless the job is terminated."""
        if self._halted is not None and not self._overrules(reason):
            return
        self._halted = reason
        if self._operations:
            self._operations.halted = True
        if self._task and not self._task.done() and not isinstance(reason, Returned):
            self._task.cancel()
        if isinstance(reason, Terminated) and self._over:
            _set(self._over)

    def _overrules(self, reason: Halt) -> bool:
        """Whether the function, asked to leave for another reason, has not left, and shall be waited for no longer."""
        is_leaving = isinstance(self._halted, Raised | Cancelled | Parked)
        return is_leaving and isinstance(reason, Terminated) and self._over is not None and not self._over.done()

    def _watch_time(self, component: Component[..., Any], submitted: JobSubmitted) -> datetime | None:
        """End the job as failed when its time is up, now if it is; that instant, None if it may take for ever."""
        limit = time_limit(submitted, self.journal, component.timeout_s)
        if limit is None:
            return None
        left_s = (limit.at - datetime.now(UTC)).total_seconds()
        if left_s <= 0:
            self._time_is_up(Raised(limit.failure))
        else:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(left_s, self._time_is_up, Raised(limit.failure))
        return limit.at

    def _time_is_up(self, raised: Raised) -> None:
        if self._winds_up:
            self._wind_up(raised, 0)
        else:
            self.halt(raised)

    def _wind_up(self, end: Cancelled | Raised, sequence: int) -> None:
        """Let the function undo what it did and end by itself; that is how the job ends then."""
        if self._winding is None and self._operations:
            self._winding = end
            self._operations.cancelled_at = sequence
            if self._operations.on_cancel:
                self._operations.on_cancel(sequence)

    # ---- hear

    def _hear(self, recorded: Recorded) -> None:
        if self._operations:
            self._operations.hear(recorded)
        else:
            self.journal.apply(recorded)
        if isinstance(recorded.event, JobOwned) and recorded.sequence > self._log.epoch and self._log.epoch:
            self._heed_owner(recorded.event)

    def _heed_owner(self, owned: JobOwned) -> None:
        """Another host has claimed the job: this copy would find out with its next append, but may only wait."""
        if (owned.host, owned.pid) != (self._hosting.host, os.getpid()):
            self.halt(Fenced())

    def ring(self, recorded: Recorded) -> None:
        """The host heard a signal, or an answer to an approval, for this job."""
        if recorded.sequence > self.journal.read_to:
            self._hear(recorded)

    def read_on(self) -> None:
        """Something may have been missed: read the log."""
        if self._operations:
            self._bell.read_on()

    def read_on_if_quiet(self, quiet_s: float) -> None:
        """Read the log if it was not read for ``quiet_s``, and ever less often the longer nothing comes."""
        if self._operations:
            self._bell.read_on_if_quiet(quiet_s)

    def _heed_signals(self) -> None:
        if found := self.journal.next_signal(TERMINATE):
            _, signal = found
            self.halt(Terminated(signal.by, reason_in(signal)))
        elif found := self.journal.next_signal(CANCEL):
            self._cancel(*found)
        elif self._holding:
            self._holding.heed()

    def _cancel(self, sequence: int, signal: Signal) -> None:
        if self._is_undoing:
            return
        cancelled = Cancelled(signal.by, reason_in(signal))
        if not self._winds_up:
            self.halt(cancelled)
        else:
            self._wind_up(cancelled, sequence)

    # ---- end

    async def _end(self, halt: Halt) -> None:
        self.doing = "ending"
        job = self.order.job
        match halt:
            case Returned(output):
                await self._close(JobCompleted(job=job, output=output))
            case Raised(failure):
                await self._undo_then(lambda left: JobFailed(job=job, failure=and_not_undone(failure, left)))
            case Cancelled(by, reason):
                await self._tell_children(CANCEL)
                await self._undo_then(lambda left: JobCancelled(job=job, by=by, reason=said_with(reason, left)))
            case Terminated(by, reason):
                await self._tell_children(TERMINATE)
                await self._close(JobCancelled(job=job, by=by, reason=": ".join(filter(None, (TERMINATED, reason)))))
            case Parked():
                await self.lease.ack()
            case HandedBack():
                await self.lease.nak()
            case Fenced():
                log.warning("%s: another host owns the job, this copy is dropped", job)
                self.lease.forget()
            case _:
                assert_never(halt)

    async def _undo_then(self, end: Callable[[tuple[str, ...]], JobFailed | JobCancelled]) -> None:
        """Undo what the function has put on record for that, then end the job; or leave it, if it has to go."""
        left: tuple[str, ...] = ()
        if registered(self.journal):
            self.doing = "undoing"
            found = await self._undo()
            if not isinstance(found, tuple):
                return await self._end(found)
            left = found
        return await self._close(end(left))

    async def _undo(self) -> tuple[str, ...] | Halt:
        """What could not be undone; or why this process has to leave the job before that is done."""
        ops = Operations(self._hosting, self._log, self.journal, self._taking.submitted(), self.halt)
        ops.listen, ops.on_signal = self._bell.open, self._heed_signals
        ops.wind_up()
        self._forget_halt()
        self._is_undoing, self._operations = True, ops
        over = self._over = asyncio.get_running_loop().create_future()
        undoing = self._task = asyncio.create_task(ops.undo_all())
        undoing.add_done_callback(lambda _: _set(over))
        self._heed_signals()
        try:
            await over
        finally:
            undoing.cancel()
            await asyncio.wait({undoing})
        return undoing.result() if self._halted is None else self._halted

    async def _end_poisoned(self, failure: Failure) -> None:
        """Its request is kept as a dead letter; a wake-up says nothing, so what is kept is the input it began with."""
        lease, order, began = self.lease, self.order, self._taking.submitted()
        letter = DeadKept(
            job=order.job, failure=failure, subject=lease.subject, stream=JOBS, stream_sequence=lease.sequence,
            deliveries=lease.attempt, body=letter_body(bytes(began.input)), headers=dict(lease.headers),
            actor=self._hosting.host,
        )  # fmt: skip
        await keep_letter(self._hosting.bus, self._hosting.blobs, order.workspace, letter)
        await self._end(Raised(failure))

    async def _close(self, event: JobCompleted | JobFailed | JobCancelled) -> None:
        await self._log.append(event)
        self.journal.ended = event
        await self._finish()

    async def _tell_children(self, name: str) -> None:
        await tell_children(self._hosting, self.order.workspace, self.order.job, self.journal, name)


def _set(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
