"""A tool actor: one process that serves the calls of one tool, ``concurrency`` at a time, shared with its replicas.

The reply comes before the ack: a process that dies in between has its call delivered again, and whoever gets a call for
a second time looks in the log for its reply first. Here and nowhere else failed calls are retried: a failure is
recorded, and the call is handed back to the server with the delay that the policy says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_never

from actors.assets.supply import Supply
from actors.breakers.breakers import Breakers
from actors.breakers.circuit import Permit
from actors.changes.amend import read_amendments
from actors.changes.amendments import amended_command
from actors.components.component import Component
from actors.jobs.order import MISSING_AFTER
from actors.node.heart import heartbeat_of
from actors.tools.invocation import Invocation, Stuck, Watchdog
from actors.tools.past_attempts import Due, Settled, Superseded, past_attempts, standing
from actors.tools.progress import ProgressReports
from actors.tools.quarantine import Quarantine
from actors.tools.retry_wait import rest_of_wait_s
from actors.tools.serving import Serving
from actors.tools.tool_cache import ToolCache
from actors.tools.tool_call import amendment_in, backoff_s, read_call, refuse
from actors.tools.tool_context import ToolContext
from actors.tools.tool_gate import ToolGate
from actors.tools.tool_pace import ToolPace
from actors.tools.tool_places import BACK_S, ToolPlaces
from actors.tools.tool_replies import ToolReplies
from actors.tools.unwanted import Unwanted
from bus import subjects
from bus.amendment import Change
from bus.connection import Bus, Message
from bus.errors import BusError, Unreadable
from bus.event import utc_now
from bus.leases import LeaseBook
from bus.mailbox import Delivery, Mailbox
from bus.objects import BlobMissing, Blobs
from bus.outbox import Outbox
from bus.streams import EVENTS, ensure_consumer
from supervisor.heartbeat import Heartbeat

log = logging.getLogger("callboard.tool")

# What the server had handed to a process that was killed, unread, comes back after this. Short, since nobody can hand
# it back sooner; a stall of the event loop that is longer brings the call to another replica as well.
ACK_WAIT_S = 5.0
KEEP_S = 1.5
CANCEL_GRACE_S = 1.5
# A call that cannot even be begun is refused after so many deliveries; some seconds for what passes by itself.
HOPELESS_AFTER = 6
# What was stored before this process heard of cancellations may have been answered or cancelled: then the log is
# asked. The server's clock may be behind ours.
LOOK_NS = 1_000_000_000
# What is known of a call's past is good for so long; less than it takes until a lease has run out (ACK_WAIT_S).
KNOWN_FOR_S = 1.0


class ToolActor:
    """Serves one component. ``on_stuck`` is called when a call cannot be stopped and the process has to go;
    ``supply`` lends each call the assets that the component names."""

    def __init__(
        self,
        bus: Bus,
        blobs: Blobs,
        component: Component[..., Any],
        *,
        name: str,
        leases: LeaseBook | None = None,
        on_stuck: Callable[[], None] = lambda: None,
        outbox: Outbox | None = None,
        supply: Supply | None = None,
    ) -> None:
        self.component = component
        self.name = name
        self.running: dict[int, Serving] = {}
        self.served = 0
        self._idle_since_s = time.monotonic()
        self._bus = bus
        self._blobs = blobs
        self._on_stuck = on_stuck
        self._supply = supply or Supply()
        self._look_before_ns = time.time_ns() + LOOK_NS
        self._executor = ThreadPoolExecutor(component.concurrency, thread_name_prefix=component.name)
        self._watchdog = Watchdog()
        self._quarantine = Quarantine()
        inherited = leases.inherited_sequences() if leases else frozenset[int]()
        self._replies = ToolReplies(bus, blobs, name, component.retry, outbox, inherited=inherited)
        self._breakers = Breakers(bus, blobs, name)
        self._stopping = False
        self._unwanted = Unwanted(self._stop_unwanted)
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        consumer = f"tool-{component.name}-v{component.major}"
        filters = [subjects.call_filter("tool", component.name, component.major)]
        self._mailbox = Mailbox(
            bus, EVENTS, consumer, self._on_call, capacity=component.concurrency, leases=leases,
            rebuild=lambda: ensure_consumer(bus, EVENTS, consumer, filters, ack_wait_s=ACK_WAIT_S),
            on_gap=self._note_gap,
        )  # fmt: skip
        self._gate = ToolGate(self._breakers, component, self._mailbox)
        self._cache = ToolCache(bus, component)
        self._places: ToolPlaces | None = None
        if component.at_once is not None:
            self._places = ToolPlaces(bus, component, component.at_once, name, self._mailbox, self._is_off)
        self._pace = ToolPace(bus, component, component.rate) if component.rate is not None else None

    # ---- life

    async def start(self) -> None:
        """Begin to take calls. Raises: BusError."""
        await self._unwanted.start(self._bus)
        await self._bus.subscribe(subjects.live("*", "*", "job.amended"), self._on_amended)
        self._bus.on_reconnect.append(self._note_gap)
        await self._gate.open()
        await self._mailbox.start()
        self._keeper = asyncio.create_task(self._keep())

    async def drain(self) -> None:
        """Take no more, and let the calls in flight run to their end, however long that takes."""
        self._stopping = True
        await self._mailbox.stop_taking()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self, grace_s: float) -> None:
        """Take no more, let the calls in flight finish for ``grace_s`` seconds, cancel and hand back the rest."""
        self._stopping = True
        await self._mailbox.stop_taking()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        late = list(self.running.values())
        for serving in late:
            if serving.task:
                serving.task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_GRACE_S)
        for serving in late:
            if serving.delivery in self._mailbox.in_flight:
                await self._replies.handed_back(serving)
        if self._keeper:
            self._keeper.cancel()
        await self._mailbox.hand_back()
        if self._places is not None:
            await self._places.places.stop()
        await self._replies.held.close()
        await self._breakers.stop()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def heartbeat(self) -> Heartbeat:
        """What it is at: its oldest call, and since when."""
        doing, since_s = self._gate.doing() or "idle", self._idle_since_s
        if self.running:
            first = min(self.running.values(), key=lambda s: s.started_s)
            more = f" and {len(self.running) - 1} more" if len(self.running) > 1 else ""
            doing, since_s = f"{first.event.call} of {first.event.job}{more}", first.started_s
        if holds := self._replies.held.doing():
            doing = f"{holds}; {doing}"
        return heartbeat_of(doing, since_s, self.served, len(self.running), (self._mailbox,))

    def _note_gap(self) -> None:
        """Cancellations may have been missed, and calls come late: of those stored before now the log is asked."""
        self._look_before_ns = time.time_ns() + LOOK_NS

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
        """One delivery to its end. Whatever goes wrong it is answered, refused, or handed back ever more slowly."""
        try:
            await self._take(delivery)
        except asyncio.CancelledError:
            pass  # handed back by stop()
        except Unreadable as error:
            await refuse(self._bus, self._blobs, delivery, error.reason, actor=self.name)
        except BusError as error:
            if isinstance(error, BlobMissing) and delivery.attempt >= MISSING_AFTER:
                await refuse(self._bus, self._blobs, delivery, str(error), actor=self.name)
            else:
                log.warning("%s: %s; handing it back", delivery.subject, error)
                await delivery.nak(backoff_s(delivery.attempt))
        except Exception as error:
            log.exception("%s: serving the call failed; handing it back", delivery.subject)
            if delivery.attempt >= HOPELESS_AFTER:
                await refuse(self._bus, self._blobs, delivery, f"{type(error).__name__}: {error}", actor=self.name)
            else:
                await delivery.nak(backoff_s(delivery.attempt))

    async def _take(self, delivery: Delivery) -> None:
        if running := self.running.get(delivery.sequence):
            await self._adopt(running, delivery)
            return
        workspace, event = await read_call(delivery, self._blobs)
        serving = Serving(workspace, event, delivery, asyncio.current_task())
        self.running[delivery.sequence] = serving
        try:
            await self._settle(serving)
        except Exception:
            if serving.delivery is not delivery:  # adopted meanwhile; who catches this knows of the first one only
                await serving.delivery.nak(backoff_s(serving.delivery.attempt))
            raise
        finally:
            del self.running[delivery.sequence]
            self.served += 1
            self._idle_since_s = time.monotonic()
            self._gate.settled()

    async def _adopt(self, serving: Serving, delivery: Delivery) -> None:
        """The very call that runs here came again: our loop was stalled for longer than the ack time-out."""
        serving.delivery.forget()
        serving.delivery = delivery
        await self._replies.handed_back(serving)

    async def _settle(self, serving: Serving) -> None:
        """Run the call, if that is still to be done."""
        if self._stopping:
            await self._hand_back(serving)
        elif await self._is_due(serving) and not await self._is_cached(serving):
            if self._places is None:
                await self._run_in_turn(serving)
                return
            async with self._places.place(serving) as may_go_on:
                await self._run_at_place(serving, may_go_on=may_go_on)

    async def _run_at_place(self, serving: Serving, *, may_go_on: bool) -> None:
        if not may_go_on:
            await self._replies.came_early(serving, BACK_S)
        elif self._stopping:
            await self._hand_back(serving)
        else:
            await self._run_in_turn(serving)

    async def _run_in_turn(self, serving: Serving) -> None:
        if self._pace is not None and (again_s := await self._pace.turn(serving)):
            await self._replies.came_early(serving, again_s)
        else:
            await self._run_in_place(serving)

    def _is_off(self, serving: Serving) -> bool:
        """Whether a call that waits for its place is not to be run any more, here or at all."""
        return self._stopping or serving.cancelled or self._unwanted.holds(serving)

    async def _is_cached(self, serving: Serving) -> bool:
        """Whether the cache had the answer, which is given then; it costs neither rate nor place."""
        if self.component.cache_ttl_s is None:
            return False
        output = await self._cache.look(serving.workspace, bytes(serving.event.input))
        if output is None or serving.cancelled or self._unwanted.holds(serving):
            return False
        await self._replies.completed(serving, output, cached=True)
        return True

    async def _hand_back(self, serving: Serving) -> None:
        """To whoever may take it, with no attempt spent."""
        await self._replies.handed_back(serving)
        await serving.delivery.nak()

    async def _run_in_place(self, serving: Serving) -> None:
        """Run it when it may run; without suspects about, which is nearly always, that is at once."""
        if serving.suspect or not self._quarantine.is_open:
            async with self._quarantine.place(suspect=serving.suspect):
                await self._run(serving)
            return
        self._quarantine.enter()
        try:
            await self._run(serving)
        finally:
            self._quarantine.leave()

    async def _is_due(self, serving: Serving) -> bool:
        """Whether it is to be run. A call that came before may be answered, its job over, or its attempts spent."""
        delivery = serving.delivery
        if delivery.attempt == 1 and delivery.stored_ns >= self._look_before_ns:
            return True
        if delivery.attempt > 1:
            await self._replies.held.settle(serving.workspace, serving.event.job, serving.event.call)
        serving.known_s = time.monotonic()
        past = await past_attempts(self._bus, serving.workspace, serving.event, delivery.sequence)
        match standing(past, delivery.attempt):
            case Settled():
                await serving.delivery.ack()
                return False
            case Superseded():
                serving.delivery.forget()
                return False
            case Due(attempt, after_death):
                serving.attempt, serving.suspect = attempt, after_death
                if past.is_amended:
                    changes = await read_amendments(self._bus, self._blobs, serving.workspace, serving.event.job)
                    self._amend(serving, changes)
                if rest_s := rest_of_wait_s(past.last_failed, utc_now()):
                    await self._replies.came_early(serving, rest_s)
                    return False
                return not after_death or await self._has_attempts_left(serving)
            case never:
                assert_never(never)

    async def _has_attempts_left(self, serving: Serving) -> bool:
        """After a death; if none is left, the call has failed."""
        if serving.attempt <= self._replies.policy(serving.event).attempts:
            return True
        self._gate.died()
        await self._replies.died_for_good(serving)
        return False

    async def _was_settled(self, serving: Serving) -> bool:
        """Whether another has served the call, or serves it, since it waited here: our lease may have run out.

        It waits among suspects for its turn, for the log to take the word of a death, or as all else does in a process
        that is stopped.
        """
        serving.known_s = time.monotonic()
        past = await past_attempts(self._bus, serving.workspace, serving.event, serving.delivery.sequence)
        match standing(past, serving.delivery.attempt):
            case Settled():
                await serving.delivery.ack()
                return True
            case Superseded():
                serving.delivery.forget()
                return True
            case Due():
                return False

    # ---- one attempt

    async def _run(self, serving: Serving) -> None:
        permit = self._gate.admit()
        if permit is None:  # the circuit has opened since the call was pulled
            await self._hand_back(serving)
            return
        try:
            await self._run_once(serving, permit)
        finally:
            self._gate.drop(permit)

    async def _run_once(self, serving: Serving, permit: Permit) -> None:
        if serving.suspect:
            if await self._was_settled(serving):
                return
            self._gate.died()
            await self._replies.died(serving)
        if time.monotonic() - serving.known_s > KNOWN_FOR_S and await self._was_settled(serving):
            return
        if serving.cancelled or self._unwanted.holds(serving):
            await self._replies.cancelled(serving)
            return
        serving.started_s = time.monotonic()
        try:
            output = await self._attempt(serving)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a tool may raise anything
            if not serving.cancelled:
                self._gate.end(permit, error, serving.duration_s)
            if isinstance(error, Stuck):
                self._stopping = True  # a process that has to go begins nothing more, not even this call's next attempt
            await self._replies.failed(serving, error)
            if isinstance(error, Stuck):
                self._on_stuck()
        else:
            self._gate.end(permit, None, serving.duration_s)
            if self.component.cache_ttl_s is not None:
                await self._cache.keep(serving.workspace, bytes(serving.event.input), output)
            await self._replies.completed(serving, output)

    async def _attempt(self, serving: Serving) -> bytes:
        event, sequence = serving.event, serving.delivery.sequence
        arguments = self.component.decode_input(bytes(event.input))
        timeout_s = event.timeout_s or self.component.timeout_s
        reports = ProgressReports(self._bus, self._blobs, serving.workspace, event, serving.attempt)
        context = ToolContext(
            serving.workspace, event.job, event.call, serving.attempt, event.traceparent, _report=reports.report,
            _breakers=self._breakers, _blobs=self._blobs, _timeout_s=timeout_s,
        )  # fmt: skip
        self._watchdog.watch(sequence, f"{event.call} of {event.job}", timeout_s)
        try:
            with self._supply.lend() as assets:
                serving.invocation = Invocation(self.component, context, arguments | assets, self._executor)
                value = await serving.invocation.outcome(timeout_s)
        finally:
            self._watchdog.forget(sequence)
            serving.invocation = None
            if recording := reports.close():
                await asyncio.wait({recording})
        return self.component.encode_output(value)

    # ---- amendments

    def _on_amended(self, msg: Message) -> None:
        """A job was changed: what runs for it is retried as it is said now. Missed, it counts from the next attempt."""
        place = subjects.parse_event(msg.subject)
        concerned = [s for s in self.running.values() if (s.workspace, s.event.job) == (place.workspace, place.job)]
        if concerned and (change := amendment_in(msg)) is not None:
            for serving in concerned:
                self._amend(serving, [change])

    def _amend(self, serving: Serving, changes: list[Change]) -> None:
        serving.event = amended_command(serving.event, changes, self.component.retry)

    # ---- cancel

    def _stop_unwanted(self) -> None:
        """Stop what runs and nobody waits for."""
        for serving in self.running.values():
            if self._unwanted.holds(serving):
                serving.cancel()
