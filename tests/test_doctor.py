"""The doctor finds what is wrong, says what to do about it, and changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.breakers.breaker_states import BreakerState, force
from actors.console.finding_page import finding_page
from actors.console.node_page import node_page
from actors.console.page import plain_lines
from actors.doctor.agent_findings import open_circuits, sandbox_finding, warnings_of
from actors.doctor.doctor import (
    account_findings,
    clock_finding,
    consumer_findings,
    examine,
    stream_findings,
    unserved,
)
from actors.doctor.finding import Finding, worst
from actors.doctor.permissions import publish_probes, subscribe_probes
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.options import ConnectOptions
from bus.streams import EVENTS, JOBS, Limits, ensure_consumer, ensure_streams, wanted
from supervisor.circuit import ForcedOpen
from supervisor.status import node_statuses
from tests.waiting import wait_until
from tests.whole_node import whole_node

T0 = datetime(2026, 1, 2, 12, tzinfo=UTC)


def options_for(server: EmbeddedServer, **more: Any) -> ConnectOptions:
    """How to reach a server of a test."""
    return ConnectOptions(servers=[server.url], **more)


def of(findings: list[Finding], what: str) -> list[Finding]:
    """The findings about one thing."""
    return [finding for finding in findings if finding.what == what]


async def snapshot(bus: Bus) -> list[Any]:
    """Everything of the streams and consumers that a doctor could have changed."""
    states: list[Any] = []
    for name in (JOBS, EVENTS, "KV_registry", "KV_breakers"):
        info = await bus.api(f"STREAM.INFO.{name}")
        states.append((info["config"], info["state"]))
        states.append([c["name"] for c in (await bus.api(f"CONSUMER.LIST.{name}"))["consumers"] or []])
    return states


async def test_a_healthy_server_is_well_and_stays_as_it_is(nats_server: EmbeddedServer) -> None:
    """Everything is looked at, nothing is complained of, and nothing is written, made or taken."""
    async with await Bus.connect(options_for(nats_server)) as bus:
        await ensure_streams(bus)
        before = await snapshot(bus)
        findings = await examine(options_for(nats_server))
        assert await snapshot(bus) == before
    findings = [finding for finding in findings if finding.what != "python sandbox"]  # which is the machine's
    assert worst(findings) == "ok", findings
    looked_at = {finding.what for finding in findings}
    assert looked_at >= {
        "server", "message size", "JetStream", "account: disk", "stream JOBS", "stream EVENTS", "stream KV_registry",
        "consumers", "clock", "permissions", "actors", "circuits",
    }  # fmt: skip
    (permissions,) = of(findings, "permissions")
    tried = len(publish_probes("default")) + len(subscribe_probes("default"))
    assert permissions.detail == f"{tried} subjects tried, none refused"


async def test_an_empty_server_lacks_the_streams(nats_server: EmbeddedServer) -> None:
    """A server that nobody has used yet is fine but for the streams, which the first node makes."""
    findings = await examine(options_for(nats_server))
    assert worst(findings) == "warn"
    assert [f.level for f in of(findings, "stream EVENTS")] == ["warn"]
    assert "first node" in of(findings, "stream EVENTS")[0].advice


async def test_no_server_is_a_finding_with_advice() -> None:
    """Nobody listens there: what was tried, and what to start."""
    (finding,) = await examine(ConnectOptions(servers=["nats://127.0.0.1:1"]), timeout_s=0.5)
    assert finding.level == "fail"
    assert "127.0.0.1:1" in finding.detail
    assert "callboard up" in finding.advice


async def test_jetstream_that_is_off_is_found() -> None:
    """Without JetStream nothing works, and the advice says how to turn it on."""
    async with await EmbeddedServer.start(jetstream=False) as server:
        findings = await examine(options_for(server))
    (finding,) = of(findings, "JetStream")
    assert finding.level == "fail"
    assert "-js" in finding.advice


async def test_a_small_message_size_is_found() -> None:
    """A server that takes less than an event may have is unfit."""
    async with await EmbeddedServer.start(config="max_payload: 64KB\n") as server:
        findings = await examine(options_for(server))
    (finding,) = of(findings, "message size")
    assert finding.level == "fail"
    assert "max_payload" in finding.advice


async def test_refused_permissions_are_named_one_by_one() -> None:
    """Each subject that the broker refuses this user, and what it is needed for."""
    config = """
    authorization { users: [
      {user: boss, password: b},
      {user: guest, password: g, permissions: {
        publish: {allow: [">"], deny: ["jobs.>", "$JS.API.CONSUMER.CREATE.JOBS.>"]}, subscribe: {deny: ["events.>"]}}}
    ]}
    """
    async with await EmbeddedServer.start(config=config) as server:
        async with await Bus.connect(options_for(server, user="boss", password="b")) as bus:
            await ensure_streams(bus)
        findings = await examine(options_for(server, user="guest", password="g"), workspace="shop")
    refused = of(findings, "permissions")
    assert {finding.detail for finding in refused} == {
        "this user may not publish to jobs.shop.callboard-doctor",
        "this user may not publish to $JS.API.CONSUMER.CREATE.JOBS.callboard-doctor",
        "this user may not subscribe to events.shop.callboard-doctor.>",
    }
    assert {finding.level for finding in refused} == {"fail"}
    assert any("submit jobs" in finding.advice for finding in refused)


async def test_wrong_credentials_are_found() -> None:
    """A refused user is told which settings to check."""
    async with await EmbeddedServer.start(config="authorization {user: a, password: b}\n") as server:
        (finding,) = await examine(options_for(server, user="a", password="wrong"))
    assert finding.level == "fail"
    assert "creds" in finding.advice


async def test_work_that_nobody_takes_is_found(nats_server: EmbeddedServer) -> None:
    """Calls without an actor, and requests for a workflow that no node has."""
    async with await Bus.connect(options_for(nats_server)) as bus:
        await ensure_streams(bus)
        await ensure_consumer(bus, JOBS, "job-order-normal", ["jobs.*.order", "jobs.*.order.normal"], ack_wait_s=30)
        await bus.append("jobs.shop.order", b"{}")
        await bus.append("jobs.shop.ordr", b"{}")
        await bus.append("jobs.shop.ordr.high", b"{}")
        findings = await examine(options_for(nats_server))
    (consumer,) = of(findings, "consumer job-order-normal")
    assert consumer.level == "warn"
    assert "1 message waiting" in consumer.detail
    assert "workflow order" in consumer.advice
    (requests,) = of(findings, "requests")
    assert requests.detail == "2 requests for workflow ordr, which nobody serves"


async def test_a_foreign_stream_of_our_name_is_found(nats_server: EmbeddedServer) -> None:
    """A stream that means something else is a failure with its differences."""
    async with await Bus.connect(options_for(nats_server)) as bus:
        await bus.api("STREAM.CREATE.EVENTS", {"name": "EVENTS", "subjects": ["log.>"], "retention": "interest"})
        findings = await examine(options_for(nats_server))
    (finding,) = of(findings, "stream EVENTS")
    assert finding.level == "fail"
    assert "retention" in finding.detail


async def test_what_keeps_agents_from_working_is_found(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A key that an agent's process lacks, which ps shows too; a circuit of a provider; a bucket that is not there."""
    async with await Bus.connect(options_for(nats_server)) as bus:
        await ensure_streams(bus)
        await force(bus, "dep.model-anthropic", ForcedOpen(by="ann", reason="529 all day"))
        env = {"ANTHROPIC_API_KEY": ""}
        async with whole_node(nats_server.url, tmp_path, "n1", "tests.apps.keyless:app", env=env):

            async def warnings() -> list[str]:
                return [w for n in await node_statuses(bus) for actor in n.actors for w in actor.warnings]

            (warning,) = await wait_until(warnings, 60)
            assert "agent mute cannot ask its model" in warning and "ANTHROPIC_API_KEY" in warning
            page = "\n".join(plain_lines(node_page(await node_statuses(bus), datetime.now(UTC))))
            await bus.api("STREAM.DELETE.KV_budgets")
            findings = await examine(options_for(nats_server))
    assert "n1/mute-1: agent mute cannot ask its model" in page
    (actor,) = of(findings, "actor n1/mute-1")
    assert (actor.level, actor.detail) == ("warn", warning)
    (circuit,) = of(findings, "circuit dep.model-anthropic")
    assert circuit.detail == "open: 529 all day; agents that ask this model wait"
    assert of(findings, "stream KV_budgets")[0].level == "warn"
    assert of(findings, "python sandbox")


# ---- the pure parts


def test_what_agents_lack_by_itself() -> None:
    """Circuits that are open, those of tools too; a sandbox that keeps no file from a program."""
    states = [BreakerState(key=f"tool.t{n}.v1", state=state) for n, state in enumerate(("closed", "half_open", "open"))]
    (found,) = open_circuits(states)
    assert (found.level, found.what) == ("warn", "circuit tool.t2.v1") and "calls are held back" in found.detail
    assert [one.level for one in open_circuits(states[:2])] == ["ok"]
    assert [one.level for one in warnings_of([])] == ["ok"]
    assert sandbox_finding("landlock", "landlock+seccomp+rlimits").level == "ok"
    weak = sandbox_finding("rlimits", "rlimits")
    assert weak.level == "warn" and "can read the node's files" in weak.detail and weak.advice


@pytest.mark.parametrize(("used", "level"), [(0, "ok"), (79, "ok"), (80, "warn"), (95, "fail"), (200, "fail")])
def test_a_disk_that_fills_up(used: int, level: str) -> None:
    """Nearly full is a warning, all but full a failure."""
    account = {"storage": used, "streams": 1, "consumers": 1, "limits": {"max_storage": 100, "max_streams": -1}}
    disk, streams, _ = account_findings(account)
    assert disk.level == level
    assert (streams.level, streams.detail) == ("ok", "1, no limit")


def test_an_account_with_tiers_is_looked_at_tier_by_tier() -> None:
    """Limits may differ by the number of replicas."""
    tier = {"storage": 99, "limits": {"max_storage": 100}}
    findings = account_findings({"tiers": {"R1": tier, "R3": {"storage": 0}}})
    assert [f.what for f in findings if f.level == "fail"] == ["account R1: disk"]


def test_a_stream_near_its_limit() -> None:
    """A full EVENTS stream makes every writer wait, so it is told before."""
    want = next(w for w in wanted(Limits()) if w["name"] == EVENTS)
    info = {"config": want | {"max_bytes": 1000}, "state": {"messages": 1, "bytes": 960}}
    assert [f.level for f in stream_findings(want, info)] == ["ok", "fail"]
    lacking = {"config": {**want, "allow_direct": False}, "state": {"messages": 1, "bytes": 9}}
    assert [f.level for f in stream_findings(want, lacking)] == ["warn", "ok"]


def consumer(**changes: Any) -> dict[str, Any]:
    """An entry of CONSUMER.LIST of a consumer that works."""
    entry = {
        "name": "tool-send-mail-v1", "stream_name": EVENTS, "num_waiting": 1, "num_pending": 0, "num_ack_pending": 0,
        "config": {"ack_policy": "explicit", "max_ack_pending": 10},
    }  # fmt: skip
    return entry | changes


@pytest.mark.parametrize(
    ("changes", "level", "word"),
    [
        ({}, None, ""),
        ({"num_pending": 5, "num_waiting": 0, "num_ack_pending": 3}, None, ""),
        ({"num_pending": 5, "num_waiting": 0}, "warn", "tool send-mail v1"),
        ({"paused": True}, "warn", "resume"),
        ({"num_ack_pending": 10}, "fail", "acknowledged"),
        ({"num_redelivered": 2}, "warn", "callboard ps"),
        ({"num_pending": 5, "num_waiting": 0, "config": {"ack_policy": "none"}}, None, ""),
    ],
)
def test_consumers(changes: dict[str, Any], level: str | None, word: str) -> None:
    """A busy consumer is fine, one that nobody pulls, that is paused, choked or redelivers is not."""
    findings = consumer_findings(consumer(**changes))
    assert [finding.level for finding in findings] == ([level] if level else [])
    assert all(word in finding.advice for finding in findings)


def test_requests_that_no_filter_covers() -> None:
    """Counted by workflow over workspaces and priorities; a filter with '>' covers all below it."""
    counts = {"jobs.a.order": 1, "jobs.b.order.high": 2, "jobs.a.mail": 4, "jobs.odd": 8}
    assert unserved(counts, ["jobs.*.order", "jobs.*.order.normal"]) == {"order": 2, "mail": 4, "jobs.odd": 8}
    assert unserved(counts, ["jobs.>"]) == {}
    assert unserved(counts, []) == {"order": 3, "mail": 4, "jobs.odd": 8}


@pytest.mark.parametrize(
    ("server_s", "level", "word"),
    [
        (0.5, "ok", "agrees"),
        (-0.9, "ok", "agrees"),
        (4, "warn", "behind"),
        (-5, "warn", "ahead of"),
        (90, "fail", "behind"),
    ],
)
def test_the_clock(server_s: float, level: str, word: str) -> None:
    """What the way of the message may explain is no difference."""
    finding = clock_finding(T0, T0 + timedelta(seconds=server_s), T0 + timedelta(seconds=1))
    assert finding.level == level
    assert word in finding.detail


def test_the_page_has_what_is_wrong_last_with_advice() -> None:
    """The eye ends at what has to be done."""
    findings = [
        Finding("fail", "disk", "full", "buy one"),
        Finding("ok", "server", "fine"),
        Finding("warn", "clock", "off"),
    ]
    assert plain_lines(finding_page(findings)) == [
        "ok    server: fine", "warn  clock: off", "fail  disk: full", "      -> buy one", "", "1 failure, 1 warning",
    ]  # fmt: skip
    assert plain_lines(finding_page([Finding("ok", "server", "fine")]))[-1] == "all is well"
