"""One run of a team: what the board says may begin is begun, what comes of it is put on the board.

All that is decided here is decided from results that are on record, in the log's order, so a run that is taken over
decides the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from actors.components.component import Component
from actors.operations.job import Job
from actors.roles.plan import Plan, PlannedTask
from actors.roles.verdict import Verdict
from actors.roles.work import Work
from actors.teams import briefs
from actors.teams.board import Board
from actors.teams.citations import report_faults, statements_in
from actors.teams.plan_rules import plan_faults
from actors.teams.result import Source, TaskResult, TeamResult
from bus.failure import CallFailed, Failure

T = TypeVar("T")
Member = Component[..., Any]


@dataclass(frozen=True, kw_only=True)
class Members:
    """Who is in a team, and the rules that it works by."""

    name: str
    planner: Member
    roles: Mapping[str, Member]
    writer: Member
    reviewer: Member | None
    approve_plan: bool
    approvers: tuple[str, ...]
    rounds: int
    most_tasks: int
    mendings: int


class TeamRun:
    """Carries one task through: plan, approval, work, reviews, report."""

    def __init__(self, job: Job, members: Members, task: str, context: str) -> None:
        self._job = job
        self._members = members
        self._task = task
        self._context = context
        self._open: dict[str, asyncio.Event] = {}
        self._verdicts: list[Verdict] = []
        self._board = Board.of(Plan(()))

    async def to_its_end(self) -> TeamResult:
        """Raises: CallFailed if the plan stays wrong or is not allowed, or if somebody's work fails."""
        plan = await self._planned()
        if self._members.approve_plan:
            plan = await self._allowed(plan)
        await self._job.emit("plan", plan)
        self._board = Board.of(plan)
        await self._work_off()
        accepted = await self._reviewed()
        return await self._reported(accepted)

    # ---- the plan

    async def _planned(self) -> Plan:
        members = self._members
        known = {name: (_told(member), _tools_of(member)) for name, member in members.roles.items()}
        brief = briefs.plan_brief(self._context, known, members.most_tasks)
        plan, wrong = await self._asked(members.planner, Plan, brief, self._plan_faults)
        if wrong:
            raise _failed(
                "bad_plan", f"{members.planner.name} gave no plan that can be carried out: {'; '.join(wrong)}"
            )
        return plan

    def _plan_faults(self, plan: Plan) -> list[str]:
        return plan_faults(plan, self._members.roles, self._members.most_tasks)

    async def _allowed(self, plan: Plan) -> Plan:
        """The plan as people allow it; one that they made wrong by an edit they are asked for again."""
        wrong: list[str] = []
        while True:
            tasks = {"tasks": msgspec.to_builtins(plan.tasks)}
            decision = await self._job.approval(
                f"Plan of team {self._members.name}" + (", to be mended" if wrong else ""),
                details={"task": self._task, "reason": plan.reason, "wrong": wrong, **tasks},
                roles=self._members.approvers, edit=tasks,
            )  # fmt: skip
            if not decision.approved:
                said = "; ".join(answer.comment for answer in decision.answers if answer.comment)
                raise _failed("plan_rejected", f"the plan was not allowed{': ' if said else ''}{said}")
            plan, wrong = _edited(plan, decision.edited)
            wrong = wrong or self._plan_faults(plan)
            if not wrong:
                return plan

    # ---- the work

    async def _work_off(self) -> None:
        """All that is due, each task as soon as what it needs is there."""
        due = self._board.due_tasks
        self._open = {task.id: asyncio.Event() for task in due}
        self._open_ready()
        await self._job.gather(*(self._done(task) for task in due))

    def _open_ready(self) -> None:
        for task in self._board.ready:
            self._open[task.id].set()

    async def _done(self, task: PlannedTask) -> None:
        await self._open[task.id].wait()
        brief = briefs.task_brief(self._task, task, self._board)
        child = await self._job.start(self._members.roles[task.role], task=task.task, context=brief)
        try:
            work = as_work(await child.result())
        except CallFailed as error:
            message = f"task {task.id} ({task.role}): {error.failure.message}"
            raise CallFailed(msgspec.structs.replace(error.failure, message=message)) from error
        self._board = self._board.handed_in(task.id, work, child.id)
        self._open_ready()

    async def _reviewed(self) -> bool:
        """Work goes back while there are rounds for it. Whether the reviewer is content in the end."""
        reviewer = self._members.reviewer
        if reviewer is None:
            return True
        for left in range(self._members.rounds, -1, -1):
            brief = briefs.review_brief(self._board, self._verdicts)
            verdict, wrong = await self._asked(reviewer, Verdict, brief, self._verdict_faults)
            if wrong:
                raise _failed("bad_verdict", f"{reviewer.name} gave no verdict: {'; '.join(wrong)}")
            self._verdicts.append(verdict)
            await self._job.emit("review", verdict)
            if verdict.is_accepted or not left:
                return verdict.is_accepted
            self._board = self._board.sent_back(verdict)
            await self._work_off()
        return False

    def _verdict_faults(self, verdict: Verdict) -> list[str]:
        ids = [task.id for task in self._board.plan.tasks]
        return [
            f"there is no work {each.task!r} ({', '.join(ids)})" for each in verdict.returned if each.task not in ids
        ]

    # ---- the report

    async def _reported(self, accepted: bool) -> TeamResult:
        sources, board = self._sources(), self._board
        artifacts = {each.name: each for done in board.done.values() for each in done.work.artifacts}
        marks = [source.mark for source in sources]
        brief = briefs.report_brief(board, self._verdicts)
        report, doubts = await self._asked(
            self._members.writer, str, brief, lambda text: report_faults(text, marks, artifacts)
        )
        return TeamResult(
            report=report, plan=board.plan, tasks=self._task_results(), statements=statements_in(report),
            sources=sources, artifacts=tuple(artifacts.values()), reviews=tuple(self._verdicts),
            accepted=accepted, doubts=tuple(doubts),
        )  # fmt: skip

    def _task_results(self) -> tuple[TaskResult, ...]:
        handed_in = ((task, self._board.done[task.id]) for task in self._board.plan.tasks)
        return tuple(
            TaskResult(id=task.id, role=task.role, task=task.task, job=d.job, text=d.work.text, rounds=d.rounds)
            for task, d in handed_in
        )  # fmt: skip

    def _sources(self) -> tuple[Source, ...]:
        board = self._board
        return tuple(
            Source(
                mark=f"{task.id}.{number}", task=task.id, role=task.role, job=done.job, call=each.call, tool=each.tool,
                asked=each.asked, origins=each.origins, excerpt=each.excerpt,
            )
            for task in board.plan.tasks
            for done in (board.done[task.id],)
            for number, each in enumerate(done.work.evidence, 1)
        )  # fmt: skip

    async def _asked(
        self, member: Member, type_: type[T], brief: str, faults_of: Callable[[T], list[str]]
    ) -> tuple[T, list[str]]:
        """What a member gives, and what is wrong with it after it was told so often enough."""
        said, wrong, context = None, ["nothing was asked"], brief
        for _ in range(self._members.mendings + 1):
            answer = await self._job.call(member, task=self._task, context=context)
            said = msgspec.convert(answer, type_)
            wrong = faults_of(said)
            if not wrong:
                break
            shown = said if isinstance(said, str) else msgspec.json.encode(said).decode()
            context = briefs.mend_brief(brief, shown, wrong)
        assert said is not None
        return said, wrong


def as_work(answer: Any) -> Work:
    """What a member of any kind handed in: a role's work, another team's result, words, or data."""
    match answer:
        case Work():
            return answer
        case TeamResult():
            return Work(text=answer.report, artifacts=answer.artifacts)
        case str():
            return Work(text=answer)
        case _:
            return Work(text=msgspec.json.encode(answer).decode())


def _edited(plan: Plan, edited: dict[str, Any]) -> tuple[Plan, list[str]]:
    """The plan with what people changed; the plan as it was, and what is wrong, if that is no plan."""
    try:
        tasks = msgspec.convert(edited.get("tasks", msgspec.to_builtins(plan.tasks)), tuple[PlannedTask, ...])
    except msgspec.ValidationError as error:
        return plan, [str(error)]
    return Plan(tasks, plan.reason), []


def _told(member: Member) -> str:
    return member.description or f"The {member.kind} {member.name}."


def _tools_of(member: Member) -> list[str]:
    tools = member.agent.tools if member.agent else ()
    return [tool.rpartition("@")[0].rpartition(".")[2] or tool for tool in tools]


def _failed(code: str, message: str) -> CallFailed:
    return CallFailed(Failure(code=code, message=message, retryable=False))
