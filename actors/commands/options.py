"""Options that many commands of ``callboard`` share, and how a command runs. Light: ``--help`` imports it too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from actors.command_bodies.session import Session

Nats = Annotated[
    str | None,
    typer.Option(
        "--nats", metavar="URL", help="Server address [default: NATS_URL, the nats CLI's context, or localhost]."
    ),
]
Context = Annotated[str | None, typer.Option("--context", metavar="NAME", help="A context of the nats CLI.")]
Workspace = Annotated[
    str, typer.Option("--workspace", "-w", envvar="CALLBOARD_WORKSPACE", help="The workspace of the jobs.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours (NO_COLOR is heeded too).")]


def option_names(command: Any) -> set[str]:
    """What may be said to the command or, if it is a group, to a command in it."""
    own = {parameter.name for parameter in command.params}
    return own.union(*(option_names(inner) for inner in getattr(command, "commands", {}).values()))


def defaults(command: Any, given: dict[str, Any]) -> dict[str, Any]:
    """``given`` as the map of defaults of the command and of each command in it."""
    return given | {name: defaults(each, given) for name, each in getattr(command, "commands", {}).items()}


def make_session(
    nats: str | None, context: str | None, workspace: str = "default", json: bool = False, no_color: bool = False
) -> Session:
    """What the shared options add up to."""
    from actors.command_bodies.session import Session

    return Session(nats, context, workspace, json, no_color)


def run(main: Coroutine[Any, Any, int | None]) -> None:
    """Run a command to its end; the process ends with the exit code that it returns."""
    from actors.command_bodies.session import run as run_session

    raise typer.Exit(run_session(main))
