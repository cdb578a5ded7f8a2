"""``callboard usage``: what jobs have used of models, and what is left of budgets."""

from __future__ import annotations

from typing import Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, Workspace, make_session, run


def usage(
    job: Annotated[str | None, typer.Argument(help="A job's id [default: all budgets of the workspace].")] = None,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Show what a job and all that it started have used of models: calls, tokens, money. Without a job: all budgets.

    Example: callboard usage JOB --json | jq .cost_usd
    """
    from actors.command_bodies import usage as bodies

    session = make_session(nats, context, workspace, as_json, no_color)
    run(bodies.accounts(session) if job is None else bodies.of_job(session, job))
