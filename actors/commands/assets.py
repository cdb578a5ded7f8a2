"""``callboard asset``: what the processes of tools share, and loading it anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, make_session, run

if TYPE_CHECKING:
    from actors.command_bodies.session import Session

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def list_assets(
    ctx: typer.Context, nats: Nats = None, context: Context = None, as_json: AsJson = False, no_color: NoColor = False
) -> None:
    """List assets with their versions and age. One row for each process that has one; refresh one by hand.

    Example: callboard asset refresh catalogue
    """
    if ctx.invoked_subcommand is None:
        run(_list(make_session(nats, context, "default", as_json, no_color)))
    else:
        ctx.default_map = {ctx.invoked_subcommand: {"nats": nats, "context": context, "as_json": as_json}}


@app.command("refresh")
def refresh(
    name: Annotated[str, typer.Argument(help="The asset.")],
    of_app: Annotated[str, typer.Option("--app", metavar="APP", help="Only that of this app [default: of any].")] = "",
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Tell all processes that have it to load it anew. They go on with what they have until that is done.

    Example: callboard asset refresh catalogue --app shop
    """
    run(_refresh(make_session(nats, context, "default", as_json), name, of_app))


async def _list(session: Session) -> int:
    from datetime import UTC, datetime

    from actors.assets.sightings import sight
    from actors.console.node_page import asset_page

    async with await session.client() as client:
        seen = await sight(client.bus)
    screen = session.screen()
    if session.json:
        screen.show_json(seen)
    else:
        screen.show(asset_page(seen, datetime.now(UTC)))
    return 0


async def _refresh(session: Session, name: str, of_app: str) -> int:
    from actors.assets.sightings import ask_refresh
    from actors.console.amount import plural
    from actors.console.page import Span, line

    async with await session.client() as client:
        told = await ask_refresh(client.bus, name, of_app)
    screen = session.screen()
    if session.json:
        screen.show_json(told)
    else:
        nodes = ", ".join(sorted({one.node for one in told}))
        screen.show([
            line(f"told {plural(len(told), 'process', 'processes')} on {nodes} to refresh {name}"),
            line(Span("next: ", "dim"), "callboard asset", Span("   state and age in each of them", "dim")),
        ])  # fmt: skip
    return 0
