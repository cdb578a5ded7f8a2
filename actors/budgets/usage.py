"""What a job and all that it started have used of models: a projection of the model steps in their logs.

What a fork took over from its source is the source's: the fork did not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from actors.jobs.signals import unknown_job
from actors.metering.costs import Prices, prices
from actors.model.model import Usage
from bus.connection import Bus
from bus.messages import Event, JobSubmitted, ReplyCompleted
from bus.objects import Blobs
from store.family import Relative, read_family


class ModelUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Calls of one model. ``cost_usd`` is that of the calls whose price is known; ``unpriced`` counts the others."""

    model: str
    calls: int = 1
    usage: Usage = Usage()
    cost_usd: float = 0.0
    unpriced: int = 0

    def __add__(self, other: ModelUse) -> ModelUse:
        return ModelUse(
            model=self.model, calls=self.calls + other.calls, usage=self.usage + other.usage,
            cost_usd=self.cost_usd + other.cost_usd, unpriced=self.unpriced + other.unpriced,
        )  # fmt: skip


class JobUse(msgspec.Struct, frozen=True, kw_only=True):
    """One job by itself. ``depth`` is how far it stands below the one that was asked for."""

    job: str
    workflow: str
    depth: int = 0
    models: tuple[ModelUse, ...] = ()


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """A job and all that it started: each job before those that it started, and the sum of all by model."""

    jobs: tuple[JobUse, ...]
    total: tuple[ModelUse, ...]
    cost_usd: float
    unpriced: int


class _Step(msgspec.Struct, frozen=True):
    """What is read of a recorded model step."""

    model: str
    provider: str = ""
    usage: Usage = Usage()
    cost_usd: float | None = None


# ---- pure


def fold_use(job: str, events: Iterable[Event], known: Prices) -> JobUse:
    """What one job used, from its log. A step without a cost is priced as ``known``."""
    workflow, found = "", dict[str, ModelUse]()
    for event in events:
        match event:
            case JobSubmitted():
                workflow = event.workflow
            case ReplyCompleted(op="model", output=output) if (step := _step(output)) is not None:
                use = _use(step, known)
                found[use.model] = found[use.model] + use if use.model in found else use
            case _:
                pass
    return JobUse(job=job, workflow=workflow, models=tuple(found.values()))


def _step(output: msgspec.Raw) -> _Step | None:
    """None for an output that is no model step."""
    try:
        return msgspec.json.decode(output, type=_Step)
    except msgspec.DecodeError:
        return None


def _use(step: _Step, known: Prices) -> ModelUse:
    cost_usd = step.cost_usd
    if cost_usd is None:
        cost_usd = known.cost_of(step.model, step.usage, step.provider)
    model = step.model or step.provider or "unknown"
    return ModelUse(model=model, usage=step.usage, cost_usd=cost_usd or 0.0, unpriced=int(cost_usd is None))


def sum_up(jobs: Sequence[JobUse]) -> Use:
    """All jobs together, the dearest model first."""
    total: dict[str, ModelUse] = {}
    for use in (use for job in jobs for use in job.models):
        total[use.model] = total[use.model] + use if use.model in total else use
    ordered = sorted(total.values(), key=lambda use: (-use.cost_usd, use.model))
    return Use(
        jobs=tuple(jobs), total=tuple(ordered), cost_usd=sum(use.cost_usd for use in ordered),
        unpriced=sum(use.unpriced for use in ordered),
    )  # fmt: skip


# ---- reading


async def read_use(bus: Bus, blobs: Blobs, workspace: str, job: str, known: Prices | None = None) -> Use:
    """Read the logs of a job and of all jobs below it. Raises: UsageError (``unknown_job``), BusError."""
    own = known or prices()
    family = await read_family(bus, blobs, workspace, job, lambda each, events: fold_use(each, events, own))
    if job not in family:
        raise unknown_job(workspace, job)
    return sum_up(list(_below(family, job, 0)))


def _below(family: dict[str, Relative[JobUse]], job: str, depth: int) -> Iterator[JobUse]:
    """The job, then what it started, each once."""
    own = family.pop(job)
    yield msgspec.structs.replace(own.found, depth=depth)
    for child in own.children:
        if child in family:
            yield from _below(family, child, depth + 1)
