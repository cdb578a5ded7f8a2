"""What jobs used of models, from their logs, and budgets: read, summed up, and shown by ``callboard usage``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

import cli
from actors import Budget
from actors.budgets.accounts import Accounts
from actors.budgets.ledger import amount_of
from actors.budgets.usage import ModelUse, fold_use, sum_up
from actors.budgets.usage_page import usage_page
from actors.console.page import plain_lines
from actors.metering.costs import Prices
from actors.metering.price import Price
from actors.model.model import Usage
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.messages import CallAgent, CallJob, ChildCall, Event, JobSubmitted, ReplyCompleted
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from store.log import append_unfenced

SPACE = "test-usage"
PRICES = Prices({"toy": Price(input=1, output=1)})


def step(job: str, model: str, tokens: int, cost_usd: float | None = None) -> ReplyCompleted:
    """A recorded model step, as the log has it."""
    output = {"model": model, "provider": "p", "usage": {"input_tokens": tokens, "output_tokens": 10}, "reply": {}}
    if cost_usd is not None:
        output["cost_usd"] = cost_usd
    return ReplyCompleted(job=job, call=f"model:{tokens}", op="model", output=msgspec.Raw(msgspec.json.encode(output)))


def begun(job: str, *events: Event) -> list[Event]:
    """A log of an agent."""
    return [JobSubmitted(job=job, workflow="researcher", version="1.0.0"), *events]


def started(job: str, child: str, kind: type[ChildCall] = CallJob) -> ChildCall:
    """The command for a child."""
    return kind(job=job, call=child, name="analyst", version=1, child=child)


def test_one_job() -> None:
    """Steps by model; what is on record outweighs the price of today, and a model without a price is counted as such.
    Other replies are none of it, and neither is what no model step could be."""
    other = ReplyCompleted(job="j", call="quote:1", output=msgspec.Raw(b'{"model": "x", "usage": {}}'))
    strange = ReplyCompleted(job="j", call="model:9", op="model", output=msgspec.Raw(b'"words"'))
    log = begun("j", step("j", "toy", 100, 0.5), step("j", "toy", 30), step("j", "new", 7), other, strange)
    use = fold_use("j", log, PRICES)
    assert use.workflow == "researcher"
    toy, new = use.models
    assert (toy.calls, toy.usage, toy.unpriced) == (2, Usage(130, 20), 0)
    assert toy.cost_usd == pytest.approx(0.5 + 40e-6)
    assert new == ModelUse(model="new", usage=Usage(7, 10), unpriced=1)
    total = sum_up([use, use])
    assert (total.cost_usd, total.unpriced) == (pytest.approx(1.00008), 2)
    assert [each.model for each in total.total] == ["toy", "new"]
    page = "\n".join(plain_lines(usage_page(total)))
    assert "the price of 2 calls is not known" in page and "$1.0001 in 6 calls" in page


def test_no_model() -> None:
    """A job that asked none says so."""
    use = fold_use("j", begun("j"), PRICES)
    assert plain_lines(usage_page(sum_up([use]))) == ["no model was called"]


async def _play(url: str) -> None:
    """A job with a child in the log, whose child is an agent, one more that never began, and two budgets."""
    async with await Bus.connect(ConnectOptions(servers=[url])) as bus:
        await ensure_streams(bus)
        logs = [
            begun("top", step("top", "claude-opus-4-5", 1_000, 0.25), started("top", "plain"), started("top", "never")),
            begun("plain", started("plain", "deep", CallAgent), started("plain", "deep", CallAgent)),
            begun("deep", step("deep", "claude-opus-4-5", 500, 0.125), step("deep", "unheard-of", 5)),
        ]
        for event in (event for log in logs for event in log):
            await append_unfenced(bus, Blobs(bus), SPACE, event)
        accounts = Accounts(bus)
        top = await accounts.open(SPACE, "top", Budget(usd=1, turns=9, seconds=7200))
        await accounts.reserve(top, "a", amount_of(0.5, 100))
        await accounts.settle(top, "a", amount_of(0.25, 60))
        await accounts.reserve(await accounts.open(SPACE, "deep", Budget(), top), "b", amount_of(0.125, 50))


def test_command(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a job with all below it, and of all budgets; as a table and as JSON. A job that there is not is told."""
    asyncio.run(_play(server.url))

    def said(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli.app, ["usage", *arguments, "--nats", server.url, "-w", SPACE])
        assert done.exit_code == code, done.output
        return done.output

    use: dict[str, Any] = json.loads(said("top", "--json"))
    assert [(job["job"], job["depth"]) for job in use["jobs"]] == [("top", 0), ("plain", 1), ("deep", 2)]
    assert (use["cost_usd"], use["unpriced"]) == (0.375, 1)
    page = said("top")
    assert "    deep" in page and "$0.3750 in 3 calls; the price of 1 call is not known" in page
    deep, top = json.loads(said("--json"))
    assert (deep["job"], deep["parents"], deep["under_way"]) == ("deep", [f"{SPACE}.top"], 1)
    assert (top["spent_usd"], top["reserved_usd"], top["left"]["usd"], top["left"]["turns"]) == (0.25, 0.125, 0.625, 7)
    page = said()
    assert "$0.6250 of $1.0000, 7 of 9 turns, 2h00m of 2h00m" in page.replace("1h59m", "2h00m")
    assert "no limit" in page and "2 budgets" in page
    said("unknown", code=2)
    monkeypatch.setenv("NO_COLOR", "1")
    done = CliRunner().invoke(cli.app, ["usage", "--nats", server.url, "-w", "nobody"])
    assert done.output.strip() == "no job has a budget"
