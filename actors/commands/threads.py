"""``callboard threads``: conversations of agents that go on over jobs. Light: ``--help`` imports it too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, Workspace, make_session, run

if TYPE_CHECKING:
    from actors.command_bodies.session import Session

app = typer.Typer(
    name="threads",
    help="Conversations of agents that go on over jobs.\n\nExample: callboard threads show customer-17",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="The thread's name.")]


@app.command("list")
def list_all(
    prefix: Annotated[str, typer.Argument(help="Only threads whose name begins with this.")] = "",
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """List threads, the one that was used last first.

    Example: callboard threads list customer-
    """
    run(_list(make_session(nats, context, workspace, as_json, no_color), prefix))


@app.command()
def show(
    name: Name,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Show what was said: prompts and answers, with the jobs that they are of.

    Example: callboard threads show customer-17 --json | jq -r '.exchanges[].job'
    """
    run(_show(make_session(nats, context, workspace, as_json, no_color), name))


@app.command()
def forget(
    name: Name,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Remove a thread. The logs of its jobs stay as they are.

    Example: callboard threads forget customer-17
    """
    run(_forget(make_session(nats, context, workspace, as_json, no_color), name))


async def _list(session: Session, prefix: str) -> int:
    from datetime import UTC, datetime

    from actors.listings.thread_page import thread_list_page, thread_rows

    async with await session.client() as client:
        rows = thread_rows([thread for thread in await client.threads.list() if thread.name.startswith(prefix)])
    screen = session.screen()
    if session.json:
        screen.show_json(rows)
    else:
        screen.show(thread_list_page(rows, datetime.now(UTC)))
    return 0


async def _show(session: Session, name: str) -> int:
    from datetime import UTC, datetime

    from actors.listings.thread_page import thread_page

    async with await session.client() as client:
        thread = await client.threads.get(name)
    screen = session.screen()
    if session.json:
        screen.show_json(thread)
    else:
        screen.show(thread_page(thread, datetime.now(UTC)))
    return 0


async def _forget(session: Session, name: str) -> int:
    from actors.console.amount import plural
    from actors.console.page import line
    from actors.listings.thread_page import thread_rows

    async with await session.client() as client:
        thread = await client.threads.forget(name)
    screen = session.screen()
    if session.json:
        screen.show_json(thread_rows([thread])[0])
    else:
        screen.show([line(f"{thread.name} is forgotten, with {plural(thread.count, 'exchange')}")])
    return 0
