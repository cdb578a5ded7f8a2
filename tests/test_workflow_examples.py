"""The documents of examples/workflows run as they are, on a real server, each to each of its ends."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from actors import Client
from actors.workflow.document_file import read_file
from actors.workflow.source import read_source
from actors.workflow_rules.component_rules import Catalogue
from actors.workflow_rules.validation import check
from bus.embedded import EmbeddedServer
from bus.messages import CallJob, CallTool, Emitted, JobCancelled, JobCompleted, JobFailed, ReplyCompleted, ReplyFailed
from examples.workflows.app import app
from tests.troupe import Troupe, troupe

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "workflows"
FILES = sorted(FOLDER.glob("*.yaml"))
PAGE = ROOT / "docs" / "examples.md"
ANN = "ann@example.com"

# What comes out without anybody's doing; a text is the message that the job fails with.
ENDS: list[tuple[str, dict[str, Any], Any]] = [
    ("buy", {"sku": "A1", "qty": 2, "email": ANN},
     {"paid": 39.0, "receipt": "39.00 for {job}, {job}/payment/charge:1"}),
    ("buy", {"sku": "A1", "email": ANN}, {"paid": 19.5, "receipt": "19.50 for {job}, {job}/payment/charge:1"}),
    ("buy", {"sku": "Z9", "email": ANN}, "step price: north does not sell Z9"),
    ("cheapest", {"sku": "A1", "shops": ["north", "south", "east"]}, {"shop": "south", "price": 18.0}),
    ("cheapest", {"sku": "Z9", "shops": ["north", "south"]}, "step nobody: nobody sells Z9"),
    ("deliver", {"to": "here", "weight_kg": 1}, {"by": "customer", "cost": 0.0, "told": "skipped"}),
    ("deliver", {"to": "Rome", "weight_kg": 31}, {"by": "truck", "cost": 80.0, "told": "skipped"}),
    ("deliver", {"to": "Rome", "weight_kg": 4.5, "email": ANN}, {"by": "post", "cost": 4.5, "told": "completed"}),
    ("follow_parcel", {"parcel": "P1"}, {"looks": 3, "state": "arrived"}),
    ("book_trip", {"to": "Rome"}, ["flight-Rome", "hotel-Rome", "car-Rome"]),
    ("special_price", {"sku": "A1", "discount": 0},
     {"discount": 0, "receipt": "19.50 for {job}, {job}/payment/charge:1"}),
    ("quick_price", {"sku": "A1"}, {"shop": "north", "price": 19.5}),
    ("price_watch", {"sku": "A1", "limit": 20, "email": ANN}, {"price": 19.5, "told": True}),
    ("price_watch", {"sku": "A1", "limit": 10.5, "email": ANN}, {"price": 19.5, "told": False}),
    ("buy_by_function", {"sku": "A1", "email": ANN}, "19.50 for {job}, {job}/charge:1"),
    ("cheapest_by_function", {"sku": "A1", "shops": ["north", "south", "east"]},
     {"shop": "south", "sku": "A1", "price": 18.0}),
    ("book_trip_by_function", {"to": "Rome"}, ["flight-Rome", "hotel-Rome", "car-Rome"]),
]  # fmt: skip


async def submitted(on: Troupe, workflow: str, job: str, given: dict[str, Any]) -> str:
    """The job's id."""
    await on.submit(workflow, job, given)
    return job


def undone(events: list[Any]) -> list[str]:
    """What was given back, in that order."""
    return [msgspec.json.decode(e.input)["booking"] for e in events
            if isinstance(e, CallTool) and e.name == "cancel_booking"]  # fmt: skip


async def test_examples_run(nats_server: EmbeddedServer) -> None:
    """Each comes to the ends that it shows: by itself, by people, by a signal, by a cancel; all at once."""
    async with troupe(nats_server.url, app, park_after_s=0.3) as on:
        client = Client(on.bus)
        jobs = [await submitted(on, name, f"j{number}", given) for number, (name, given, _) in enumerate(ENDS)]
        lost = [await submitted(on, name, f"{name}-capri", {"to": "Capri"})
                for name in ("book_trip", "book_trip_by_function")]  # fmt: skip
        lowered, refused = [await submitted(on, "special_price", job, {"sku": "A1", "discount": 0.5})
                            for job in ("lowered", "refused")]  # fmt: skip
        signed, withdrawn = [await submitted(on, "contract", job, {"email": ANN}) for job in ("signed", "withdrawn")]
        shelf = await submitted(on, "fill_shelf", "shelf", {"skus": ["A1", "B2"]})
        await on.all_end([*jobs, *lost, shelf])
        for job, (_, _, ends) in zip(jobs, ENDS, strict=True):
            await _check_end(on, job, ends)
        for job in lost:
            events = [recorded.event for recorded in await on.events(job)]
            assert isinstance(events[-1], JobFailed)
            assert events[-1].failure.code == "sold_out"
            assert undone(events) == ["hotel-Capri", "flight-Capri"]
        await _check_shelf(on, shelf)
        for job in (lowered, refused, signed, withdrawn):
            await on.parked(job)
        await client.approve(lowered, "ask", by="ann", roles=["manager"], edit={"discount": 0.25})
        await client.reject(refused, "ask", by="ann", roles=["manager"], comment="too much")
        await client.signal(signed, "signed", {"name": "Bob"})
        await client.cancel(withdrawn)
        end = await on.end(lowered)
        assert msgspec.json.decode(end.output) == {
            "discount": 0.25, "receipt": "14.62 for lowered, lowered/payment/charge:1"
        }  # fmt: skip
        assert (await on.end(refused)).failure.message == "step ask: rejected by ann: too much"
        assert msgspec.json.decode((await on.end(signed)).output) == {"by": "Bob", "reminded": False}
        assert isinstance(await on.end(withdrawn), JobCancelled)


async def _check_end(on: Troupe, job: str, ends: Any) -> None:
    end = await on.end(job)
    said = isinstance(end, JobFailed)
    found = end.failure.message if said else msgspec.json.decode(bytes(end.output).replace(job.encode(), b"{job}"))
    assert found == ends, job
    assert said or isinstance(end, JobCompleted)


async def _check_shelf(on: Troupe, job: str) -> None:
    """The jobs that it waited for, and the one that it only started, are jobs of their own."""
    result = msgspec.json.decode((await on.end(job)).output)
    assert result["found"] == [{"sku": "A1", "shop": "south"}, {"sku": "B2", "shop": "north"}]
    started = [r.event.child for r in await on.events(job) if isinstance(r.event, CallJob)]
    assert len(started) == 3
    assert started[-1] == result["delivery"]
    await on.all_end(started)


async def test_what_examples_leave_in_the_log(nats_server: EmbeddedServer) -> None:
    """The shop that lost the race is given up, and what is emitted has its data."""
    async with troupe(nats_server.url, app, park_after_s=0.3) as on:
        for name, given in (("quick_price", {"sku": "B2"}), ("price_watch", {"sku": "A1", "limit": 1, "email": ANN})):
            await on.submit(name, name, given)
            await on.end(name)
        race = [recorded.event for recorded in await on.events("quick_price")]
        assert [e.call for e in race if isinstance(e, CallTool)] == ["one/price:1", "two/price:1"]
        assert [e.call for e in race if isinstance(e, ReplyCompleted) and not e.op] == ["two/price:1"]
        assert ("one/price:1", "given_up") in [(e.call, e.failure.code) for e in race if isinstance(e, ReplyFailed)]
        seen = [r.event for r in await on.events("price_watch") if isinstance(r.event, Emitted)]
        assert [(e.name, msgspec.json.decode(e.data)["price"]) for e in seen] == [("price_seen", 19.5)]


# ---- without a server


def test_each_document_is_right() -> None:
    """Names, versions and types fit the tools, as they are in the registry."""
    catalogue = Catalogue([component.info() for component in app.components])
    for file in FILES:
        source = read_source(file.name, read_file(file))
        assert check(source, catalogue, is_final=True).findings == []


def test_each_document_is_shown_and_run() -> None:
    """The page has each file as it is, in a block under its name, and the tests above run each."""
    blocks = dict(re.findall(r"^```yaml\n# (\w+\.yaml)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    assert blocks == {file.name: file.read_text() for file in FILES}
    run = {name for name, _, _ in ENDS} | {"contract", "fill_shelf"}
    assert run == {component.name for component in app.components if component.kind == "job"}
