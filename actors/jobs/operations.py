"""The durable operations of one running job: each asks the journal first, then does, then records.

Keys: an operation is known by its name and its place: ``quote:2`` is the second call of ``quote``,
``gather:1.0/quote:1`` the first one in the first branch of the first gather. A key is given when the method is
called, not when it is awaited, so ``gather(job.call(a), job.call(b))`` is the same on every run, and parallel
branches do not count each other. On a replay what is recorded comes back in the log's order (``actors.jobs.turns``).
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from actors.clients.requests import JobRequest, publish_request
from actors.clients.signals import RESERVED
from actors.jobs.branches import current_branch, run_branches
from actors.jobs.call_policy import CallPolicy
from actors.jobs.halts import Fenced, Halt
from actors.jobs.hold import HOLD
from actors.jobs.hosting import Hosting, Target
from actors.jobs.job import ChildJob
from actors.jobs.job_retry import retry_job
from actors.jobs.journal import Entry, Journal, Pending
from actors.jobs.turns import NEW, Turns
from actors.jobs.values import bind, instant_in, name_of, raw_of, signal_data, to_json, value_of
from bus import jobid
from bus.crash import crash_point
from bus.errors import Fenced as FencedError
from bus.errors import UsageError
from bus.event import Parent
from bus.failure import CallFailed, failure_of
from bus.messages import CallAgent, CallJob, CallTool, Event, JobSubmitted, ReplyCompleted, ReplyFailed, Signal
from bus.subjects import check_name
from store.log import JobLog, Recorded


class Operations:
    """One job's operations while it runs in this process.

    ``busy`` counts what goes on (calls out, local functions, appends), ``waits`` holds what is only waited for, with
    the instant at which each wait ends by itself; when nothing is busy the job may be parked. ``asking`` counts calls
    whose command is about to be stored. A paused job begins nothing new: all that is not recorded yet waits in
    :meth:`unpaused` before it counts as busy.
    """

    def __init__(
        self, hosting: Hosting, log: JobLog, journal: Journal, submitted: JobSubmitted, halt: Callable[[Halt], None]
    ) -> None:
        self.hosting = hosting
        self.log = log
        self.journal = journal
        self.submitted = submitted
        self.job = log.job
        self.workspace = log.workspace
        self.halted = False
        self.busy = 0
        self.asking = 0
        self.waits: dict[str, datetime | None] = {}
        self.on_idle: Callable[[], None] = lambda: None
        self.on_asked: Callable[[], None] = lambda: None
        self.on_signal: Callable[[], None] = lambda: None
        self.listen: Callable[[], Awaitable[None]] | None = None
        self.turns = Turns(journal.last_outcome)
        self._halt = halt
        self._counts: dict[str, int] = {}
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
            self._halt(Fenced())
            raise asyncio.CancelledError("another host owns the job") from None

    def hear(self, recorded: Recorded) -> None:
        """Take up one event from the log, in the log's order; wakes whoever waits for it."""
        if call := self.journal.apply(recorded):
            self.wake(call)
        elif isinstance(recorded.event, Signal):
            self.wake_signal_waits()
            self.on_signal()

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
        while self.journal.hold.is_paused:
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

    # ---- call

    def call(
        self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], policy: CallPolicy
    ) -> Coroutine[Any, Any, Any]:
        """See ``Job.call``. The key is taken here, before anything is awaited."""
        key = self.new_key(name_of(target))
        return self._call_whatever(key, target, args, kwargs, policy)

    async def _call_whatever(
        self, key: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], policy: CallPolicy
    ) -> Any:
        found = await self.hosting.find(target, ("tool", "agent", "job"))
        if found.kind == "job":
            return await self._run_child(key, found, args, kwargs)
        return await self._call(key, found, args, kwargs, policy)

    async def _call(
        self, key: str, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any], policy: CallPolicy
    ) -> Any:
        self.check_running()
        entry = self.journal.recall(key, target.kind, target.name)
        if entry is None or entry.is_void:
            await self._may_begin()
        self.busy += 1
        try:
            if entry is None or entry.is_void:
                body = bind(target, args, kwargs)
                entry = entry or self.journal.begin(key, target.kind, target.name)
                with self._asking():
                    await self._ask(key, target, body, policy)
            await self._answered(key, entry)
            await self._take_up(entry.sequence)
        finally:
            self.rest()
        return value_of(entry, target.component)

    async def _ask(self, key: str, target: Target, body: bytes, policy: CallPolicy) -> None:
        """Give the command; or, if the circuit is open and the job will not wait, record that it was refused."""
        if policy.waits_for(target):
            await self._command(key, target, body, policy)
        elif failure := await self.hosting.refusal(target):
            await self._append_note(ReplyFailed(job=self.job, call=key, op=target.kind, failure=failure))
        else:
            await self._command(key, target, body, policy)

    async def _command(self, key: str, target: Target, body: bytes, policy: CallPolicy) -> None:
        if self.listen is not None:
            await self.listen()
        make = CallTool if target.kind == "tool" else CallAgent
        command = make(
            job=self.job, call=key, name=target.name, version=target.major, input=msgspec.Raw(body),
            timeout_s=policy.timeout_s, retry=msgspec.to_builtins(policy.retry) if policy.retry else None,
            traceparent=self.submitted.traceparent,
        )  # fmt: skip
        sequence = await self.append(command)
        if self.journal.entries[key].is_void:
            self.journal.apply(Recorded(sequence, command))

    async def _answered(self, key: str, entry: Entry) -> None:
        """Until the entry has its outcome. The doorbell wakes us; the journal decides."""
        while isinstance(entry.outcome, Pending):
            if self.listen is not None:
                await self.listen()
            await self._woken(key)

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

    # ---- children

    def start(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, ChildJob[Any]]:
        """See ``Job.start``."""
        return self._find_and_start(self.new_key(name_of(target)), target, args, kwargs)

    async def _find_and_start(
        self, key: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ChildJob[Any]:
        return await self._start(key, await self.hosting.find(target, ("job",)), args, kwargs)

    async def _start(self, key: str, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ChildJob[Any]:
        self.check_running()
        entry = self.journal.recall(key, "job", target.name)
        child = jobid.child(self.job, key)
        place = entry.asked_at if entry else 0  # asked anew after a retry, it keeps its place in the job
        if entry is None or (isinstance(entry.outcome, Pending) and not entry.parked_on):
            if entry is None:
                await self._may_begin()
            elif entry.is_void:
                await self.unpaused()
            self.busy += 1
            try:
                with self._asking():
                    entry = await self._ask_child(key, target, child, entry, args, kwargs)
            finally:
                self.rest()
        await self._take_up(place or entry.asked_at)
        return ChildJob(child, lambda: self._child_result(key, target))

    async def _ask_child(
        self, key: str, target: Target, child: str, entry: Entry | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Entry:
        """Record the command, then publish the request; after a crash in between the request is published again."""
        if self.listen is not None:
            await self.listen()
        if entry is None:
            body = bind(target, args, kwargs)
            entry = self.journal.begin(key, "job", target.name)
            command = CallJob(
                job=self.job, call=key, name=target.name, version=target.major, input=msgspec.Raw(body), child=child
            )
            self.journal.apply(Recorded(await self.append(command), command))
        else:
            body = bytes(entry.command.input) if entry.command else b"{}"
            if entry.is_void:
                await self._ask_child_anew(key, target, child, body)
        request = JobRequest(
            workspace=self.workspace, workflow=target.name, input=body, job=child,
            traceparent=self.submitted.traceparent,
            parent=Parent(self.workspace, self.job, key, self.submitted.workflow),
        )  # fmt: skip
        crash_point("host.before_request")
        await publish_request(self.hosting.bus, self.hosting.blobs, request)
        return entry

    async def _ask_child_anew(self, key: str, target: Target, child: str, body: bytes) -> None:
        """The parent was retried, and its child had failed: then the child goes on too, or starts if it never did.

        Before the command, so that after a crash at any point the child is retried until that is on record, and not
        once more when it has failed again.
        """
        with contextlib.suppress(UsageError):  # it runs, it completed, or it was cancelled: its answer will say so
            await retry_job(self.hosting.bus, self.hosting.blobs, self.workspace, child, by=f"job {self.job}")
        command = CallJob(
            job=self.job, call=key, name=target.name, version=target.major, input=msgspec.Raw(body), child=child
        )
        self.journal.apply(Recorded(await self.append(command), command))

    async def _run_child(self, key: str, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        await self._start(key, target, args, kwargs)
        return await self._child_result(key, target)

    async def _child_result(self, key: str, target: Target) -> Any:
        entry = self.journal.entries[key]
        while isinstance(entry.outcome, Pending):
            await self._wait(key, None)
        await self._take_up(entry.sequence)
        return value_of(entry, target.component)

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

    # ---- several at once

    def gather(self, branches: Sequence[Awaitable[Any]]) -> Coroutine[Any, Any, tuple[Any, ...]]:
        """See ``Job.gather``."""
        return self._gather(self.new_key("gather"), branches)

    async def _gather(self, key: str, branches: Sequence[Awaitable[Any]]) -> tuple[Any, ...]:
        return await run_branches(key, branches, self.turns)

    # ---- waiting

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """See ``Job.sleep``."""
        if not 0 <= seconds < 10 * 366 * 86_400:
            raise UsageError(f"cannot sleep for {seconds!r} seconds", hint="0 or more, ten years at most")
        return self._sleep(self.new_key("sleep"), seconds)

    async def _sleep(self, key: str, seconds: float) -> None:
        due_at = await self._due(key, "sleep", seconds)
        while datetime.now(UTC) < due_at:
            await self._wait(key, due_at)
        if not self.turns.replaying:
            await self.unpaused()
        if current_branch.get():
            # Beside other branches its end has a place among theirs, which a replay has to find again.
            await self._record(f"{key}/woke", "timer", "woke", lambda: None)

    async def _due(self, key: str, op: str, seconds: float) -> datetime:
        """The instant at which a wait ends, fixed in the log when the wait was first reached."""
        due = await self._record(key, op, op, partial(instant_in, seconds))
        return datetime.fromisoformat(due)

    def wait_for(self, signal: str, timeout_s: float | None) -> Coroutine[Any, Any, Any]:
        """See ``Job.wait_for``."""
        if check_name(signal, "signal") in RESERVED:
            raise UsageError(f"a job cannot wait for signal {signal!r}: the system acts on it", code="reserved_signal",
                             path="signal", hint="choose another name")  # fmt: skip
        return self._wait_for(self.new_key(f"signal-{signal}"), signal, timeout_s)

    async def _wait_for(self, key: str, signal: str, timeout_s: float | None) -> Any:
        due_at = await self._due(f"{key}/timer", "timer", timeout_s) if timeout_s is not None else None
        entry = self.journal.recall(key, "signal", f"signal-{signal}")
        while entry is None or isinstance(entry.outcome, Pending):
            await self._may_begin()
            if taken := self.journal.next_signal(signal):
                return await self._take_signal(key, *taken)
            if due_at is not None and datetime.now(UTC) >= due_at:
                return await self._no_signal(key, signal, timeout_s)
            await self._wait(key, due_at)
        await self._take_up(entry.sequence)
        answer = msgspec.json.decode(raw_of(entry))
        return signal_data(answer, signal, timeout_s)

    async def _take_signal(self, key: str, sequence: int, signal: Signal) -> Any:
        self.journal.take_signal(sequence)
        data = msgspec.json.decode(signal.data)
        # Shielded: a branch that is given up just now has taken the signal all the same, and the log must say so.
        answer = msgspec.json.encode({"sequence": sequence, "data": data, "by": signal.by})
        await asyncio.shield(self._note(key, "signal", answer))
        return data

    async def _no_signal(self, key: str, signal: str, timeout_s: float | None) -> Any:
        answer = {"sequence": 0, "timed_out": True}
        await self._note(key, "signal", msgspec.json.encode(answer))
        return signal_data(answer, signal, timeout_s)

    # ---- what is recorded by the host itself

    def local(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """See ``Job.local``."""
        name = getattr(fn, "__name__", "local").strip("<>")
        return self._record(self.new_key(name), "local", name, lambda: fn(*args, **kwargs))

    def record(self, name: str, fn: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        """A recorded value under a name of ours (now, uuid, random)."""
        return self._record(self.new_key(name), "local", name, fn)

    async def _record(self, key: str, op: str, name: str, fn: Callable[[], Any]) -> Any:
        self.check_running()
        entry = self.journal.recall(key, op, name.rpartition("/")[2])
        if entry is not None and not isinstance(entry.outcome, Pending):
            await self._take_up(entry.sequence)
            return msgspec.json.decode(raw_of(entry))
        await self._may_begin()
        self.busy += 1
        try:
            return await self._record_now(key, op, name, fn)
        finally:
            self.rest()

    async def _record_now(self, key: str, op: str, name: str, fn: Callable[[], Any]) -> Any:
        """Run it. What it raises is recorded too: code that catches it has to see the same on a replay."""
        try:
            value = fn()
            if inspect.isawaitable(value):
                value = await value
            raw = to_json(value, name)
        except Exception as error:
            failure = failure_of(error)
            await self._append_note(ReplyFailed(job=self.job, call=key, op=op, failure=failure))
            raise CallFailed(failure) from error
        await self._note(key, op, raw)
        return msgspec.json.decode(raw)

    async def _note(self, key: str, op: str, raw: bytes) -> None:
        await self._append_note(ReplyCompleted(job=self.job, call=key, op=op, output=msgspec.Raw(raw)))

    async def _append_note(self, event: ReplyCompleted | ReplyFailed) -> None:
        self.busy += 1
        try:
            sequence = await self.append(event)
            self.journal.apply(Recorded(sequence, event))
        finally:
            self.rest()
        if branch := current_branch.get():
            branch.clock = sequence
