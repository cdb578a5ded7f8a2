"""Making a running component known: a row in the registry, and a NATS micro service (``nats micro ls|info|stats``).

A tool's service has the endpoint ``call``: a request there runs the tool at once and answers with its output. Nothing
is recorded and nothing is retried; durable calls go through a job.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from actors.component import Component
from actors.invocation import invoke
from actors.registry import Registry
from actors.tool_context import ToolContext
from bus import jobid
from bus.service import Service, ServiceRequest

if TYPE_CHECKING:
    from actors.process import Actor


async def announce(actor: Actor, registry: Registry, component: Component[..., Any]) -> Service:
    """Register and start the service. Raises: UsageError if another node serves other schemas as this version."""
    await registry.register(component.info())
    service = Service()
    await service.start(
        actor.bus,
        component.name,
        component.version,
        component.description.partition("\n")[0],
        _metadata(component, actor.node),
    )
    subject = f"{component.kind}.{component.name}.v{component.major}"
    await service.add_endpoint("describe", f"{subject}.describe", _describe(component))
    if component.kind == "tool":
        await service.add_endpoint("call", f"{subject}.call", _direct_call(component))
    return service


def _metadata(component: Component[..., Any], node: str) -> dict[str, str]:
    return {
        "kind": component.kind,
        "app": component.app,
        "digest": component.digest,
        "node": node,
        "input_schema": msgspec.json.encode(component.input_schema).decode(),
        "output_schema": msgspec.json.encode(component.output_schema).decode(),
    }


def _describe(component: Component[..., Any]) -> Any:
    body = msgspec.json.encode(component.info())

    async def handle(_: ServiceRequest) -> bytes:
        return body

    return handle


def _direct_call(component: Component[..., Any]) -> Any:
    executor = ThreadPoolExecutor(component.concurrency, thread_name_prefix=f"{component.name}-direct")

    async def handle(request: ServiceRequest) -> bytes:
        arguments = component.decode_input(request.body)
        context = ToolContext(workspace="", job=f"direct-{jobid.new()}", call="direct")
        value = await invoke(component, context, arguments, timeout_s=component.timeout_s, executor=executor)
        return component.encode_output(value)

    return handle
