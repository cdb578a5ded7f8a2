"""Supervision as users see it: groups with real processes, what is given up, and orders to a node that runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.service import discover
from bus.system_events import ActorExited, ActorKilled, ActorsGivenUp, ActorStopped
from tests.natscli import NatsCli, find_nats_cli
from tests.nodes import RunningNode, town
from tests.rides import check_rides, keep_riding
from tests.waiting import wait_until

DEADLINE_S = 60.0


async def until_all_run(
    node: RunningNode, *, changed: set[str], before: dict[str, int | None]
) -> dict[str, int | None]:
    """Wait until all run again and those of ``changed`` have other processes; the processes then."""

    async def settled() -> dict[str, int | None]:
        actors = await node.actors()
        pids = {name: actor.pid for name, actor in actors.items()}
        moved = {name for name, pid in pids.items() if pid != before[name]}
        return pids if moved >= changed and all(a.state == "running" for a in actors.values()) else {}

    return await wait_until(settled, DEADLINE_S, what=lambda: node.log)


async def test_strategies_with_real_processes(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """rest_for_one takes what was declared later, one_for_all the whole group, and no other group is touched."""
    async with town(nats_server.url, tmp_path) as here:
        node = await here.node("n1", "--only", "first", "--only", "second", "--only", "third", "--only", "round_")
        before = await node.pids()
        assert list(before) == ["first-1", "second-1", "third-1", "round_-1", "round_-2", "gateway"]
        await node.kill("second-1")
        after = await until_all_run(node, changed={"second-1", "third-1"}, before=before)
        assert {name for name in before if before[name] != after[name]} == {"second-1", "third-1"}
        await node.kill("round_-2")
        last = await until_all_run(node, changed={"round_-1", "round_-2"}, before=after)
        assert {name for name in before if last[name] != after[name]} == {"round_-1", "round_-2"}
        exits = [e for e in await here.system_events("n1") if isinstance(e, ActorExited)]
        assert [(e.actor, e.expected) for e in exits] == [
            ("second-1", False), ("third-1", True), ("round_-2", False), ("round_-1", True),
        ]  # fmt: skip


async def test_what_was_given_up_is_shown_and_revived(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A crash loop is given up, the node is not healthy and says so, and one command brings it back."""
    async with town(nats_server.url, tmp_path) as here:
        here.switch("exit")
        node = await here.node("n1", "--only", "moody", "--only", "first", up=False)
        await wait_until(lambda: "is given up" in node.log, DEADLINE_S, what=lambda: node.log)
        status = await node.status()
        [given_up] = status.given_up
        assert not status.healthy
        assert (given_up.group, given_up.actors) == ("moods", ("moody-1",))
        assert "moody-1 ended with exit 3: restart 2 within 600 s, at most 1 are allowed" in given_up.reason
        code, out, _ = await here.cli("ps", "--check")
        assert code == 1
        assert "n1 has given up moody-1" in out
        assert (await here.cli("ps"))[0] == 0
        here.switch("exit", on=False)
        code, out, err = await here.cli("supervise", "restart", "moody", "--json")
        assert code == 0, err
        assert [actor["state"] for actor in json.loads(out)["actors"]] == ["running"]
        assert (await node.status()).healthy
        assert (await here.cli("ps", "--check"))[0] == 0
        assert [e.group for e in await here.system_events("n1") if isinstance(e, ActorsGivenUp)] == ["moods"]


async def test_a_wrong_configuration_is_given_up_at_once(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Exit 78 is not tried again: the group is given up with what the process said, and the others go on."""
    async with town(nats_server.url, tmp_path) as here:
        here.switch("wrong")
        node = await here.node("n1", "--only", "moody", "--only", "first", up=False)
        await wait_until(lambda: "is given up" in node.log, DEADLINE_S, what=lambda: node.log)
        [given_up] = (await node.status()).given_up
        assert "moody-1 cannot run as it is configured (exit 78)" in given_up.reason
        assert "moody has no key" in given_up.reason
        assert (await node.actors())["moody-1"].restarts == 0


async def test_orders_to_a_node(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Stop holds, start starts, restart changes the process, scale changes the number; each answers how it is then."""
    async with town(nats_server.url, tmp_path) as here:
        node = await here.node("n1", "--only", "round_", "--only", "quick", "--no-gateway")
        before = await node.pids()

        answer = await node.ask("stop", actor="round_-2")
        assert (answer["node"], answer["done"]) == ("n1", True)
        assert [(a["name"], a["state"]) for a in answer["actors"]] == [("round_-2", "stopped")]
        await node.kill("round_-1")  # a one_for_all group: the one that was stopped by hand stays so
        await wait_until(lambda: _is_running(node, "round_-1", before), DEADLINE_S)
        assert (await node.actors())["round_-2"].state == "stopped"
        assert (await node.status()).healthy
        assert [e.actor for e in await here.system_events("n1") if isinstance(e, ActorStopped)] == ["round_-2"]

        answer = await node.ask("start", actor="round_")
        assert {a["state"] for a in answer["actors"]} == {"running"}
        pids = await node.pids()
        answer = await node.ask("restart", actor="ring", wait_s=40)
        assert {a["name"]: a["pid"] != pids[a["name"]] for a in answer["actors"]} == {
            "round_-1": True,
            "round_-2": True,
        }

        answer = await node.ask("scale", component="quick", replicas=3)
        assert [a["name"] for a in answer["actors"]] == ["quick-1", "quick-2", "quick-3"]
        assert (await node.pids())["quick-1"] == before["quick-1"]
        answer = await node.ask("scale", component="quick", replicas=0, wait_s=40)
        assert answer["actors"] == []
        assert [a["name"] for a in (await node.ask("scale", component="quick", replicas=1))["actors"]] == ["quick-1"]
        [service] = await discover(here.bus, "supervisor")
        assert {e.subject for e in service.endpoints} == {
            f"sup.n1.{order}" for order in ("ps", "restart", "stop", "start", "scale", "drain")
        }


async def _is_running(node: RunningNode, name: str, before: dict[str, int | None]) -> bool:
    actor = (await node.actors())[name]
    return actor.state == "running" and actor.pid != before[name]


async def test_scaling_leaves_other_groups_alone(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Of two orders at the same moment both are carried out, and what was given up elsewhere stays given up."""
    async with town(nats_server.url, tmp_path) as here:
        here.switch("wrong")
        options = ("--only", "moody", "--only", "quick", "--only", "slow", "--no-gateway")
        node = await here.node("n1", *options, up=False)
        await wait_until(lambda: "is given up" in node.log, DEADLINE_S, what=lambda: node.log)
        await asyncio.gather(
            node.ask("scale", component="quick", replicas=3, wait_s=40),
            node.ask("scale", component="slow", replicas=2, wait_s=40),
            node.ask("scale", component="quick", replicas=2, wait_s=40),
        )
        actors = await node.actors()
        assert list(actors) == ["moody-1", "quick-1", "quick-2", "slow-1", "slow-2"]
        assert {name: actor.state for name, actor in actors.items() if actor.state != "running"} == {
            "moody-1": "given_up"
        }


async def test_wrong_orders_are_refused_with_what_would_be_right(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Names, numbers and bodies that cannot be meant are refused, and nothing is done."""
    wrong: list[tuple[str, bytes, str]] = [
        ("restart", b'{"actor": "qick-1"}', "did you mean 'quick-1'"),
        ("restart", b"", "missing required field `actor`"),
        ("stop", b'{"actor": "quick-1", "force": true}', "unknown field `force`"),
        ("stop", b"quick-1", "the request cannot be read"),
        ("start", b'{"actor": "quick-1", "wait_s": -1}', "wait_s is -1"),
        ("scale", b'{"component": "qick", "replicas": 2}', "did you mean 'quick'"),
        ("scale", b'{"component": "slow", "replicas": 2}', "no component 'slow'"),
        ("scale", b'{"component": "quick", "replicas": 100000}', "a number from 0 to"),
        ("drain", b'{"timeout_s": "soon"}', "timeout_s"),
    ]
    async with town(nats_server.url, tmp_path) as here:
        node = await here.node("n1", "--only", "quick", "--no-gateway")
        before = await node.pids()
        for order, body, said in wrong:
            with pytest.raises(UsageError) as refused:
                await node.ask_raw(order, body)
            assert said in f"{refused.value} {refused.value.hint}", order
        assert await node.pids() == before


async def test_the_command_line_finds_the_node(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A name on one node needs no --node; a name on several is refused with the nodes; unknown ones with a hint."""
    async with town(nats_server.url, tmp_path) as here:
        await asyncio.gather(
            here.node("n1", "--only", "quick", "--only", "first", "--no-gateway"),
            here.node("n2", "--only", "quick", "--no-gateway"),
        )
        code, out, err = await here.cli("--nats", here.url, "supervise", "stop", "first")
        assert code == 0, err
        assert "first-1" in out
        assert "stopped" in out
        code, _, err = await here.cli("supervise", "restart", "quick-1")
        assert code == 2
        assert "quick-1 is on 2 nodes: n1, n2" in err
        assert "--node n1" in err
        code, out, err = await here.cli("supervise", "scale", "quick", "2", "--node", "n2", "--json")
        assert code == 0, err
        assert [actor["name"] for actor in json.loads(out)["actors"]] == ["quick-1", "quick-2"]
        code, _, err = await here.cli("supervise", "start", "frist")
        assert (code, "did you mean 'first'" in err) == (2, True), err
        code, _, err = await here.cli("supervise", "start", "quick", "--node", "n3")
        assert (code, "no node 'n3'" in err) == (2, True), err
        here.env |= {"_CALLBOARD_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
        here.env["COMP_WORDS"] = "callboard supervise restart fi"
        assert (await here.cli())[1].split() == ["first", "first-1"]


async def test_orders_with_the_stock_nats_cli(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """No SDK is needed: nats req gives orders, nats micro finds who takes them."""
    nats = NatsCli(find_nats_cli(), nats_server.url, tmp_path)
    async with town(nats_server.url, tmp_path) as here:
        node = await here.node("n1", "--only", "quick", "--no-gateway")
        before = await node.pids()
        printed = await asyncio.to_thread(nats.run, "req", "--raw", "sup.n1.restart", '{"actor":"quick-1"}')
        answer = msgspec.json.decode(printed)
        assert [(a["name"], a["state"]) for a in answer["actors"]] == [("quick-1", "running")]
        assert (await node.pids())["quick-1"] != before["quick-1"]
        printed = await asyncio.to_thread(nats.run, "req", "sup.n1.stop", '{"actor":"qick-1"}')
        assert "did you mean" in printed
        assert "supervisor" in await asyncio.to_thread(nats.run, "micro", "ls")


async def test_a_stalled_actor_is_killed_for_a_reason(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What the watch finds is carried out by the tree: the reason is in the event and in ps."""
    import signal

    async with town(nats_server.url, tmp_path) as here:
        here.env["CALLBOARD_STALL_S"] = "3"
        node = await here.node("n1", "--only", "ride")
        before = await node.pids()
        await node.kill("host-1", signal.SIGSTOP)
        await wait_until(lambda: _is_running(node, "host-1", before), DEADLINE_S, what=lambda: node.log)
        assert (await node.actors())["host-1"].last_exit.startswith("killed: ")
        killed: list[Any] = [e for e in await here.system_events("n1") if isinstance(e, ActorKilled)]
        assert [(e.actor, e.cause, e.pid) for e in killed] == [("host-1", "stalled", before["host-1"])]


# ---- under load


async def test_scaling_under_load_loses_no_call(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Processes come and go while jobs run: every job is right, and every effect happened once."""
    async with town(nats_server.url, tmp_path) as here:
        node = await here.node("n1", "--only", "ride", "--only", "quick", "--only", "slow", "--no-gateway")
        scaled: list[int] = []
        loading = asyncio.create_task(keep_riding(here, until=lambda: len(scaled) == 4))
        await wait_until(lambda: len(here.effects()) >= 20, DEADLINE_S)
        for replicas in (3, 1, 4, 2):
            await node.ask("scale", component="slow", replicas=replicas, wait_s=40)
            await node.ask("scale", component="quick", replicas=replicas, wait_s=40)
            await node.ask("scale", component="ride", replicas=replicas, wait_s=40)
            scaled.append(replicas)
        await check_rides(here, await loading, {"n1"}, owners_may_return=True)
