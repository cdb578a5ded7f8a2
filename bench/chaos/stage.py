"""The stage of a run: a server on a temporary store, nodes, a link from each to the server; and the run itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.chaos.faults import Injector, Seat
from bench.chaos.gathering import gather, requests_left
from bench.chaos.hearing import Hearing
from bench.chaos.ledger import LEDGER_VARIABLE
from bench.chaos.link import Link
from bench.chaos.load import Load
from bench.chaos.node_process import NodeProcess
from bench.chaos.plan import MEAN_GAP_S, make_plan
from bench.chaos.verdict import Evidence, Finding, judge
from bus.connection import Bus
from bus.embedded import LOCALHOST, EmbeddedServer
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from store.log import read_job
from supervisor.node import node_statuses

READY_S = 60.0
SHOWN = 5
_LOOK_S = 0.1

Disturb = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do. ``quiet_s``: how long it may take after the last fault until all has ended."""

    seed: int
    seconds: float = 60.0
    nodes: int = 2
    jobs_per_s: float = 6.0
    gap_s: float = MEAN_GAP_S
    quiet_s: float = 120.0
    faults: bool = True


@dataclass
class Outcome:
    """What a run brought. ``logs`` of the first jobs that something is wrong with; ``exits``: nodes that gave up."""

    settings: Settings
    evidence: Evidence
    findings: list[Finding]
    logs: dict[str, list[str]]
    took_s: float
    resubmitted: int
    exits: list[tuple[str, int]]


class Stage:
    """Everything that runs; :func:`set_up` makes the usual one. ``server`` None: nothing is done to the server."""

    def __init__(
        self, bus: Bus, seats: list[Seat], folder: Path, settings: Settings, server: EmbeddedServer | None = None
    ) -> None:
        self.bus = bus
        self.seats = seats
        self.folder = folder
        self.settings = settings
        self.ledger = folder / "ledger"
        self.load = Load(bus, settings.seed)
        self.hearing = Hearing(bus)
        self.injector = Injector(server, seats)

    async def run(self, disturb: Disturb | None = None) -> Outcome:
        """Load and faults side by side, then quiet until all has ended, then the evidence.

        ``disturb`` comes in the place of the planned faults.
        """
        settings = self.settings
        begun = time.monotonic()
        await self.hearing.start()
        beside = [asyncio.create_task(self.injector.revive()), asyncio.create_task(self.injector.watch_lag())]
        plan = make_plan(settings.seed, settings.seconds, settings.gap_s) if settings.faults else []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(disturb() if disturb else self.injector.carry_out(plan))
                group.create_task(self.load.run(settings.seconds, settings.jobs_per_s))
            await self._quiet()
            evidence = await gather(self.bus, self.load, self.hearing, self.injector.injuries, self.ledger)
        finally:
            self.load.cancel()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self.hearing.stop()
        findings = judge(evidence)
        shown = list(dict.fromkeys(finding.job for finding in findings if finding.job))[:SHOWN]
        logs = {job: await self.log_of(job) for job in shown}
        took_s = time.monotonic() - begun
        return Outcome(settings, evidence, findings, logs, took_s, self.load.resubmitted, self.injector.exits)

    async def until_ready(self) -> None:
        """Every node has all its processes, and each has answered to its supervisor. Raises: TimeoutError."""
        async with asyncio.timeout(READY_S):
            await _until(self._is_ready)

    async def _is_ready(self) -> bool:
        nodes = await node_statuses(self.bus)
        doing = Counter(node.node for node in nodes for actor in node.actors if actor.doing not in ("", "starting"))
        return len(nodes) == len(self.seats) and all(doing[node.node] == len(node.actors) for node in nodes)

    async def log_of(self, job: str) -> list[str]:
        """A job's log, a line for each event."""
        events = await read_job(self.bus, Blobs(self.bus), "default", job)
        return [f"{r.sequence} {r.event}" for r in events]

    async def _quiet(self) -> None:
        """Until every accepted job has ended and no request is left, at most ``quiet_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.quiet_s):
                await self.load.settle()
                await _until(self._all_ended)

    async def _all_ended(self) -> bool:
        return not self.load.accepted.keys() - self.hearing.ended and not await requests_left(self.bus)


async def _until(predicate: Callable[[], Awaitable[bool]]) -> None:
    while not await predicate():  # noqa: ASYNC110 - what is waited for is on the server, which has no event for it
        await asyncio.sleep(_LOOK_S)


# ---- set up


@contextlib.asynccontextmanager
async def set_up(settings: Settings, folder: Path) -> AsyncIterator[Stage]:
    """Server, links and nodes, ready for work; nothing of it is left afterwards, whatever happens."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(await EmbeddedServer.start(store_dir=folder / "nats"))
        bus = await stack.enter_async_context(
            await Bus.connect(ConnectOptions(servers=[server.url]), name="chaos", timeout_s=10)
        )
        await ensure_streams(bus)
        seats = [await _seat(stack, server, f"n{number}", folder) for number in range(1, settings.nodes + 1)]
        stage = Stage(bus, seats, folder, settings, server)
        await stage.until_ready()
        yield stage
    left = {process.pid for process in psutil.Process().children(recursive=True)} - before
    assert not left, f"processes are left: {left}"


async def _seat(stack: contextlib.AsyncExitStack, server: EmbeddedServer, name: str, folder: Path) -> Seat:
    link = await stack.enter_async_context(Link(LOCALHOST, server.port))
    env = {LEDGER_VARIABLE: str(folder / "ledger")}
    node = NodeProcess(name, "bench.chaos.app:app", link.url, folder, env=env)
    stack.push_async_callback(_end, node)
    node.start()
    return Seat(node, link)


async def _end(node: NodeProcess) -> None:
    # What was stopped by a signal cannot end in order.
    for child in node.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(child.pid).resume()
    await node.stop()
