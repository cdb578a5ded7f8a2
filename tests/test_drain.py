"""Draining a node: what runs is finished, the rest is handed to others, nothing is lost and nothing is done twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus.connection import NoResponder
from bus.embedded import EmbeddedServer
from bus.errors import Ambiguous
from bus.messages import JobOwned, ReplyRetrying
from bus.service import ask
from bus.system_events import ActorExited, ActorRestarting, NodeDraining, NodeStopped
from tests.nodes import RunningNode, Town, town
from tests.rides import check_rides, keep_riding, submit_rides
from tests.waiting import wait_until

DEADLINE_S = 90.0
RIDE = ("--only", "ride", "--only", "quick", "--only", "slow", "--no-gateway")
AT_GATE = ("--only", "wait_at_gate", "--only", "gate", "--no-gateway")


async def test_a_node_is_drained_under_load(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Two nodes under load, one is drained in the middle: all jobs end as if nothing had happened."""
    async with town(nats_server.url, tmp_path) as here:
        n1, _ = await asyncio.gather(here.node("n1", *RIDE), here.node("n2", *RIDE))
        loading = asyncio.create_task(keep_riding(here, until=lambda: n1.process.returncode is not None))
        await wait_until(lambda: len(here.effects()) >= 60, DEADLINE_S)
        code, out, err = await here.cli("node", "drain", "n1", "--timeout", "60")
        assert (code, out) == (0, "n1 is drained and has ended\n"), err
        assert "left" in err
        assert await n1.end() == 0
        handed_over = await check_rides(here, await loading, {"n1", "n2"})
        assert handed_over > 0, "the drain met no load"
        events = await here.system_events("n1")
        assert [e.by != "" for e in events if isinstance(e, NodeDraining)] == [True]
        assert [e.reason for e in events if isinstance(e, NodeStopped)] == ["drained"]
        assert all(e.expected for e in events if isinstance(e, ActorExited))
        assert not [e for e in events if isinstance(e, ActorRestarting)]


async def test_nodes_are_replaced_one_by_one(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A rolling upgrade: each node is drained once its successor serves, and the load notices nothing."""
    async with town(nats_server.url, tmp_path) as here:
        old = await asyncio.gather(here.node("a1", *RIDE), here.node("a2", *RIDE))
        loading = asyncio.create_task(keep_riding(here, until=lambda: old[1].process.returncode is not None))
        for number, node in enumerate(old, 1):
            await here.node(f"b{number}", *RIDE)
            await node.ask("drain", timeout_s=60)
            assert await node.end() == 0
        jobs = await loading
        assert await check_rides(here, jobs, {"a1", "a2", "b1", "b2"}) > 0, "the drains met no load"


async def at_gate(here: Town, *names: str) -> None:
    """Submit these jobs, and wait until the call of each has begun."""
    for name in names:
        await here.submit("wait_at_gate", name, {})
    await wait_until(lambda: len(here.effects()) == len(names), DEADLINE_S)


async def until_draining(node: RunningNode, actor: str) -> None:
    """Wait until only this actor is left."""

    async def is_alone() -> bool:
        return [name for name, pid in (await node.pids()).items() if pid is not None] == [actor]

    await wait_until(is_alone, DEADLINE_S, what=lambda: node.log)


async def test_a_call_in_flight_runs_to_its_end(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The node waits for it, and its job goes on elsewhere meanwhile; the call is not run again."""
    async with town(nats_server.url, tmp_path) as here:
        n1 = await here.node("n1", *AT_GATE)
        await at_gate(here, "one")
        pid = (await n1.pids())["gate-1"]
        status = await n1.ask("drain")
        assert status["draining"]
        await until_draining(n1, "gate-1")
        await wait_until(lambda: _is_busy(n1, "gate-1"), DEADLINE_S)
        gate = (await n1.actors())["gate-1"]
        assert (gate.state, gate.pid) == ("draining", pid)
        await here.node("n2", *AT_GATE)
        here.switch("open")
        end = await here.end("one", deadline_s=DEADLINE_S)
        assert msgspec.json.decode(end.output) == str(pid)
        assert await n1.end() == 0
        events = [r.event for r in await here.events("one")]
        assert [e for e in events if isinstance(e, ReplyRetrying)] == []
        assert Counter(e.host.partition("/")[0] for e in events if isinstance(e, JobOwned)) == {"n1": 1, "n2": 1}
        assert here.effects() == ["one/gate:1 begun", "one/gate:1 ended"]


async def _is_busy(node: RunningNode, actor: str) -> bool:
    return (await node.actors())[actor].busy == 1


async def test_after_the_time_out_calls_are_handed_back(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A drain ends at its time-out: the call goes to the other node, with no attempt spent, and the exit code is 0."""
    async with town(nats_server.url, tmp_path) as here:
        n1 = await here.node("n1", *AT_GATE)
        await at_gate(here, "one")
        await here.node("n2", *AT_GATE)
        code, out, err = await here.cli("node", "drain", "n1", "--timeout", "1", "--json")
        assert (code, json.loads(out)) == (0, {"node": "n1", "drained": True}), err
        assert await n1.end() == 0
        here.switch("open")
        await here.end("one", deadline_s=DEADLINE_S)
        retries: list[Any] = [r.event for r in await here.events("one") if isinstance(r.event, ReplyRetrying)]
        assert [e.handed_back for e in retries] == [True]
        assert Counter(here.effects()) == {"one/gate:1 begun": 2, "one/gate:1 ended": 1}


async def test_a_direct_call_runs_to_its_end_too(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A request to a tool's own endpoint is answered by the process that is being drained."""
    async with town(nats_server.url, tmp_path) as here:
        n1 = await here.node("n1", "--only", "gate", "--no-gateway")
        pid = (await n1.pids())["gate-1"]
        answer = asyncio.create_task(ask(here.bus, "tool.gate.v1.call", b"{}", timeout_s=DEADLINE_S))
        await wait_until(lambda: len(here.effects()) == 1, DEADLINE_S)
        await n1.ask("drain", timeout_s=60)
        with pytest.raises(NoResponder):  # it takes no more
            await wait_until(lambda: _calls(here), DEADLINE_S)
        here.switch("open")
        assert msgspec.json.decode(await answer) == str(pid)
        assert await n1.end() == 0


async def _calls(here: Town) -> bool:
    with contextlib.suppress(Ambiguous):
        await ask(here.bus, "tool.gate.v1.describe", timeout_s=1)
    return False


async def test_a_server_that_is_away_in_the_middle_of_a_drain(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The result of the call in flight is delivered on return, and then the node ends."""
    async with town(nats_server.url, tmp_path) as here:
        n1 = await here.node("n1", *AT_GATE)
        await at_gate(here, "one")
        await n1.ask("drain", timeout_s=60)
        await until_draining(n1, "gate-1")
        nats_server.kill()
        here.switch("open")
        await wait_until(lambda: len(here.effects()) == 2, DEADLINE_S)
        await nats_server.restart()
        assert await n1.end() == 0
        await here.node("n2", *AT_GATE)
        assert (await here.end("one", deadline_s=DEADLINE_S)).kind == "job.completed"
        assert here.effects() == ["one/gate:1 begun", "one/gate:1 ended"]


async def test_a_stop_cuts_a_drain_short(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """SIGTERM in the middle of a drain hands back what is left, as without one; SIGUSR1 begins a drain as well."""
    async with town(nats_server.url, tmp_path) as here:
        n1 = await here.node("n1", *AT_GATE)
        await at_gate(here, "one", "two")
        n1.process.send_signal(signal.SIGUSR1)
        await until_draining(n1, "gate-1")
        n1.process.send_signal(signal.SIGTERM)
        assert await n1.end() == 0
        here.switch("open")
        await here.node("n2", *AT_GATE)
        for job in ("one", "two"):
            await here.end(job, deadline_s=DEADLINE_S)
            retries: list[Any] = [r.event for r in await here.events(job) if isinstance(r.event, ReplyRetrying)]
            assert [e.handed_back for e in retries] == [True]


async def test_a_draining_node_restarts_nobody(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A process that is killed in the middle of the drain stays down; its call goes to another node."""
    async with town(nats_server.url, tmp_path) as here:
        n1 = await here.node("n1", *AT_GATE)
        await at_gate(here, "one")
        await n1.ask("drain", timeout_s=60)
        await until_draining(n1, "gate-1")
        await n1.kill("gate-1")
        assert await n1.end() == 0
        events = await here.system_events("n1")
        assert not [e for e in events if isinstance(e, ActorRestarting)]
        assert [(e.actor, e.description) for e in events if isinstance(e, ActorExited) and not e.expected] == [
            ("gate-1", "SIGKILL")
        ]
        here.switch("open")
        await here.node("n2", *AT_GATE)
        assert (await here.end("one", deadline_s=DEADLINE_S)).kind == "job.completed"


async def test_a_node_that_is_killed_while_it_drains(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Its actors hand back what they have and end too; the command says that it did not end in order."""
    async with town(nats_server.url, tmp_path) as here:
        n1 = await here.node("n1", *AT_GATE)
        await at_gate(here, "one")
        command = asyncio.create_task(here.cli("node", "drain", "n1", "--json"))
        await until_draining(n1, "gate-1")
        n1.process.kill()
        code, out, err = await command
        assert (code, json.loads(out)) == (1, {"node": "n1", "drained": False}), err
        here.switch("open")
        await here.node("n2", *AT_GATE)
        assert (await here.end("one", deadline_s=DEADLINE_S)).kind == "job.completed"


async def test_draining_what_is_not_there(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A name that no node has is refused with the nearest one."""
    async with town(nats_server.url, tmp_path) as here:
        await here.node("berlin", "--only", "quick", "--no-gateway")
        code, _, err = await here.cli("node", "drain", "berlim")
        assert (code, "did you mean 'berlin'" in err) == (2, True), err


async def test_a_node_is_drained_while_its_actors_start(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Whether a process serves yet or not, it ends, and no job is lost."""
    async with town(nats_server.url, tmp_path) as here:
        jobs = await submit_rides(here, 5)
        n1 = await here.node("n1", *RIDE, up=False)
        await wait_until(lambda: _hears(n1), DEADLINE_S, what=lambda: n1.log)
        await n1.ask("drain")
        assert await n1.end() == 0
        await here.node("n2", *RIDE)
        await check_rides(here, jobs, {"n1", "n2"})


async def _hears(node: RunningNode) -> bool:
    with contextlib.suppress(NoResponder):
        await node.status()
        return True
    return False
