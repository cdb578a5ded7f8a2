"""The system's side of the job that the floor runs by hand (``bench.floor.host``, ``bench.floor.tool``)."""

from __future__ import annotations

import msgspec

from actors import App, Job
from bench.floor.contract import price

app = App("bench", version="1.0.0")


class Quote(msgspec.Struct):
    """What a tool answers."""

    sku: str
    total: int


@app.tool(concurrency=256)
async def quote(sku: str, qty: int) -> Quote:
    """Price one line."""
    priced = price(sku, qty)
    return Quote(priced.sku, priced.total)


@app.job
async def order(job: Job, sku: str, qty: int, steps: int) -> Quote:
    """``steps`` quotes, one after the other."""
    total = 0
    for step in range(steps):
        total += (await job.call(quote, sku=sku, qty=qty + step)).total
    return Quote(sku, total)


@app.tool
async def never(n: int) -> int:
    """A tool that no node of the bench runs, so that the jobs that call it stay in flight."""
    return n


@app.job
async def hold(job: Job, n: int) -> int:
    """A job that is in flight until it is cancelled."""
    return await job.call(never, n=n)
