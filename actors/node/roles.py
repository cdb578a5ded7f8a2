"""What a child process can be: a tool actor, a job host, or the gateway. Each starter returns its stopper."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from actors.components.announcement import announce
from actors.components.app import App
from actors.components.component import Component
from actors.components.registry import Registry
from actors.node.heart import heartbeat_of, with_warnings
from actors.node.process import EXIT_STUCK, STOP_GRACE_S, Actor
from actors.node.storeroom import Storeroom
from actors.tools.tool_actor import ToolActor
from bus.errors import UsageError
from bus.streams import wait_for_streams

log = logging.getLogger("callboard.process")

if TYPE_CHECKING:
    from actors.operations.hosting import Hosting

# The supervisor bounds a drain, not the actor.
DRAIN_LIMIT_S = 7 * 86400.0
Stop = Callable[[], Awaitable[None]]


async def serve_tool(actor: Actor, app: App, name: str, major: int) -> Stop:
    """Serve one tool of the app, once its assets are loaded.

    Raises: UsageError (not in the app; not for this machine; its schema is taken by another node's), AssetFailed.
    """
    component = _find(app, "tool", name, major)
    for kit in app.kits:
        if component in kit.tools:
            await kit.check_machine()
    storeroom = Storeroom(actor, app, [component])
    await wait_for_streams(actor.bus)
    if not await storeroom.open():
        return storeroom.close
    registry = Registry(actor.bus)

    def on_stuck() -> None:
        actor.end(EXIT_STUCK)

    supply = storeroom.supply(component)
    service = await announce(actor, registry, component, on_stuck=on_stuck, supply=supply, info=app.info_of(component))
    tool = ToolActor(
        actor.bus, actor.blobs, component, name=f"{actor.node}/{actor.name}", leases=actor.leases, on_stuck=on_stuck,
        outbox=actor.outbox, supply=supply,
    )  # fmt: skip
    await tool.start()
    actor.heartbeat = storeroom.beat(tool.heartbeat)

    async def drain() -> None:
        await asyncio.gather(tool.drain(), service.stop(grace_s=DRAIN_LIMIT_S))

    actor.drain = drain

    async def stop() -> None:
        await tool.stop(0.5 if actor.exit_code else STOP_GRACE_S)
        await service.stop()
        await storeroom.close()

    return stop


async def host_jobs(actor: Actor, app: App, workflows: list[str], capacity: int) -> Stop:
    """Run those workflows of the app, once the assets of its agents are loaded. Raises: UsageError, AssetFailed."""
    from actors.hosts.host import CAPACITY, JobHost  # a sixth of what a tool's process would import
    from actors.operations.hosting import Hosting
    from actors.workflow_versions.definitions import Definitions

    components = [c for c in app.components if c.kind != "tool" and c.name in workflows]
    for name in workflows:
        _find(app, "agent" if app.find("agent", name) else "job", name, None)
    storeroom = Storeroom(actor, app, components)
    await wait_for_streams(actor.bus)
    if not await storeroom.open():
        return storeroom.close
    registry = Registry(actor.bus)
    await registry.start()
    services = [await announce(actor, registry, each, info=app.info_of(each)) for each in components]
    definitions = Definitions(actor.bus)
    hosting = Hosting(actor.bus, actor.blobs, app, registry, host=f"{actor.node}/{actor.name}", node=actor.node)
    hosting.supplies = {component: storeroom.supply(component) for component in components}
    if any(component.keeps_version for component in components):  # their other versions are in the bucket
        from actors.interpreter.repertoire import Repertoire  # heavy, and most apps have no documents

        await definitions.start()
        hosting.repertoire = Repertoire(definitions)
    host = JobHost(hosting, workflows, capacity=capacity or CAPACITY, leases=actor.leases)
    warnings = await _warn_of_models(hosting, [component for component in components if component.agent is not None])
    await host.start()
    actor.heartbeat = with_warnings(storeroom.beat(host.heartbeat), warnings)

    async def stop() -> None:
        await host.stop()
        await definitions.stop()
        await registry.stop()
        await asyncio.gather(*(service.stop() for service in services))
        await storeroom.close()

    return stop


async def _warn_of_models(hosting: Hosting, agents: list[Component[..., Any]]) -> tuple[str, ...]:
    """Say which agents cannot ask their models as things are: a missing key is better known before a job fails."""
    if not agents:
        return ()
    from actors.agents.declaring import AgentComponent  # most hosts have no agent

    warnings: list[str] = []
    for agent in agents:
        try:
            if isinstance(agent, AgentComponent):
                await hosting.models.open(agent.settings.model)
        except UsageError as error:
            warnings.append(f"agent {agent.name} cannot ask its model: {error}")
            log.warning("%s", warnings[-1])
    return tuple(warnings)


async def serve_gateway(actor: Actor) -> Stop:
    """Serve the ``api.*`` services, and do the duties of the cluster while no other gateway does."""
    from actors.duties.leader import Leader
    from actors.duties.timing import timing_of
    from actors.gateway.gateway import Gateway  # brings jsonschema along, which no other role needs
    from actors.gateway.sweep import Sweep

    leader = Leader(actor.bus, actor.blobs, actor.node, actor.name, timing_of(os.environ))
    await wait_for_streams(actor.bus)
    registry = Registry(actor.bus)
    await registry.start()
    sweep = Sweep(actor.bus, actor.blobs, registry, is_on_duty=lambda: leader.leads)
    gateway = Gateway(actor.bus, registry, sweep=sweep)
    await gateway.start()
    leader.start()
    since_s = time.monotonic()
    actor.heartbeat = lambda: heartbeat_of("serving, leads" if leader.leads else "serving", since_s)

    async def stop() -> None:
        await leader.stop()
        await gateway.stop()
        await registry.stop()

    return stop


def _find(app: App, kind: Any, name: str, major: int | None) -> Component[..., Any]:
    component = app.find(kind, name, major)
    if component is None:
        version = f"@{major}" if major is not None else ""
        raise UsageError(f"app {app.name!r} has no {kind} {name}{version}", code="unknown_component")
    return component
