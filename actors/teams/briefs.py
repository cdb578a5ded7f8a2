"""What each member of a team is told beside its task. Pure: words from data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from actors.roles.plan import Plan, PlannedTask
from actors.roles.verdict import Verdict
from actors.roles.work import Work
from actors.teams.board import Board, Done

_NO_TOOLS = "no tools"


def plan_brief(context: str, roles: Mapping[str, tuple[str, Sequence[str]]], most: int) -> str:
    """For the planner: the roles, each with its description and tools."""
    lines = [f"- {name}: {said} Tools: {', '.join(tools) or _NO_TOOLS}." for name, (said, tools) in roles.items()]
    return _joined(context, "# Roles\n\n" + "\n".join(lines), f"Plan {most} pieces of work at most.")


def task_brief(whole: str, task: PlannedTask, board: Board) -> str:
    """For who does a task: what it is for, what it builds on, and why it came back if it did."""
    parts = [f"# What it is for\n\n{whole}"]
    parts += [_done_text(need, done, board.plan) for need, done in board.needed(task).items()]
    if earlier := board.done.get(task.id):
        parts.append(f"# Your work so far\n\n{earlier.work.text}")
        reason = board.reasons.get(task.id) or "What it builds on was done again: see above."
        parts.append(f"# Why it comes back\n\n{reason}")
    return _joined(*parts)


def _done_text(task: str, done: Done, plan: Plan) -> str:
    role = next(each.role for each in plan.tasks if each.id == task)
    files = "".join(f"\n- {msgspec.json.encode(each).decode()}" for each in done.work.artifacts)
    return f"# Work {task}, by {role}\n\n{done.work.text}" + (f"\n\nFiles:{files}" if files else "")


def review_brief(board: Board, earlier: Sequence[Verdict]) -> str:
    """For the reviewer: each piece of work with its evidence, and what was sent back before."""
    parts = [_reviewed(task, board.done[task.id]) for task in board.plan.tasks]
    for number, verdict in enumerate(earlier, 1):
        reasons = "\n".join(f"- {each.task}: {each.reason}" for each in verdict.returned)
        parts.append(f"# You sent back in review {number}\n\n{reasons}")
    return _joined(*parts)


def _reviewed(task: PlannedTask, done: Done) -> str:
    head = f"# Work {task.id}, by {task.role}\n\nIts task: {task.task}"
    return _joined(head, f"Its answer: {done.work.text}", "Its evidence:\n" + _source_lines(task.id, done.work))


def report_brief(board: Board, verdicts: Sequence[Verdict]) -> str:
    """For the writer: each piece of work, all sources with their marks, files, and what the reviewer said last."""
    parts = [f"# Work {task.id}, by {task.role}\n\n{board.done[task.id].work.text}" for task in board.plan.tasks]
    works = [(task.id, board.done[task.id].work) for task in board.plan.tasks]
    sources = "\n".join(filter(None, (_source_lines(task, work) for task, work in works)))
    parts.append(f"# Sources\n\n{sources or 'There are none.'}")
    if files := [each.name for _, work in works for each in work.artifacts]:
        parts.append("# Files\n\n" + "\n".join(f"- {name}" for name in files))
    if verdicts and (verdicts[-1].comment or verdicts[-1].returned):
        parts.append("# The reviewer said last\n\n" + _said(verdicts[-1]))
    return _joined(*parts)


def _said(verdict: Verdict) -> str:
    return _joined(verdict.comment, *(f"Not settled, {each.task}: {each.reason}" for each in verdict.returned))


def _source_lines(task: str, work: Work) -> str:
    lines = []
    for number, each in enumerate(work.evidence, 1):
        origins = f" on {', '.join(each.origins)}" if each.origins else ""
        lines.append(f"- [{task}.{number}] {each.tool} {each.asked}{origins} gave {each.excerpt}")
    return "\n".join(lines)


def mend_brief(brief: str, answer: str, wrong: Iterable[str]) -> str:
    """The same once more, with what was answered and what is wrong with it."""
    faults = "\n".join(f"- {fault}" for fault in wrong)
    return _joined(brief, f"# Your last answer\n\n{answer}", f"# What is wrong with it\n\n{faults}\n\nMend that.")


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
