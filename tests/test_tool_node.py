"""A node apart that runs one tool, under a user of the server that may do that and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from actors.clients.client import Client
from bus.connection import Bus, Message
from bus.embedded import EmbeddedServer
from bus.errors import PermissionRefused
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.service import ask
from bus.streams import EVENTS, JOBS, ensure_consumer, ensure_streams
from bus.subjects import call_filter
from supervisor.node import node_statuses
from tests.test_docs import PASSWORDS, end
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
START_S = 60.0
REFUSED = (
    "jobs.shop.order",
    "timers.shop.j.sleep",
    "log.shop.j.call.tool.quote.v1",
    "log.shop.j.job.completed",
    "log.shop.j.job.owned",
    "log.shop.j.signal.approve",
    "log.shop.j.approval.answered",
    "log._system.n1.node.stopped",
    "$KV.registry.tool.ship.1.0.0",
    "$KV.workflows.order",
    "$KV.duties.leader",
)


def _node(server: EmbeddedServer, folder: Path, user: str, password: str, *arguments: str) -> subprocess.Popen[bytes]:
    surroundings = {"NATS_URL": server.url, "NATS_USER": user, "NATS_PASSWORD": password, "PYTHONPATH": str(ROOT),
                    "CALLBOARD_DATA_DIR": str(folder / f"data-{user}")}  # fmt: skip
    command = [sys.executable, "-m", "cli", "node", "examples.shop:app", *arguments]
    with (folder / f"{user}.log").open("wb") as log:
        return subprocess.Popen(command, env={**os.environ, **surroundings}, cwd=folder, stdout=log, stderr=log)


def _user(server: EmbeddedServer, user: str, password: str, inbox: str) -> ConnectOptions:
    return ConnectOptions(servers=[server.url], user=user, password=password, inbox_prefix=f"_INBOX.{inbox}")


async def test_a_node_of_one_tool_serves_it_and_is_refused_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With deploy/nats.conf user ``tools`` answers calls of its tool, by jobs and direct; it gets no other's."""
    for variable, value in PASSWORDS.items():
        monkeypatch.setenv(variable, value)
    text = (ROOT / "deploy" / "nats.conf").read_text()
    config = re.sub(r"^ *(port|http|store_dir):.*$", "", text, flags=re.MULTILINE)
    async with await EmbeddedServer.start(config=config) as server:
        admin = ConnectOptions(servers=[server.url], user="admin", password="admin-secret")
        async with await Bus.connect(admin) as bus:
            await ensure_streams(bus)
            await Blobs(bus).put(b"makes the bucket")
            nodes = [
                _node(server, tmp_path, "n1", "node-secret", "--name", "n1", "--except", "quote"),
                _node(server, tmp_path, "tools", "tools-secret", "--name", "t1", "--only", "quote", "--no-gateway"),
            ]
            try:
                await _serves(server, bus)
                async with await Bus.connect(_user(server, "tools", "tools-secret", "t1")) as tools:
                    await _is_refused(tools, server)
            finally:
                for node in nodes:
                    await asyncio.to_thread(end, node)
    said = (tmp_path / "tools.log").read_text()
    assert "ermission" not in said, said


async def _serves(server: EmbeddedServer, bus: Bus) -> None:
    async def are_up() -> bool:
        statuses = await node_statuses(bus, wait_s=0.2)
        return len(statuses) == 2 and all(actor.doing for node in statuses for actor in node.actors)

    await wait_until(are_up, START_S)
    client = await Bus.connect(_user(server, "shop", "client-secret", "shop"))
    async with Client(client, "shop", owns_bus=True) as shop:
        job = await shop.submit("order", sku="A1", packing_s=0)
        assert (await job.result(START_S))["total"] == 19.5
    assert b"19.5" in await ask(bus, "tool.quote.v1.call", b'{"sku":"A1"}')


async def _is_refused(tools: Bus, server: EmbeddedServer) -> None:
    """What another tool is given, what jobs are told, and what jobs and nodes say of themselves."""
    for subject in REFUSED:
        with pytest.raises(PermissionRefused):
            await tools.append(subject, b"{}")
    asked = (
        f"CONSUMER.MSG.NEXT.{EVENTS}.tool-ship-v1",
        f"CONSUMER.CREATE.{EVENTS}.tool-quote-v1",
        f"CONSUMER.MSG.NEXT.{JOBS}.job-order-normal",
        f"CONSUMER.DELETE.{EVENTS}.tool-ship-v1",
        f"STREAM.PURGE.{EVENTS}",
    )
    for verb in asked:
        with pytest.raises(PermissionRefused):
            await tools.api(verb, {})
    for name, tool in (("tool-quote-v1", "ship"), ("tool-ship-v1", "ship"), ("mine", "quote")):
        with pytest.raises(PermissionRefused):
            await ensure_consumer(tools, EVENTS, name, [call_filter("tool", tool, 1)], ack_wait_s=5)
    for subject in ("tool.ship.v1.call", "api.shop.>", "jobs.>", "events.shop.>", "log.>"):
        await _cannot_hear(tools, subject)
    with pytest.raises(PermissionRefused):
        await ask(tools, "sup.n1.stop", b'{"actor":"host-1"}')


async def _cannot_hear(tools: Bus, subject: str) -> None:
    tools.last_error = ""

    def ignore(_: Message) -> None:
        """Nothing may come."""

    await tools.subscribe(subject, ignore)
    await tools.settle()
    assert "permissions violation" in tools.last_error.lower(), subject
