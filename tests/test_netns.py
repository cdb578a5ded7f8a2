"""Two nodes on "separate machines": one is cut off from the server, with nobody told, and comes back."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from bench.chaos.faults import Seat
from bench.chaos.injury import Injury
from bench.chaos.ledger import LEDGER_VARIABLE
from bench.chaos.node_process import NodeProcess
from bench.chaos.orders import Order, Returns
from bench.chaos.report import render
from bench.chaos.stage import Settings, Stage
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.messages import JobOwned
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from store.log import read_job
from tests.namespaces import Namespace, namespaces
from tests.waiting import wait_until

# Longer than the lease of a job (8 s); CALLBOARD_TEST_CUT_S=30 makes it half a minute.
CUT_S = float(os.environ.get("CALLBOARD_TEST_CUT_S", "10"))
LONG_JOBS = 12
LONG = Returns(1 + 3)


@pytest.mark.timeout(300)
async def test_node_that_is_cut_off(tmp_path: Path) -> None:
    """Its jobs go on at the other node; when it is back it has lost them, takes work again, and nothing ran twice."""
    with namespaces(2) as (one, two):
        async with await EmbeddedServer.start(store_dir=tmp_path / "nats", host="0.0.0.0") as server, await Bus.connect(
            ConnectOptions(servers=[server.url]), name="test"
        ) as bus:  # fmt: skip
            await ensure_streams(bus)
            nodes = [_node(f"n{number}", space, server, tmp_path) for number, space in enumerate((one, two), 1)]
            try:
                await _run(bus, nodes, one, tmp_path)
            finally:
                one.heal()
                await asyncio.gather(*(node.stop() for node in nodes))


def _node(name: str, space: Namespace, server: EmbeddedServer, folder: Path) -> NodeProcess:
    url, env = f"nats://{space.gateway}:{server.port}", {LEDGER_VARIABLE: str(folder / "ledger")}
    return NodeProcess(name, "bench.chaos.app:app", url, folder, env=env, prefix=space.prefix)


async def _run(bus: Bus, nodes: list[NodeProcess], wire: Namespace, folder: Path) -> None:
    for node in nodes:
        node.start()
    stage = Stage(bus, [Seat(node) for node in nodes], folder, Settings(9, CUT_S + 4, jobs_per_s=3, quiet_s=120))
    await stage.until_ready()
    outcome = await stage.run(lambda: _cut_and_heal(stage, nodes[0], wire))
    assert not outcome.findings, render(outcome)
    assert not outcome.exits, "both nodes rode it out"
    cut = next(injury for injury in outcome.evidence.injuries if injury.kind == "cut off")
    moved = [
        history.job
        for history in outcome.evidence.histories.values()
        for former, owner in zip(history.owners, history.owners[1:], strict=False)
        if former.host.startswith("n1/") and owner.host.startswith("n2/") and cut.begun_s < owner.at_s < cut.ended_s
    ]
    assert moved, "jobs of the node that was cut off went on at the other before it came back"


async def _cut_and_heal(stage: Stage, node: NodeProcess, wire: Namespace) -> None:
    orders = [Order(f"long-{n}", "long", {"n": 1, "seconds": 1.5}, LONG, nominal_s=4.5) for n in range(LONG_JOBS)]
    for order in orders:
        stage.load.submit(order)
    for order in orders:
        await wait_until(lambda order=order: _owners(stage, order.job), 30)  # type: ignore[misc]
    assert "n1" in {owner.node for order in orders for owner in await _owners(stage, order.job)}
    pids, begun_s = [child.pid for child in node.children()], time.time()
    wire.cut()
    await asyncio.sleep(CUT_S)  # the length of the fault, no wait for anything
    wire.heal()
    stage.injector.injuries.append(
        Injury(kind="cut off", begun_s=begun_s, ended_s=time.time(), pids=tuple(pids), node=node.name)
    )
    await _takes_work_again(stage, node)


async def _owners(stage: Stage, job: str) -> list[JobOwned]:
    events = await read_job(stage.bus, Blobs(stage.bus), "default", job)
    return [recorded.event for recorded in events if isinstance(recorded.event, JobOwned)]


async def _takes_work_again(stage: Stage, node: NodeProcess) -> None:
    """Until a job that was submitted after the healing is the node's."""
    number = 0

    async def taken() -> bool:
        nonlocal number
        number += 1
        order = Order(f"after-{number}", "one", {"n": 1}, Returns(2))
        stage.load.submit(order)
        owners = await wait_until(lambda: _owners(stage, order.job), 30)
        return owners[0].node == node.name

    await wait_until(taken, 60, what=f"{node.name} takes work again")
