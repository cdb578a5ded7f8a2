"""A shop: the first app to read. Two tools that may fail, and a job that survives whatever happens to its processes.

    callboard up examples.shop:app
    callboard submit order sku=A1 qty:=2 --wait
    nats pub jobs.default.order '{"sku": "A1", "qty": 2}'

Orders above ``LIMIT`` wait for a word: ``callboard signal JOB approve``.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from actors import App, Job, Retry, RetryableError, TerminalError, ToolContext

app = App("shop", version="1.2.0", description="Quotes, stock and orders")

PRICES = {"A1": 19.5, "B2": 120.0, "FLAKY": 5.0}
LIMIT = 1_000.0

Quantity = Annotated[int, Meta(ge=1, le=10_000)]


class Quote(Struct):
    """What it costs."""

    sku: str
    qty: int
    total: float


class Receipt(Struct):
    """What the customer gets."""

    order: str
    sku: str
    qty: int
    total: float
    tracking: str
    mail: str


@app.tool(retry=Retry(attempts=4, backoff_s=0.1), timeout_s=10, replicas=2)
async def quote(ctx: ToolContext, sku: str, qty: Quantity = 1) -> Quote:
    """Ask the supplier for a price.

    Args:
        sku: What is sold: A1, B2, or FLAKY, whose supplier answers at the third attempt.
        qty: How many of it.
    """
    if sku not in PRICES:
        raise TerminalError(f"nobody sells {sku!r}", code="unknown_sku")
    if sku == "FLAKY" and ctx.attempt < 3:
        raise RetryableError("the supplier does not answer")
    return Quote(sku=sku, qty=qty, total=PRICES[sku] * qty)


@app.tool
async def ship(ctx: ToolContext, sku: str, qty: Quantity) -> str:
    """Have it sent, once: the key is the same at every attempt, so the carrier knows a repeated order."""
    return f"parcel {ctx.idempotency_key} with {qty} x {sku}"


@app.tool
def write_mail(order: str, total: float) -> str:
    """Tell the customer. A plain function runs in a thread."""
    return f"Order {order} is on its way; you pay {total:.2f}."


@app.job
async def order(job: Job, sku: str, qty: Quantity = 1, packing_s: float = 0.2) -> Receipt:
    """Quote, have a big order approved, pack, ship and write to the customer."""
    price = await job.call(quote, sku=sku, qty=qty)
    if price.total > LIMIT:
        await _approval(job, price)
    number = await job.local(lambda: f"{sku}-{job.id[-6:]}")
    await job.sleep(packing_s)
    tracking, mail = await job.gather(
        job.call(ship, sku=sku, qty=qty),
        job.call(write_mail, order=number, total=price.total),
    )
    return Receipt(order=number, sku=sku, qty=qty, total=price.total, tracking=tracking, mail=mail)


async def _approval(job: Job, price: Quote) -> None:
    """Wait a day for ``callboard signal JOB approve``; data ``false`` refuses. Meanwhile the job costs nothing."""
    answer: Any = await job.wait_for("approve", timeout_s=86_400)
    if answer is False:
        raise TerminalError(f"{price.total:.2f} was not approved", code="refused")
