"""A job host: one process that runs many jobs at once, each as a ``JobActor``.

Its leases are the un-acked requests: a ticker keeps them in progress, and a stop hands them back. One consumer for each
workflow and priority, shared by every host that has the workflow, so that a host is given only what it can run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable

from actors.dead_letters.rejection import reject
from actors.hosts.foyer import LOOK_S, Foyer
from actors.hosts.job_actor import JobActor
from actors.hosts.planning import plan
from actors.hosts.taking import NoSuchVersion
from actors.jobs.halts import HandedBack
from actors.jobs.order import Order, read_order
from actors.node.heart import heartbeat_of
from actors.operations.hosting import Hosting
from actors.schedules.firing import fire, is_tick
from bus import headers as h
from bus import subjects
from bus.approval_events import ApprovalAnswered
from bus.connection import Message
from bus.errors import BusError, Unreadable, UsageError
from bus.leases import LeaseBook
from bus.mailbox import Delivery, Mailbox
from bus.messages import JobAmended, Signal, decode
from bus.streams import JOBS, ensure_consumer
from bus.subjects import PRIORITIES, Priority
from store.log import Recorded
from supervisor.heartbeat import Heartbeat

log = logging.getLogger("callboard.host")

LEASE_VARIABLE = "CALLBOARD_LEASE_S"
LEASE_S = 8.0
POLL_S = 5.0
CAPACITY = 1000


class JobHost:
    """Runs workflows of one app, or published ones. ``capacity``: jobs in flight for each workflow, see ``foyer``.

    ``lease_s``: a host that is not heard of for so long has lost its jobs; the same for all hosts of a workflow.
    ``forget_s``: the queue forgets workflows that no host has served for so long (None: never).
    """

    def __init__(
        self,
        hosting: Hosting,
        workflows: list[str],
        *,
        capacity: int = CAPACITY,
        leases: LeaseBook | None = None,
        lease_s: float | None = None,
        forget_s: float | None = None,
    ) -> None:
        self.hosting = hosting
        self.workflows: list[str] = []
        self.running: dict[tuple[str, str], JobActor] = {}
        self.finished = 0
        self._since_s = time.monotonic()
        self._capacity = capacity
        self._lease_s = lease_s or float(os.environ.get(LEASE_VARIABLE, LEASE_S))
        self._forget_s = forget_s
        self._leases = leases
        self._mailboxes: list[Mailbox] = []
        self._foyers: list[Foyer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._wakes: dict[tuple[str, str], list[Delivery]] = {}
        self._tickers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._first = sorted(workflows)

    # ---- life

    async def start(self) -> None:
        """Begin to take jobs. Raises: BusError."""
        bus = self.hosting.bus
        await self.hosting.board.start()
        for kind in ("signal.*", "approval.answered", "job.amended"):
            await bus.subscribe(subjects.live("*", "*", kind), self._on_word)
        bus.on_reconnect.append(self._read_all_on)
        for workflow in self._first:
            await self.add(workflow)
        self._tickers = [asyncio.create_task(each()) for each in (self._keep, self._poll, self._look)]

    async def add(self, workflow: str) -> None:
        """Take jobs of one more workflow from now on; nothing if it is served already. Raises: BusError."""
        if workflow in self.workflows:
            return
        foyer = Foyer(workflow, self._capacity, self._begin)
        foyer.mailboxes = {priority: self._mailbox(workflow, priority, foyer) for priority in PRIORITIES}
        made = list(foyer.mailboxes.values())
        self._mailboxes += made
        try:
            for mailbox in made:
                await mailbox.start()
        except BaseException:
            for mailbox in made:
                await mailbox.stop_taking()
                await mailbox.hand_back()
            self._mailboxes = [mailbox for mailbox in self._mailboxes if mailbox not in made]
            raise
        self._foyers.append(foyer)
        self.workflows.append(workflow)

    def _mailbox(self, workflow: str, priority: Priority, foyer: Foyer) -> Mailbox:
        name = f"job-{workflow}-{priority}"
        filters = subjects.request_filters(workflow, priority)
        bus = self.hosting.bus
        return Mailbox(
            bus, JOBS, name, lambda delivery: foyer.enter(delivery, priority), capacity=foyer.window,
            leases=self._leases,
            rebuild=lambda: ensure_consumer(
                bus, JOBS, name, filters, ack_wait_s=self._lease_s, inactive_s=self._forget_s
            ),
        )  # fmt: skip

    async def stop(self) -> None:
        """Take no more, hand every job back, and wait until that is done."""
        self._stopping = True
        for mailbox in self._mailboxes:
            await mailbox.stop_taking()
        for foyer in self._foyers:
            foyer.close()
        for ticker in self._tickers:
            ticker.cancel()
        for actor in list(self.running.values()):
            actor.halt(HandedBack())
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        for mailbox in self._mailboxes:
            await mailbox.hand_back()
        await self.hosting.board.stop()
        await self.hosting.close()

    async def forget(self) -> None:
        """Let the queue forget the workflows of this host; only for those that no other host has. Raises: BusError."""
        for mailbox in self._mailboxes:
            await self.hosting.bus.api(f"CONSUMER.DELETE.{mailbox.stream}.{mailbox.consumer}")

    def heartbeat(self) -> Heartbeat:
        """What the host is at: how many jobs it holds, and since when there are any, or none."""
        number = len(self.running)
        doing = f"{number} {'job' if number == 1 else 'jobs'}" if number else "idle"
        return heartbeat_of(doing, self._since_s, self.finished, number, self._mailboxes)

    # ---- requests

    def _begin(self, delivery: Delivery, ended: Callable[[], None]) -> None:
        task = asyncio.create_task(delivery.nak() if self._stopping else self._serve(delivery))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            ended()

        task.add_done_callback(done)

    async def _serve(self, delivery: Delivery) -> None:
        """One request to its end: acked, handed back, refused with a trace, or forgotten since it is another's."""
        try:
            await self._take(delivery)
        except NoSuchVersion as error:
            log.warning("%s; handing it to another host", error)
            await delivery.nak(1.0 + random.random())
        except BusError as error:
            log.warning("%s: %s; handing it back", delivery.subject, error)
            await delivery.nak(_backoff_s(delivery.attempt))
        except Exception:
            log.exception("%s: serving the request failed; handing it back", delivery.subject)
            await delivery.nak(5.0 + _backoff_s(delivery.attempt))

    async def _take(self, delivery: Delivery) -> None:
        try:
            order = await read_order(delivery, self.hosting.blobs)
            if is_tick(delivery):
                await fire(self.hosting.bus, self.hosting.blobs, order, delivery)
            elif order.starts_at is None or not await plan(self.hosting, order, delivery):
                await self._admit(order, delivery)
        except UsageError as error:
            await reject(self.hosting.bus, self.hosting.blobs, delivery, error, self.hosting.host)

    async def _admit(self, order: Order, delivery: Delivery) -> None:
        key = (order.workspace, order.job)
        actor = self.running.get(key)
        if actor is None:
            await self._run(key, JobActor(self.hosting, order, delivery))
        elif actor.lease.sequence == delivery.sequence:
            # The same message again: our loop was stalled for longer than the lease. Whether another host had it
            # meanwhile, the log says.
            actor.lease.forget()
            actor.lease = delivery
            actor.read_on()
        elif order.wake and actor.is_parking:
            # About to leave: what it is woken for may be stored too late for its last look at the log.
            self._wakes.setdefault(key, []).append(delivery)
        elif actor.doing == "taking":
            # It may have read the log before what this one is about was stored, and leave without a word.
            await delivery.nak(0.05)
        elif order.wake:
            # What it is woken for is in the log already, and the job looks there before it ever parks.
            await delivery.ack()
        else:
            await JobActor(self.hosting, order, delivery).run()

    async def _run(self, key: tuple[str, str], actor: JobActor) -> None:
        if not self.running:
            self._since_s = time.monotonic()
        self.running[key] = actor
        lease = actor.lease
        try:
            await actor.run()
        except Exception:
            if actor.lease is not lease:  # the message came again meanwhile; who catches this knows of the first only
                await actor.lease.nak(1.0)
            raise
        finally:
            del self.running[key]
            self.finished += 1
            if not self.running:
                self._since_s = time.monotonic()
            for delivery in self._wakes.pop(key, ()):
                self._begin(delivery, _nothing)

    # ---- signals, leases, doubts

    def _on_word(self, msg: Message) -> None:
        place = subjects.parse_event(msg.subject)
        actor = self.running.get((place.workspace, place.job))
        if actor is None:
            return
        sequence = int((msg.headers or {})[h.SEQUENCE])
        try:
            event = decode(msg.data, subject=msg.subject, sequence=sequence)
        except Unreadable as error:
            log.warning("left out: %s", error)
            return
        if isinstance(event, Signal | ApprovalAnswered | JobAmended):
            if event.blob is None:
                actor.ring(Recorded(sequence, event))
            else:
                actor.read_on()

    def _read_all_on(self) -> None:
        for actor in self.running.values():
            actor.read_on()

    async def _keep(self) -> None:
        kept_s = time.time()
        while True:
            await asyncio.sleep(self._lease_s / 3.2)
            stalled = time.time() - kept_s >= self._lease_s
            kept_s = time.time()
            if stalled:
                # Other hosts may have our jobs; to keep a lease that is theirs would keep it up after their death.
                log.warning(
                    "stalled for longer than the lease of %g s: looking which jobs are still ours", self._lease_s
                )
                self._read_all_on()
                continue
            for mailbox in self._mailboxes:
                await mailbox.keep_leases()

    async def _look(self) -> None:
        """As long as more requests wait than can run: whose are they?"""
        while True:
            await asyncio.sleep(LOOK_S)
            for foyer in list(self._foyers):
                await foyer.look(self.hosting.bus)

    async def _poll(self) -> None:
        """A doorbell may be missed: read the log of every job that has waited for long."""
        while True:
            await asyncio.sleep(POLL_S)
            for actor in list(self.running.values()):
                actor.read_on_if_quiet(POLL_S)


def _nothing() -> None:
    """A wake-up that waited for its job has no place to give back."""


def _backoff_s(deliveries: int) -> float:
    """What fails again and again is tried ever more slowly."""
    return min(15.0, 0.25 * 2.0 ** min(deliveries, 10)) * (0.75 + random.random() / 2)
