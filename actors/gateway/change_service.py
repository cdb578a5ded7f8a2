"""Changes to how jobs go on as NATS services: ``api.<workspace>.jobs.fork`` and ``…jobs.amend``.

nats req api.default.jobs.fork '{"job": "order-17", "from": "charge:1"}'
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.changes.amend import amend_job
from actors.changes.fork import fork_job, look_at_fork
from actors.changes.fork_plan import ForkPlan
from actors.components.input_check import check_input
from actors.components.registry import Registry
from actors.components.version import parse_version
from bus.amendment import Change
from bus.connection import Bus
from bus.event import NULL
from bus.objects import Blobs
from bus.subjects import check_job_id

# Of more operations an answer has only the numbers: it has to fit into one message.
KEYS_LIMIT = 1_000


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An unknown field is refused, since it is most likely a misspelt one."""


class Fork(_Body, frozen=True):
    """``jobs.fork``; ``input`` replaces that of the source, ``id`` is the new job's, ``dry_run`` only looks."""

    job: str
    from_: str = msgspec.field(name="from")
    input: msgspec.Raw = msgspec.field(default_factory=lambda: NULL)
    id: str | None = None
    dry_run: bool = False


class Amend(_Body, frozen=True):
    """``jobs.amend``; ``change`` says in its ``type`` what kind it is."""

    job: str
    change: Change
    by: str = ""


class ChangeService:
    """Answers for the gateway. Every method may raise UsageError and BusError."""

    def __init__(self, bus: Bus, blobs: Blobs, registry: Registry) -> None:
        self._bus = bus
        self._blobs = blobs
        self._registry = registry

    async def fork(self, workspace: str, body: Fork) -> dict[str, Any]:
        """A new job that goes on from a step of another one."""
        plan = await look_at_fork(self._bus, self._blobs, workspace, body.job, body.from_)
        raw = None if body.input == NULL else bytes(body.input)
        if raw is not None:
            self._check_input(plan, raw)
        if body.dry_run:
            return {"dry_run": True, "workspace": workspace, **_shown(plan)}
        fork = None if body.id is None else check_job_id(body.id)
        made = await fork_job(self._bus, self._blobs, workspace, body.job, body.from_, raw=raw, fork=fork)
        answer = {"job": made.job, "workspace": workspace, **_shown(made.plan)}
        return answer | ({"existing": True} if made.existing else {})

    async def amend(self, workspace: str, body: Amend) -> dict[str, Any]:
        """A change to a job that is under way."""
        amended = await amend_job(self._bus, self._blobs, workspace, body.job, body.change, by=body.by)
        return {"job": amended.job, "sequence": amended.sequence, "in_flight": amended.in_flight}

    def _check_input(self, plan: ForkPlan, raw: bytes) -> None:
        """Against the version that the source began with, as far as it is registered; its host checks it again."""
        name, version = plan.submitted.workflow, plan.submitted.version
        major = parse_version(version, "version").major
        if info := self._registry.get("job", name, version) or self._registry.find("job", name, major):
            check_input(info, msgspec.json.decode(raw))


def _shown(plan: ForkPlan) -> dict[str, Any]:
    facts: dict[str, Any] = {"workflow": plan.submitted.workflow, "forked_from": plan.forked_from}
    facts |= {"signals_left": plan.signals_left, "reused_count": len(plan.reused), "anew_count": len(plan.anew)}
    if len(plan.reused) + len(plan.anew) <= KEYS_LIMIT:
        facts |= {"reused": plan.reused, "anew": plan.anew}
    return facts
