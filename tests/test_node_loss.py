"""Nodes that are lost and come back, and leaders that die or are stopped: with the processes that users run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.lease import who_holds
from bus.messages import CallTool, Event, JobCompleted, JobWaiting, ReplyCompleted, decode
from bus.options import ConnectOptions
from bus.reader import read_all
from bus.streams import EVENTS, JOBS, ensure_streams
from bus.system_events import DutiesTaken, NodeLost, NodeReturned
from store.log import Recorded
from supervisor.node import node_statuses
from supervisor.tree import Supervisor
from tests.stage import Stage, stage
from tests.test_crash import RESULT, check_log
from tests.test_fencing import owners
from tests.troupe import check_decisions
from tests.waiting import wait_until
from tests.whole_node import WholeNode, all_serve, whole_node

DUTIES = {
    "CALLBOARD_DUTIES_LEASE_S": "3",
    "CALLBOARD_NODE_LOST_S": "4",
    "CALLBOARD_SWEEP_S": "0.5",
    "CALLBOARD_SETTLE_S": "2",
}
QUICK = {**DUTIES, "CALLBOARD_LEASE_S": "2", "CALLBOARD_PARK_AFTER_S": "0.3"}
JOBS_EACH = 30


class House(Stage):
    """A server's logs and the ledger, seen from outside of all nodes."""

    def __init__(self, bus: Bus, tmp_path: Path) -> None:
        super().__init__(bus, cast("Supervisor", None), tmp_path / "ledger")

    async def system(self, *kinds: type[Event]) -> list[tuple[int, Event]]:  # type: ignore[valid-type]
        """The system's events of these kinds with their sequences."""
        events = [(s.sequence, decode(s.body)) for s in await read_all(self.bus, EVENTS, "log._system.>")]
        return [(sequence, event) for sequence, event in events if isinstance(event, kinds)]

    async def has(self, kind: type[Event], node: str) -> bool:  # type: ignore[valid-type]
        """Whether such an event of that node is in the log."""
        return any(event.job == node for _, event in await self.system(kind))

    async def taken(self) -> list[DutiesTaken]:
        """Who has led, in order."""
        return [event for _, event in await self.system(DutiesTaken) if isinstance(event, DutiesTaken)]

    async def submit_many(self, prefix: str) -> list[str]:
        """A load of jobs of five steps."""
        jobs = [f"{prefix}-{n}" for n in range(JOBS_EACH)]
        await asyncio.gather(*(self.submit("five", job, {"start": 1}) for job in jobs))
        return jobs

    async def answered(self, jobs: list[str]) -> set[str]:
        """The keys of all calls whose results are recorded."""
        logs = await asyncio.gather(*(self.events(job) for job in jobs))
        return {f"{job}/{r.event.call}" for job, events in zip(jobs, logs, strict=True) for r in events
                if isinstance(r.event, ReplyCompleted) and not r.event.op}  # fmt: skip

    async def check_all(self, jobs: list[str]) -> None:
        """Every job ended right, decided everything once, and ran each of its calls at least once."""
        for job in jobs:
            end = await self.end(job, deadline_s=90)
            assert isinstance(end, JobCompleted) and bytes(end.output) == str(RESULT).encode(), end
            events = await self.events(job)
            check_log(events)
            check_owners(events)
        wanted = {f"{job}/step:{n}" for job in jobs for n in range(1, 6)}
        assert {line for line in self.effects() if line.split("/")[0] in jobs} == wanted

    async def takes_new_work(self, node: str) -> None:
        """Wait until that node owns a new job, which ends."""
        jobs: list[str] = []

        async def owns() -> bool:
            jobs.append(f"new-{node}-{len(jobs)}")
            await self.submit("five", jobs[-1], {"start": 1})
            await self.end(jobs[-1], deadline_s=60)
            return any(host.startswith(f"{node}/") for host in await owners(self, jobs[-1]))

        await wait_until(owns, 90, what=f"{node} takes new work")


def check_owners(events: list[Recorded]) -> None:
    """Every decision once, and nothing decided after the end: no two owners went on side by side."""
    check_decisions(events)
    decided = [r.sequence for r in events if isinstance(r.event, CallTool | JobCompleted)]
    (end,) = [r.sequence for r in events if isinstance(r.event, JobCompleted)]
    assert max(decided) == end


@pytest.fixture
async def house(nats_server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[House]:
    """A view on a server of the test's own."""
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url]), name="test") as bus:
        await ensure_streams(bus)
        yield House(bus, tmp_path)


@contextlib.asynccontextmanager
async def under_load(house: House, prefix: str) -> AsyncIterator[list[str]]:
    """Submit jobs: some work has been done, no job has ended, and node n1 owns at least one of them."""
    closed, before = Path(f"{house.ledger}.closed"), len(house.effects())
    closed.touch()
    jobs = await house.submit_many(prefix)
    await wait_until(lambda: len(house.effects()) >= before + 20, 60)
    async with asyncio.timeout(60):
        while not [job for job in jobs if any(host.startswith("n1/") for host in await owners(house, job))]:
            jobs += await house.submit_many(f"{prefix}-{len(jobs)}")
    yield jobs
    closed.unlink()


# ---- whole nodes


async def test_node_killed_under_load(nats_server: EmbeddedServer, house: House, tmp_path: Path) -> None:
    """Its work goes on at the other node, no recorded call runs again, and its loss and return are told once each."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str) -> WholeNode:
            return await stack.enter_async_context(whole_node(nats_server.url, tmp_path, name, env=QUICK))

        first, _ = await start("n1"), await start("n2")
        await all_serve(house.bus, "n1", "n2")
        async with under_load(house, "killed") as jobs:
            await first.kill()
        recorded, ran = await house.answered(jobs), Counter(house.effects())
        await house.check_all(jobs)
        assert {
            key: count for key, count in Counter(house.effects()).items() if key in recorded and count > ran[key]
        } == {}
        assert max(Counter(house.effects()).values()) <= 2, "at most once more for the one crash"
        await wait_until(lambda: house.has(NodeLost, "n1"), 60)
        await start("n1")
        await wait_until(lambda: house.has(NodeReturned, "n1"), 60)
        await house.takes_new_work("n1")
        assert [(type(e), e.job) for _, e in await house.system(NodeLost, NodeReturned)] == [
            (NodeLost, "n1"), (NodeReturned, "n1"),
        ]  # fmt: skip


async def test_node_stopped_and_continued_under_load(nats_server: EmbeddedServer, house: House, tmp_path: Path) -> None:
    """Stopped for longer than its leases it loses its jobs to the other node; back again it does no harm and helps."""
    async with (
        whole_node(nats_server.url, tmp_path, "n1", env=QUICK) as first,
        whole_node(nats_server.url, tmp_path, "n2", env=QUICK),
    ):
        await all_serve(house.bus, "n1", "n2")
        await wait_until(lambda: one_says_that_it_leads(house.bus), 60)
        async with under_load(house, "stopped") as jobs:
            first.stop()
        await house.check_all(jobs)
        await wait_until(lambda: house.has(NodeLost, "n1"), 60)
        later = await house.submit_many("later")
        first.go_on()
        await wait_until(lambda: house.has(NodeReturned, "n1"), 60)
        await house.check_all(later)
        dropped = "another host owns the job, this copy is dropped"
        await wait_until(lambda: dropped in first.log.read_text(), 60, what="the woken host knows that it was fenced")
        await house.takes_new_work("n1")
        await house.check_all(jobs)
        assert [(type(e), e.job) for _, e in await house.system(NodeLost, NodeReturned)] == [
            (NodeLost, "n1"), (NodeReturned, "n1"),
        ]  # fmt: skip
        epochs = [event.epoch for event in await house.taken()]
        assert epochs == sorted(set(epochs))


async def one_says_that_it_leads(bus: Bus) -> bool:
    """Whether ``callboard ps`` shows one leader."""
    doing = [actor.doing for node in await node_statuses(bus) for actor in node.actors if actor.name == "gateway"]
    return sorted(doing) == ["serving", "serving, leads"]


# ---- leaders


@contextlib.asynccontextmanager
async def two_gateways(url: str, tmp_path: Path, env: dict[str, str]) -> AsyncIterator[dict[str, Stage]]:
    """Two nodes with a tool and a gateway each; by node."""
    async with (
        stage(url, tmp_path, env=env, node="n1", only=("step",), gateway=True) as one,
        stage(url, tmp_path, env=env, node="n2", only=("step",), gateway=True) as two,
    ):
        yield {"n1": one, "n2": two}


async def leader_of(house: House, *, after: int = 0) -> str:
    """The node that leads, once a term has begun after so many others."""

    async def node() -> str:
        taken = await house.taken()
        return taken[-1].job if len(taken) > after else ""

    return await wait_until(node, 15 if after else 60, what="a node has taken the duties")


async def test_leader_killed(nats_server: EmbeddedServer, house: House, tmp_path: Path) -> None:
    """Killed by -9, with the times that users have, it is followed within fifteen seconds, by a later epoch."""
    async with two_gateways(nats_server.url, tmp_path, {}) as nodes:
        os.kill(nodes[await leader_of(house)].pid("gateway"), signal.SIGKILL)
        await leader_of(house, after=1)
        first, second = [event.epoch for event in await house.taken()]
        assert first < second


async def test_leader_stopped(nats_server: EmbeddedServer, house: House, tmp_path: Path) -> None:
    """Stopped it is followed by the other; continued it finds out, writes nothing, and follows in its turn."""
    async with two_gateways(nats_server.url, tmp_path, DUTIES) as nodes:
        first = await leader_of(house)
        second = next(name for name in nodes if name != first)
        stopped = nodes[first].pid("gateway")
        os.kill(stopped, signal.SIGSTOP)
        assert await leader_of(house, after=1) == second
        os.kill(stopped, signal.SIGCONT)
        await wait_until(lambda: still_led_by(house, second), 30)
        assert nodes[first].pid("gateway") == stopped, "it lives"
        os.kill(nodes[second].pid("gateway"), signal.SIGSTOP)
        assert await leader_of(house, after=2) == first, "what was stopped once can lead again"
        os.kill(nodes[second].pid("gateway"), signal.SIGCONT)
        epochs = [event.epoch for event in await house.taken()]
        assert epochs == sorted(set(epochs)) and len(epochs) == 3


async def still_led_by(house: House, node: str) -> bool:
    """Whether that node holds the lease and has renewed it."""
    holding = await who_holds(house.bus, "leader")
    return holding is not None and holding.holder == f"{node}/gateway" and holding.epoch > 0


async def test_leader_leaves_in_order(nats_server: EmbeddedServer, house: House, tmp_path: Path) -> None:
    """A node that is stopped gives the duties back, and is not declared lost."""
    async with two_gateways(nats_server.url, tmp_path, {}) as nodes:
        first = await leader_of(house)
        await nodes[first].supervisor.stop()
        await leader_of(house, after=1)
        assert not await house.system(NodeLost)


# ---- jobs that nobody runs


async def test_job_whose_request_is_gone(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Its host is killed and its request purged: it is given out again and ends, with each call recorded once."""
    async with stage(nats_server.url, tmp_path, "tests.apps.core:app", env=QUICK, gateway=True) as on:
        await on.submit("held", "k", {"start": 1})
        await wait_until(lambda: "k/gate:1" in on.effects(), 60)
        host = on.pid("host-1")
        os.kill(host, signal.SIGSTOP)
        await on.bus.api(f"STREAM.PURGE.{JOBS}", {"filter": "jobs.>"})
        os.kill(host, signal.SIGKILL)
        (tmp_path / "ledger.open").touch()
        assert isinstance(await on.end("k", deadline_s=60), JobCompleted)
        check_decisions(await on.events("k"))
        assert len(await owners(on, "k")) == 2
        assert Counter(on.effects()) == {"k/step:1": 1, "k/gate:1": 1, "k/step:2": 1}


async def test_sleeper_whose_timer_is_gone(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """All timers are purged: the parked job wakes all the same, once its time is well over."""
    async with stage(nats_server.url, tmp_path, env=QUICK, gateway=True) as on:
        await on.submit("sleeper", "s", {"seconds": 3})

        async def parked() -> bool:
            return any(isinstance(r.event, JobWaiting) for r in await on.events("s"))

        await wait_until(parked, 60)
        await on.bus.api(f"STREAM.PURGE.{JOBS}", {"filter": "timers.>"})
        assert isinstance(await on.end("s", deadline_s=60), JobCompleted)
        check_decisions(await on.events("s"))
        assert Counter(on.effects()) == {"s/step:1": 1, "s/step:2": 1}
