"""Circuit breakers with real processes: what is shared, what waits, what fails at once, and what a death changes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.breakers.breaker_states import breaker_states, force
from actors.changes.job_retry import retry_job
from actors.jobs.requests import publish_wake
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import CallTool, JobCompleted, JobFailed, ReplyCompleted, ReplyFailed, Signal
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from bus.subjects import SYSTEM_WORKSPACE
from bus.system_events import BREAKERS_LOG, BreakerClosed, BreakerHalfOpened, BreakerOpened
from store.log import Recorded, append_unfenced, read_job
from supervisor.circuit import ForcedClosed, ForcedOpen
from tests.stage import Stage, stage
from tests.test_cli import Shell
from tests.waiting import wait_until

APP = "tests.apps.breaking:app"
DEADLINE_S = 60


class Mishap:
    """What the tools look at: files beside the ledger."""

    def __init__(self, on: Stage) -> None:
        self._on = on

    def _file(self, what: str) -> Path:
        return self._on.ledger.with_name(f"{self._on.ledger.name}.{what}")

    def begin(self, what: str = "broken") -> None:
        """From now on."""
        self._file(what).touch()

    def end(self, what: str = "broken") -> None:
        """No longer."""
        self._file(what).unlink()


async def moves(on: Stage, kind: type[Any], key: str = "") -> list[Recorded]:
    """What the log says of circuits."""
    log = await read_job(on.bus, on.blobs, SYSTEM_WORKSPACE, BREAKERS_LOG)
    return [r for r in log if isinstance(r.event, kind) and r.event.breaker.startswith(key)]


async def moved(on: Stage, kind: type[Any], times: int = 1) -> list[Recorded]:
    """Wait until circuits have moved so often."""

    async def enough() -> list[Recorded] | None:
        found = await moves(on, kind)
        return found if len(found) >= times else None

    found = await wait_until(enough, DEADLINE_S, what=f"{times} {kind.__name__}")
    assert found is not None
    return found


async def ask(on: Stage, tool: str, jobs: list[str]) -> None:
    """Submit jobs of one call."""
    for job in jobs:
        await on.submit("ask", job, {"tool": tool})


async def all_done(on: Stage, jobs: list[str]) -> None:
    """Wait until every job has returned."""
    for job in jobs:
        assert isinstance(await on.end(job, deadline_s=DEADLINE_S), JobCompleted)


def attempts(on: Stage, became: str) -> list[str]:
    """The lines of the ledger with that ending."""
    return [line for line in on.effects() if line.endswith(f" {became}")]


async def until_closed(on: Stage) -> None:
    """Give the prober calls to probe with: others may have done all there was, before they heard of the circuit."""
    count = 0

    async def closed() -> bool:
        nonlocal count
        count += 1
        await ask(on, "shaky", [f"more-{count}"])
        await on.end(f"more-{count}", deadline_s=DEADLINE_S)
        return bool(await moves(on, BreakerClosed))

    await wait_until(closed, DEADLINE_S)


# ---- a tool


async def test_calls_wait_while_the_circuit_is_open(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What fails is left alone but for one probe at a time; when it works again every call is done."""
    async with stage(nats_server.url, tmp_path, APP, only=("shaky", "ask")) as on:
        mishap = Mishap(on)
        mishap.begin()
        early, late = [f"early-{n}" for n in range(6)], [f"late-{n}" for n in range(6)]
        await ask(on, "shaky", early)
        (opened,) = await moved(on, BreakerOpened)
        assert opened.event.breaker == "tool.shaky.v1"  # type: ignore[union-attr]
        before = len(attempts(on, "broken"))
        await ask(on, "shaky", late)
        await moved(on, BreakerOpened, 3)
        mishap.end()
        await moved(on, BreakerClosed)
        await all_done(on, early + late)
        (closed,) = await moves(on, BreakerClosed)
        opened_again = len(await moves(on, BreakerOpened)) - 1
        assert opened_again >= 2
        assert len(attempts(on, "broken")) == before + opened_again, "one attempt for each probe that failed"
        assert len(await moves(on, BreakerHalfOpened)) == opened_again + 1
        replies = [r for job in early + late for r in await on.events(job) if isinstance(r.event, ReplyCompleted)]
        assert sum(r.sequence < closed.sequence for r in replies if not r.event.op) <= 1  # type: ignore[union-attr]
        assert len(attempts(on, "ok")) == 12
        lengths = [r.event.open_s for r in await moves(on, BreakerOpened)]  # type: ignore[union-attr]
        assert lengths[:4] == [1.0, 2.0, 2.0, 2.0][: len(lengths)]


async def test_replicas_trip_together(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Three failures in each of two processes are six failures of the component: one opening, and nobody takes more."""
    async with stage(nats_server.url, tmp_path, APP, only=("pair", "ask"), replicas={"pair": 2}) as on:
        mishap = Mishap(on)
        mishap.begin()
        await ask(on, "pair", [f"job-{n}" for n in range(6)])
        await wait_until(lambda: len(attempts(on, "began")) == 6, DEADLINE_S)
        shares = Counter(line.split()[1] for line in attempts(on, "began"))
        assert sorted(shares.values()) == [3, 3]
        mishap.begin("open")
        (opened,) = await moved(on, BreakerOpened)
        assert isinstance(opened.event, BreakerOpened)
        assert (opened.event.calls, opened.event.failures) == (6, 6)
        mishap.end()
        await ask(on, "pair", ["next"])
        await all_done(on, ["next"])
        await moved(on, BreakerClosed)
        assert [len(await moves(on, kind)) for kind in (BreakerOpened, BreakerHalfOpened, BreakerClosed)] == [1, 1, 1]


async def test_prober_that_is_killed_is_succeeded(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Kill -9 in the middle of the probe: another replica probes once the lease has run out, and closes."""
    async with stage(nats_server.url, tmp_path, APP, only=("slow_probe", "ask"), replicas={"slow_probe": 2}) as on:
        await wait_until(lambda: all(s.state == "running" for s in on.supervisor.statuses()))
        await ask(on, "slow_probe", ["first"])
        await wait_until(lambda: attempts(on, "began"), DEADLINE_S)
        Mishap(on).begin("open")
        await all_done(on, ["first"])
        Mishap(on).end("open")
        await force(on.bus, "tool.slow_probe.v1", ForcedOpen("test", open_s=0.3))
        await moved(on, BreakerHalfOpened)
        await ask(on, "slow_probe", ["probe"])
        await wait_until(lambda: len(attempts(on, "began")) == 2, DEADLINE_S)
        os.kill(int(attempts(on, "began")[1].split()[1]), signal.SIGKILL)
        await wait_until(lambda: len(attempts(on, "began")) == 3, DEADLINE_S)
        Mishap(on).begin("open")
        await all_done(on, ["probe"])
        await moved(on, BreakerClosed)
        probers = [r.event.by for r in await moves(on, BreakerHalfOpened)]  # type: ignore[union-attr]
        assert len(set(probers)) == len(probers) == 2


async def test_prober_that_is_stopped_is_succeeded(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """SIGSTOP in the middle of the probe: another one probes and closes; what the first says later changes nothing."""
    async with stage(nats_server.url, tmp_path, APP, only=("slow_probe", "ask"), replicas={"slow_probe": 2}) as on:
        await wait_until(lambda: all(s.state == "running" for s in on.supervisor.statuses()))
        await force(on.bus, "tool.slow_probe.v1", ForcedOpen("test", open_s=0.3))
        await ask(on, "slow_probe", ["probe"])
        await wait_until(lambda: attempts(on, "began"), DEADLINE_S)
        stopped = int(attempts(on, "began")[0].split()[1])
        os.kill(stopped, signal.SIGSTOP)
        try:
            Mishap(on).begin("open")
            await moved(on, BreakerClosed)
            await all_done(on, ["probe"])
        finally:
            os.kill(stopped, signal.SIGCONT)
        await ask(on, "slow_probe", [f"next-{n}" for n in range(5)])
        await all_done(on, [f"next-{n}" for n in range(5)])
        assert len(await moves(on, BreakerClosed)) == 1
        assert len({r.event.by for r in await moves(on, BreakerHalfOpened)}) == 2  # type: ignore[union-attr]


# ---- a caller that does not wait


async def test_refusal_is_recorded_and_replayed(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A call that would not wait fails without a command; after kill -9 of the host the job sees the same failure."""
    async with stage(
        nats_server.url, tmp_path, APP, only=("shaky", "hurry"), env={"CALLBOARD_PARK_AFTER_S": "60"}
    ) as on:
        await force(on.bus, "tool.shaky.v1", ForcedOpen("test", open_s=600))
        await on.submit("hurry", "hurried", {"tool": "shaky"})

        async def refused() -> list[ReplyFailed]:
            return [r.event for r in await on.events("hurried") if isinstance(r.event, ReplyFailed)]

        (refusal,) = await wait_until(refused, DEADLINE_S)
        assert (refusal.call, refusal.op, refusal.failure.code) == ("shaky:1", "tool", "circuit_open")
        host = next(s.name for s in on.supervisor.statuses() if "shaky" not in s.name)
        os.kill(on.pid(host), signal.SIGKILL)
        await force(on.bus, "tool.shaky.v1", ForcedClosed("test"))
        await append_unfenced(on.bus, on.blobs, "default", Signal(job="hurried", name="go"))
        await publish_wake(on.bus, "default", "hurry", "hurried", "signal.go")
        end = await on.end("hurried", deadline_s=DEADLINE_S)
        assert isinstance(end, JobCompleted)
        assert msgspec.json.decode(end.output) == ["circuit_open True True tool.shaky.v1", "got 1"]
        commands = [r.event.call for r in await on.events("hurried") if isinstance(r.event, CallTool)]
        assert commands == ["shaky:2"]
        assert len(attempts(on, "ok")) == 1


async def test_job_that_was_refused_can_be_retried(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The job failed over a call that was never given out; retried, it gives it out."""
    async with stage(nats_server.url, tmp_path, APP, only=("shaky", "strict")) as on:
        await force(on.bus, "tool.shaky.v1", ForcedOpen("test"))
        await on.submit("strict", "refused", {"tool": "shaky"})
        end = await on.end("refused", deadline_s=DEADLINE_S)
        assert isinstance(end, JobFailed)
        assert end.failure.code == "circuit_open"
        await force(on.bus, "tool.shaky.v1", ForcedClosed("test"))
        await retry_job(on.bus, on.blobs, "default", "refused", by="test")

        async def done() -> bool:
            return any(isinstance(r.event, JobCompleted) for r in await on.events("refused"))

        await wait_until(done, DEADLINE_S)
        assert len(attempts(on, "ok")) == 1


# ---- a dependency


async def test_dependency_is_shared_by_three_tools(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Failures of two tools keep the third one out; then one block at a time probes, and all calls are done."""
    tools = ("bill", "refund", "invoice")
    async with stage(nats_server.url, tmp_path, APP, only=(*tools, "ask")) as on:
        mishap = Mishap(on)
        mishap.begin()
        failing = [f"{tool}-{n}" for tool in tools[:2] for n in range(2)]
        for job in failing:
            await ask(on, job.partition("-")[0], [job])
        (opened,) = await moved(on, BreakerOpened)
        assert isinstance(opened.event, BreakerOpened)
        assert opened.event.breaker == "dep.billing-api"
        await ask(on, "invoice", ["invoice-0"])
        await wait_until(lambda: attempts(on, "refused dep.billing-api"), DEADLINE_S)
        mishap.end()
        await all_done(on, [*failing, "invoice-0"])
        await moved(on, BreakerClosed)
        assert all(not line.startswith("invoice") for line in attempts(on, "broken"))
        broken = [line for line in on.effects() if line.endswith((" broken", " ok"))]
        assert Counter(line.split()[-1] for line in broken)["ok"] == len(failing) + 1


# ---- by hand


async def test_forced_states(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What a person opens stays open until a person closes it; both are on the record, and the list says so."""
    async with stage(nats_server.url, tmp_path, APP, only=("shaky", "ask")) as on:
        await ask(on, "shaky", ["before"])
        await all_done(on, ["before"])
        await force(on.bus, "tool.shaky.v1", ForcedOpen("ann", reason="maintenance"))
        (row,) = await breaker_states(on.bus)
        assert (row.key, row.state, row.until, row.reason, row.by, row.forced) == (
            "tool.shaky.v1", "open", None, "maintenance", "ann", True
        )  # fmt: skip
        await ask(on, "shaky", ["held"])

        async def called() -> bool:
            return any(isinstance(r.event, CallTool) for r in await on.events("held"))

        await wait_until(called, DEADLINE_S)
        assert len(on.effects()) == 1
        await force(on.bus, "tool.shaky.v1", ForcedClosed("ann"))
        await all_done(on, ["held"])
        (closed,) = await moves(on, BreakerClosed)
        assert isinstance(closed.event, BreakerClosed)
        assert (closed.event.by, closed.event.forced) == ("ann", True)
        (row,) = await breaker_states(on.bus)
        assert row.state == "closed"
        with pytest.raises(UsageError, match="is no circuit"):
            await force(on.bus, "tool.shaky", ForcedClosed("ann"))


async def test_bucket_that_is_deleted_holds_nobody_up(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Without the bucket calls go on; it is made anew when it is needed, and then no circuit is open."""
    async with stage(nats_server.url, tmp_path, APP, only=("shaky", "ask")) as on:
        await ask(on, "shaky", ["before"])
        await all_done(on, ["before"])
        await on.bus.api("STREAM.DELETE.KV_breakers")
        await ask(on, "shaky", ["without"])
        await all_done(on, ["without"])
        mishap = Mishap(on)
        mishap.begin()
        await ask(on, "shaky", [f"failing-{n}" for n in range(6)])
        await moved(on, BreakerOpened)
        await on.bus.api("STREAM.DELETE.KV_breakers")
        mishap.end()
        await ask(on, "shaky", ["after"])
        await all_done(on, ["after"])


async def test_server_killed_while_the_circuit_is_open(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The state is in the store: after kill -9 of the server the circuit is probed, and all calls are done."""
    async with stage(nats_server.url, tmp_path, APP, only=("shaky", "ask"), replicas={"shaky": 2}) as on:
        mishap = Mishap(on)
        mishap.begin()
        jobs = [f"job-{n}" for n in range(6)]
        await ask(on, "shaky", jobs)
        await moved(on, BreakerOpened)
        nats_server.kill()
        mishap.end()
        await nats_server.restart()
        await on.bus.settle()
        await all_done(on, jobs)
        await until_closed(on)


def test_command_line(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The list, opening and closing by hand, as a table and as JSON; wrong keys are refused with a hint."""
    shell = Shell(nats_server.url, tmp_path)
    assert shell("breakers") == (0, "no circuit was ever open\n", "")
    code, _, err = shell("breakers", "open", "dep.billing-api")
    assert code == 2
    assert "start a node" in err
    asyncio.run(make_streams(nats_server.url))
    code, out, err = shell("breakers", "open", "dep.billing-api", "--reason", "maintenance")
    assert (code, err) == (0, "")
    assert "maintenance" in out
    (row,) = shell.json("breakers", "--json")
    assert (row["key"], row["state"], row["until"], row["forced"]) == ("dep.billing-api", "open", None, True)
    code, out, _ = shell("breakers")
    assert code == 0
    assert "dep.billing-api  open" in out
    assert "1 circuit, 1 not closed" in out
    assert shell.json("breakers", "close", "dep.billing-api", "--json")["state"] == "closed"
    assert shell.json("--nats", nats_server.url, "breakers", "--json")[0]["state"] == "closed"
    assert shell.json("breakers", "open", "tool.quote.v1", "--for", "60", "--json")["until"] is not None
    code, _, err = shell("breakers", "close", "quote")
    assert code == 2
    assert "'quote' is no circuit" in err


async def make_streams(url: str) -> None:
    """As the first node does."""
    async with await Bus.connect(ConnectOptions(servers=[url])) as bus:
        await ensure_streams(bus)
