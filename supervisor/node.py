"""A node: a supervisor joined to the bus. It starts the actors' processes, hears their heartbeats, answers ``ps``,
and writes what happens to them to the log of workspace ``_system``, where the node stands in the place of a job.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from bus import subjects
from bus.connection import Bus, Message
from bus.courier import Courier
from bus.errors import BusError
from bus.event import utc_now
from bus.messages import Event, encode
from bus.system_events import (
    ActorExited,
    ActorKilled,
    ActorRestarting,
    ActorsGivenUp,
    ActorStarted,
    ActorStopped,
    NodeDraining,
    NodeStarted,
    NodeStopped,
)
from supervisor.child import ChildSpec
from supervisor.control import Control, Scaled
from supervisor.demand import DRAIN_S
from supervisor.process import OnLine
from supervisor.restart import Group
from supervisor.status import PS_SUBJECT, NodeStatus, node_statuses
from supervisor.tally import Snapshot, Tally
from supervisor.tree import (
    ChildExited,
    ChildHeld,
    ChildKilled,
    ChildRestarting,
    ChildStarted,
    GroupGivenUp,
    Outcome,
    SupervisionEvent,
    Supervisor,
)
from supervisor.watch import Watch

__all__ = ["PS_SUBJECT", "Node", "NodeStatus", "node_statuses"]

log = logging.getLogger("callboard.node")


class Node:
    """Runs ``specs`` under the name ``name`` until it is stopped or drained, or until every group is given up.

    ``groups`` are the policies of groups by name, ``scaled`` gives the specs for another number of processes.
    Raises: UsageError that lists everything that is wrong with the specs or groups.
    """

    def __init__(
        self, bus: Bus, name: str, specs: Sequence[ChildSpec], *, app: str = "",
        groups: Mapping[str, Group] | None = None, scaled: Scaled | None = None, on_line: OnLine | None = None,
    ) -> None:  # fmt: skip
        self.name = subjects.check_name(name, "node")
        self.supervisor = Supervisor(specs, groups=groups, on_line=on_line, on_event=self._on_event)
        self._control = Control(self, scaled)
        self.watch = Watch(bus, name, self.supervisor)
        self.tally = Tally()
        self._bus = bus
        self._app = app
        self._specs = specs
        self._started_at = utc_now()
        self._events: asyncio.Queue[Event] = asyncio.Queue(1000)
        self._interrupts = 0
        self._stopping: asyncio.Task[None] | None = None
        self._draining: list[asyncio.Task[None]] = []

    async def run(self) -> Outcome:
        """Until SIGTERM or SIGINT (a second one kills), drained (SIGUSR1), or until no group is left."""
        await self._bus.subscribe(PS_SUBJECT, self._on_ps)
        await self._control.start(self._bus)
        await self.watch.start()
        writer = asyncio.create_task(self._write_events())
        courier = Courier(self._bus)  # for what killed actors and clients have left on this machine's disk
        courier.start()
        self._note(NodeStarted(job=self.name, pid=os.getpid(), actors=tuple(s.name for s in self._specs)))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGUSR1, self.drain, DRAIN_S, "SIGUSR1")
        try:
            outcome = await self.supervisor.run()
        finally:
            await self.watch.stop()
            await courier.stop()
            await self._control.stop()
            self._note(NodeStopped(job=self.name, reason="drained" if self._draining else ""))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(3):
                    await self._events.join()
            writer.cancel()
        return outcome

    def _on_signal(self) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            log.info("stopping; once more kills")
            self._stopping = asyncio.create_task(self.supervisor.stop())
        else:
            self._stopping = asyncio.create_task(self.supervisor.kill_now())

    def drain(self, timeout_s: float, by: str = "") -> None:
        """Take nothing more, hand back what is not begun, and end once what is begun has ended.

        After ``timeout_s`` seconds the rest is handed back too. Of several drains the one that ends first counts.
        """
        if not self._draining:
            log.info("draining, for %g s at most", timeout_s)
            self._note(NodeDraining(job=self.name, by=by))
        self._draining.append(asyncio.create_task(self.supervisor.drain(timeout_s)))

    def status(self) -> NodeStatus:
        """This node and its actors as they are now."""
        given_up = self.supervisor.given_up
        return NodeStatus(
            node=self.name, pid=os.getpid(), started_at=self._started_at, app=self._app, healthy=not given_up,
            draining=bool(self._draining), given_up=given_up, actors=self.supervisor.statuses(),
        )  # fmt: skip

    def snapshot(self) -> Snapshot:
        """What its metrics are made of."""
        ages_s = self.watch.lookout.ages_s(asyncio.get_running_loop().time())
        return Snapshot(self.status(), self.tally, self.watch.lookout.beats(), ages_s, self.watch.pending)

    @contextlib.asynccontextmanager
    async def metrics(self, address: str) -> AsyncIterator[str]:
        """Serve its metrics at ``[HOST:]PORT`` while this is entered; gives their URL. Raises: UsageError."""
        from supervisor.metrics_server import MetricsServer  # brings prometheus-client along

        async with MetricsServer(self._bus, address, self.tally, self.snapshot) as served:
            yield served.url

    # ---- what comes from the bus

    def _on_ps(self, msg: Message) -> None:
        if msg.reply:
            self._answer = asyncio.create_task(self._bus.publish(msg.reply, msgspec.json.encode(self.status())))

    # ---- what goes to the log

    def _on_event(self, event: SupervisionEvent) -> None:
        self.tally.note(event)
        match event:
            case ChildStarted(name, pid):
                self._note(ActorStarted(job=self.name, actor=name, pid=pid))
            case ChildExited(name, pid, description, expected):
                if not expected:
                    log.warning("%s: %s", name, description)
                self._note(ActorExited(job=self.name, actor=name, pid=pid, description=description, expected=expected))
            case ChildKilled(name, pid, cause, reason):
                log.warning("%s (pid %d) is killed: %s", name, pid, reason)
                self._note(ActorKilled(job=self.name, actor=name, pid=pid, cause=cause, reason=reason))
            case ChildHeld(name):
                self._note(ActorStopped(job=self.name, actor=name))
            case ChildRestarting(name, delay_s, restarts):
                self._note(ActorRestarting(job=self.name, actor=name, delay_s=delay_s, restarts=restarts))
            case GroupGivenUp(group, reason):
                log.error("%s is given up: %s", group, reason)
                self._note(ActorsGivenUp(job=self.name, group=group, reason=reason))

    def _note(self, event: Event) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # the server is away for long: after a thousand they are dropped
            self._events.put_nowait(event)

    async def _write_events(self) -> None:
        while True:
            event = await self._events.get()
            subject = subjects.event(subjects.SYSTEM_WORKSPACE, self.name, event.kind)
            try:
                await self._bus.append(subject, encode(event))
            except BusError as error:
                log.warning("event %s of this node was not recorded: %s", event.kind, error)
            finally:
                self._events.task_done()
