"""An app whose tools share assets; what happens to them is written to the ledger. For ``tests/test_assets.py``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from actors import INJECTED, Agent, App, Job, Retry, TerminalError
from actors.testing import ScriptedModel, say

app = App("stocked", version="2.1.0")


def note(text: str) -> None:
    """One line for the test."""
    with Path(os.environ["CALLBOARD_TEST_LEDGER"]).open("a") as ledger:
        ledger.write(f"{text}\n")


def told(name: str, default: str) -> str:
    """What the test has written for the app to read."""
    file = Path(os.environ["CALLBOARD_TEST_LEDGER"]).with_name(name)
    return file.read_text() if file.exists() else default


class Database(msgspec.Struct):
    name: str


class Catalogue(msgspec.Struct):
    prices: dict[str, int]


class Answer(msgspec.Struct):
    price: int
    source: str


@app.asset
async def db() -> AsyncIterator[Database]:
    note("db loaded")
    yield Database("figures")
    note("db unloaded")


@app.asset(version="3.0.0")
class Prices:
    """Loads the catalogue, and says when it must not be used."""

    def load(self, db: Database) -> Catalogue:
        price = int(told("price", "10"))
        note(f"prices loaded from {db.name} at {price}")
        return Catalogue({"A1": price})

    def validate(self, value: Catalogue) -> None:
        if value.prices["A1"] <= 0:
            raise ValueError("a price is not above 0")

    def unload(self, value: Catalogue) -> None:
        note(f"prices at {value.prices['A1']} unloaded")


@app.tool(retry=Retry(attempts=1))
async def price(sku: str, *, prices: Catalogue = INJECTED, source: Database = INJECTED) -> Answer:
    if sku not in prices.prices:
        raise TerminalError(f"there is no {sku}")
    return Answer(prices.prices[sku], source.name)


@app.tool
async def plain(n: int) -> int:
    """Asks for no asset, so its process loads none."""
    return n


@app.job
async def ask(job: Job, sku: str) -> Answer:
    return await job.call(price, sku)


@app.asset
def tone() -> str:
    return "short"


@app.agent(model=ScriptedModel(lambda request: say(request.system)))
async def clerk(agent: Agent, question: str, *, tone: str = INJECTED) -> str:
    """Is told how to speak; its model says what it was told."""
    return str(await agent.run(question, instructions=f"Be {tone}."))
