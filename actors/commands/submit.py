"""``callboard submit|result``: one job from its arguments or many from a file, and what a job returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.commands.options import AsJson, Context, JobArgument, Nats, NoColor, Workspace, make_session, run

if TYPE_CHECKING:
    from actors.command_bodies.session import Session

Wait = Annotated[bool, typer.Option("--wait", help="Wait for the job's end and print what it returned.")]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="With --wait: how long.")]


def workflow_names(incomplete: str) -> list[str]:
    """Names of workflows for the shell's completion."""
    from actors.command_bodies.names import component_names

    return [name for name in component_names(("job", "agent")) if name.startswith(incomplete)]


def submit(
    workflow: Annotated[str, typer.Argument(help="Name of the workflow.", autocompletion=workflow_names)],
    inputs: Annotated[list[str] | None, typer.Argument(help="name=text or name:=JSON.")] = None,
    whole: Annotated[str | None, typer.Option("--input", metavar="JSON", help="The input: JSON, @file or -.")] = None,
    job_id: Annotated[str | None, typer.Option(help="The job's id: submitting it again is harmless.")] = None,
    priority: Annotated[str, typer.Option(help="high, normal or low.")] = "normal",
    delay: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Begin so much later: 90s, 10m, 1h30m, 2d.")
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="INSTANT", help="Begin then: 2026-12-01T08:00Z.")] = None,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="DURATION|INSTANT", help="Fail if it has not ended by then; 1h counts from its start."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="A job for each line of JSON in FILE, or - for stdin.")
    ] = None,
    id_field: Annotated[str, typer.Option(metavar="FIELD", help="With --from: the input's field that is the id.")] = "",
    envelope: Annotated[
        bool, typer.Option("--envelope", help="With --from: lines are {input, id, priority, delay_s, ...}.")
    ] = False,
    batch: Annotated[
        str, typer.Option(metavar="NAME", help="With --from: ids follow from this name [default: the file's digest].")
    ] = "",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="With --from: submit the lines that are good.")] = False,
    wait: Wait = False,
    timeout: Timeout = None,
    offline_ok: Annotated[
        bool, typer.Option("--offline-ok", help="Server away: keep it on this machine, deliver it later.")
    ] = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Submit a job, or with --from one for each line of a file.

    Example: callboard submit order sku=A1 qty:=2 --wait

    Example: callboard submit order sku=A1 --delay 10m --deadline 1h

    Example: callboard submit order --from orders.jsonl
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    terms = (priority, delay, at, deadline)
    ending: dict[str, Any] = {"wait": wait, "timeout_s": timeout}
    if source is None:
        if id_field or envelope or batch or skip_bad:
            raise typer.BadParameter("--id-field, --envelope, --batch and --skip-bad are for --from FILE")
        run(_submit_one(session, workflow, inputs or [], whole, terms, job_id=job_id, offline_ok=offline_ok, **ending))
    if inputs or whole or job_id or offline_ok:
        raise typer.BadParameter("--from takes its inputs from the file, and their ids; and it needs the server")
    reading: dict[str, Any] = {"batch": batch, "id_field": id_field, "is_enveloped": envelope, "skip_bad": skip_bad}
    run(_submit_file(session, workflow, terms, source=source, **reading, **ending))


def result(
    job: JobArgument,
    wait: Wait = False,
    timeout: Timeout = None,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Print what a job returned. The exit code tells how it ended.

    Example: callboard result JOB --wait --timeout 60
    """
    from actors.command_bodies import jobs

    run(jobs.result(make_session(nats, context, workspace, as_json, no_color), job, wait=wait, timeout_s=timeout))


async def _submit_file(
    session: Session, workflow: str, terms: tuple[str, str | None, str | None, str | None], **choices: Any
) -> int:
    from actors.command_bodies import jobs
    from actors.command_bodies.submit_file import Choices, submit_file

    return await submit_file(session, workflow, Choices(terms=jobs.parse_terms(*terms), **choices))


async def _submit_one(
    session: Session, workflow: str, inputs: list[str], whole: str | None,
    terms: tuple[str, str | None, str | None, str | None], **choices: Any,
) -> int:  # fmt: skip
    from actors.command_bodies import jobs
    from actors.command_bodies.arguments import json_hint, parse_inputs
    from bus.errors import UsageError

    body, agreed = parse_inputs(inputs, whole), jobs.parse_terms(*terms)
    try:
        return await jobs.submit(session, workflow, body, terms=agreed, **choices)
    except UsageError as error:
        if hint := json_hint(inputs, error.path):
            raise UsageError(error.args[0], code=error.code, path=error.path, hint=hint) from error
        raise
