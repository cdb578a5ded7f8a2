"""The stage of a run: a server on a temporary store, nodes, a link from each to the server; and the run itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.chaos.faults import Injector, Seat
from bench.chaos.hearing import Hearing
from bench.chaos.history import History
from bench.chaos.injury import Injury
from bench.chaos.ledger import LEDGER_VARIABLE, read_ledger
from bench.chaos.link import Link
from bench.chaos.load import Load
from bench.chaos.node_process import NodeProcess
from bench.chaos.plan import MEAN_GAP_S, make_plan
from bench.chaos.verdict import Evidence, Finding, judge
from bus.connection import Bus
from bus.embedded import LOCALHOST, EmbeddedServer
from bus.errors import BusError
from bus.messages import decode
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.reader import scan
from bus.streams import EVENTS, JOBS, ensure_streams, stream_info
from bus.subjects import parse_event
from bus.system_events import ActorExited
from store.log import read_job

READY_S = 60.0
TOLD_S = 30.0
SHOWN = 5
_LOOK_S = 0.1


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
    """Everything that runs. Made by :func:`set_up`."""

    def __init__(self, server: EmbeddedServer, bus: Bus, seats: list[Seat], folder: Path, settings: Settings) -> None:
        self.server = server
        self.bus = bus
        self.seats = seats
        self.folder = folder
        self.settings = settings
        self.ledger = folder / "ledger"
        self.load = Load(bus, settings.seed)
        self.hearing = Hearing(bus)
        self.injector = Injector(server, seats)

    async def run(self) -> Outcome:
        """Load and faults side by side, then quiet until all has ended, then the evidence."""
        settings = self.settings
        begun = time.monotonic()
        await self.hearing.start()
        beside = [asyncio.create_task(self.injector.revive()), asyncio.create_task(self.injector.watch_lag())]
        plan = make_plan(settings.seed, settings.seconds, settings.gap_s) if settings.faults else []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.injector.carry_out(plan))
                group.create_task(self.load.run(settings.seconds, settings.jobs_per_s))
            await self._quiet()
            evidence = await self._gather_evidence()
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
        return not self.load.accepted.keys() - self.hearing.ended and not await self._left()

    async def _left(self) -> list[str]:
        """What still stands in the queue of jobs."""
        try:
            info = await stream_info(self.bus, JOBS, subjects="jobs.>")
        except BusError as error:
            return [str(error)]
        counts = (info or {}).get("state", {}).get("subjects") or {}
        return [f"{count} requests on {subject}" for subject, count in counts.items()]

    async def _gather_evidence(self) -> Evidence:
        histories: dict[str, History] = {}
        subjects: dict[int, str] = {}
        injuries = list(self.injector.injuries)
        async for page in scan(self.bus, EVENTS, "log.>"):
            for stored in page:
                subjects[stored.sequence] = stored.subject
                place = parse_event(stored.subject)
                if place.workspace == "default":
                    histories.setdefault(place.job, History(place.job)).take(stored)
                elif place.workspace == "_system" and (death := _death(stored.body, place.kind)):
                    injuries.append(death)
        last = max(subjects, default=0)
        await self._until_told(last)
        return Evidence(
            accepted=dict(self.load.accepted), histories=histories, runs=read_ledger(self.ledger), injuries=injuries,
            log=list(subjects), told=[s for s in self.hearing.told if s <= last],
            live=[(sequence, subject) for sequence, subject in self.hearing.live if sequence <= last],
            subjects=subjects, left=await self._left(),
        )  # fmt: skip

    async def _until_told(self, last: int) -> None:
        """Until the tail has come so far; what it does not tell within ``TOLD_S`` it has missed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOLD_S):
                while not self.hearing.told or self.hearing.told[-1] < last:  # noqa: ASYNC110 - a list has no event
                    await asyncio.sleep(_LOOK_S)


def _death(body: bytes, kind: str) -> Injury | None:
    """An actor that ended, as its node's supervisor saw it."""
    if kind != "actor.exited":
        return None
    event = decode(body)
    if not isinstance(event, ActorExited) or event.pid is None:
        return None
    at_s = event.at.timestamp()
    return Injury(kind="end of a process", begun_s=at_s, ended_s=at_s, pids=(event.pid,), fatal=True, node=event.job)


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
        stage = Stage(server, bus, seats, folder, settings)
        await _until_ready(stage)
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


async def _until_ready(stage: Stage) -> None:
    """Every node has all its processes: one of them has answered to its supervisor. Raises: TimeoutError."""
    from supervisor.node import node_statuses

    async with asyncio.timeout(READY_S):
        while True:
            nodes = await node_statuses(stage.bus)
            doing = Counter(node.node for node in nodes for actor in node.actors if actor.doing not in ("", "starting"))
            if len(nodes) == len(stage.seats) and all(doing[n.node] == len(n.actors) for n in nodes):
                return
            await asyncio.sleep(_LOOK_S)
