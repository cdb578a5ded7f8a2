"""What a fork would do, on a page: ``callboard fork --dry-run``."""

from __future__ import annotations

from actors.changes.fork_plan import ForkPlan
from actors.console.amount import plural
from actors.console.page import Block, Column, Page, SheetBuilder, Span, facts, line, one_line


def fork_page(plan: ForkPlan) -> Page:
    """Where the fork leaves its source, then its operations: what is reused, and what the source did from there on."""
    origin, submitted = plan.forked_from, plan.submitted
    blocks: list[Block] = [
        facts(
            [
                ("fork of", one_line(origin.job)),
                ("workflow", one_line(f"{submitted.workflow} {submitted.version}")),
                ("from", one_line(f"{origin.step}, at sequence {origin.sequence}")),
                ("left behind", _left(plan)),
            ]
        )
    ]
    builder = SheetBuilder([Column("call", shrink=True), Column("in the fork")])
    for key in plan.reused:
        builder.add(one_line(key, 60), Span("reused", "good"))
    for key in plan.anew:
        builder.add(one_line(key, 60), Span("anew, if its code comes to it", "busy"))
    return [*blocks, builder.sheet(), line(Span("nothing was done", "dim"))]


def _left(plan: ForkPlan) -> str:
    return f"{plural(plan.signals_left, 'signal')} that nobody has taken" if plan.signals_left else ""
