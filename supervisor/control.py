"""A node under control: the micro service ``supervisor``, whose endpoints ``sup.<node>.<order>`` take orders to it.

Also reachable without any SDK: ``nats req sup.n1.restart '{"actor": "quote-1"}'``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from bus import subjects
from bus.connection import Bus
from bus.errors import UsageError
from bus.service import Service, ServiceRequest
from supervisor.child import ChildSpec
from supervisor.demand import (
    WAIT_LIMIT_S,
    ActorDemand,
    DemandAnswer,
    DrainDemand,
    ScaleDemand,
    read_demand,
)
from supervisor.status import NodeStatus, actors_named, known_names, no_actor
from supervisor.tree import Supervisor, by_group

log = logging.getLogger("callboard.control")

SERVICE = "supervisor"
VERSION = "1.0.0"
SERVING_S = 30.0
LOOK_S = 0.1

_ACTOR_EXAMPLE = '{"actor": "quote-1"}: the name of an actor, a component or a group'
_SCALE_EXAMPLE = '{"component": "quote", "replicas": 3}'
_DRAIN_EXAMPLE = '{"timeout_s": 60}'

# All child specs of the node, with so many processes for one component. Raises: UsageError for an unknown one.
Scaled = Callable[[str, int], Sequence[ChildSpec]]


class Controlled(Protocol):
    """What is controlled (``supervisor.node.Node``)."""

    name: str
    supervisor: Supervisor

    def status(self) -> NodeStatus: ...
    def drain(self, timeout_s: float, by: str = "") -> None: ...


class Control:
    """Serves the orders to one node. ``scaled`` is missing where nothing can be scaled."""

    def __init__(self, node: Controlled, scaled: Scaled | None = None) -> None:
        self._node = node
        self._scaled = scaled
        self._service = Service()
        self._scaling = asyncio.Lock()
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self, bus: Bus) -> None:
        """Announce the service and serve."""
        node = self._node.name
        about = "Control of a node: what runs there, and orders to it"
        await self._service.start(bus, SERVICE, VERSION, about, {"node": node})
        endpoints = {
            "ps": self._ps, "restart": self._restart, "stop": self._stop, "start": self._start, "scale": self._scale,
            "drain": self._drain,
        }  # fmt: skip
        for name, handler in endpoints.items():
            await self._service.add_endpoint(name, subjects.control(node, name), handler, queue=f"sup-{node}")

    async def stop(self) -> None:
        """Take no more orders."""
        await self._service.stop()

    # ---- endpoints

    async def _ps(self, _: ServiceRequest) -> bytes:
        return msgspec.json.encode(self._node.status())

    async def _restart(self, request: ServiceRequest) -> bytes:
        return await self._to_actors(request, self._restart_each)

    async def _restart_each(self, names: Sequence[str]) -> None:
        """One after the other, each as soon as the one before serves: meanwhile the others do."""
        for position, name in enumerate(names):
            if position:
                await self._until_served(names[position - 1])
            await self._node.supervisor.restart(name)

    async def _until_served(self, name: str) -> None:
        """Until it says what it does; a start that fails or takes long is not waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SERVING_S):
                while any(  # noqa: ASYNC110 - heartbeats tell it, and nobody else waits for them
                    actor.name == name and actor.state == "running" and not actor.doing
                    for actor in self._node.supervisor.statuses()
                ):
                    await asyncio.sleep(LOOK_S)

    async def _stop(self, request: ServiceRequest) -> bytes:
        return await self._to_actors(request, self._node.supervisor.hold)

    async def _start(self, request: ServiceRequest) -> bytes:
        return await self._to_actors(request, self._node.supervisor.release)

    async def _scale(self, request: ServiceRequest) -> bytes:
        demand = read_demand(request.body, ScaleDemand, _SCALE_EXAMPLE)
        if self._scaled is None:
            raise UsageError("the actors of this node are fixed: nothing can be scaled", code="fixed")
        done = await self._carry_out(self._rescale(self._scaled, demand), demand.wait_s)
        return self._answer(done, lambda: actors_named(self._node.status().actors, demand.component))

    async def _drain(self, request: ServiceRequest) -> bytes:
        demand = read_demand(request.body, DrainDemand, _DRAIN_EXAMPLE)
        self._node.drain(demand.timeout_s, demand.by)
        return msgspec.json.encode(self._node.status())

    # ---- carrying out

    async def _to_actors(self, request: ServiceRequest, order: Callable[[Sequence[str]], Awaitable[None]]) -> bytes:
        demand = read_demand(request.body, ActorDemand, _ACTOR_EXAMPLE)
        actors = self._node.status().actors
        names = actors_named(actors, demand.actor)
        if not names:
            raise no_actor(demand.actor, known_names(actors), f"node {self._node.name}")
        done = await self._carry_out(_awaited(order(names)), demand.wait_s)
        return self._answer(done, lambda: names)

    async def _rescale(self, scaled: Scaled, demand: ScaleDemand) -> None:
        """One after the other: each begins with what the one before has made. Other groups are left as they are."""
        async with self._scaling:
            wanted = by_group(scaled(demand.component, demand.replicas))
            present = by_group(self._node.supervisor.specs)
            for group in {**present, **wanted}:
                if wanted.get(group, []) != present.get(group, []):
                    await self._node.supervisor.scale(group, wanted.get(group, []))

    async def _carry_out(self, work: Coroutine[Any, Any, None], wait_s: float) -> bool:
        """Whether it was done in time; if not it goes on. Raises: what it raised in time."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.wait({task}, timeout=min(wait_s, WAIT_LIMIT_S))
        if task.done():
            await task
            return True
        task.add_done_callback(_tell_failure)
        return False

    def _answer(self, done: bool, names: Callable[[], Sequence[str]]) -> bytes:
        concerned = names()
        actors = [actor for actor in self._node.status().actors if actor.name in concerned]
        return msgspec.json.encode(DemandAnswer(node=self._node.name, done=done, actors=actors))


async def _awaited(order: Awaitable[None]) -> None:
    await order


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.warning("an order failed after its answer: %s", error)
