"""``callboard schedules``: jobs by cron, or every so often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, Workspace, make_session, run
from actors.commands.submit import workflow_names

if TYPE_CHECKING:
    from actors.clients.client import Client
    from actors.command_bodies.session import Session
    from actors.schedules.book import ScheduleView

app = typer.Typer(
    name="schedules",
    help="Jobs by cron, or every so often.\n\nExample: callboard schedules add nightly order sku=A1 --cron '0 2 * * *'",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="The schedule's name.")]


@app.command()
def add(
    name: Name,
    workflow: Annotated[str, typer.Argument(help="The workflow that it runs.", autocompletion=workflow_names)],
    inputs: Annotated[list[str] | None, typer.Argument(help="name=text or name:=JSON.")] = None,
    cron: Annotated[str, typer.Option(metavar="FIELDS", help="minute hour day month weekday: '0 8 * * 1-5'.")] = "",
    tz: Annotated[str, typer.Option(metavar="ZONE", help="Time zone of --cron: Europe/Berlin [default: UTC].")] = "",
    every: Annotated[str, typer.Option(metavar="DURATION", help="In place of --cron: 90s, 15m, 2h, 1d.")] = "",
    whole: Annotated[str | None, typer.Option("--input", metavar="JSON", help="The input: JSON, @file or -.")] = None,
    priority: Annotated[str, typer.Option(help="high, normal or low.")] = "normal",
    overlap: Annotated[
        str, typer.Option(metavar="POLICY", help="While the last run goes on: skip, queue or allow.")
    ] = "skip",
    deadline: Annotated[
        str, typer.Option(metavar="DURATION", help="A run fails if it has not ended so long after its start.")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the schedule of that name.")] = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Make a schedule. Rule and input are checked, and the next times shown.

    Example: callboard schedules add report summary --cron '0 8 * * 1-5' --tz Europe/Berlin
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    words = {"cron": cron, "time_zone": tz, "priority": priority, "overlap": overlap, "replace": replace}
    run(_add(session, name, workflow, inputs or [], whole, every, deadline, words))


@app.command("list")
def list_all(
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """List schedules, and jobs that are planned for later.

    Example: callboard schedules list
    """
    run(_list(make_session(nats, context, workspace, as_json, no_color)))


@app.command()
def show(
    name: Name,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Show a schedule with its next times and its last run.

    Example: callboard schedules show nightly
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    run(_with_view(session, lambda client: client.schedules.get(name)))


@app.command()
def pause(
    name: Name,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Let it fire no more until it is resumed. Its jobs go on.

    Example: callboard schedules pause nightly
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    run(_with_view(session, lambda client: client.schedules.pause(name, by=_who())))


@app.command()
def resume(
    name: Name,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Let it fire again. What was due meanwhile is not made up for.

    Example: callboard schedules resume nightly
    """
    session = make_session(nats, context, workspace, as_json, no_color)
    run(_with_view(session, lambda client: client.schedules.resume(name, by=_who())))


@app.command()
def remove(
    name: Name, nats: Nats = None, context: Context = None, workspace: Workspace = "default", as_json: AsJson = False
) -> None:
    """Remove a schedule. Its jobs go on.

    Example: callboard schedules remove nightly
    """
    run(_remove(make_session(nats, context, workspace, as_json), name))


@app.command("run-now")
def run_now(
    name: Name, nats: Nats = None, context: Context = None, workspace: Workspace = "default", as_json: AsJson = False
) -> None:
    """Submit its job now. Also if it is paused, or its last run goes on.

    Example: callboard schedules run-now nightly
    """
    run(_run_now(make_session(nats, context, workspace, as_json), name))


def _who() -> str:
    from actors.command_bodies.jobs import user_name

    return user_name()


async def _add(
    session: Session, name: str, workflow: str, inputs: list[str], whole: str | None, every: str, deadline: str,
    words: dict[str, Any],
) -> int:  # fmt: skip
    from actors.command_bodies.arguments import parse_inputs
    from actors.command_bodies.jobs import check_priority
    from actors.schedules.schedule import Rule, check_overlap, check_rule
    from bus.moment import parse_duration

    words["every_s"] = parse_duration(every, "--every") if every else None
    words["deadline_s"] = parse_duration(deadline, "--deadline") if deadline else None
    overlap = check_overlap(words["overlap"])
    check_rule(Rule(name=name, cron=words["cron"], time_zone=words["time_zone"], every_s=words["every_s"]))
    check_priority(words["priority"])
    words |= {"overlap": overlap, "input": parse_inputs(inputs, whole), "by": _who()}
    return await _with_view(session, lambda client: client.schedules.add(name, workflow, **words))


async def _with_view(session: Session, ask: Callable[[Client], Awaitable[ScheduleView]]) -> int:
    from datetime import UTC, datetime

    from actors.listings.schedule_page import schedule_page

    async with await session.client() as client:
        view = await ask(client)
    screen = session.screen()
    if session.json:
        screen.show_json(view)
    else:
        screen.show(schedule_page(view, datetime.now(UTC)))
    return 0


async def _list(session: Session) -> int:
    from datetime import UTC, datetime

    from actors.listings.schedule_page import schedule_list_page

    async with await session.client() as client:
        schedules, planned = await client.schedules.list(), await client.find_jobs(states=["planned"])
    screen = session.screen()
    if session.json:
        screen.show_json({"schedules": schedules, "planned": planned})
    else:
        screen.show(schedule_list_page(schedules, planned, datetime.now(UTC)))
    return 0


async def _remove(session: Session, name: str) -> int:
    async with await session.client() as client:
        await client.schedules.remove(name, by=_who())
    _say(session, {"removed": name}, f"schedule {name} is removed")
    return 0


async def _run_now(session: Session, name: str) -> int:
    async with await session.client() as client:
        job = await client.schedules.run(name, by=_who())
    _say(session, {"job": job, "schedule": name}, f"job {job}; next: callboard tail {job}")
    return 0


def _say(session: Session, facts: dict[str, str], text: str) -> None:
    from actors.console.page import line

    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json(facts)
    else:
        screen.show([line(text)])
