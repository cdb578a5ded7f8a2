"""Records what jobs of the examples do: ``python -m tests.record_histories [NAME...]``.

``tests/test_histories.py`` gives it to the present code. Each recording is a run of the
example as it is, with real processes on a real server. See tests/histories/README.md.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from actors import Client
from actors.components.component import Component
from bench.chaos.doomed import Doom
from bench.chaos.errand import NEVER, errand
from bench.chaos.everything import EVERYTHING
from bench.chaos.house import house
from bench.chaos.players import effects
from bench.chaos.rehearsal import Piece, Run, play
from bus.approval_events import ApprovalAsked
from bus.embedded import EmbeddedServer
from bus.messages import ReplyCompleted
from examples import approval, shop, survey
from examples.workflows.app import app as workflows
from store.snapshot import Snapshot, decode_snapshot, encode_snapshot, take_snapshot
from tests.stage import ROOT, Stage, stage
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

PIECE = "0"
HISTORIES = Path(__file__).parent / "histories"
LIMIT_S = 60.0
SHOP, SURVEY, REFUNDS = "examples.shop:app", "examples.survey:app", "examples.approval:app"

During = Callable[[Stage, Client, str], Awaitable[None]]
Recording = Callable[[str, Path], Awaitable[Snapshot]]


async def _nothing(on: Stage, client: Client, job: str) -> None:
    """The job needs nobody."""


async def _record(
    target: str, job: Component[..., Any], given: dict[str, Any], name: str, scratch: Path, during: During = _nothing
) -> Snapshot:
    async with await EmbeddedServer.start() as server, stage(server.url, scratch, target) as on:
        client = Client(on.bus)
        await client.submit(job, job_id=name, **given)
        await during(on, client, name)
        await on.end(name, deadline_s=LIMIT_S)
        return await take_snapshot(on.bus, on.blobs, "default", name)


async def _record_workflow(name: str, _scratch: Path, workflow: str, given: dict[str, Any], during: During) -> Snapshot:
    """A job of examples/workflows: its processes matter to nobody, so hosts and tools are in this one."""
    async with await EmbeddedServer.start() as server, troupe(server.url, workflows, park_after_s=0.3) as on:
        client = Client(on.bus)
        await on.submit(workflow, name, given)
        await during(on, client, name)
        await on.end(name, deadline_s=LIMIT_S)
        return await take_snapshot(on.bus, on.blobs, "default", name)


async def _sign(on: Stage, client: Client, job: str) -> None:
    assert isinstance(on, Troupe)
    await on.parked(job)
    await client.signal(job, "signed", {"name": "Bob"})


async def _withdraw(on: Stage, client: Client, job: str) -> None:
    assert isinstance(on, Troupe)
    await on.parked(job)
    await client.cancel(job, "changed our minds")


async def _decide(approved: bool, words: dict[str, Any], on: Stage, client: Client, job: str) -> None:
    assert isinstance(on, Troupe)
    await on.parked(job)
    await (client.approve if approved else client.reject)(job, "ask", by="ann", roles=["manager"], **words)


async def _replied(on: Stage, job: str) -> None:
    async def has_replied() -> bool:
        return any(isinstance(r.event, ReplyCompleted) for r in await on.events(job))

    await wait_until(has_replied, LIMIT_S)


async def _approve(data: bool | None, on: Stage, client: Client, job: str) -> None:
    await _replied(on, job)
    await client.signal(job, "approve", data)


async def _answer(approved: bool, words: dict[str, Any], on: Stage, client: Client, job: str) -> None:
    async def has_asked() -> bool:
        return any(isinstance(r.event, ApprovalAsked) for r in await on.events(job))

    await wait_until(has_asked, LIMIT_S)
    await (client.approve if approved else client.reject)(job, by="ann", roles=["support"], **words)


async def _kill_host(on: Stage, client: Client, job: str) -> None:
    """The job goes on in another process, by the log that is recorded here."""
    await _replied(on, job)
    host = next(s.name for s in on.supervisor.statuses() if s.name.startswith("host"))
    os.kill(on.pid(host), signal.SIGKILL)


def _sources(scratch: Path) -> Path:
    """A few files, one of them no Python, at a place that has the same name on every machine when it is recorded."""
    code = scratch / "code"
    code.mkdir()
    for number in range(6):
        (code / f"m{number}.py").write_text(f"import os\n\n\ndef f{number}():\n    return os\n")
    (code / "broken.py").write_text("def\n")
    return code


async def _survey(name: str, scratch: Path, during: During = _nothing) -> Snapshot:
    given = {"path": str(_sources(scratch)), "batch": 2}
    return await _record(SURVEY, survey.survey, given, name, scratch, during)


async def _survey_of_nothing(name: str, scratch: Path) -> Snapshot:
    (scratch / "empty").mkdir()
    return await _record(SURVEY, survey.survey, {"path": str(scratch / "empty")}, name, scratch)


async def _demo(_name: str, scratch: Path) -> Snapshot:
    file = scratch / "demo.json"
    argv = ("-m", "examples.demo", str(_sources(scratch)), "--snapshot", str(file))
    demo = await asyncio.create_subprocess_exec(sys.executable, *argv, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
    assert await demo.wait() == 0
    return decode_snapshot(file.read_bytes(), "demo")


def _order(during: During = _nothing, **given: Any) -> Recording:
    return lambda name, scratch: _record(SHOP, shop.order, given, name, scratch, during)


def _refund(during: During = _nothing, **given: Any) -> Recording:
    return lambda name, scratch: _record(REFUNDS, approval.refund, given, name, scratch, during)


async def _record_piece(_name: str, _scratch: Path, piece: Piece, doom: Doom) -> Snapshot:
    """A workflow of bench/chaos, whose host dies at that place."""
    async with await EmbeddedServer.start() as server, house(server.url) as at:
        effects.clear()
        run = Run(piece, PIECE, doom)
        await play(at, run)
        assert run.died and not run.wrong, run
        return await take_snapshot(at.bus, at.client.blobs, "default", run.job)


def _workflow(workflow: str, during: During = _nothing, **given: Any) -> Recording:
    return partial(_record_workflow, workflow=workflow, given=given, during=during)


RECORDINGS: dict[str, Recording] = {
    "shop-order": _order(sku="A1", qty=2),
    "shop-retries": _order(sku="FLAKY"),
    "shop-unknown": _order(sku="Z9"),
    "shop-approved": _order(partial(_approve, None), sku="B2", qty=10),
    "shop-refused": _order(partial(_approve, False), sku="B2", qty=10),
    "shop-crash": _order(_kill_host, sku="A1", qty=3, packing_s=1.0),
    "survey-directory": _survey,
    "survey-nothing": _survey_of_nothing,
    "survey-missing": lambda name, scratch: _record(SURVEY, survey.survey, {"path": "/nowhere"}, name, scratch),
    "survey-crash": partial(_survey, during=_kill_host),
    "demo": _demo,
    "refund-small": _refund(order="B-2", amount=10.0),
    "refund-edited": _refund(
        partial(_answer, True, {"edit": {"amount": 100}, "comment": "it was opened"}), order="A-17", amount=120.0
    ),
    "refund-rejected": _refund(partial(_answer, False, {"comment": "too late"}), order="A-17", amount=120.0),
    "buy": _workflow("buy", sku="A1", qty=2, email="ann@example.com"),
    "buy-function": _workflow("buy_by_function", sku="A1", qty=2, email="ann@example.com"),
    "cheapest": _workflow("cheapest", sku="A1", shops=["north", "south", "east"]),
    "cheapest-nobody": _workflow("cheapest", sku="Z9", shops=["north", "south"]),
    "cheapest-function": _workflow("cheapest_by_function", sku="A1", shops=["north", "south", "east"]),
    "deliver": _workflow("deliver", to="Rome", weight_kg=31, email="ann@example.com"),
    "parcel": _workflow("follow_parcel", parcel="P1"),
    "trip": _workflow("book_trip", to="Rome"),
    "trip-undone": _workflow("book_trip", to="Capri"),
    "trip-function": _workflow("book_trip_by_function", to="Capri"),
    "discount-lowered": _workflow(
        "special_price", partial(_decide, True, {"edit": {"discount": 0.2}}), sku="A1", discount=0.5
    ),
    "discount-rejected": _workflow(
        "special_price", partial(_decide, False, {"comment": "too much"}), sku="A1", discount=0.5
    ),
    "hedged": _workflow("quick_price", sku="A1"),
    "shelf": _workflow("fill_shelf", skus=["A1", "B2"]),
    "watch": _workflow("price_watch", sku="A1", limit=20, email="ann@example.com"),
    "contract-signed": _workflow("contract", _sign, email="ann@example.com"),
    "contract-withdrawn": _workflow("contract", _withdraw, email="ann@example.com"),
    "everything": partial(_record_piece, piece=EVERYTHING, doom=Doom("after", "emit.won", "won/emit-won:1")),
    "errand-cancelled": partial(
        _record_piece, piece=errand("cancel", NEVER), doom=Doom("after", "call.tool.undo.v1", "c/undo/undo:1")
    ),
    "errand-retried": partial(
        _record_piece, piece=errand("pause", 6), doom=Doom("before", "call.tool.work.v1", "c/work:1")
    ),
}


def generic(body: bytes, scratch: Path) -> bytes:
    """The file without what is particular to this machine."""
    for local, everywhere in {
        str(scratch): "/tmp/callboard",
        str(ROOT): "/src/callboard",
        sys.prefix: "/usr",
        socket.gethostname(): "machine",
    }.items():
        body = body.replace(local.encode(), everywhere.encode())
    return body


async def record(name: str) -> bytes:
    """Run one recording; the file."""
    with tempfile.TemporaryDirectory(prefix="callboard-record-") as directory:
        scratch = Path(directory).resolve()
        return generic(encode_snapshot(await RECORDINGS[name](name, scratch)), scratch)


def main(names: list[str]) -> int:
    """Record all of them, or those that are named."""
    if unknown := set(names) - RECORDINGS.keys():
        sys.stderr.write(f"no recording is named {', '.join(sorted(unknown))}; there are {', '.join(RECORDINGS)}\n")
        return 2
    for name in names or RECORDINGS:
        body = asyncio.run(record(name))
        (HISTORIES / f"{name}.json").write_bytes(body)
        print(f"{name}: {len(body):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
