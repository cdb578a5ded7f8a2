"""``callboard breakers``: which circuits are open, and opening or closing one by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, make_session, run

if TYPE_CHECKING:
    from actors.command_bodies.session import Session
    from supervisor.circuit import ForcedClosed, ForcedOpen

app = typer.Typer(rich_markup_mode=None)

Key = Annotated[str, typer.Argument(help="The circuit: tool.<name>.v<major> or dep.<name>.")]


@app.callback(invoke_without_command=True)
def list_breakers(
    ctx: typer.Context, nats: Nats = None, context: Context = None, as_json: AsJson = False, no_color: NoColor = False
) -> None:
    """List circuits that are or were open. Open or close one by hand.

    Example: callboard breakers close tool.quote.v1
    """
    if ctx.invoked_subcommand is None:
        run(_list(make_session(nats, context, "default", as_json, no_color)))
    else:
        ctx.default_map = {ctx.invoked_subcommand: {"nats": nats, "context": context, "as_json": as_json}}


@app.command("open")
def open_breaker(
    key: Key,
    open_s: Annotated[
        float | None,
        typer.Option("--for", metavar="SECONDS", min=0.1, help="Then it is probed [default: until it is closed]."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the log.")] = "opened by hand",
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Hold the calls back, whatever their outcome was.

    Example: callboard breakers open dep.billing-api --reason 'maintenance until noon'
    """
    from supervisor.circuit import ForcedOpen

    order = ForcedOpen(_who(), reason=reason, open_s=open_s)
    run(_force(make_session(nats, context, "default", as_json), key, order))


@app.command("close")
def close_breaker(key: Key, nats: Nats = None, context: Context = None, as_json: AsJson = False) -> None:
    """Let the calls flow.

    Example: callboard breakers close dep.billing-api
    """
    from supervisor.circuit import ForcedClosed

    run(_force(make_session(nats, context, "default", as_json), key, ForcedClosed(_who())))


def _who() -> str:
    from actors.command_bodies.jobs import user_name

    return user_name()


async def _list(session: Session) -> int:
    from datetime import UTC, datetime

    from actors.breakers.breaker_states import breaker_states
    from actors.listings.breaker_page import breaker_page

    async with await session.client() as client:
        rows = await breaker_states(client.bus)
    screen = session.screen()
    if session.json:
        screen.show_json(rows)
    else:
        screen.show(breaker_page(rows, datetime.now(UTC)))
    return 0


async def _force(session: Session, key: str, order: ForcedOpen | ForcedClosed) -> int:
    from datetime import UTC, datetime

    from actors.breakers.breaker_states import force
    from actors.listings.breaker_page import breaker_page

    async with await session.client() as client:
        row = await force(client.bus, key, order)
    screen = session.screen()
    if session.json:
        screen.show_json(row)
    else:
        screen.show(breaker_page([row], datetime.now(UTC)))
    return 0
