"""``callboard tail|show|ps|components|doctor``, as they are typed: commands that look and change nothing.

Light: ``--help`` imports it too.
"""

from __future__ import annotations

from typing import Annotated

import typer

from actors.commands.options import AsJson, Context, JobArgument, Nats, NoColor, Workspace, make_session, run


def _components(incomplete: str) -> list[str]:
    from actors.command_bodies.names import component_names

    return [name for name in component_names(("tool", "agent", "job")) if name.startswith(incomplete)]


def tail(
    job: Annotated[str | None, typer.Argument(help="A job's id [default: all jobs].")] = None,
    since_seq: Annotated[int, typer.Option(metavar="N", help="Begin after this sequence.")] = 0,
    kind: Annotated[str | None, typer.Option(help="Only this kind, e.g. job.failed or call.tool.quote.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Leave out what is stored already.")] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="What the models of an agent say, as they say it, until it has ended.")
    ] = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Follow events. What is stored comes first, then live, with no gap and no double. Workspace '*' is all of them.

    Example: callboard tail --kind job.failed --new
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    if stream:
        from actors.command_bodies.live import tail_stream

        run(tail_stream(session, job))
        return
    from actors.command_bodies import look

    run(look.tail(session, job, since=since_seq, kind=kind, new_only=new))


def show(
    job: JobArgument,
    every: Annotated[bool, typer.Option("--all", help="Every call, however many.")] = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Show a job's state, calls and failure. Calls have durations and attempts, a failure has the remote traceback.

    Example: callboard show JOB --json | jq .calls
    """
    from actors.command_bodies import look

    run(look.show(make_session(nats, context, workspace, as_json, no_color), job, all_calls=every))


def ps(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if a node is not healthy, or none answers.")
    ] = False,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """List nodes and their actors. Each with its pid, state, restarts, and what it is doing.

    Example: callboard ps --nats nats://host:4222
    """
    from actors.command_bodies import look

    run(look.ps(make_session(nats, context, "default", as_json, no_color), check=check))


def components(
    name: Annotated[str | None, typer.Argument(help="One component, in full.", autocompletion=_components)] = None,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """List components and where they run. With a name: its schemas and policies.

    Example: callboard components quote
    """
    from actors.command_bodies import look

    run(look.components(make_session(nats, context, "default", as_json, no_color), name))


def doctor(
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Check server, limits, streams, permissions and clock. Says what to do about each finding.

    Example: callboard doctor --context production
    """
    from actors.command_bodies import look

    run(look.doctor(make_session(nats, context, workspace, as_json, no_color)))
