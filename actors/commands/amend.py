"""``callboard amend``: changes to a job that is under way, as they are typed. Light: ``--help`` imports it too."""

from __future__ import annotations

from typing import Annotated

import typer

from actors.commands.default_group import DefaultGroup
from actors.commands.options import AsJson, Context, JobArgument, Nats, NoColor, Workspace, make_session, run

app = typer.Typer(
    cls=DefaultGroup,
    help=(
        "Change a job that is under way: the policy of its calls, or the steps of a workflow document.\n\n"
        "Example: callboard amend JOB quote --retry-attempts 10 --timeout-s 30\n\n"
        'Example: callboard amend add JOB each 4 \'{"sku": "A1"}\''
    ),
    subcommand_metavar="JOB TARGET | inject|add|finish|skip JOB ...",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Map = Annotated[str, typer.Argument(metavar="STEP", help="A step of kind map.")]


@app.command("run", hidden=True)
def policy(
    job: JobArgument,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A component's name, the key of a call, or a step.")],
    attempts: Annotated[int | None, typer.Option("--retry-attempts", min=1, help="So many attempts in all.")] = None,
    backoff: Annotated[
        float | None, typer.Option("--retry-backoff-s", min=0, help="The wait after the first attempt, at most.")
    ] = None,
    factor: Annotated[float | None, typer.Option("--retry-factor", min=1, help="By which each wait is longer.")] = None,
    max_wait: Annotated[float | None, typer.Option("--retry-max-wait-s", min=0, help="The longest wait.")] = None,
    timeout_s: Annotated[float | None, typer.Option("--timeout-s", help="How long one attempt may take.")] = None,
    on_open: Annotated[
        str | None, typer.Option("--on-open", metavar="WORD", help="While the circuit is open: wait or fail.")
    ] = None,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Change how calls of a job are made. A call that is out follows with its next attempt.

    Example: callboard amend JOB quote --retry-attempts 10 --timeout-s 30 --on-open fail
    """
    from actors.command_bodies import amendments

    retry = {"attempts": attempts, "backoff_s": backoff, "factor": factor, "max_wait_s": max_wait}
    session = make_session(nats, context, workspace, as_json, no_color)
    run(amendments.set_policy(session, job, target, retry, timeout_s=timeout_s, on_open=on_open))


@app.command()
def inject(
    job: JobArgument,
    step: Annotated[
        list[str], typer.Option("--step", metavar="STEP", help="A step: JSON, or a YAML or JSON file (repeatable).")
    ],
    into: Annotated[str, typer.Option("--into", metavar="STEP", help="Into the list within this step.")] = "",
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Inject steps into a running workflow document.

    Example: callboard amend inject JOB --step '{"id": "check", "tool": "check", "needs": ["quote"]}'
    """
    from actors.command_bodies import amendments

    run(amendments.inject(make_session(nats, context, workspace, as_json, no_color), job, step, into))


@app.command()
def add(
    job: JobArgument,
    step: Map,
    items: Annotated[list[str], typer.Argument(metavar="ITEM", help="Items: JSON, or text.")],
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Give a running map more instances, one for each item.

    Example: callboard amend add JOB each A4 A5
    """
    from actors.command_bodies import amendments

    run(amendments.add(make_session(nats, context, workspace, as_json, no_color), job, step, items))


@app.command()
def finish(
    job: JobArgument,
    step: Map,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Complete a running map with what it has. Instances that are not through are given up.

    Example: callboard amend finish JOB each
    """
    from actors.command_bodies import amendments

    run(amendments.finish(make_session(nats, context, workspace, as_json, no_color), job, step))


@app.command()
def skip(
    job: JobArgument,
    step: Annotated[str, typer.Argument(metavar="STEP", help="A step of the document.")],
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Give a step up, or do not begin it. What needs it goes on.

    Example: callboard amend skip JOB approve
    """
    from actors.command_bodies import amendments

    run(amendments.skip(make_session(nats, context, workspace, as_json, no_color), job, step))
