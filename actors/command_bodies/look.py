"""Commands that look: tail, show, ps, components, doctor."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from typing import NoReturn, cast

from actors.command_bodies.session import EXIT_JOB_FAILED, Session
from actors.components.component import ComponentInfo
from actors.components.registry import Registry
from actors.console.component_page import ComponentRow, component_page, schema_page
from actors.console.event_line import event_json, event_line
from actors.console.finding_page import finding_page
from actors.console.job_page import CALL_LIMIT, job_page
from bus.connection import Bus
from bus.errors import UsageError
from bus.service import ServiceInfo, discover
from bus.streams import REGISTRY, stream_info
from bus.subjects import PUBLISHED_SERVICE
from store.tail import TailItem, live_filter
from store.tail import tail as tail_events


async def tail(session: Session, job: str | None, *, since: int, kind: str | None, new_only: bool) -> int:
    """Print events, history first and then live, until it is interrupted."""
    screen = session.screen()
    everywhere = session.workspace == "*"
    session = replace(session, has_all_workspaces=everywhere)
    subject = live_filter(None if everywhere else session.workspace, job, kind)
    async with await session.client() as client:
        items = tail_events(client.bus, client.blobs, subject, since=since, new_only=new_only)
        async with contextlib.aclosing(cast("AsyncGenerator[TailItem, None]", items)) as events:
            async for item in events:
                if session.json:
                    screen.json_line(event_json(item))
                else:
                    screen.show([event_line(item, workspace="" if everywhere else session.workspace)])
    return 0


async def show(session: Session, job: str, *, all_calls: bool) -> int:
    """Print one job as it stands."""
    screen = session.screen()
    async with await session.client() as client:
        view = await client.get(job)
    if session.json:
        screen.show_json(view)
    else:
        limit = None if all_calls else CALL_LIMIT
        screen.show(job_page(view, datetime.now(UTC), ascii_only=screen.ascii_only, call_limit=limit))
    return 0


async def ps(session: Session, *, check: bool) -> int:
    """Print nodes and their actors; with ``check`` 1 if one of them is not healthy, or there is none."""
    from actors.console.node_page import node_page
    from supervisor.status import node_statuses

    screen = session.screen()
    async with await session.client() as client:
        nodes = await node_statuses(client.bus)
    if session.json:
        screen.show_json(nodes)
    else:
        screen.show(node_page(nodes, datetime.now(UTC)))
    return EXIT_JOB_FAILED if check and not (nodes and all(node.healthy for node in nodes)) else 0


async def components(session: Session, name: str | None) -> int:
    """Print what is registered and where it runs; with a name, its schemas."""
    screen = session.screen()
    async with await session.client() as client:
        rows = await _rows(client.bus, name)
    if session.json:
        screen.show_json([{"component": row.info, "replicas": dict(row.replicas)} for row in rows])
    else:
        screen.show(schema_page(rows) if name else component_page(rows))
    return 0


async def _rows(bus: Bus, name: str | None) -> list[ComponentRow]:
    if await stream_info(bus, REGISTRY) is None:  # no node has ever been here
        return _unknown(name) if name else []
    registry = Registry(bus)
    await registry.start()
    try:
        found = _chosen(registry, name)
        services = await discover(bus)
        published = await _published(bus) if any(info.kind == "job" for info in found) else set[tuple[str, str]]()
    finally:
        await registry.stop()
    return [ComponentRow(info, _places(info, services, published)) for info in found]


async def _published(bus: Bus) -> set[tuple[str, str]]:
    """Name and version of what each host of published workflows runs."""
    from actors.clients.workflows import Workflows

    workflows = Workflows(bus)
    definitions = await workflows.definitions()
    await workflows.close()
    return {(each.name, each.version) for each in definitions.all()}


def _chosen(registry: Registry, name: str | None) -> list[ComponentInfo]:
    if name is None:
        return registry.all()
    found = [info for info in registry.all() if info.name == name]
    return found or _unknown(name, registry.hint(name))


def _unknown(name: str, hint: str = "start a node: 'callboard up' or 'callboard node'") -> NoReturn:
    raise UsageError(f"no component is named {name!r}", code="unknown_component", hint=hint)


def _places(info: ComponentInfo, services: list[ServiceInfo], published: set[tuple[str, str]]) -> Counter[str]:
    is_published = info.kind == "job" and (info.name, info.version) in published
    return Counter(
        service.meta("node")
        for service in services
        if (service.name == info.name and service.version == info.version and service.meta("kind") == info.kind)
        or (is_published and service.name == PUBLISHED_SERVICE)
    )


async def doctor(session: Session) -> int:
    """Look at the server, the streams, the permissions and the clock; 1 if something is broken."""
    from actors.doctor.doctor import examine, worst

    screen = session.screen()
    findings = await examine(session.options(), workspace=session.check_workspace())
    if session.json:
        screen.show_json(findings)
    else:
        screen.show(finding_page(findings))
    return EXIT_JOB_FAILED if worst(findings) == "fail" else 0
