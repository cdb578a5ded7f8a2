"""What re-running a job's function against its recorded history says: the same, or where it differs first."""

from __future__ import annotations

import msgspec

from actors.components.app import App
from actors.components.component import Component
from actors.components.version import parse_version
from actors.replays.difference import Difference
from actors.replays.replay import replay
from bus.errors import UsageError
from bus.messages import JobSubmitted
from store.log import Recorded
from store.snapshot import Snapshot


class Departure(msgspec.Struct, frozen=True):
    """The first difference; ``call`` is the operation's key, empty for the job's end. ``text`` says all of it."""

    kind: str
    call: str
    recorded: str
    present: str
    text: str


class Verdict(msgspec.Struct, frozen=True):
    """``operations``: how many the present code asked for before it ended or differed."""

    job: str
    workflow: str
    version: str
    same: bool
    operations: int
    difference: Departure | None = None


async def judge(app: App, snapshot: Snapshot, at: int | None = None) -> Verdict:
    """Run the function of ``app`` against the history, up to sequence ``at`` if that is given.

    Nothing is called and nothing is written. Raises: UsageError if the app does not have the workflow, or the
    snapshot holds digests in place of values.
    """
    history = snapshot.recorded_values(at)
    submitted = _submitted(history)
    component = _workflow(app, submitted)
    result = await replay(component, history)
    return Verdict(
        job=submitted.job,
        workflow=component.name,
        version=component.version,
        same=result.ok,
        operations=len(result.asked),
        difference=_departure(result.difference) if result.difference else None,
    )


def _departure(found: Difference) -> Departure:
    return Departure(found.kind, found.call, found.recorded, found.present, str(found))


def _submitted(history: list[Recorded]) -> JobSubmitted:
    for recorded in history:
        if isinstance(recorded.event, JobSubmitted):
            return recorded.event
    raise UsageError("the history holds no job.submitted: the job never began", code="bad_history")


def _workflow(app: App, submitted: JobSubmitted) -> Component[..., object]:
    """The component that a host would take: a function of the same major version, a document of the same version."""
    name, version = submitted.workflow, submitted.version
    major = parse_version(version, "version").major
    found = app.find("job", name, major) or app.find("agent", name, major)
    if found is not None and not found.keeps_version:
        return found
    if exact := next((c for c in app.components if (c.kind, c.name, c.version) == ("job", name, version)), None):
        return exact
    jobs = ", ".join(f"{c.name} {c.version}" for c in app.components if c.kind != "tool") or "none"
    wanted = version if found is not None else f"{major}.x"
    raise UsageError(f"app {app.name} has no job {name} {wanted}", code="unknown_workflow", hint=f"its jobs: {jobs}")
