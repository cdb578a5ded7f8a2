"""A tool actor: one process that serves the calls of one tool, ``concurrency`` at a time, shared with its replicas.

The reply comes before the ack: a process that dies in between has its call delivered again, and whoever gets a call for
a second time looks in the log for its reply first. Here and nowhere else failed calls are retried: a failure is
recorded, and the call is handed back to the server with the delay that the policy says.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

import msgspec

from actors.component import Component
from actors.invocation import Stuck, Watchdog, invoke
from actors.past_attempts import past_attempts
from actors.progress import ProgressReports
from actors.tool_context import CallCancelled, ToolContext
from bus import subjects
from bus.connection import Bus, Message
from bus.crash import crash_point
from bus.errors import BusError, Unreadable
from bus.failure import Failure, failure_of
from bus.leases import LeaseBook
from bus.mailbox import Delivery, Mailbox
from bus.messages import CallTool, ReplyCompleted, ReplyFailed, ReplyRetrying, decode
from bus.objects import Blobs
from bus.streams import EVENTS, ensure_consumer
from store.artifacts import unclaim
from store.log import append_unfenced
from supervisor.retry import Again, GiveUp, Retry, decide

log = logging.getLogger("callboard.tool")

ACK_WAIT_S = 10.0
KEEP_S = 3.0


@dataclass
class Serving:
    """One call being served."""

    workspace: str
    event: CallTool
    delivery: Delivery
    attempt: int
    started_s: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None

    @property
    def duration_s(self) -> float:
        """Since this attempt began, to the microsecond."""
        return round(time.monotonic() - self.started_s, 6)


class ToolActor:
    """Serves one component. ``on_stuck`` is called when a call cannot be stopped and the process has to go."""

    def __init__(
        self,
        bus: Bus,
        blobs: Blobs,
        component: Component[..., Any],
        *,
        name: str,
        leases: LeaseBook | None = None,
        on_stuck: Callable[[], None] = lambda: None,
    ) -> None:
        self.component = component
        self.name = name
        self.running: dict[str, Serving] = {}
        self.served = 0
        self._bus = bus
        self._blobs = blobs
        self._on_stuck = on_stuck
        self._began_at = datetime.now(UTC) - timedelta(seconds=1)
        self._executor = ThreadPoolExecutor(component.concurrency, thread_name_prefix=component.name)
        self._watchdog = Watchdog()
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        consumer = f"tool-{component.name}-v{component.major}"
        filters = [subjects.call_filter("tool", component.name, component.major)]
        self._mailbox = Mailbox(
            bus, EVENTS, consumer, self._on_call, capacity=component.concurrency, leases=leases,
            rebuild=lambda: ensure_consumer(bus, EVENTS, consumer, filters, ack_wait_s=ACK_WAIT_S),
        )  # fmt: skip

    # ---- life

    async def start(self) -> None:
        """Begin to take calls. Raises: BusError."""
        await self._bus.subscribe(subjects.live("*", "*", "job.cancelled"), self._on_cancelled)
        await self._mailbox.start()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self, grace_s: float) -> None:
        """Take no more, let the calls in flight finish for ``grace_s`` seconds, hand back the rest."""
        await self._mailbox.stop_taking()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for serving in list(self.running.values()):
            await self._hand_back(serving)
        if self._keeper:
            self._keeper.cancel()
        await self._mailbox.hand_back()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def doing(self) -> str:
        """What it is at, for people."""
        if not self.running:
            return "idle"
        first = min(self.running.values(), key=lambda s: s.started_s)
        more = f" and {len(self.running) - 1} more" if len(self.running) > 1 else ""
        return f"{first.event.call} of {first.event.job} for {first.duration_s:.1f} s{more}"

    async def _hand_back(self, serving: Serving) -> None:
        """The call did not end in time: it goes to another process, and this does not count as an attempt."""
        if serving.task:
            serving.task.cancel()
        event = ReplyRetrying(
            job=serving.event.job, call=serving.event.call, attempt=serving.attempt, handed_back=True, actor=self.name
        )
        await append_unfenced(self._bus, self._blobs, serving.workspace, event, since=serving.delivery.sequence)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_S)
            await self._mailbox.keep_leases()

    # ---- a call

    def _on_call(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._serve(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, delivery: Delivery) -> None:
        try:
            await self._take(delivery)
        except asyncio.CancelledError:
            pass  # handed back by stop()
        except BusError as error:
            log.warning("%s: %s; handing it back", delivery.subject, error)
            await delivery.nak(1.0)
        except Exception:
            log.exception("%s: serving the call failed; handing it back", delivery.subject)
            await delivery.nak(5.0)

    async def _take(self, delivery: Delivery) -> None:
        place = subjects.parse_event(delivery.subject)
        try:
            event = decode(delivery.body, subject=delivery.subject, sequence=delivery.sequence)
            event = await unclaim(self._blobs, event)
        except Unreadable as error:
            await self._refuse(place, delivery, error)
            return
        if not isinstance(event, CallTool):
            other = Unreadable(delivery.subject, delivery.sequence, f"is a {event.kind}, not a call of a tool")
            await self._refuse(place, delivery, other)
            return
        serving = Serving(place.workspace, event, delivery, delivery.attempt, task=asyncio.current_task())
        if (delivery.attempt > 1 or delivery.stored_at < self._began_at) and await self._is_settled(serving):
            await delivery.ack()
            return
        await self._run(serving)

    async def _refuse(self, place: subjects.EventSubject, delivery: Delivery, error: Unreadable) -> None:
        """Nobody can read it, so nobody can answer its call; it leaves a trace in the job's log and goes."""
        log.error("refused: %s", error)
        failure = Failure(code="unreadable", message=str(error), retryable=False)
        event = ReplyFailed(job=place.job, call="", failure=failure, actor=self.name)
        await append_unfenced(self._bus, self._blobs, place.workspace, event, since=delivery.sequence)
        await delivery.term(f"unreadable: {error.reason}")

    async def _is_settled(self, serving: Serving) -> bool:
        """Whether nothing is left to do for a call that came before: answered, its job over, or its attempts spent."""
        event, delivery = serving.event, serving.delivery
        past = await past_attempts(self._bus, serving.workspace, event, delivery.sequence)
        if past.answered or past.job_over:
            return True
        serving.attempt = delivery.attempt - past.handed_back
        if serving.attempt <= max(1, past.failed + 1):
            return False
        return await self._after_death(serving)

    async def _after_death(self, serving: Serving) -> bool:
        """The last attempt left no word: its process died. Counts as an attempt, and is recorded as one."""
        failure = Failure(code="process_died", message="the process that served the call died")
        policy = self._policy(serving.event)
        if serving.attempt > policy.attempts:
            await self._reply_failed(serving, failure, attempt=serving.attempt - 1)
            return True
        call = serving.event
        event = ReplyRetrying(
            job=call.job, call=call.call, attempt=serving.attempt - 1, failure=failure, actor=self.name
        )
        await append_unfenced(self._bus, self._blobs, serving.workspace, event, since=serving.delivery.sequence)
        return False

    def _policy(self, event: CallTool) -> Retry:
        if event.retry is None:
            return self.component.retry
        try:
            return msgspec.convert(event.retry, Retry)
        except msgspec.ValidationError:
            return self.component.retry

    # ---- one attempt

    async def _run(self, serving: Serving) -> None:
        event = serving.event
        key = f"{event.job}/{event.call}"
        self.running[key] = serving
        timeout_s = event.timeout_s or self.component.timeout_s
        self._watchdog.watch(key, timeout_s)
        try:
            output = await self._attempt(serving, timeout_s)
        except asyncio.CancelledError:
            raise
        except Stuck as error:
            await self._fail(serving, failure_of(error))
            self._on_stuck()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a tool may raise anything
            await self._fail(serving, failure_of(error))
        else:
            await self._complete(serving, output)
        finally:
            self._watchdog.forget(key)
            self.running.pop(key, None)
            self.served += 1

    async def _attempt(self, serving: Serving, timeout_s: float | None) -> bytes:
        event = serving.event
        arguments = self.component.decode_input(bytes(event.input))
        reports = ProgressReports(self._bus, self._blobs, serving.workspace, event, serving.attempt)
        context = ToolContext(
            serving.workspace, event.job, event.call, serving.attempt, event.traceparent, _report=reports.report
        )
        try:
            value = await invoke(self.component, context, arguments, timeout_s=timeout_s, executor=self._executor)
        finally:
            await reports.close()
        return self.component.encode_output(value)

    async def _complete(self, serving: Serving, output: bytes) -> None:
        event = ReplyCompleted(
            job=serving.event.job, call=serving.event.call, output=msgspec.Raw(output), attempt=serving.attempt,
            duration_s=serving.duration_s, actor=self.name,
        )  # fmt: skip
        crash_point("tool.before_reply")
        await append_unfenced(self._bus, self._blobs, serving.workspace, event, since=serving.delivery.sequence)
        crash_point("tool.after_reply")
        await serving.delivery.ack()

    async def _fail(self, serving: Serving, failure: Failure) -> None:
        decision = decide(self._policy(serving.event), serving.attempt, failure, random.random())
        match decision:
            case GiveUp():
                await self._reply_failed(serving, failure, attempt=serving.attempt)
                await serving.delivery.ack()
            case Again(delay_s):
                event = ReplyRetrying(
                    job=serving.event.job, call=serving.event.call, attempt=serving.attempt, failure=failure,
                    delay_s=round(delay_s, 3), actor=self.name,
                )  # fmt: skip
                await append_unfenced(self._bus, self._blobs, serving.workspace, event, since=serving.delivery.sequence)
                await serving.delivery.nak(delay_s)
            case _:
                assert_never(decision)

    async def _reply_failed(self, serving: Serving, failure: Failure, *, attempt: int) -> None:
        event = ReplyFailed(
            job=serving.event.job, call=serving.event.call, failure=failure, attempt=attempt,
            duration_s=serving.duration_s, actor=self.name,
        )  # fmt: skip
        crash_point("tool.before_reply")
        await append_unfenced(self._bus, self._blobs, serving.workspace, event, since=serving.delivery.sequence)
        crash_point("tool.after_reply")

    # ---- cancel

    def _on_cancelled(self, msg: Message) -> None:
        """A job was cancelled: stop what runs for it, record that, and drop its calls."""
        place = subjects.parse_event(msg.subject)
        for serving in list(self.running.values()):
            if serving.event.job == place.job and serving.workspace == place.workspace and serving.task:
                serving.task.cancel()
                task = asyncio.create_task(self._drop(serving))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _drop(self, serving: Serving) -> None:
        if serving.task:
            await asyncio.wait({serving.task}, timeout=10)
        failure = failure_of(CallCancelled("the job was cancelled"))
        await self._reply_failed(serving, failure, attempt=serving.attempt)
        await serving.delivery.ack()
