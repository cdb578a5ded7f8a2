"""Commands that speak to jobs: submit, result, signal, retry."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from actors.command_bodies.session import EXIT_STILL_RUNNING, Session
from actors.commands import outbox
from actors.console.amount import instant
from actors.console.event_line import event_line
from actors.console.page import Span, line, one_line
from actors.console.result_page import result_page
from bus.errors import BusRefused, BusUnreachable, UsageError
from bus.moment import Moment, parse_duration, parse_moment
from bus.subjects import PRIORITIES, Priority

if TYPE_CHECKING:
    from actors.clients.client import Client
    from actors.clients.handle import JobHandle
    from actors.clients.terms import Terms


def check_priority(text: str) -> Priority:
    """The priority that ``text`` names. Raises: UsageError."""
    for priority in PRIORITIES:
        if text == priority:
            return priority
    raise UsageError(f"priority {text!r} does not exist", code="bad_priority", hint=f"one of {', '.join(PRIORITIES)}")


def parse_terms(priority: str, delay: str | None, at: str | None, deadline: str | None) -> Terms:
    """What ``--priority``, ``--delay``, ``--at`` and ``--deadline`` say. Raises: UsageError that names the option."""
    from actors.clients.terms import Terms
    from actors.jobs.requests import check_times

    if delay and at:
        raise UsageError("--delay and --at are given", code="bad_argument", hint="give one of them")
    start: Moment | None = parse_duration(delay, "--delay") if delay else None
    if at:
        start = parse_moment(at, "--at")
    ends = parse_moment(deadline, "--deadline") if deadline else None
    check_times(start, ends, datetime.now(UTC))
    return Terms(check_priority(priority), start, ends)


async def submit(
    session: Session, workflow: str, body: dict[str, Any], *, terms: Terms, job_id: str | None = None,
    wait: bool = False, timeout_s: float | None = None, offline_ok: bool = False,
) -> int:  # fmt: skip
    """Submit a job; print its id, or with ``wait`` its events (on a terminal) and its result."""
    try:
        connected = await session.client()
    except BusUnreachable as error:
        if not offline_ok or isinstance(error, BusRefused):
            raise
        job = await outbox.hold(session, workflow, body, job_id, terms)
        return outbox.say_held(session, workflow, job, str(error.args[0]), wait=wait)
    async with connected as client:
        await outbox.deliver_before(session, client.bus)
        handle = await client.submit(workflow, input=body, job_id=job_id, offline_ok=offline_ok, **terms.words())
        if handle.held:
            return outbox.say_held(session, workflow, handle.id, "the server has gone away", wait=wait)
        if handle.warning:
            session.notes().show([line(Span(one_line(f"warning: {handle.warning}", 400), "warn"))])
        if wait:
            return await await_end(session, client, handle, timeout_s)
        _say_submitted(session, handle, workflow, terms)
        return 0


def _say_submitted(session: Session, handle: JobHandle[Any], workflow: str, terms: Terms) -> None:
    screen = session.screen()
    starts_at = terms.starts_at(datetime.now(UTC))
    if session.json or not screen.is_tty:
        planned = {"starts_at": starts_at} if starts_at else {}
        screen.show_json({"job": handle.id, "workspace": handle.workspace, "workflow": workflow, **planned})
        return
    when = f", planned for {instant(starts_at)}" if starts_at else ""
    screen.show([line("job ", Span(handle.id, "name"), f" of {workflow}{when}")])
    then = "callboard show" if starts_at else "callboard tail"
    last = f"callboard cancel {handle.id}" if starts_at else f"callboard result {handle.id}"
    screen.show([line(Span(f"next: {then} {handle.id}, {last}", "dim"))])


async def result(session: Session, job: str, *, wait: bool, timeout_s: float | None) -> int:
    """Print what a job returned."""
    async with await session.client() as client:
        view = await client.get(job) if not wait else None
        if view is not None and view.ended_at is None:
            session.notes().show([line(f"job {job} is {view.state}; use --wait to wait for its end")])
            return EXIT_STILL_RUNNING
        try:
            return await await_result(session, client, client.handle(job), timeout_s, quiet=True)
        except TimeoutError as error:
            await client.get(job)  # raises if nobody has heard of it
            return _goes_on(session, job, error)


async def await_end(session: Session, client: Client, handle: JobHandle[Any], timeout_s: float | None) -> int:
    """Wait for the job's end and print what it returned; say so if it goes on for longer."""
    try:
        return await await_result(session, client, handle, timeout_s)
    except TimeoutError as error:
        return _goes_on(session, handle.id, error)


async def await_result(
    session: Session, client: Client, handle: JobHandle[Any], timeout_s: float | None, *, quiet: bool = False
) -> int:
    """Wait for the job's end, on a terminal with its events, and print what it returned. Raises: TimeoutError."""
    notes = session.notes()
    watcher = asyncio.create_task(_watch(client, handle, session)) if notes.is_tty and not quiet else None
    try:
        value = await handle.result(timeout_s)
    finally:
        if watcher:
            await _end(watcher)
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json(value)
    else:
        screen.show(result_page(value))
    return 0


def _goes_on(session: Session, job: str, error: TimeoutError) -> int:
    session.notes().show([line(f"{error}; callboard result {job} --wait waits on")])
    return EXIT_STILL_RUNNING


async def _watch(client: Client, handle: JobHandle[Any], session: Session) -> None:
    """Show the job's events while somebody waits at a terminal."""
    notes = session.notes()
    async with contextlib.aclosing(client.follow(handle.id)) as items:
        async for item in items:
            notes.show([event_line(item, workspace=client.workspace)])


async def _end(watcher: asyncio.Task[None]) -> None:
    """Let the last events come out, then stop."""
    await asyncio.wait({watcher}, timeout=0.2)
    watcher.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watcher


def user_name() -> str:
    """Who gives a signal, for the log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user database
        return "unknown"


async def signal(session: Session, job: str, name: str, data: Any) -> int:
    """Give a job a signal."""
    async with await session.client() as client:
        sequence = await client.signal(job, name, data, by=user_name())
        acknowledge(session, {"job": job, "signal": name, "sequence": sequence})
    return 0


async def retry(session: Session, job: str, calls: list[str], *, wait: bool, timeout_s: float | None) -> int:
    """Let a failed job go on from where it failed."""
    async with await session.client() as client:
        handle = await client.retry(job, calls=calls, by=user_name())
        if wait:
            return await await_end(session, client, handle, timeout_s)
        screen = session.screen()
        if session.json or not screen.is_tty:
            screen.show_json({"job": job, "workspace": client.workspace})
        else:
            screen.show([line("job ", Span(job, "name"), " goes on")])
            screen.show([line(Span(f"next: callboard tail {job}, callboard result {job} --wait", "dim"))])
    return 0


def acknowledge(session: Session, facts: dict[str, Any]) -> None:
    """Say that a word is in the log."""
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json(facts)
    else:
        screen.show([line(f"{facts['signal']} is in the log of job {facts['job']} at {facts['sequence']}")])


def decode_data(text: str | None) -> Any:
    """The data of a signal: JSON if it is JSON, else the text itself."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
