"""``callboard approvals|approve|reject``: what waits for people, and what they say."""

from __future__ import annotations

from typing import Annotated

import typer

from actors.commands.options import AsJson, Context, JobArgument, Nats, NoColor, Workspace, make_session, run

Step = Annotated[
    str, typer.Argument(metavar="[STEP]", help="Which approval; not needed if only one is open.", show_default=False)
]
Comment = Annotated[str, typer.Option(help="Why, for the log.")]
Answer = Annotated[
    str | None, typer.Option("--answer", metavar="JSON", help="What is asked for besides: JSON, or text.")
]
As = Annotated[str, typer.Option("--as", metavar="NAME", help="Who answers [default: the user's name here].")]
Roles = Annotated[
    list[str] | None, typer.Option("--role", metavar="ROLE", help="A role of whoever answers (repeatable).")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again on a terminal.")]


def approvals(
    role: Annotated[str, typer.Option(help="Only what somebody with this role may answer.")] = "",
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """List approvals that are open: job, step, title, since when, and who may answer.

    Example: callboard approvals --role buyer
    """
    from actors.command_bodies import answering

    run(answering.approvals(make_session(nats, context, workspace, as_json, no_color), role))


def approve(
    job: JobArgument,
    step: Step = "",
    comment: Comment = "",
    edit: Annotated[
        list[str] | None,
        typer.Option("--edit", metavar="NAME=VALUE", help="Change a value; or a JSON object of them (repeatable)."),
    ] = None,
    answer: Answer = None,
    name: As = "",
    role: Roles = None,
    yes: Yes = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Approve what a job asks for. On a terminal it is shown first.

    Example: callboard approve JOB --comment 'as agreed' --edit amount=900
    """
    from actors.command_bodies import answering

    session = make_session(nats, context, workspace, as_json, no_color)
    words = answering.Words(comment, tuple(edit or ()), answer, name, tuple(role or ()))
    run(answering.answer(session, job, step, words, approved=True, yes=yes))


def reject(
    job: JobArgument,
    step: Step = "",
    comment: Comment = "",
    answer: Answer = None,
    name: As = "",
    role: Roles = None,
    yes: Yes = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Reject what a job asks for. The job is told, and goes its way without.

    Example: callboard reject JOB --comment 'too dear'
    """
    from actors.command_bodies import answering

    session = make_session(nats, context, workspace, as_json, no_color)
    words = answering.Words(comment, (), answer, name, tuple(role or ()))
    run(answering.answer(session, job, step, words, approved=False, yes=yes))
