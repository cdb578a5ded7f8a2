"""ADR 008: what the leader's duties cost.

    python -m bench.adr.duties [FINISHED OPEN]

Nodes: 100 of 20 actors each, asked by ``sup.ps`` every five seconds against heartbeats heard every two. Jobs: the first
look of a leader at FINISHED (100,000) jobs that have ended and OPEN (10,000) that have not, half of them owned and half
parked; a later look; and the first look of the next leader, which has a checkpoint. Printed: CPU ms each second, and
seconds with the CPU seconds of this process and of the server.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import psutil
import uvloop

from actors.duties.node_watch import PS_SUBJECT
from actors.duties.stuck_jobs import StuckJobs
from actors.duties.term import LEASE, begin_term
from actors.duties.timing import Timing
from bus import headers as h
from bus.connection import Bus, Message
from bus.embedded import EmbeddedServer
from bus.event import utc_now
from bus.lease import Lease
from bus.messages import Event, JobCompleted, JobOwned, JobSubmitted, JobWaiting, encode
from bus.objects import Blobs
from bus.options import resolve_options
from bus.streams import ensure_streams
from supervisor.child import ChildStatus
from supervisor.heartbeat import Heartbeat
from supervisor.node import NodeStatus

NODES, ACTORS = 100, 20
MEASURED_S = 20.0
_AT_ONCE = 500
_INPUT = msgspec.Raw(b'{"sku":"A1","qty":2}')


@dataclass
class Meter:
    """CPU time and wall time since it was made."""

    server: psutil.Process

    def __post_init__(self) -> None:
        self._began = self._read()

    def _read(self) -> tuple[float, float, float]:
        loop = asyncio.get_running_loop()
        return loop.time(), _cpu_s(psutil.Process()), _cpu_s(self.server)

    def spent(self) -> tuple[float, float, float]:
        """Seconds, our CPU seconds, the server's."""
        now = self._read()
        return now[0] - self._began[0], now[1] - self._began[1], now[2] - self._began[2]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _server() -> psutil.Process:
    return next(p for p in psutil.Process().children(recursive=True) if "nats-server" in p.name())


# ---- nodes


async def _answer(bus: Bus) -> None:
    """Answer for all nodes; run in a process of its own."""
    now = utc_now()
    actors = [
        ChildStatus(name=f"tool-{n}", component=f"tool-{n} 1.0.0", pid=n, state="running", restarts=0, started_at=now)
        for n in range(ACTORS)
    ]
    bodies = [msgspec.json.encode(NodeStatus(node=f"n{n}", pid=n, started_at=now, actors=actors)) for n in range(NODES)]

    async def send(reply: str) -> None:
        for body in bodies:
            await bus.publish(reply, body)

    tasks: set[asyncio.Task[None]] = set()

    def take(msg: Message) -> None:
        task = asyncio.create_task(send(msg.reply))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await bus.subscribe(PS_SUBJECT, take)
    await asyncio.Event().wait()


async def _beat(bus: Bus) -> None:
    """Beat for all actors, evenly; run in a process of its own."""
    body = msgspec.json.encode(Heartbeat(pid=1, doing="3 calls", since=utc_now(), handled=100, busy=3))
    for node in itertools.cycle(range(NODES)):
        for actor in range(ACTORS):
            await bus.publish(f"hb.n{node}.a{actor}", body)
        await asyncio.sleep(2 / NODES)


async def _nodes(role: str) -> None:
    async with await EmbeddedServer.start() as server, await Bus.connect(resolve_options(server.url)) as bus:
        command = [sys.executable, "-m", "bench.adr.duties", role, server.url]
        others = await asyncio.create_subprocess_exec(*command)
        try:
            await _watch(role, bus)
        finally:
            others.kill()
            await others.wait()


async def _watch(role: str, bus: Bus) -> None:
    heard = list[str]()
    await asyncio.sleep(2)  # the others start
    if role == "beat":
        await bus.subscribe("hb.>", lambda msg: heard.append(msg.subject))
    meter = Meter(_server())
    while meter.spent()[0] < MEASURED_S:
        if role == "answer":
            answers = await bus.gather(PS_SUBJECT, done=lambda m: bool(m.headers), timeout_s=2, strict=False)
            heard += [msgspec.json.decode(msg.data)["node"] for msg in answers]
        await asyncio.sleep(3)
    took_s, own_s, server_s = meter.spent()
    label = "asked by sup.ps" if role == "answer" else "heartbeats heard"
    print(f"{label:<17} {len(heard) / took_s:6.0f} messages/s, leader {own_s / took_s * 1000:5.1f} ms/s, "
          f"server {server_s / took_s * 1000:5.1f} ms/s")  # fmt: skip


# ---- jobs


def _log_of(job: str, *events: Event) -> Iterator[tuple[str, bytes]]:
    return ((f"log.default.{job}.{event.kind}", encode(event)) for event in events)


def _finished(count: int) -> Iterator[tuple[str, bytes]]:
    for n in range(count):
        job = f"f{n:07}"
        yield from _log_of(job, _submitted(job), JobOwned(job=job, host="n1/host-1", request=n + 1))
        yield f"log.default.{job}.call.tool.quote.v1", b"{}"
        yield f"log.default.{job}.reply.completed", b"{}"
        yield from _log_of(job, JobCompleted(job=job, output=_INPUT))


def _open(count: int) -> Iterator[tuple[str, bytes]]:
    for n in range(count):
        job = f"o{n:07}"
        yield from _log_of(job, _submitted(job), JobOwned(job=job, host="n1/host-1", request=n + 1))
        if n >= count // 2:
            yield from _log_of(job, JobWaiting(job=job, on=("approval:1",)))


def _submitted(job: str) -> JobSubmitted:
    return JobSubmitted(job=job, workflow="order", version="1.0.0", input=_INPUT)


async def _fill(bus: Bus, messages: Iterator[tuple[str, bytes]]) -> None:
    while block := list(itertools.islice(messages, _AT_ONCE)):
        await asyncio.gather(*(bus.append(subject, body) for subject, body in block))


async def _jobs(finished: int, opened: int) -> None:
    async with await EmbeddedServer.start() as server, await Bus.connect(resolve_options(server.url)) as bus:
        await ensure_streams(bus)
        for n in range(opened // 2):  # one by one: the sequences are in the log
            await bus.append("jobs.default.order", b"{}", headers={h.JOB_ID: f"o{n:07}"})
        await _fill(bus, _finished(finished))
        await _fill(bus, _open(opened))
        lease = Lease(bus, LEASE, "bench", ttl_s=3600)
        await lease.acquire()
        term = await begin_term(bus, Blobs(bus), lease, "bench")
        first, following = StuckJobs(term, Timing(settle_s=0)), StuckJobs(term, Timing(settle_s=0))
        for label, sweep in (("first look", first), ("next look", first), ("next leader", following)):
            await _look(label, sweep)


async def _look(label: str, sweep: StuckJobs) -> None:
    before_bytes, meter = psutil.Process().memory_info().rss, Meter(_server())
    await sweep.sweep()
    took_s, own_s, server_s = meter.spent()
    grown_mb = (psutil.Process().memory_info().rss - before_bytes) / 1e6
    print(f"{label:<17} {took_s:6.2f} s, leader {own_s:5.2f} s of CPU, server {server_s:5.2f} s, "
          f"{len(sweep.jobs.jobs):,} open, {grown_mb:+.0f} MB, {sweep.redriven} given out again")  # fmt: skip


async def main(arguments: list[str]) -> None:
    """Measure and print; with a role, be the other process."""
    if arguments[:1] in (["answer"], ["beat"]):
        async with await Bus.connect(resolve_options(arguments[1])) as bus:
            await (_answer if arguments[0] == "answer" else _beat)(bus)
    await _nodes("answer")
    await _nodes("beat")
    await _jobs(*(int(n) for n in arguments or ("100000", "10000")))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
