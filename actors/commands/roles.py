"""``callboard roles``: the roles that come with Callboard, to read and to copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, NoColor, make_session, run

if TYPE_CHECKING:
    from actors.command_bodies.session import Session

app = typer.Typer(
    help=(
        "Roles that come with Callboard: agents as files, to use as they are or to copy and edit.\n\n"
        "Example: callboard roles copy analyst --to roles"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(as_json: AsJson = False, no_color: NoColor = False) -> None:
    """List the roles, with what each is for and the tools that it asks for.

    Example: callboard roles list --json | jq -r '.[].name'
    """
    run(_list(make_session(None, None, "default", as_json, no_color)))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The role.")], as_json: AsJson = False, no_color: NoColor = False
) -> None:
    """Print the file of a role: its settings and its instructions.

    Example: callboard roles show reviewer > reviewer.md
    """
    run(_show(make_session(None, None, "default", as_json, no_color), name))


@app.command()
def copy(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder, made if it is not there.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="The roles [default: all].")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Copy the files of roles into a folder of yours, to edit them: app.role(Role.load("roles/analyst.md")).

    Example: callboard roles copy --to roles
    """
    run(_copy(make_session(None, None, "default", as_json, no_color), names or [], to, force=force))


async def _list(session: Session) -> int:
    from actors.listings.role_page import role_page
    from actors.roles.role import Role
    from actors.roles.shelf import shipped_names

    roles = [Role.shipped(name) for name in shipped_names()]
    screen = session.screen()
    if session.json:
        screen.show_json(roles)
    else:
        screen.show(role_page(roles))
    return 0


async def _show(session: Session, name: str) -> int:
    from actors.roles.role import Role
    from actors.roles.shelf import shipped_file
    from actors.workflow_commands.workflow import print_text

    if session.json:
        session.screen().show_json(Role.shipped(name))
    else:
        print_text(shipped_file(name).read_text())
    return 0


async def _copy(session: Session, names: list[str], folder: Path, *, force: bool) -> int:
    from actors.console.page import line
    from actors.roles.shelf import copy_to

    files = copy_to(folder, names, force=force)
    screen = session.screen()
    if session.json:
        screen.show_json([str(file) for file in files])
    else:
        screen.show([line(str(file)) for file in files])
    return 0
