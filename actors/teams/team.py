"""A team as a component: a job that has a planner, roles, a reviewer and a writer work on one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actors.agents.purse import Purse
from actors.budgets.accounts import account_key
from actors.budgets.budget import Budget
from actors.components.component import Component
from actors.operations.job import Job
from actors.roles.plan import Plan
from actors.roles.role import Role
from actors.roles.verdict import Verdict
from actors.teams.result import TeamResult
from actors.teams.team_run import Members, TeamRun
from bus.errors import UsageError
from supervisor.number import is_count

if TYPE_CHECKING:
    from actors.components.app import App
    from actors.model.model import Model

MOST_TASKS = 12
ROUNDS = 2
MENDINGS = 3

Member = Component[..., Any] | Role | str


class Team:
    """Declares the job ``name`` of an app: ``task`` and ``context`` in, a ``TeamResult`` out.

    ``planner`` takes the task apart, ``roles`` do the parts, ``reviewer`` may send work back (None: nobody does),
    ``writer`` makes the report. Each is a component that takes ``task`` and ``context``, a Role, or the name of one
    that comes with Callboard; ``model`` is for the latter two. ``approve_plan``: people have to allow the plan
    (``approvers``: who may, empty for anybody) and may change it. ``rounds`` is how often work may go back,
    ``most_tasks`` how large a plan may be, ``mendings`` how often a wrong plan, verdict or report is asked for again.
    ``budget`` is what a job and all who work for it may use up. Raises: UsageError for what cannot be.
    """

    def __init__(
        self,
        app: App,
        name: str,
        *,
        roles: Sequence[Member],
        planner: Member = "planner",
        reviewer: Member | None = None,
        writer: Member = "writer",
        model: str | Model | None = None,
        approve_plan: bool = False,
        approvers: Sequence[str] = (),
        rounds: int = ROUNDS,
        most_tasks: int = MOST_TASKS,
        mendings: int = MENDINGS,
        budget: Budget | None = None,
        description: str = "",
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        _check_counts(name, rounds=rounds, most_tasks=most_tasks, mendings=mendings)
        members = [_member(app, role, model) for role in roles]
        if not members:
            raise UsageError(f"team {name} has no roles", code="bad_team", path="roles", hint='roles=["analyst"]')
        known = {member.name: member for member in members}
        if len(known) < len(members):
            raise UsageError(f"team {name} has two roles of one name", code="bad_team", path="roles",
                             hint="give one of them another name=")  # fmt: skip
        self.members = Members(
            name=name, planner=_giving(_member(app, planner, model), Plan), roles=known,
            writer=_giving(_member(app, writer, model), str),
            reviewer=None if reviewer is None else _giving(_member(app, reviewer, model), Verdict),
            approve_plan=approve_plan, approvers=tuple(approvers), rounds=rounds, most_tasks=most_tasks,
            mendings=mendings,
        )  # fmt: skip
        self.budget = budget
        self.job = app.job(name=name, version=version, description=description or _described(known),
                           timeout_s=timeout_s)(_function(self.members, budget))  # fmt: skip


def _function(members: Members, budget: Budget | None) -> Any:
    async def team(job: Job, task: str, context: str = "") -> TeamResult:
        if budget is not None:
            await _open(job, budget, members.name)
        return await TeamRun(job, members, task, context).to_its_end()

    return team


async def _open(job: Job, budget: Budget, who: str) -> None:
    """An account of the job's own, that all whom it starts draw on."""
    ops = job.operations
    ops.budgets = tuple(dict.fromkeys((account_key(ops.workspace, ops.job), *ops.budgets)))
    await Purse(ops, who).open(budget)


def _member(app: App, member: Member, model: str | Model | None) -> Component[..., Any]:
    """The component; a role that the app has no agent for by now becomes one."""
    if isinstance(member, str | Role):
        name = member if isinstance(member, str) else member.name
        if isinstance(member, str) and (known := app.find("agent", name)) is not None:
            return known
        return app.role(member) if model is None else app.role(member, model=model)
    if not {"task", "context"} <= set(member.input_schema.get("properties", {})):
        raise UsageError(f"{member!r} cannot be in a team", code="bad_team", path=member.name,
                         hint="it has to take task and context, both texts")  # fmt: skip
    return member


def _giving(member: Component[..., Any], type_: Any) -> Component[..., Any]:
    if member.signature.returns is not type_:
        raise UsageError(f"{member!r} gives no {type_.__name__}", code="bad_team", path=member.name,
                         hint=f"a team needs a {type_.__name__} of it")  # fmt: skip
    return member


def _check_counts(name: str, **counts: int) -> None:
    for setting, value in counts.items():
        if not (is_count(value) or (value == 0 and setting != "most_tasks")):
            raise UsageError(f"team {name}: {setting} cannot be {value!r}", code="bad_option", path=setting,
                             hint="a whole number from 0 (most_tasks: from 1)")  # fmt: skip


def _described(roles: dict[str, Component[..., Any]]) -> str:
    return f"A team of {', '.join(roles)}."
