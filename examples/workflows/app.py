"""Small workflows to copy, and the tools that they use: prices of shops, payments, bookings, parcels, mails.

    callboard up examples.workflows.app:app
    callboard submit buy sku=A1 qty:=2 email=ann@example.com --wait

The documents beside this file are jobs of the app. Three of them are written as functions here too.
docs/examples.md shows each, and what comes out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Literal

from msgspec import Struct

from actors import App, CallFailed, Job, TerminalError, ToolContext

app = App("examples", version="1.0.0", description="Workflows to copy")

PRICES = {
    "north": {"A1": 19.5, "B2": 120.0},
    "south": {"A1": 18.0},
    "slow": {"A1": 17.0, "B2": 110.0},
}
SOLD_OUT = {("hotel", "Atlantis"), ("car", "Capri")}
LOOKS_UNTIL_IT_ARRIVES = 3


class Offer(Struct):
    """What it costs, and where."""

    shop: str
    sku: str
    price: float


class Booking(Struct):
    """What was booked."""

    booking: str
    price: float


@app.tool
async def price(shop: str, sku: str) -> Offer:
    """Ask a shop what something costs."""
    if shop == "slow":
        await asyncio.sleep(3)
    if sku not in PRICES.get(shop, {}):
        raise TerminalError(f"{shop} does not sell {sku}", code="not_sold")
    return Offer(shop, sku, PRICES[shop][sku])


@app.tool
async def charge(ctx: ToolContext, order: str, amount: float) -> str:
    """Take money, once: the bank knows the key, so a call that runs twice is paid once."""
    return f"{amount:.2f} for {order}, {ctx.idempotency_key}"


@app.tool
async def book(what: Literal["flight", "hotel", "car", "truck"], to: str) -> Booking:
    """Book something. There are no hotels in Atlantis, and no cars on Capri."""
    if (what, to) in SOLD_OUT:
        raise TerminalError(f"no {what} to be had in {to}", code="sold_out")
    return Booking(f"{what}-{to}", 80.0)


@app.tool
async def cancel_booking(booking: str) -> str:
    """Give a booking back."""
    return f"{booking} is cancelled"


_looks: Counter[str] = Counter()


@app.tool
async def track(parcel: str) -> str:
    """Ask where a parcel is."""
    _looks[parcel] += 1
    return "arrived" if _looks[parcel] >= LOOKS_UNTIL_IT_ARRIVES else "on its way"


@app.tool
async def mail(to: str, text: str) -> str:
    """Send a mail."""
    return f"to {to}: {text}"


for file in sorted(Path(__file__).parent.glob("*.yaml")):
    app.workflow(file)


# ---- the same as functions


@app.job
async def buy_by_function(job: Job, sku: str, email: str, qty: int = 1) -> str:
    """sequential.yaml as a function."""
    offer = await job.call(price, shop="north", sku=sku)
    amount = offer.price * qty
    receipt = await job.call(charge, order=job.id, amount=amount)
    await job.call(mail, to=email, text=f"You paid {amount}")
    return receipt


@app.job
async def cheapest_by_function(job: Job, sku: str, shops: list[str]) -> Offer:
    """fan_out.yaml as a function."""

    async def ask(shop: str) -> Offer | None:
        try:
            return await job.call(price, shop=shop, sku=sku)
        except CallFailed:
            return None

    offers = [offer for offer in await job.gather(*(ask(shop) for shop in shops)) if offer]
    if not offers:
        raise TerminalError(f"nobody sells {sku}")
    return min(offers, key=lambda offer: offer.price)


@app.job
async def book_trip_by_function(job: Job, to: str) -> list[str]:
    """saga.yaml as a function."""
    bookings = []
    for what in ("flight", "hotel", "car"):
        booked = await job.call(book, what=what, to=to)
        await job.undo_with(cancel_booking, booking=booked.booking)
        bookings.append(booked.booking)
    return bookings
