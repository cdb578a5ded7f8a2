"""Making a running component known: a row in the registry, and a NATS micro service (``nats micro ls|info|stats``).

A tool's service has the endpoint ``call``: a request there runs the tool at once and answers with its output. Nothing
is recorded and nothing is retried; durable calls go through a job.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from actors.assets.supply import Supply
from actors.components.component import Component, ComponentInfo
from actors.components.registry import Registry
from actors.tools.invocation import Stuck, describe, invoke
from actors.tools.tool_cache import ToolCache
from actors.tools.tool_context import ToolContext
from bus import headers as h
from bus import jobid
from bus.errors import PeerError, UsageError
from bus.service import Service, ServiceRequest

if TYPE_CHECKING:
    from actors.node.process import Actor
    from bus.objects import Blobs


async def announce(
    actor: Actor, registry: Registry, component: Component[..., Any], *, on_stuck: Callable[[], None] = lambda: None,
    supply: Supply | None = None, info: ComponentInfo | None = None,
) -> Service:  # fmt: skip
    """Start the service and register.

    The service comes first: of two nodes that start at the same moment with different schemas, the one that registers
    last then finds the other one running. ``on_stuck`` is called when a direct call cannot be stopped; ``supply``: the
    assets that one is lent; ``info`` what the registry is told, if that is more than the component knows of itself.
    Raises: UsageError if another node serves other schemas as this version.
    """
    info, service = info or component.info(), Service()
    await service.start(
        actor.bus,
        component.name,
        component.version,
        component.description.partition("\n")[0],
        _metadata(component, actor.node),
    )
    try:
        await registry.register(info)
    except BaseException:
        await service.stop()
        raise
    subject = f"{component.kind}.{component.name}.v{component.major}"
    await service.add_endpoint("describe", f"{subject}.describe", _describe(info))
    if component.kind == "tool":
        await service.add_endpoint(
            "call",
            f"{subject}.call",
            _direct_call(component, on_stuck, actor.blobs, supply or Supply(), ToolCache(actor.bus, component)),
        )
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


def _describe(info: ComponentInfo) -> Any:
    body = msgspec.json.encode(info)

    async def handle(_: ServiceRequest) -> bytes:
        return body

    return handle


def _direct_call(
    component: Component[..., Any], on_stuck: Callable[[], None], blobs: Blobs, supply: Supply, cache: ToolCache
) -> Any:
    executor = ThreadPoolExecutor(component.concurrency, thread_name_prefix=f"{component.name}-direct")

    async def handle(request: ServiceRequest) -> bytes:
        arguments = component.decode_input(request.body)
        if (known := await cache.look("", request.body)) is not None:
            return known
        timeout_s = _timeout_s(request.headers, component.timeout_s)
        context = ToolContext(workspace="", job=f"direct-{jobid.new()}", call="direct", _blobs=blobs)
        try:
            with supply.lend() as assets:
                value = await invoke(component, context, arguments | assets, timeout_s=timeout_s, executor=executor)
        except Stuck as error:
            on_stuck()
            raise PeerError(describe(error)) from error
        except (Exception, SystemExit) as error:
            raise PeerError(describe(error)) from error
        output = component.encode_output(value)
        await cache.keep("", request.body, output)
        return output

    return handle


def _timeout_s(headers: Mapping[str, str], default_s: float | None) -> float | None:
    """How long a direct call may take: what its caller says, else what the tool says. Raises: UsageError."""
    text = headers.get(h.CALL_TIMEOUT, "")
    if not text:
        return default_s
    with contextlib.suppress(ValueError):
        if 0 < (said_s := float(text)) < float("inf"):
            return said_s
    raise UsageError(f"header {h.CALL_TIMEOUT} is {text!r}", code="bad_argument", path=h.CALL_TIMEOUT,
                     hint="seconds above 0")  # fmt: skip
