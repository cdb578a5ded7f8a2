"""``callboard outbox``: what waits on this machine for the server; and submissions that are held."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, make_session, run

if TYPE_CHECKING:
    from actors.clients.terms import Terms
    from actors.command_bodies.session import Session
    from actors.listings.outbox_page import OutboxView
    from bus.connection import Bus
    from bus.courier import Round
    from bus.outbox import Held, Outbox

DELIVER_BEFORE_S = 10.0

app = typer.Typer(
    name="outbox",
    help="What waits on this machine for the server.\n\nExample: callboard outbox list",
    no_args_is_help=True,
)


@app.command("list")
def list_held(as_json: AsJson = False, no_color: NoColor = False) -> None:
    """List what is held on this machine: results of calls, and submitted jobs.

    Example: callboard outbox list
    """
    run(_list(make_session(None, None, "default", as_json, no_color)))


@app.command()
def flush(nats: Nats = None, context: Context = None, as_json: AsJson = False, no_color: NoColor = False) -> None:
    """Deliver what is held for this server. What a living actor holds it delivers itself.

    Example: callboard outbox flush --context production
    """
    run(_flush(make_session(nats, context, "default", as_json, no_color)))


@app.command()
def drop(
    name: Annotated[str, typer.Argument(metavar="ID", help="A job's id, or the id of one held message.")],
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Drop what is held of a job, or one message. It is never delivered.

    Example: callboard outbox drop JOB
    """
    run(_drop(make_session(None, None, "default", as_json, no_color), name))


# ---- list


async def _list(session: Session) -> int:
    from datetime import UTC, datetime

    from actors.listings.outbox_page import outbox_page

    view = await read_view()
    screen = session.screen()
    if session.json:
        screen.show_json(view)
    else:
        screen.show(outbox_page(view, datetime.now(UTC)))
    return 0


async def read_view() -> OutboxView:
    """What is held in all outboxes of this user. Raises: OutboxError."""
    from actors.listings.outbox_page import HeldRow, instant_of, view_of
    from bus.outbox import limit_of

    rows = []
    for outbox in _outboxes():
        try:
            pending = await outbox.pending()
            in_use = {holder for holder in {held.holder for held in pending} if _is_in_use(outbox, holder)}
        finally:
            await outbox.close()
        rows += [
            HeldRow(
                id=held.event_id, outbox=outbox.path.stem, kind=held.kind, about=held.about, owner=held.owner,
                destination=str(held.destination), size_bytes=held.size_bytes, stored_at=instant_of(held.stored_at),
                in_use=held.holder in in_use, trouble=held.trouble,
            )
            for held in pending
        ]  # fmt: skip
    return view_of(rows, limit_of(os.environ))


def _outboxes() -> list[Outbox]:
    from bus.outbox import Outbox, outbox_dir

    return [Outbox(path) for path in sorted(outbox_dir(os.environ).glob("*.db"))]


def _is_in_use(outbox: Outbox, holder: str) -> bool:
    lock = outbox.claim(holder)
    if lock is not None:
        lock.release(remove=False)
    return lock is None


# ---- flush


async def _flush(session: Session) -> int:
    import msgspec

    from actors.console.page import line
    from bus.courier import Courier

    async with await session.client() as client:
        done = await Courier(client.bus).round(force=True)
    screen = session.screen()
    if session.json:
        screen.show_json(msgspec.structs.asdict(done))
    else:
        screen.show([line(text) for text in said_of(done)])
    return 1 if done.refused or done.waiting else 0


def said_of(done: Round) -> list[str]:
    """A round of the courier in words."""
    left = {
        "held by actors that run, which deliver themselves": done.in_use,
        "for other servers or users: connect as 'callboard outbox list' shows": done.elsewhere,
        "refused by the server: see 'callboard outbox list'": done.refused,
        "not taken by the server at the moment: try again": done.waiting,
    }
    return [f"{done.delivered} delivered", *(f"{count} {why}" for why, count in left.items() if count)]


async def deliver_before(session: Session, bus: Bus) -> None:
    """Deliver what earlier submissions have left for this server, before a new one. Never stands in its way."""
    from actors.console.page import line
    from bus.courier import Courier
    from bus.errors import BusError, OutboxError
    from bus.outbox import outbox_path

    path = outbox_path(os.environ)
    try:
        async with asyncio.timeout(DELIVER_BEFORE_S):
            done = await Courier(bus, [path]).round()
    except (BusError, OutboxError, TimeoutError) as error:
        reason = str(error) or "it takes too long"
        session.notes().show([line(f"what is held in {path} is not delivered yet: {reason}")])
        return
    if done.delivered:
        session.notes().show([line(f"delivered {done.delivered} that were held in the outbox")])
    if left := done.elsewhere + done.refused:
        session.notes().show([line(f"{left} that are held are for other servers, or refused: callboard outbox list")])


# ---- drop


async def _drop(session: Session, name: str) -> int:
    from actors.console.page import line
    from bus.errors import UsageError

    dropped = [held for outbox in _outboxes() for held in await _drop_from(outbox, name)]
    if not dropped:
        raise UsageError(f"nothing is held under {name!r}", code="unknown_message", hint="see 'callboard outbox list'")
    screen = session.screen()
    if session.json:
        screen.show_json({"dropped": [held.event_id for held in dropped]})
    else:
        screen.show([line(f"dropped: {held.kind} of {held.about}") for held in dropped])
    return 0


async def _drop_from(outbox: Outbox, name: str) -> list[Held]:
    dropped = []
    try:
        wanted = [held for held in await outbox.pending() if name in (held.event_id, held.about.split("/")[1])]
        for holder in sorted({held.holder for held in wanted}):
            dropped += await _drop_of(outbox, holder, [held for held in wanted if held.holder == holder])
    finally:
        await outbox.close()
    return dropped


async def _drop_of(outbox: Outbox, holder: str, wanted: list[Held]) -> list[Held]:
    """Under the lock: what is being delivered cannot be dropped any more."""
    from bus.errors import UsageError
    from bus.outbox import FREE

    lock = outbox.claim(holder)
    if lock is None:
        if holder == FREE:
            raise UsageError(f"{wanted[0].about} is being delivered just now", code="in_use", hint="look again")
        hint = "stop that actor first; what it has in memory it delivers anyway"
        raise UsageError(f"{wanted[0].about} is held by {wanted[0].owner}, which runs", code="in_use", hint=hint)
    try:
        return [held for held in wanted if await outbox.remove([held.event_id])]
    finally:
        lock.release(remove=False)


# ---- held submissions


async def hold(session: Session, workflow: str, body: dict[str, Any], job_id: str | None, terms: Terms) -> str:
    """Keep a submission until the server is back; the job's id. Raises: UsageError, OutboxError."""
    import msgspec

    from actors.clients.offline import check_offline_name, hold_request
    from actors.jobs.requests import JobRequest, job_id_for
    from bus.destination import destination_of

    workspace = session.check_workspace()
    job = job_id_for(workspace, job_id, None)
    terms = terms.fixed(datetime.now(UTC))
    request = JobRequest(
        workflow=check_offline_name(workflow), job=job, input=msgspec.json.encode(body), workspace=workspace,
        priority=terms.priority, start=terms.start, deadline=terms.deadline,
    )  # fmt: skip
    await hold_request(request, destination_of(session.options()))
    return job


def say_held(session: Session, workflow: str, job: str, reason: str, *, wait: bool) -> int:
    """Say what became of the submission; the exit code."""
    from actors.command_bodies.session import EXIT_STILL_RUNNING
    from actors.console.page import Span, line

    notes, screen = session.notes(), session.screen()
    notes.show(
        [line(f"{reason}: job {job} is held in the outbox of this machine, and delivered when the server is back")]
    )
    notes.show([line("look: callboard outbox list; deliver: callboard outbox flush, or any callboard submit")])
    if wait:
        notes.show([line(f"it cannot be waited for: callboard result {job} --wait, once the server is back")])
    if session.json or not screen.is_tty:
        screen.show_json({"job": job, "workspace": session.workspace, "workflow": workflow, "held": True})
    else:
        screen.show([line("job ", Span(job, "name"), f" of {workflow}")])
    return EXIT_STILL_RUNNING if wait else 0
