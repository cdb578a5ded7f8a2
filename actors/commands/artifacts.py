"""The command ``callboard artifacts`` as it is typed. Light: ``--help`` imports it too."""

from __future__ import annotations

from typing import Annotated

import typer

from actors.commands.options import AsJson, Context, JobArgument, Nats, NoColor, Workspace, make_session, run


def artifacts(
    job: JobArgument,
    save: Annotated[str, typer.Option("--save", metavar="DIR", help="Write them there; no file is overwritten.")] = "",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Only these, e.g. report.html or '*.png'.")] = "",
    opens: Annotated[bool, typer.Option("--open", help="Open them with the desktop's programs.")] = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """List the files that a job's tools have made. With its children's; --save writes them, --open opens them.

    Example: callboard artifacts JOB --save out --name '*.html'
    """
    from actors.command_bodies import artifacts as bodies

    session = make_session(nats, context, workspace, as_json, no_color)
    run(bodies.artifacts(session, job, folder=save, name=name, opens=opens))
