"""What jobs of the examples once did is what their present code does: see tests/histories/README.md."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.command_bodies.verify import verify
from actors.components.component import Component
from actors.interpreter.component import WorkflowComponent, workflow_component
from actors.operations.operations import Operations
from actors.testing import replay
from actors.workflow.source import read_source
from actors.workflow_rules.validation import check
from bench.chaos.pieces import app_of
from bus.errors import UsageError
from bus.messages import JobSubmitted, encode
from examples import approval, shop, survey
from examples.workflows.app import app as workflows
from store.job_fold import fold_view
from store.snapshot import Snapshot, decode_snapshot
from tests.record_histories import HISTORIES, PIECE, RECORDINGS, record

FILES = sorted(HISTORIES.glob("*.json"))
APPS = (shop.app, survey.app, approval.app, workflows)
PIECES = {f"{piece}-{PIECE}": app_of(piece, PIECE) for piece in ("everything", "errand")}
JOBS = {component.name: component for app in APPS for component in app.components if component.kind == "job"}
JOBS |= {name: found for name, app in PIECES.items() if (found := app.find("job", name, None))}
FAILED = {
    "shop-unknown", "shop-refused", "survey-missing",
    "cheapest-nobody", "trip-undone", "trip-function", "discount-rejected",
}  # fmt: skip
CANCELLED = {"contract-withdrawn", "errand-cancelled"}
DOCUMENTS = Path(__file__).parent.parent / "examples" / "workflows"
every = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def snapshot(file: Path) -> Snapshot:
    """The history in a file."""
    return decode_snapshot(file.read_bytes(), file.name)


def job_of(history: Snapshot) -> Component[..., Any]:
    """The function that it is a history of."""
    return next(JOBS[r.event.workflow] for r in history.history() if isinstance(r.event, JobSubmitted))


async def test_a_document_by_itself_is_verified() -> None:
    """A document that is in no app can be held against a history; another one differs at its first other step."""
    history = snapshot(HISTORIES / "buy.json")
    assert (await verify(str(DOCUMENTS / "sequential.yaml"), history)).same
    with pytest.raises(UsageError, match="has no job buy"):
        await verify(str(DOCUMENTS / "saga.yaml"), history)


def test_each_recording_and_each_job_has_its_history() -> None:
    """What can be recorded is recorded, and no job of the examples is without a history."""
    assert {file.stem for file in FILES} == RECORDINGS.keys()
    assert {job_of(snapshot(file)).name for file in FILES} == JOBS.keys()


@every
async def test_present_code_does_what_is_recorded(file: Path) -> None:
    """The function of today fits the history, whole, and cut off at any event, as for a job that is under way."""
    whole = snapshot(file)
    component = job_of(whole)
    (await replay(component, file)).check()
    for recorded in whole.history():
        seen = whole.history(recorded.sequence)
        if any(isinstance(r.event, JobSubmitted) for r in seen):
            (await replay(component, seen)).check()


@every
def test_present_events_read_what_is_recorded(file: Path) -> None:
    """No field of a recorded event is unknown today, or means something else, and the fold comes to the same end."""
    whole = snapshot(file)
    for each in whole.events:
        assert json.loads(encode(each.decoded().event)) == json.loads(bytes(each.event))
    view = fold_view(whole.workspace, whole.history())
    other = "cancelled" if file.stem in CANCELLED else "completed"
    assert view.state == ("failed" if file.stem in FAILED else other)
    assert view.calls and all(call.state in ("completed", "failed") for call in view.calls)


async def test_a_run_of_today_has_the_same_events() -> None:
    """What is kept is what the example does when it is run now: the same events of the same calls."""
    today = decode_snapshot(await record("shop-order"), "today")
    assert _kinds(today) == _kinds(snapshot(HISTORIES / "shop-order.json"))


def _kinds(history: Snapshot) -> Counter[tuple[str, str]]:
    return Counter((each.subject, getattr(each.decoded().event, "call", "")) for each in history.events)


# ---- the tests above bite

CHANGES = [
    ("shop-order", "call(quote, sku=sku, qty=qty)", "call(quote, sku=sku, qty=qty + 1)", "input", "quote:1"),
    ("shop-order", "    await job.sleep(packing_s)\n", "", "unasked", "sleep:1"),
    ("shop-order", "job.sleep(packing_s)\n", "job.sleep(packing_s)\n    await job.now()\n", "new", "now:1"),
    ("shop-crash", "await job.local(lambda: f", "await job.local(lambda: str() or f", None, ""),
    ("shop-crash", 'number = await job.local(lambda: f"{sku}-{job.id[-6:]}")', "number = sku", "input", "write_mail:1"),
    ("shop-retries", "total=price.total, tracking", "total=0.0, tracking", "end", ""),
    ("shop-approved", "LIMIT = 1_000.0", "LIMIT = 10_000.0", "unasked", "signal-approve:1/timer"),
    ("shop-refused", 'code="refused"', 'code="no"', "end", ""),
    ("survey-directory", "for files in sources.batches", "for files in sources.batches[1:]", "input", "parse_files:1"),
    ("survey-crash", "return await job.call(summarise", "return await job.call(find_sources", "unasked", "summarise:1"),
    ("refund-edited", "amount=paid)", "amount=amount)", "input", "pay_back:1"),
    ("refund-edited", "decision = await job", "await job.now()\n    decision = await job", "new", "now:1"),
    ("refund-rejected", "if not decision.approved:", "if decision.approved:", "new", "pay_back:1"),
    ("demo", "for files in sources.batches", "for files in reversed(sources.batches)", "input", "parse_files:1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "kind", "call"), CHANGES)
async def test_a_changed_example_is_found(
    tmp_path: Path, name: str, old: str, new: str, kind: str | None, call: str
) -> None:
    """An example whose function is changed on purpose differs at that operation; one that does the same does not."""
    history = snapshot(HISTORIES / f"{name}.json")
    source = Path(job_of(history).fn.__code__.co_filename)
    text = source.read_text()
    assert text.count(old) == 1
    changed = tmp_path / source.name
    changed.write_text(text.replace(old, new))
    verdict = await verify(f"{changed}:app", history)
    found = verdict.difference
    assert (found and found.kind, found.call if found else "") == (kind, call)
    assert verdict.same is (kind is None)


CHANGED_DOCUMENTS = [
    ("buy", "double(input.qty)", "double(input.qty) + 1.0", "input", "payment/charge:1"),
    ("buy", "receipt: ", "paper: ", "end", ""),
    ("cheapest", "a.price <= b.price", "a.price >= b.price", "end", ""),
    ("deliver", "input.weight_kg > 30", "input.weight_kg > 40", "input", "told/mail:1"),
    ("parcel", "id: rest", "id: pause", "new", "looks.0/pause/sleep:1"),
    (
        "trip-undone",
        'steps.hotel.output.booking }"}}',
        'steps.flight.output.booking }"}}',
        "input",
        "hotel/undo/cancel_booking:1",
    ),
    ("discount-lowered", "steps.ask.output == null", "true", "input", "payment/charge:1"),
    ("hedged", 'for_s: "${ params.patience_s }"', 'for_s: "${ 2.0 * params.patience_s }"', None, ""),
    ("contract-signed", "signal: signed", "signal: agreed", "new", "signed/signal-agreed:1/timer"),
]


@pytest.mark.parametrize(("name", "old", "new", "kind", "call"), CHANGED_DOCUMENTS)
async def test_a_changed_document_is_found(name: str, old: str, new: str, kind: str | None, call: str) -> None:
    """The same for documents: by the step where it differs."""
    history = snapshot(HISTORIES / f"{name}.json")
    component = job_of(history)
    assert isinstance(component, WorkflowComponent)
    file = next(file for file in DOCUMENTS.glob("*.yaml") if f"name: {component.name}\n" in file.read_text())
    text = file.read_text()
    assert text.count(old) == 1
    checked = check(read_source(file.name, text.replace(old, new).encode()), is_final=True)
    assert checked.document is not None
    found = (await replay(workflow_component(checked.document, app="examples"), history.history())).difference
    assert (found and found.kind, found.call if found else "") == (kind, call)


async def test_a_changed_core_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the keys of operations made in another way, no job under way would find what it has recorded."""
    key = Operations.new_key
    monkeypatch.setattr(Operations, "new_key", lambda self, name: key(self, name).replace(":", "-"))
    for name in RECORDINGS:
        result = await replay(job_of(snapshot(HISTORIES / f"{name}.json")), HISTORIES / f"{name}.json")
        assert result.difference and result.difference.kind in ("new", "unasked")


def test_a_changed_event_is_found() -> None:
    """A field that is renamed would be lost in silence, since readers ignore what they do not know: it is seen here."""
    file = HISTORIES / "shop-order.json"
    renamed = file.read_text().replace('"duration_s"', '"took_s"')
    events = msgspec.json.decode(renamed.encode(), type=Snapshot).events
    lost = [e for e in events if json.loads(encode(e.decoded().event)) != json.loads(bytes(e.event))]
    assert len(lost) == 3
