"""``callboard workflow try``: run a document here, in this process, without publishing it.

Nobody else can take the job: it has a workflow name of its own, which only this process serves. Tools, agents and other
workflows that it calls are the real ones. Its log stays.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, make_session, run
from actors.workflow_commands.workflow import Params, refuse

if TYPE_CHECKING:
    from actors.clients.client import Client
    from actors.clients.handle import JobHandle
    from actors.command_bodies.session import Session
    from actors.components.component import Component
    from actors.hosts.host import JobHost
    from actors.workflow.finding import Finding

# How long the queue remembers this host after it was killed.
FORGET_S = 300.0
LEAVE_S = 5.0


def try_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A document.")],
    inputs: Annotated[list[str] | None, typer.Argument(help="name=text or name:=JSON.")] = None,
    whole: Annotated[str | None, typer.Option("--input", metavar="JSON", help="The input: JSON, @file or -.")] = None,
    param: Params = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="How long it may take.")] = None,
    nats: Nats = None,
    context: Context = None,
    workspace: Annotated[str, typer.Option("--workspace", "-w", help="The workspace of the job.")] = "try",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Run a document once, in this process, without publishing it. What it calls is called in earnest.

    The job is terminated when the command is interrupted or its time is over.

    Example: callboard workflow try order.yaml sku=A1 qty:=2
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    run(_try(session, file, inputs or [], whole, param or [], timeout))


async def _try(
    session: Session, file: Path, inputs: list[str], whole: str | None, params: list[str], timeout_s: float | None
) -> int:
    from actors.command_bodies.arguments import parse_inputs
    from actors.command_bodies.jobs import await_result
    from actors.command_bodies.session import EXIT_JOB_FAILED
    from actors.console.page import line

    body, values = parse_inputs(inputs, whole), parse_inputs(params)
    async with await session.client() as client:
        component, findings = await _component(client, file, values)
        if component is None:
            return refuse(session, findings)
        async with _hosted(client, component), _job(client, component, body, inputs) as handle:
            try:
                return await await_result(session, client, handle, timeout_s)
            except TimeoutError:
                session.notes().show([line(f"job {handle.id} did not end within {timeout_s:g} s and is terminated")])
                return EXIT_JOB_FAILED


async def _component(
    client: Client, file: Path, params: dict[str, Any]
) -> tuple[Component[..., Any] | None, list[Finding]]:
    """The document under a name of its own, checked against what there is."""
    from msgspec.structs import replace

    from actors.interpreter.component import workflow_component
    from actors.workflow.document_file import bases_beside, read_file
    from actors.workflow.source import read_source
    from actors.workflow_rules.component_rules import Catalogue
    from actors.workflow_rules.validation import check
    from bus import jobid

    source, workflows = read_source(str(file), read_file(file)), client.workflows
    catalogue, bases = Catalogue(await workflows.components()), await workflows.bases(bases_beside().read)
    checked = check(source, catalogue, bases=bases, params=params, is_final=True)
    if checked.document is None or checked.findings:
        return None, checked.findings
    return workflow_component(replace(checked.document, name=f"try-{jobid.new()}"), app="try"), []


@contextlib.asynccontextmanager
async def _hosted(client: Client, component: Component[..., Any]) -> AsyncIterator[JobHost]:
    """A host of this one workflow; the queue forgets it afterwards."""
    from actors.components.app import App
    from actors.components.registry import Registry
    from actors.hosts.host import JobHost
    from actors.operations.hosting import Hosting
    from bus.streams import wait_for_streams

    await wait_for_streams(client.bus)
    registry, app = Registry(client.bus), App("try")
    app.components.append(component)
    await registry.start()
    host = JobHost(
        Hosting(client.bus, client.blobs, app, registry, host=component.name), [component.name], forget_s=FORGET_S
    )
    await host.start()
    try:
        yield host
    finally:
        await host.stop()
        await host.forget()
        await registry.stop()


@contextlib.asynccontextmanager
async def _job(
    client: Client, component: Component[..., Any], body: dict[str, Any], inputs: list[str]
) -> AsyncIterator[JobHandle[Any]]:
    """The job, terminated if it has not ended."""
    from actors.command_bodies.arguments import json_hint
    from bus.errors import UsageError

    try:
        handle = await client.submit(component, input=body)
    except UsageError as error:
        if hint := json_hint(inputs, error.path):
            raise UsageError(error.args[0], code=error.code, path=error.path, hint=hint) from error
        raise
    try:
        yield handle
    finally:
        with contextlib.suppress(UsageError, TimeoutError):  # it has ended
            await handle.terminate("the try is over")
            await client.wait_for_end(handle.id, timeout_s=LEAVE_S)
