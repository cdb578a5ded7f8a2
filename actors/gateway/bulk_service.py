"""Many jobs at once as NATS services: ``api.<workspace>.jobs.find`` and ``…jobs.tell``.

nats req api.default.jobs.tell '{"verb": "cancel", "workflow": "order", "states": ["waiting"]}'
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.clients.bulk import Verb, check_verb
from actors.clients.client import Client
from bus.connection import Bus
from bus.errors import UsageError
from store.job_list import ListedJob, check_state

# So many are told by one request, and listed by one answer: it has to fit into one message, and come in time.
LIMIT = 500


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An unknown field is refused, since it is most likely a misspelt one."""

    workflow: str = ""
    states: tuple[str, ...] = ()
    older_than_s: float | None = None


class FindJobs(_Body, frozen=True, kw_only=True):
    """``jobs.find``; with ``verb`` only jobs to which it does anything."""

    verb: str = ""
    offset: int = 0
    limit: int = LIMIT


class TellJobs(_Body, frozen=True, kw_only=True):
    """``jobs.tell``: ``jobs`` by their ids, those that a filter means, or with ``everything`` all of the workspace."""

    verb: str
    jobs: tuple[str, ...] = ()
    everything: bool = False
    reason: str = ""
    children: bool = True
    by: str = ""


class BulkService:
    """Answers for the gateway. Every method may raise UsageError and BusError."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def find(self, workspace: str, body: FindJobs) -> dict[str, Any]:
        """Jobs that have not ended or have failed, the oldest first, a page of them."""
        if body.offset < 0 or not 0 < body.limit <= LIMIT:
            raise UsageError(f"limit has to be 1 to {LIMIT}, offset 0 or more", code="bad_request", path="$.limit")
        async with Client(self._bus, workspace) as client:
            found = await _found(client, body, check_verb(body.verb) if body.verb else None)
        page = found[body.offset : body.offset + body.limit]
        end = body.offset + len(page)
        return {"jobs": page, "total": len(found)} | ({"next_offset": end} if end < len(found) else {})

    async def tell(self, workspace: str, body: TellJobs) -> dict[str, Any]:
        """Tell each, and say what came of it; ``left`` are those for which the same is to be asked once more."""
        verb, is_filter = check_verb(body.verb), bool(body.workflow or body.states or body.older_than_s is not None)
        if (bool(body.jobs), is_filter, body.everything).count(True) != 1:
            hint = "jobs: [...], or workflow, states and older_than_s, or everything: true"
            raise UsageError("which jobs is said in one way, and in one only", code="bad_request", path="$", hint=hint)
        async with Client(self._bus, workspace) as client:
            jobs = body.jobs or [job.job for job in await _found(client, body, verb)]
            telling = client.tell(verb, jobs[:LIMIT], reason=body.reason, children=body.children, by=body.by)
            told = [each async for each in telling]
        return {"verb": verb, "told": told, "left": len(jobs[LIMIT:])}


async def _found(client: Client, body: _Body, verb: Verb | None) -> list[ListedJob]:
    states = [check_state(state) for state in body.states]
    return await client.find_jobs(workflow=body.workflow, states=states, older_than_s=body.older_than_s, verb=verb)
