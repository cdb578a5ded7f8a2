"""``callboard locks``: who holds which lock, and who waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, Workspace, make_session, run

if TYPE_CHECKING:
    from actors.command_bodies.session import Session


def locks(
    name: Annotated[str | None, typer.Argument(help="Only locks whose name begins with this.")] = None,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """List locks that are held or waited for, with their holders and queues.

    A job that waits for ever, for a lock that is held by a job that waits for another one, shows here.

    Example: callboard locks account
    """
    run(_list(make_session(nats, context, workspace, as_json, no_color), name or ""))


async def _list(session: Session, prefix: str) -> int:
    from datetime import UTC, datetime

    from actors.listings.lock_page import lock_page
    from actors.locks.lock_store import lock_states

    async with await session.client() as client:
        states = await lock_states(client.bus, session.workspace)
    states = [state for state in states if state.name.startswith(prefix)]
    screen = session.screen()
    if session.json:
        screen.show_json(states)
    else:
        screen.show(lock_page(states, datetime.now(UTC)))
    return 0
