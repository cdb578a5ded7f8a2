"""``callboard fork``, as it is typed. Light: ``--help`` imports it too."""

from __future__ import annotations

from typing import Annotated

import typer

from actors.commands.options import AsJson, Context, JobArgument, Nats, NoColor, Workspace, make_session, run


def fork(
    job: JobArgument,
    step: Annotated[
        str, typer.Option("--from", metavar="STEP", help="An operation as 'callboard show' prints it, or a step.")
    ],
    whole: Annotated[
        str | None, typer.Option("--input", metavar="JSON", help="Another input: JSON, @file or -.")
    ] = None,
    new_id: Annotated[
        str | None, typer.Option("--id", metavar="NEW", help="The new job's id: forking again under it is harmless.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be reused, and what done anew.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the new job's end and print what it returned.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="With --wait: how long.")] = None,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Start a new job from a step of another one. What that one had recorded before is reused, and not run again.

    Example: callboard fork JOB --from charge --dry-run

    Example: callboard fork JOB --from gather:1.0/quote:2 --input @order.json --id order-17b
    """
    from actors.command_bodies import forks

    session = make_session(nats, context, workspace, as_json, no_color)
    run(forks.fork(session, job, step, whole, new_id, dry_run=dry_run, wait=wait, timeout_s=timeout))
