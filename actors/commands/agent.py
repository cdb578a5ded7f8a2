"""``callboard agent``: files that describe agents are checked, and described to editors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, NoColor, make_session, run

if TYPE_CHECKING:
    from actors.command_bodies.session import Session

app = typer.Typer(
    help="Check files that describe agents.\n\nExample: callboard agent validate clerk.md --app desk:app",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files that describe agents.")],
    app_: Annotated[
        str, typer.Option("--app", metavar="TARGET", help="The app whose tools they use; without it none is asked for.")
    ] = "",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Check files that describe agents, and print all findings at once. Exit code 1 if there are any.

    Example: callboard agent validate roles/*.md --app desk:app
    """
    run(_validate(make_session(None, None, "default", as_json, no_color), files, app_))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the settings at the top of such a file, for editors.

    Example: callboard agent schema > agent.schema.json
    """
    run(_schema(make_session(None, None)))


async def _validate(session: Session, files: list[Path], target: str) -> int:
    from actors.console.workflow_page import workflow_page
    from actors.roles.role_file import read_role

    known = _known(target) if target else None
    findings = [finding for file in files for finding in read_role(str(file), _content(file), known).findings]
    screen = session.screen()
    if session.json:
        screen.show_json(findings)
    else:
        screen.show(workflow_page(findings, len(files)))
    return 1 if findings else 0


def _known(target: str) -> set[str]:
    from actors.components.loading import load_app
    from actors.roles.declaring import known_tools

    return set(known_tools(load_app(target)))


def _content(file: Path) -> bytes:
    from bus.errors import UsageError

    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", code="no_file", path=str(file)) from None


async def _schema(session: Session) -> int:
    from actors.roles.front_matter import front_matter_schema

    session.screen().show_json(front_matter_schema())
    return 0
