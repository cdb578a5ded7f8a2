"""What all durable operations of a job rest on: keys, turns, appends, waits and the pause.

Keys: an operation is known by its name and its place: ``quote:2`` is the second call of ``quote``,
``gather:1.0/quote:1`` the first one in the first branch of the first gather. A key is given when the method is
called, not when it is awaited, so ``gather(job.call(a), job.call(b))`` is the same on every run, and parallel
branches do not count each other. On a replay what is recorded comes back in the log's order (``turns``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime

import msgspec

from actors.jobs.halts import Fenced, Halt
from actors.jobs.hold import HOLD
from actors.jobs.journal import Journal
from actors.operations.branches import current_branch
from actors.operations.hosting import Hosting
from actors.operations.turns import NEW, Turns
from bus.amendment import Change
from bus.approval_events import ApprovalAnswered
from bus.errors import Fenced as FencedError
from bus.messages import Emitted, Event, JobAmended, JobSubmitted, ReplyCompleted, ReplyFailed, Signal
from store.log import JobLog, Recorded

# The place at which a function that winds itself up puts on record what it was told, and when it took that up.
WINDING = "cancelled."


class OperationCore:
    """One job's operations while it runs in this process.

    ``busy`` counts what goes on (calls out, local functions, appends), ``waits`` holds what is only waited for, with
    the instant at which each wait ends by itself; when nothing is busy the job may be parked. ``asking`` counts calls
    whose command is about to be stored, ``noting`` outcomes of the host's own that are. A paused job begins nothing
    new: all that is not recorded yet waits in :meth:`unpaused` before it counts as busy. A function that sets
    ``on_cancel`` winds itself up when it is told the place of the signal, 0 for a deadline (``cancelled_at`` says it to
    one that begins only then); while it does, no pause holds it. One that
    sets ``on_amended`` is told of each amendment as it is heard, with its place in the log; those that were in the log
    when the job was taken up are in ``journal.amendments``.
    """

    def __init__(
        self, hosting: Hosting, log: JobLog, journal: Journal, submitted: JobSubmitted, halt: Callable[[Halt], None]
    ) -> None:
        self.hosting = hosting
        self.log = log
        self.journal = journal
        self.submitted = submitted
        # The accounts that pay for what the job and its children do; an agent puts its own before them.
        self.budgets = submitted.parent.budgets if submitted.parent else ()
        self.job = log.job
        self.workspace = log.workspace
        self.deadline_at: datetime | None = None
        self.halted = False
        self.busy = 0
        self.asking = 0
        self.noting = 0
        self.winding_up = False
        self.cancelled_at: int | None = None
        self.not_undone: tuple[str, ...] = ()
        self.waits: dict[str, datetime | None] = {}
        # Signals that waits look for, by their keys, each with the place in the log that it has to come after.
        self.wanted: dict[str, tuple[str, int]] = {}
        self.on_idle: Callable[[], None] = lambda: None
        self.on_asked: Callable[[], None] = lambda: None
        self.on_signal: Callable[[], None] = lambda: None
        self.on_noted: Callable[[], None] = lambda: None
        self.on_amended: Callable[[int, Change], None] | None = None
        self.on_cancel: Callable[[int], None] | None = None
        self.listen: Callable[[], Awaitable[None]] | None = None
        self.turns = Turns(journal.last_outcome)
        self._halt = halt
        self._counts: dict[str, int] = {}
        self._amended = {sequence for sequence, _ in journal.amendments}
        self._futures: dict[str, asyncio.Future[None]] = {}
        self._held: dict[asyncio.Future[None], None] = {}  # in the order in which they came
        self._loop = asyncio.get_running_loop()

    # ---- keys and records

    def new_key(self, name: str) -> str:
        """The key of the next operation of that name in the present branch."""
        branch = current_branch.get()
        place = branch.prefix + name if branch else name
        count = self._counts[place] = self._counts.get(place, 0) + 1
        return f"{place}:{count}"

    def last_key(self, name: str) -> str:
        """The key of the latest operation of that name in the present branch; there has to be one."""
        branch = current_branch.get()
        place = branch.prefix + name if branch else name
        return f"{place}:{self._counts[place]}"

    async def _turn(self, sequence: int) -> None:
        """On a replay: until it is the turn of what is recorded at ``sequence``, or of what is ``NEW``."""
        self.busy += 1
        try:
            await self.turns.wait(sequence)
        finally:
            self.rest()
        self.check_running()

    async def _take_up(self, sequence: int) -> None:
        """Go on with the outcome at ``sequence``."""
        if self.turns.replaying:
            await self._turn(sequence)
        if branch := current_branch.get():
            branch.clock = sequence

    def check_running(self) -> None:
        """A halted job does nothing more, whatever its code catches."""
        if self.halted:
            raise asyncio.CancelledError("the job has left this process")

    async def append(self, event: Event) -> int:
        """Record as the owner; if another host owns the job by now, this copy ends here."""
        self.check_running()
        try:
            return await self.log.append(event)
        except FencedError:
            self.fence()
            raise asyncio.CancelledError("another host owns the job") from None

    def fence(self) -> None:
        """Another host owns the job: this copy ends here."""
        self._halt(Fenced())

    def hear(self, recorded: Recorded) -> None:
        """Take up one event from the log, in the log's order; wakes whoever waits for it."""
        if call := self.journal.apply(recorded):
            self.wake(call)
        elif isinstance(recorded.event, ApprovalAnswered):
            self.wake(recorded.event.call)
        elif isinstance(recorded.event, Signal):
            self.wake_signal_waits()
            self.on_signal()
        elif isinstance(recorded.event, JobAmended):
            self._hear_amendment(recorded.sequence, recorded.event)

    def _hear_amendment(self, sequence: int, event: JobAmended) -> None:
        """Events may be heard twice; each amendment is told once."""
        if event.change is None or sequence in self._amended:
            return
        self._amended.add(sequence)
        if self.on_amended is not None:
            self.on_amended(sequence, event.change)

    async def read_on(self) -> None:
        """Take up all that is stored by now: a doorbell may have been missed."""
        for recorded in await self.log.read(since=self.journal.read_to):
            self.hear(recorded)
            self.journal.read_to = max(self.journal.read_to, recorded.sequence)

    def wake(self, call: str) -> None:
        """Let the operation look again."""
        future = self._futures.get(call)
        if future is not None and not future.done():
            future.set_result(None)

    def any_woken(self) -> bool:
        """Whether some operation was woken and has not looked yet."""
        return any(future.done() for future in (*self._futures.values(), *self._held))

    def wake_signal_waits(self) -> None:
        """A signal has come: let every wait look."""
        for call in list(self.waits):
            self.wake(call)

    # ---- pause

    async def unpaused(self) -> None:
        """Until the job is not paused. It only waits meanwhile, so it may be parked."""
        while self.journal.hold.is_paused and not self.winding_up:
            self.check_running()
            held = self._loop.create_future()
            self._held[held] = None
            self.waits[HOLD] = None
            if self.busy == 0:
                self.on_idle()
            try:
                await held
            finally:
                del self._held[held]
                if not self._held:
                    self.waits.pop(HOLD, None)
        self.check_running()

    def wind_up(self) -> None:
        """The function winds itself up: what it does for that does not wait for the end of a pause."""
        self.winding_up = True
        self.release()

    def release(self) -> None:
        """The job is resumed, unless it is paused again."""
        for held in self._held:
            if not held.done():
                held.set_result(None)

    async def _may_begin(self) -> None:
        """Until something that is not recorded may begin: after all that is recorded, and not while paused."""
        if self.turns.replaying:
            await self._turn(NEW)
        if self.journal.hold.is_paused:
            await self.unpaused()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        self.asking += 1
        try:
            yield
        finally:
            self.asking -= 1
            if self.asking == 0:
                self.on_asked()

    # ---- waiting

    async def _wait(self, key: str, until: datetime | None) -> None:
        """Wait for something that may take days: the job may be parked meanwhile."""
        self.check_running()
        self.waits[key] = until
        if self.busy == 0:
            self.on_idle()
        try:
            await self._woken(key, until)
        finally:
            self.waits.pop(key, None)
        self.check_running()

    async def _woken(self, key: str, until: datetime | None = None) -> None:
        future = self._futures[key] = self._loop.create_future()
        timer = None
        if until is not None:
            delay_s = max(0.0, (until - datetime.now(UTC)).total_seconds())
            timer = self._loop.call_later(delay_s, self.wake, key)
        try:
            await future
        finally:
            del self._futures[key]
            if timer:
                timer.cancel()

    def rest(self) -> None:
        """What was counted as ``busy`` has ended."""
        self.busy -= 1
        if self.busy == 0 and self.waits:
            self.on_idle()

    # ---- what the host itself records

    async def _note(self, key: str, op: str, raw: bytes) -> None:
        await self._append_note(ReplyCompleted(job=self.job, call=key, op=op, output=msgspec.Raw(raw)))

    async def _append_note(self, event: ReplyCompleted | ReplyFailed | Emitted) -> None:
        self.busy += 1
        self.noting += 1
        try:
            sequence = await self.append(event)
            self.journal.apply(Recorded(sequence, event))
        finally:
            self.noting -= 1
            self.rest()
            self.on_noted()
        if branch := current_branch.get():
            branch.clock = sequence
