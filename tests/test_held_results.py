"""Invariant 7: results of finished calls outlive the server and the process that has them, and are delivered once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from actors.tools.held_results import HeldResults
from bus.connection import Bus
from bus.courier import Courier
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.messages import CallTool, JobCompleted, ReplyCompleted
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.outbox import Held, Outbox
from bus.streams import EVENTS, ensure_streams
from store.log import prepare_kept, read_job
from supervisor.tree import Supervisor
from tests.stage import ROOT, Stage, stage
from tests.waiting import wait_until

CORE = "tests.apps.core:app"
DEADLINE_S = 60


def outbox_of(tmp_path: Path, node: str = "n1") -> Outbox:
    """The outbox of a node on the stage."""
    return Outbox(tmp_path / "data" / "outbox" / f"{node}.db")


async def held_by(tmp_path: Path) -> list[Held]:
    """What the outbox holds; nothing if there is none."""
    outbox = outbox_of(tmp_path)
    try:
        return await outbox.pending() if outbox.exists() else []
    finally:
        await outbox.close()


async def until_held(tmp_path: Path, count: int = 1) -> None:
    """Wait until so many results lie in the outbox."""

    async def is_held() -> bool:
        return len(await held_by(tmp_path)) >= count

    await wait_until(is_held, DEADLINE_S, what="a result in the outbox")


async def until_empty(tmp_path: Path) -> None:
    """Wait until all is delivered and removed."""

    async def is_empty() -> bool:
        return not await held_by(tmp_path)

    await wait_until(is_empty, DEADLINE_S, what="an empty outbox")


async def at_the_gate(on: Stage, job: str) -> None:
    """Submit ``held``, and wait until its second call is being run."""
    await on.submit("held", job, {"start": 1})
    await wait_until(lambda: f"{job}/gate:1" in on.effects(), DEADLINE_S)


def open_gate(on: Stage) -> None:
    """Let the calls of ``gate`` end."""
    Path(f"{on.ledger}.open").touch()


async def kill(on: Stage, actor: str) -> None:
    """Kill -9 an actor, and wait for its successor."""
    pid = on.pid(actor)
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: _pid(on, actor) not in (None, pid), DEADLINE_S)


def _pid(on: Stage, actor: str) -> int | None:
    return next(status.pid for status in on.supervisor.statuses() if status.name == actor)


async def check_once(on: Stage, job: str, *, runs: int = 1) -> None:
    """The job ends right, each call answered once, and the gate's function ran ``runs`` times."""
    assert isinstance(await on.end(job, deadline_s=DEADLINE_S), JobCompleted)
    events = [recorded.event for recorded in await on.events(job)]
    replies = Counter(event.call for event in events if isinstance(event, ReplyCompleted))
    assert replies == {event.call: 1 for event in events if isinstance(event, CallTool)}
    assert Counter(on.effects())[f"{job}/gate:1"] == runs
    assert {key: n for key, n in Counter(on.effects()).items() if "gate" not in key and n > 1} == {}


@pytest.mark.parametrize("replicas", [1, 2])
async def test_tool_killed_while_the_server_is_away(nats_server: EmbeddedServer, tmp_path: Path, replicas: int) -> None:
    """The result that it held is delivered by its successor; the call ran once, also where a replica gets it again."""
    async with stage(nats_server.url, tmp_path, CORE, replicas={"gate": replicas}) as on:
        await at_the_gate(on, "a")
        nats_server.kill()
        open_gate(on)
        await until_held(tmp_path)
        [held] = await held_by(tmp_path)
        assert held.about == "default/a/gate:1" and held.owner.startswith("n1/gate")
        await kill(on, held.owner.removeprefix("n1/"))
        await nats_server.restart()
        await check_once(on, "a")
        await until_empty(tmp_path)


async def test_tool_and_host_live_through_it(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Nobody is killed: the tool itself delivers what it held, and takes it out of the outbox."""
    async with stage(nats_server.url, tmp_path, CORE) as on:
        await at_the_gate(on, "a")
        nats_server.kill()
        open_gate(on)
        await until_held(tmp_path)
        await nats_server.restart()
        await check_once(on, "a")
        await until_empty(tmp_path)


@pytest.mark.parametrize("is_killed", [False, True])
async def test_server_that_hangs(nats_server: EmbeddedServer, tmp_path: Path, is_killed: bool) -> None:
    """The connection stands and nobody answers: the result is held; what is under way already is not stored twice."""
    async with stage(nats_server.url, tmp_path, CORE) as on:
        await at_the_gate(on, "a")
        assert nats_server.pid
        os.kill(nats_server.pid, signal.SIGSTOP)
        try:
            open_gate(on)
            await until_held(tmp_path)
            if is_killed:
                await kill(on, "gate-1")
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)
        await check_once(on, "a")
        await until_empty(tmp_path)


async def test_host_killed_while_the_server_is_away(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A host keeps nothing on disk: what it has not recorded is done again from the journal, and no call runs twice."""
    async with stage(nats_server.url, tmp_path, CORE) as on:
        await at_the_gate(on, "a")
        nats_server.kill()
        open_gate(on)
        await until_held(tmp_path)
        await kill(on, "host-1")
        await nats_server.restart()
        await check_once(on, "a")
        await until_empty(tmp_path)


@pytest.mark.parametrize(
    ("point", "runs"),
    [("outbox.before_put", 2), ("outbox.after_put", 1), ("outbox.after_send", 1)],
)
async def test_tool_dies_around_its_outbox(nats_server: EmbeddedServer, tmp_path: Path, point: str, runs: int) -> None:
    """Killed before its result is on disk the call runs again; killed at any later point it does not."""
    marker = tmp_path / "died"
    async with stage(nats_server.url, tmp_path, CORE, env={VARIABLE: f"{point}:1:{marker}"}) as on:
        await at_the_gate(on, "a")
        nats_server.kill()
        open_gate(on)
        if point == "outbox.after_send":  # which comes by only when it is stored
            await until_held(tmp_path)
        else:
            await wait_until(marker.exists, DEADLINE_S)
        await nats_server.restart()
        await check_once(on, "a", runs=runs)
        assert marker.exists(), "nobody came by the crash point"
        await until_empty(tmp_path)


@pytest.mark.parametrize("point", ["outbox.before_send", "outbox.after_send"])
async def test_successor_dies_around_its_delivery(nats_server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """Who delivers for a killed actor may be killed over it, also between "stored" and "removed"."""
    marker = tmp_path / "died"
    async with stage(nats_server.url, tmp_path, CORE, env={VARIABLE: f"{point}:1:{marker}"}) as on:
        await at_the_gate(on, "a")
        nats_server.kill()
        open_gate(on)
        await until_held(tmp_path)
        [held] = await held_by(tmp_path)
        await kill(on, held.owner.removeprefix("n1/"))
        await nats_server.restart()
        await check_once(on, "a")
        assert marker.exists(), "nobody came by the crash point"
        await until_empty(tmp_path)


async def test_whole_node_killed_while_the_server_is_away(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Supervisor and all actors are killed, and another roster comes back: what the old one held is delivered."""
    options = msgspec.json.encode(ConnectOptions(servers=[nats_server.url])).decode()
    command = [sys.executable, str(ROOT / "tests" / "children" / "node.py"), "n1", str(tmp_path), options, CORE]
    node = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert node.stdout
    pids = [node.pid, *msgspec.json.decode(await node.stdout.readline(), type=list[int])]
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        on = Stage(bus, cast("Supervisor", None), tmp_path / "ledger")
        await at_the_gate(on, "a")
        nats_server.kill()
        open_gate(on)
        await until_held(tmp_path)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await node.wait()
        await nats_server.restart()
        await bus.settle()
        path = outbox_of(tmp_path).path
        await asyncio.gather(*(Courier(bus, [path]).round() for _ in range(2)))
        assert await held_by(tmp_path) == []
        async with stage(nats_server.url, tmp_path, CORE, without=("waiter",)) as later:
            await check_once(later, "a")


async def test_node_stopped_in_order_while_the_server_is_away(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What it held lies on disk when it ends, and is delivered when it is started again."""
    async with stage(nats_server.url, tmp_path, CORE) as on:
        await at_the_gate(on, "a")
        nats_server.kill()
        open_gate(on)
        await until_held(tmp_path)
    assert [held.about for held in await held_by(tmp_path) if "completed" in held.subject] == ["default/a/gate:1"]
    await nats_server.restart()
    async with stage(nats_server.url, tmp_path, CORE) as on:
        await check_once(on, "a")
        await until_empty(tmp_path)


async def test_nothing_touches_the_disk_while_all_is_well(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A call that succeeds opens no outbox, and makes none."""
    async with stage(nats_server.url, tmp_path, CORE) as on:
        open_gate(on)
        await at_the_gate(on, "a")
        await check_once(on, "a")
        assert not (tmp_path / "data" / "outbox").exists()


# ---- one actor's results, in this process


@contextlib.asynccontextmanager
async def results(server: EmbeddedServer, outbox: Outbox | None) -> AsyncIterator[tuple[Bus, HeldResults]]:
    """Results held in ``outbox``, on a connection of their own."""
    async with await Bus.connect(ConnectOptions(servers=[server.url])) as bus:
        await ensure_streams(bus)
        held = HeldResults(bus, outbox, "n1/tool")
        yield bus, held
        await held.close()


def storing(bus: Bus, held: HeldResults, output: bytes, *calls: str) -> list[asyncio.Task[int]]:
    """Replies to these calls, on their way into the log."""
    events = [ReplyCompleted(job="j", call=call, output=msgspec.Raw(output)) for call in calls]
    appends = [prepare_kept(bus, Blobs(bus), "default", event, held) for event in events]
    return [asyncio.create_task(append.store()) for append in appends]


async def test_full_outbox(nats_server: EmbeddedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says that it is full, goes on with what is in memory, and puts it on disk once there is room."""
    outbox = Outbox(tmp_path / "n1.db", limit_messages=3)
    async with results(nats_server, outbox) as (bus, held):
        nats_server.kill()
        stores = storing(bus, held, b"1", *(f"x:{n}" for n in range(5)))
        await wait_until(lambda: len(held) == 5, DEADLINE_S)
        assert held.doing().startswith("holds 5 results until the server is back, 2 of them in memory only: the outbox")
        assert "the limits are" in caplog.text
        outbox.limit_messages = 10
        await wait_until(lambda: "memory" not in held.doing(), DEADLINE_S)
        await nats_server.restart()
        sequences = await asyncio.gather(*stores)
        events = await read_job(bus, Blobs(bus), "default", "j")
        assert sorted(r.event.call for r in events if isinstance(r.event, ReplyCompleted)) == [
            f"x:{n}" for n in range(5)
        ]
        assert len(set(sequences)) == 5 and not len(held) and not held.doing()
        assert await outbox.pending() == []


async def test_call_that_comes_to_another_replica(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Whoever gets a call again waits for the result that a living replica holds, and delivers a dead one's itself."""
    outbox, other = Outbox(tmp_path / "n1.db"), Outbox(tmp_path / "n1.db")
    async with results(nats_server, outbox) as (bus, held):
        await held.settle("default", "j", "x:1")
        assert not outbox.exists()
        alive = HeldResults(bus, other, "n1/other")
        config = (await bus.api(f"STREAM.INFO.{EVENTS}"))["config"]
        await bus.api(f"STREAM.UPDATE.{EVENTS}", config | {"max_msgs": 1})
        await asyncio.gather(*storing(bus, alive, b"1", "x:0"))
        stores = storing(bus, alive, b"1", "x:1", "x:2")
        await wait_until(lambda: len(alive) == 2, DEADLINE_S)
        settling = asyncio.create_task(held.settle("default", "j", "x:1"))
        await held.settle("default", "j", "x:3")
        assert not settling.done()
        await bus.api(f"STREAM.UPDATE.{EVENTS}", config)
        await asyncio.gather(settling, *stores)
        await bus.api(f"STREAM.UPDATE.{EVENTS}", config | {"max_msgs": 3})
        stores = storing(bus, alive, b"1", "x:4")
        await wait_until(lambda: len(alive) == 1, DEADLINE_S)
        stores[0].cancel()
        await asyncio.wait(stores)
        await other.close()  # as if that process had died
        await bus.api(f"STREAM.UPDATE.{EVENTS}", config)
        await held.settle("default", "j", "x:4")
        events = [r.event for r in await read_job(bus, Blobs(bus), "default", "j")]
        assert sorted(e.call for e in events if isinstance(e, ReplyCompleted)) == ["x:0", "x:1", "x:2", "x:4"]


async def test_big_result(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A result for the object store is held whole; somebody else delivers it, and readers see all of it."""
    outbox, output = Outbox(tmp_path / "n1.db"), msgspec.json.encode("x" * 400_000)
    async with results(nats_server, outbox) as (bus, held):
        nats_server.kill()
        [store] = storing(bus, held, output, "x:1")
        await wait_until(lambda: len(held) == 1, DEADLINE_S)
        store.cancel()
        await asyncio.wait({store})
        await outbox.close()  # as if this process had died
        await nats_server.restart()
        await bus.settle()
        assert (await Courier(bus, [outbox.path]).round()).delivered == 1
        [recorded] = await read_job(bus, Blobs(bus), "default", "j")
        assert isinstance(recorded.event, ReplyCompleted) and bytes(recorded.event.output) == output


async def test_log_without_room(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A log that is full is trouble like any other: results are on disk until it has room."""
    outbox = Outbox(tmp_path / "n1.db")
    async with results(nats_server, outbox) as (bus, held):
        config = (await bus.api(f"STREAM.INFO.{EVENTS}"))["config"]
        await bus.api(f"STREAM.UPDATE.{EVENTS}", config | {"max_msgs": 1})
        [first] = storing(bus, held, b"1", "x:1")
        await first
        [second] = storing(bus, held, b"1", "x:2")
        await wait_until(lambda: held.doing() == "holds 1 result until the server is back", DEADLINE_S)
        assert [one.about for one in await outbox.pending()] == ["default/j/x:2"]
        await bus.api(f"STREAM.UPDATE.{EVENTS}", config)
        assert await second > await first
        assert await outbox.pending() == []
