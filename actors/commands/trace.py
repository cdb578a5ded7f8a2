"""``callboard trace``, as it is typed. Light: ``--help`` imports it too."""

from __future__ import annotations

from typing import Annotated

import typer

from actors.commands.options import AsJson, Context, JobArgument, Nats, NoColor, Workspace, make_session, run


def trace(
    job: JobArgument,
    whole: Annotated[bool, typer.Option("--all", help="Every word: nothing is cut.")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Without the agents that worked for it.")] = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Show what an agent did: its prompts, thoughts, uses of tools, who allowed them, what came of them, its answer.

    Example: callboard trace JOB --json | jq '.[0].runs[0].turns'
    """
    from actors.command_bodies.trace import trace as body

    run(body(make_session(nats, context, workspace, as_json, no_color), job, whole=whole, alone=alone))
