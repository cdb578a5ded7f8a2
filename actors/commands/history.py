"""The commands ``callboard replay`` and ``callboard snapshot`` as they are typed. Light: ``--help`` imports it too."""

from __future__ import annotations

from typing import Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, Workspace, make_session, run


def replay(
    job: Annotated[str | None, typer.Argument(help="The job's id; or give --file.")] = None,
    file: Annotated[
        str, typer.Option("--file", metavar="SNAPSHOT", help="What 'callboard snapshot' wrote, or -: needs no server.")
    ] = "",
    at: Annotated[int | None, typer.Option("--at", metavar="SEQ", min=1, help="As it was at this sequence.")] = None,
    verify: Annotated[
        str, typer.Option("--verify", metavar="APP|FILE", help="Re-run the job by this app, module:app, or document.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="Every call, however many.")] = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="With --verify: how long [default: 60].")
    ] = None,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Show a job as it was at any point. Or verify that present code still does what is recorded: exit code 1 if not.

    Example: callboard replay JOB --at 1234

    Example: callboard replay --file job.json --verify examples.shop:app
    """
    from actors.command_bodies import replay as replays

    session = make_session(nats, context, workspace, as_json, no_color)
    run(replays.replay(session, job, file, at=at, app=verify, limit_s=timeout, all_calls=every))


def snapshot(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Where to [default: standard output].")] = "",
    redact: Annotated[bool, typer.Option("--redact", help="Replace data by its sha256 and size.")] = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Write a job as one JSON file. For bug reports and tests; 'callboard replay --file' shows it anywhere.

    Example: callboard snapshot JOB --redact --out job.json
    """
    from actors.command_bodies import replay as replays

    session = make_session(nats, context, workspace, as_json, no_color)
    run(replays.snapshot(session, job, out, is_redacted=redact))
