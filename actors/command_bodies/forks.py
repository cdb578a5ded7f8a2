"""What ``callboard fork`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.command_bodies.arguments import parse_inputs
from actors.command_bodies.jobs import await_end
from actors.command_bodies.session import EXIT_DONE, Session
from actors.console.fork_page import fork_page
from actors.console.page import Span, line
from bus.errors import UsageError

if TYPE_CHECKING:
    from actors.changes.fork_plan import ForkPlan


async def fork(
    session: Session, job: str, step: str, whole: str | None, new_id: str | None, *, dry_run: bool, wait: bool,
    timeout_s: float | None,
) -> int:  # fmt: skip
    """Fork a job, or show what that would do; with ``wait`` print what the new one returned."""
    if dry_run and wait:
        raise UsageError("--dry-run and --wait", code="bad_argument", hint="a dry run starts nothing")
    body = None if whole is None else parse_inputs((), whole)
    async with await session.client() as client:
        plan = await client.plan_fork(job, from_=step)
        if dry_run:
            _show(session, plan)
            return EXIT_DONE
        handle = await client.fork(job, from_=step, input=body, new_id=new_id)
        if wait:
            return await await_end(session, client, handle, timeout_s)
        screen = session.screen()
        if session.json or not screen.is_tty:
            screen.show_json({"job": handle.id, "workspace": client.workspace, **_facts(plan)})
        else:
            screen.show([line("job ", Span(handle.id, "name"), f" is a fork of {job} from {step}")])
            screen.show([line(Span(f"next: callboard tail {handle.id}, callboard result {handle.id}", "dim"))])
    return EXIT_DONE


def _show(session: Session, plan: ForkPlan) -> None:
    screen = session.screen()
    if session.json:
        screen.show_json({"dry_run": True, **_facts(plan)})
    else:
        screen.show(fork_page(plan))


def _facts(plan: ForkPlan) -> dict[str, Any]:
    return {
        "forked_from": plan.forked_from, "reused": plan.reused, "anew": plan.anew, "signals_left": plan.signals_left,
    }  # fmt: skip
