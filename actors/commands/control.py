"""``callboard signal``, and ``pause|resume|cancel|terminate|retry`` for jobs that are named or that a filter finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, Context, JobArgument, Nats, NoColor, Workspace, make_session, run

if TYPE_CHECKING:
    from actors.clients.bulk import Verb
    from actors.command_bodies.many_jobs import Choice
    from actors.command_bodies.session import Session

Jobs = Annotated[
    list[str] | None, typer.Argument(metavar="JOB", help="The jobs' ids; or a filter.", show_default=False)
]
OfWorkflow = Annotated[str, typer.Option("--workflow", metavar="NAME", help="Filter: jobs of this workflow.")]
InState = Annotated[
    list[str] | None,
    typer.Option(
        "--state", metavar="STATE", help="Filter: planned, submitted, running, waiting, paused, failed (repeatable)."
    ),
]
OlderThan = Annotated[
    str, typer.Option("--older-than", metavar="AGE", help="Filter: taken up before that: 90s, 30m, 1h, 2d.")
]
All = Annotated[bool, typer.Option("--all", help="All jobs of the workspace that this does anything to.")]
Yes = Annotated[bool, typer.Option("--yes", help="With a filter: do it. Without, the jobs are only shown.")]
Reason = Annotated[str, typer.Option(help="Why, for the log.")]
Children = Annotated[bool, typer.Option("--children/--no-children", help="Their child jobs too.")]
Wait = Annotated[bool, typer.Option("--wait", help="One job: wait for its end and print what it returned.")]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="With --wait: how long.")]


def signal(
    job: JobArgument,
    name: Annotated[str, typer.Argument(help="Name of the signal.")],
    data: Annotated[str | None, typer.Argument(help="Its data: JSON, or text.")] = None,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
) -> None:
    """Give a job a signal; a parked job is woken.

    Example: callboard signal JOB approved '{"by": "ann"}'
    """
    from actors.command_bodies import jobs

    run(jobs.signal(make_session(nats, context, workspace, as_json), job, name, jobs.decode_data(data)))


def pause(
    job: Jobs = None,
    children: Children = True,
    workflow: OfWorkflow = "",
    state: InState = None,
    older_than: OlderThan = "",
    every: All = False,
    yes: Yes = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Pause jobs. They begin nothing new; calls in flight finish, and deadlines go on.

    Example: callboard pause --workflow order --older-than 1h --yes
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    _run(session, "pause", job, _choice(workflow, state, older_than, every=every, yes=yes), children=children)


def resume(
    job: Jobs = None,
    children: Children = True,
    workflow: OfWorkflow = "",
    state: InState = None,
    older_than: OlderThan = "",
    every: All = False,
    yes: Yes = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Let paused jobs go on.

    Example: callboard resume --all --yes
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    _run(session, "resume", job, _choice(workflow, state, older_than, every=every, yes=yes), children=children)


def cancel(
    job: Jobs = None,
    reason: Reason = "",
    workflow: OfWorkflow = "",
    state: InState = None,
    older_than: OlderThan = "",
    every: All = False,
    yes: Yes = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Ask jobs to end. Their running calls and their child jobs are cancelled too.

    Example: callboard cancel JOB --reason 'ordered twice'
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    _run(session, "cancel", job, _choice(workflow, state, older_than, every=every, yes=yes), reason=reason)


def terminate(
    job: Jobs = None,
    reason: Reason = "",
    workflow: OfWorkflow = "",
    state: InState = None,
    older_than: OlderThan = "",
    every: All = False,
    yes: Yes = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """End jobs now. As cancel, but their functions get no time to clean up; for jobs that do not heed it.

    Example: callboard terminate JOB
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    _run(session, "terminate", job, _choice(workflow, state, older_than, every=every, yes=yes), reason=reason)


def retry(
    job: Jobs = None,
    calls: Annotated[
        list[str] | None, typer.Option("--call", metavar="KEY", help="One job: make this failed call anew too.")
    ] = None,
    wait: Wait = False,
    timeout: Timeout = None,
    workflow: OfWorkflow = "",
    state: InState = None,
    older_than: OlderThan = "",
    every: All = False,
    yes: Yes = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Let failed jobs go on from where they failed. What they have recorded is not done again.

    Example: callboard retry JOB --wait
    """
    from actors.command_bodies import jobs

    session = make_session(nats, context, workspace, as_json, no_color)
    choice = _choice(workflow, state, older_than, every=every, yes=yes)
    if job and len(job) == 1 and not choice.is_given:
        run(jobs.retry(session, job[0], calls or [], wait=wait, timeout_s=timeout))
    elif calls or wait:
        raise typer.BadParameter("--call and --wait are for one JOB")
    _run(session, "retry", job, choice)


def _choice(workflow: str, state: list[str] | None, older_than: str, *, every: bool, yes: bool) -> Choice:
    from actors.command_bodies.many_jobs import Choice

    return Choice(workflow, tuple(state or ()), older_than, every, yes)


def _run(
    session: Session, verb: Verb, jobs: list[str] | None, choice: Choice, *, reason: str = "", children: bool = True
) -> None:
    from actors.command_bodies import many_jobs

    run(many_jobs.tell(session, verb, jobs or [], choice, reason=reason, children=children))
