"""A job that asks between two steps; the host's crash point is armed as for ``crossed``, and effects are counted."""

from __future__ import annotations

from actors import App, Escalation, Job, ToolContext
from tests.apps.crossed import arm_for
from tests.apps.five import note

app = App("asking", version="1.0.0")


@app.tool
async def step(ctx: ToolContext, n: int) -> int:
    """Add one, on the record."""
    note(ctx.idempotency_key)
    return n + 1


@app.job
async def ask(job: Job, start: int) -> int:
    """A step, an approval that is escalated soon, and another step."""
    arm_for(job.id, "host.")
    value = await job.call(step, n=start)
    decision = await job.approval("Go on?", roles=("clerk",), escalate=[Escalation(0.6, ("head",))], edit={"n": value})
    return await job.call(step, n=decision.edited["n"]) if decision.approved else -1
