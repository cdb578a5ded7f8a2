"""``callboard trace``: what an agent did, and what those did that worked for it."""

from __future__ import annotations

from actors.agents.trace import Trace, trace_of
from actors.clients.client import Client
from actors.command_bodies.session import EXIT_DONE, Session
from actors.console.trace_page import trace_page

DEPTH_LIMIT = 8


async def trace(session: Session, job: str, *, whole: bool, alone: bool) -> int:
    """Print the trace of a job and, unless ``alone``, of its children below it."""
    screen = session.screen()
    async with await session.client() as client:
        found = await _traces(client, job, 0 if alone else DEPTH_LIMIT)
    if session.json:
        screen.show_json([found_trace for _, found_trace in found])
    else:
        screen.show(trace_page(found, whole=whole))
    return EXIT_DONE


async def _traces(client: Client, job: str, below: int, depth: int = 0) -> list[tuple[int, Trace]]:
    """Each after its parent. Children that asked no model and have none below that did are left out."""
    own = trace_of(await client.get(job))
    found = [(depth, own)]
    for child in own.children if depth < below else ():
        theirs = await _traces(client, child, below, depth + 1)
        found += theirs if any(each.runs for _, each in theirs) else []
    return found
