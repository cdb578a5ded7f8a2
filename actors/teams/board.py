"""The board of a team: what is planned, what is done, what may begin. Pure; the decisions of a team's run are here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import msgspec

from actors.roles.plan import Plan, PlannedTask
from actors.roles.verdict import Returned, Verdict
from actors.roles.work import Work
from actors.teams.plan_rules import with_dependents
from store.artifact import Artifact


@dataclass(frozen=True)
class Done:
    """A piece of work as it was handed in: ``job`` did it, in so many ``rounds``."""

    work: Work
    job: str
    rounds: int = 1


@dataclass(frozen=True)
class Board:
    """``due`` are the tasks that have to be done, again or for the first time; ``reasons`` why those were sent back."""

    plan: Plan
    due: frozenset[str]
    done: Mapping[str, Done] = field(default_factory=lambda: MappingProxyType({}))
    reasons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @staticmethod
    def of(plan: Plan) -> Board:
        """Nothing is done yet."""
        return Board(plan, frozenset(task.id for task in plan.tasks))

    @property
    def due_tasks(self) -> list[PlannedTask]:
        """What has to be done, in the plan's order."""
        return [task for task in self.plan.tasks if task.id in self.due]

    @property
    def ready(self) -> list[PlannedTask]:
        """What has to be done and may begin: nothing that it needs has to be done before."""
        return [task for task in self.due_tasks if not self.due & set(task.needs)]

    def handed_in(self, task: str, work: Work, job: str) -> Board:
        """With the work of one task. A file that has the name of another task's gets the task's name before it."""
        work = msgspec.structs.replace(work, artifacts=tuple(self._named(task, each) for each in work.artifacts))
        rounds = self.done[task].rounds + 1 if task in self.done else 1
        done = {**self.done, task: Done(work, job, rounds)}
        return replace(self, due=self.due - {task}, done=MappingProxyType(done))

    def _named(self, task: str, artifact: Artifact) -> Artifact:
        others = (each for id_, done in self.done.items() if id_ != task for each in done.work.artifacts)
        if not any(each.name == artifact.name and each.sha256 != artifact.sha256 for each in others):
            return artifact
        return msgspec.structs.replace(artifact, name=f"{task}-{artifact.name}")

    def sent_back(self, verdict: Verdict) -> Board:
        """With what the reviewer returned to be done again, and all that builds on it."""
        reasons = _joined(verdict.returned)
        return replace(self, due=with_dependents(self.plan, reasons), reasons=MappingProxyType(reasons))

    def needed(self, task: PlannedTask) -> dict[str, Done]:
        """What a task builds on."""
        return {need: self.done[need] for need in task.needs}


def _joined(returned: tuple[Returned, ...]) -> dict[str, str]:
    """A task may be returned for several reasons."""
    reasons: dict[str, list[str]] = {}
    for each in returned:
        reasons.setdefault(each.task, []).append(each.reason)
    return {task: "\n".join(found) for task, found in reasons.items()}
