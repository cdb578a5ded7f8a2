"""Refunds that people approve, and may lower: a job that asks, parks for days, and goes on with what was decided.

    callboard up examples.approval:app
    callboard submit refund order=A-17 amount:=120
    callboard approvals
    callboard approve JOB --role support --edit amount=100 --comment 'the parcel was opened'

After a day without an answer the heads are asked too, and after a week there is no refund.
"""

from __future__ import annotations

from msgspec import Struct

from actors import App, Escalation, Job, TerminalError, ToolContext

app = App("refunds", version="1.0.0", description="Refunds, approved by people")

ORDERS = {"A-17": 120.0, "B-2": 15.0}
SMALL = 20.0
DAY_S = 86_400.0


class Refund(Struct):
    """What became of it."""

    order: str
    paid: float
    by: str = ""
    reason: str = ""


@app.tool
async def look_up(order: str) -> float:
    """What was paid for an order."""
    if order not in ORDERS:
        raise TerminalError(f"there is no order {order!r}", code="unknown_order")
    return ORDERS[order]


@app.tool
async def pay_back(ctx: ToolContext, order: str, amount: float) -> str:
    """Send the money, once: the bank knows the key."""
    return f"{amount:.2f} for {order}, {ctx.idempotency_key}"


@app.job
async def refund(job: Job, order: str, amount: float) -> Refund:
    """Look the order up, have a refund that is not small approved, and pay what was approved."""
    price = await job.call(look_up, order=order)
    if min(amount, price) <= SMALL:
        await job.call(pay_back, order=order, amount=min(amount, price))
        return Refund(order, min(amount, price))
    decision = await job.approval(
        f"Refund {amount:.2f} for order {order}?",
        details={"order": order, "price": price},
        roles=("support",),
        expires_s=7 * DAY_S,
        escalate=[Escalation(DAY_S, ("head",))],
        edit={"amount": min(amount, price)},
    )
    if not decision.approved:
        return Refund(order, 0.0, reason="nobody has answered" if decision.expired else decision.answers[-1].comment)
    paid = float(decision.edited["amount"])
    await job.call(pay_back, order=order, amount=paid)
    return Refund(order, paid, by=decision.answers[-1].by, reason=decision.answers[-1].comment)
