"""A node's metrics: what Prometheus scrapes, right after what it is about has happened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bus import subjects
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.headers import JOB_ID
from bus.messages import encode
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.paths import DATA_DIR_VARIABLE
from bus.system_events import ActorKilled, BreakerClosed, BreakerHalfOpened, BreakerOpened
from store.log import read_job
from supervisor.child import ChildStatus
from supervisor.events import ChildExited, ChildKilled, ChildRestarting
from supervisor.heartbeat import Heartbeat, ModelBeat
from supervisor.metrics import families
from supervisor.metrics_server import MetricsServer, parse_address
from supervisor.status import NodeStatus, node_statuses
from supervisor.tally import Snapshot, Tally
from tests.anthropic_turns import Refuse, Say, Use
from tests.fake_anthropic import FakeAnthropic
from tests.stage import ROOT
from tests.waiting import wait_until

Samples = dict[tuple[str, ...], float]
ASKED = ModelBeat("anthropic", "claude-x", {"ok": 3, "rate_limited": 2}, 100, 50, 70, 0, 0.25, 12.5,
                  (0, 1, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0))  # fmt: skip


def parsed(text: str) -> Samples:
    """Every sample as {(name, label values sorted by label...): value}."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(url: str) -> Samples:
    """What a Prometheus server gets."""

    def get() -> str:
        with urllib.request.urlopen(url, timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    return parsed(await asyncio.to_thread(get))


@contextlib.asynccontextmanager
async def node_with_metrics(url: str, tmp_path: Path, target: str, *options: str) -> AsyncIterator[str]:
    """``callboard node`` as a process; gives the address that it prints."""
    argv = [sys.executable, "-m", "cli", "node", target, "--name", "n1", "--nats", url, "--metrics", "127.0.0.1:0"]
    env = {**os.environ, DATA_DIR_VARIABLE: str(tmp_path), "CALLBOARD_TEST_LEDGER": str(tmp_path / "ledger")}
    process = await asyncio.create_subprocess_exec(*argv, *options, env=env, cwd=ROOT, stderr=subprocess.PIPE)
    assert process.stderr is not None
    drain: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(60):
            while not (found := re.search(rb"metrics at (\S+)", await process.stderr.readline())):
                assert process.returncode is None
        drain = asyncio.create_task(process.stderr.read())
        yield found[1].decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 60)
        if drain:
            await drain


async def test_metrics_of_a_node(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A scrape right after a kill -9 shows the restart; one after a SIGSTOP shows the kill and its cause; breakers and
    pending messages are there, and the node is healthy throughout."""
    target = "tests.apps.stuck:app"
    async with (
        node_with_metrics(nats_server.url, tmp_path, target, "--only", "patient", "--only", "ask") as url,
        await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus,
    ):

        async def value(*key: str) -> float | None:
            return (await scrape(url)).get(key)

        async def all_beat() -> bool:
            known = await scrape(url)
            return all(("callboard_heartbeat_age_seconds", name, "n1") in known for name in ("patient-1", "host-1"))

        await wait_until(all_beat, 60)
        before = await scrape(url)
        assert before["callboard_node_healthy", "n1"] == 1
        assert before["callboard_actors", "n1", "running"] == 3
        assert before["callboard_actors", "n1", "given_up"] == 0
        assert before["callboard_actor_restarts_total", "patient-1", "n1"] == 0

        os.kill(await wait_until(lambda: serving_pid(bus, "patient-1"), 60), signal.SIGKILL)
        await wait_until(lambda: restarted(url, "patient-1", 1), 30)
        after = await scrape(url)
        assert after["callboard_actor_restarts_total", "host-1", "n1"] == 0
        assert after["callboard_actor_kills_total", "patient-1", "stalled", "n1"] == 0, (
            "it was not the node that killed"
        )

        pid = await wait_until(lambda: serving_pid(bus, "patient-1"), 60)
        os.kill(pid, signal.SIGSTOP)
        await wait_until(lambda: restarted(url, "patient-1", 2), 60)
        assert await value("callboard_actor_kills_total", "patient-1", "stalled", "n1") == 1
        assert await value("callboard_node_healthy", "n1") == 1

        log = await read_job(bus, Blobs(bus), "_system", "n1")
        [killed] = [recorded.event for recorded in log if isinstance(recorded.event, ActorKilled)]
        assert (killed.actor, killed.cause, killed.pid) == ("patient-1", "stalled", pid)

        opened = BreakerOpened(job="breakers", breaker="patient", reason="all failed", open_s=5)
        await bus.append(subjects.event("_system", "breakers", opened.kind), encode(opened))

        async def is_open() -> bool:
            return await value("callboard_breaker_state", "patient", "open") == 1

        await wait_until(is_open, 30)
        assert await value("callboard_breaker_transitions_total", "patient", "open") == 1

        async def asked() -> bool:
            return await value("callboard_consumer_pending", "tool-patient-v1", "n1", "EVENTS") == 0

        await wait_until(asked, 60)


async def test_calls_of_models(nats_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an agent has asked and used is in the metrics of its node, and the agent's process among its actors."""
    turns = [Say(tools=(Use("step", {"n": 1}),)), Refuse(529, retry_after="0.1"), Say("done")]
    target, options = "tests.apps.claude:app", ("--only", "think", "--only", "step")
    async with FakeAnthropic(turns) as fake, await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "a key")
        async with node_with_metrics(nats_server.url, tmp_path, target, *options) as url:
            assert await wait_until(lambda: serving_pid(bus, "think-1"), 60)
            await bus.append("jobs.default.think", b"{}", headers={JOB_ID: "t1"})

            async def counted() -> bool:
                samples = await scrape(url)
                model = {key[1:]: value for key, value in samples.items() if key[0] == "callboard_model_calls_total"}
                about = ("think-1", "claude-haiku-4-5", "n1")
                return model == {(*about, "ok", "anthropic"): 2, (*about, "overloaded", "anthropic"): 1}

            await wait_until(counted, 60)
            assert fake.count == 3


async def serving_pid(bus: Bus, actor: str) -> int:
    """The pid of an actor that has said so itself; 0 until then."""
    found = [status for node in await node_statuses(bus) for status in node.actors if status.name == actor]
    return (found[0].pid or 0) if found and found[0].doing else 0


async def restarted(url: str, actor: str, times: int) -> bool:
    """Whether that many restarts are shown."""
    return (await scrape(url))["callboard_actor_restarts_total", actor, "n1"] == times


# ---- pure


def test_tally() -> None:
    """Restarts by actor, kills by cause, and the state that each breaker came into last."""
    tally = Tally()
    for event in (
        ChildRestarting("a", 0.0, 1), ChildRestarting("a", 0.0, 2), ChildExited("a", 1, "exit 3", expected=False),
        ChildKilled("b", 2, "memory", "too much"), ChildKilled("b", 3, "memory", "too much"),
    ):  # fmt: skip
        tally.note(event)
    for breaker in (
        BreakerOpened(job="breakers", breaker="x", reason="", open_s=1), BreakerHalfOpened(job="breakers", breaker="x"),
        BreakerClosed(job="breakers", breaker="x"), BreakerOpened(job="breakers", breaker="y", reason="", open_s=1),
    ):  # fmt: skip
        tally.note_breaker(breaker)
    assert tally.restarts == {"a": 2}
    assert tally.kills == {("b", "memory"): 2}
    assert tally.breakers == {"x": "closed", "y": "open"}
    assert tally.transitions == {("x", "open"): 1, ("x", "half_open"): 1, ("x", "closed"): 1, ("y", "open"): 1}


def test_names_of_metrics() -> None:
    """They are a contract with dashboards: this is the list."""
    actor = ChildStatus(name="a-1", component="a", state="given_up")
    status = NodeStatus(node="n1", pid=1, started_at=datetime.now(UTC), healthy=False, actors=[actor])
    tally = Tally()
    tally.note_breaker(BreakerOpened(job="breakers", breaker="x", reason="", open_s=1))
    beats = {"a-1": Heartbeat(pid=1, doing="idle", handled=4, busy=1, models=(ASKED,))}
    found = list(families(Snapshot(status, tally, beats, {"a-1": 1.5}, {("JOBS", "job-a-normal"): 7})))
    samples = {(s.name, *sorted(s.labels.values())): s.value for family in found for s in family.samples}
    assert {name for name, *_ in samples} == {
        "callboard_node_healthy", "callboard_node_draining", "callboard_groups_given_up", "callboard_actors",
        "callboard_actor_restarts_total", "callboard_actor_kills_total", "callboard_heartbeat_age_seconds",
        "callboard_handled_total", "callboard_busy", "callboard_consumer_pending", "callboard_breaker_state",
        "callboard_breaker_transitions_total", "callboard_model_calls_total", "callboard_model_tokens_total",
        "callboard_model_cost_usd_total", "callboard_model_call_seconds_bucket", "callboard_model_call_seconds_count",
        "callboard_model_call_seconds_sum",
    }  # fmt: skip
    assert samples["callboard_node_healthy", "n1"] == 0
    assert samples["callboard_actors", "given_up", "n1"] == 1
    assert samples["callboard_heartbeat_age_seconds", "a-1", "n1"] == 1.5
    assert samples["callboard_handled_total", "a-1", "n1"] == 4
    assert samples["callboard_consumer_pending", "JOBS", "job-a-normal", "n1"] == 7
    model = ("a-1", "anthropic", "claude-x", "n1")
    assert samples["callboard_model_calls_total", *sorted((*model, "rate_limited"))] == 2
    assert samples["callboard_model_tokens_total", *sorted((*model, "cache_read"))] == 70
    assert samples["callboard_model_cost_usd_total", *model] == 0.25
    assert samples["callboard_model_call_seconds_bucket", "0.5", *model] == 0
    assert samples["callboard_model_call_seconds_bucket", "2", *model] == 4
    assert samples["callboard_model_call_seconds_bucket", "+Inf", *model] == 5
    assert samples["callboard_model_call_seconds_sum", *model] == 12.5
    assert all(family.documentation for family in found)


def test_address() -> None:
    """A port, with or without a host; what is none is refused with what would be right."""
    assert parse_address("9464") == ("0.0.0.0", 9464)
    assert parse_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert parse_address("[::1]:9464") == ("::1", 9464)
    for text in ("", "http", "host:", "70000", "-1", "1.5", "\u0663"):
        with pytest.raises(UsageError, match="is no address") as refused:
            parse_address(text)
        assert refused.value.path == "--metrics"


async def test_address_that_is_taken(server: EmbeddedServer) -> None:
    """It is refused with the address, and a loop that goes on serves the first."""
    status = NodeStatus(node="n1", pid=1, started_at=datetime.now(UTC))
    snapshot = Snapshot(status, Tally(), {}, {}, {})
    async with (
        await Bus.connect(ConnectOptions(servers=[server.url])) as bus,
        MetricsServer(bus, "127.0.0.1:0", Tally(), lambda: snapshot) as first,
    ):
        port = first.url.rpartition(":")[2].removesuffix("/metrics")
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}"):
            async with MetricsServer(bus, f"127.0.0.1:{port}", Tally(), lambda: snapshot):
                pass
        assert (await scrape(first.url))["callboard_node_healthy", "n1"] == 1
