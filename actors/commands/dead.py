"""``callboard dead``: messages that nobody could work on, kept with the reason, to be re-driven or dropped."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, Workspace, make_session, run

if TYPE_CHECKING:
    from actors.clients.client import Client
    from actors.command_bodies.session import Session

app = typer.Typer(rich_markup_mode=None)

All = Annotated[bool, typer.Option("--all", help="Those too that were re-driven or dropped.")]
OfJob = Annotated[str, typer.Option("--job", metavar="JOB", help="Only letters of this job.")]
Letters = Annotated[list[int] | None, typer.Argument(metavar="ID", help="Ids of letters.", show_default=False)]


@app.callback(invoke_without_command=True)
def dead(
    ctx: typer.Context,
    every: All = False,
    job: OfJob = "",
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """List dead letters: messages that nobody could work on. Show, re-drive or drop them.

    A call whose process died each time, a command or request that nobody can read, a request that was refused, a job
    that took its hosts down.

    Example: callboard dead redrive --job JOB
    """
    if ctx.invoked_subcommand is None:
        run(_list(make_session(nats, context, workspace, as_json, no_color), job, every))
        return
    os.environ["CALLBOARD_WORKSPACE"] = workspace  # which outranks the map of defaults
    given = {"nats": nats, "context": context, "as_json": as_json, "no_color": no_color, "every": every, "job": job}
    ctx.default_map = {ctx.invoked_subcommand: given}


@app.command("list")
def list_letters(
    every: All = False,
    job: OfJob = "",
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """List dead letters. Each with its id, its job, and why it was given up.

    Example: callboard dead list --all --json
    """
    run(_list(make_session(nats, context, workspace, as_json, no_color), job, every))


@app.command()
def show(
    letter: Annotated[int, typer.Argument(metavar="ID", help="The letter's id.")],
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Show a letter whole. The reason, what was tried, its headers and its body.

    Example: callboard dead show 1234 --json | jq .body
    """
    run(_show(make_session(nats, context, workspace, as_json, no_color), letter))


@app.command()
def redrive(
    letters: Letters = None,
    job: OfJob = "",
    everything: Annotated[bool, typer.Option("--everything", help="All letters of the workspace.")] = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Give letters out again, once their cause is gone. A failed job goes on from where it failed.

    What a job has recorded is not done again. Exit code 2 if a letter could not be re-driven.

    Example: callboard dead redrive 1234 1240
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    run(_redrive(session, letters or [], job, everything))


@app.command()
def drop(
    letters: Letters = None,
    job: OfJob = "",
    reason: Annotated[str, typer.Option(help="Why, for the log.")] = "",
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Note that letters need nothing more. They leave the list; --all still has them.

    Example: callboard dead drop 1234 --reason 'ordered again by hand'
    """
    run(_drop(make_session(nats, context, workspace, as_json, no_color), letters or [], job, reason))


# ---- what they do


async def _list(session: Session, job: str, every: bool) -> int:
    from datetime import UTC, datetime

    from actors.dead_letters.dead_letters import list_letters as read_letters
    from actors.listings.letter_page import letters_page

    screen = session.screen()
    async with await session.client() as client:
        letters = await read_letters(client.bus, client.workspace, job=job, closed=every)
    if session.json:
        screen.show_json(letters)
    else:
        screen.show(letters_page(letters, datetime.now(UTC), closed=every))
    return 0


async def _show(session: Session, number: int) -> int:
    from datetime import UTC, datetime

    from actors.dead_letters.dead_letters import read_letter
    from actors.listings.letter_page import letter_page

    screen = session.screen()
    async with await session.client() as client:
        whole = await read_letter(client.bus, client.blobs, client.workspace, number)
    if session.json:
        screen.show_json(whole.shown())
    else:
        screen.show(letter_page(whole, datetime.now(UTC)))
    return 0


async def _redrive(session: Session, ids: list[int], job: str, everything: bool) -> int:
    from actors.command_bodies.jobs import user_name
    from actors.command_bodies.session import EXIT_USAGE
    from actors.dead_letters.dead_letters import redrive as redrive_letters
    from actors.listings.letter_page import redriven_page

    async with await session.client() as client:
        chosen = await _chosen(client, ids, job, everything)
        done = await redrive_letters(client.bus, client.blobs, client.workspace, chosen, by=user_name())
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json(done)
    else:
        screen.show(redriven_page(done, session.workspace))
    refused = [one for one in done if one.how == "refused"]
    if refused and not (screen.is_tty and not session.json):
        session.notes().show(redriven_page(refused, session.workspace))
    return EXIT_USAGE if refused else 0


async def _drop(session: Session, ids: list[int], job: str, reason: str) -> int:
    from actors.command_bodies.jobs import user_name
    from actors.console.page import line
    from actors.dead_letters.dead_letters import drop as drop_letters

    async with await session.client() as client:
        chosen = await _chosen(client, ids, job, everything=False)
        dropped = await drop_letters(client.bus, client.workspace, chosen, by=user_name(), reason=reason)
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json([{"letter": letter.id, "job": letter.job} for letter in dropped])
    else:
        screen.show([line(f"dropped: {', '.join(str(letter.id) for letter in dropped) or 'nothing'}")])
    return 0


async def _chosen(client: Client, ids: list[int], job: str, everything: bool) -> list[int]:
    """The ids that are meant. Raises: UsageError if that is not said, or said twice."""
    from actors.dead_letters.dead_letters import list_letters as read_letters
    from bus.errors import UsageError

    if (bool(ids) + bool(job) + everything) != 1:
        raise UsageError("which letters?", code="bad_arguments", path="ID...",
                         hint="ids, or --job JOB for all of a job" + (", not both" if ids else ""))  # fmt: skip
    if ids:
        return ids
    return [letter.id for letter in await read_letters(client.bus, client.workspace, job=job)]
