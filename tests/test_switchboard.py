"""The switchboard: replies reach their jobs whether one subscription serves all or each has its own."""

from __future__ import annotations

import pytest

from actors.jobs import switchboard
from actors.jobs.switchboard import Switchboard
from bus.connection import Bus, Message
from bus.embedded import EmbeddedServer
from bus.options import ConnectOptions
from tests.waiting import wait_until


async def ring_all(bus: Bus, jobs: list[str], workspace: str = "sw") -> None:
    """Publish a reply for each job, as the server republishes them."""
    for job in jobs:
        await bus.publish(f"events.{workspace}.{job}.reply.completed", job.encode())


async def test_each_job_hears_its_own_replies_and_no_others(server: EmbeddedServer) -> None:
    """Connected jobs are rung, strangers' replies go nowhere, and a disconnected job hears nothing more."""
    heard: dict[str, list[bytes]] = {"a": [], "b": []}
    async with await Bus.connect(ConnectOptions(servers=[server.url]), name="test") as bus:
        board = Switchboard(bus)
        await board.start()
        for job, got in heard.items():
            await board.connect(("sw", job), lambda msg, got=got: got.append(msg.data))  # type: ignore[misc]
        await ring_all(bus, ["a", "stranger", "b", "a"])
        await wait_until(lambda: heard == {"a": [b"a", b"a"], "b": [b"b"]})
        await board.disconnect(("sw", "a"))
        await ring_all(bus, ["a", "b"])
        await wait_until(lambda: heard["b"] == [b"b", b"b"])
        assert heard["a"] == [b"a", b"a"]
        await board.stop()


async def test_many_strangers_make_it_part_and_a_later_try_shares_again(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reply of a connected job is missed while the ways change, and strangers' replies stop coming."""
    monkeypatch.setattr(switchboard, "SAMPLE", 20)
    monkeypatch.setattr(switchboard, "RETRY_AFTER_JOBS", 3)
    got: list[bytes] = []

    def ring(msg: Message) -> None:
        got.append(msg.data)

    async with await Bus.connect(ConnectOptions(servers=[server.url]), name="test") as bus:
        board = Switchboard(bus)
        await board.start()
        await board.connect(("sw2", "mine"), ring)
        assert board.is_shared
        await ring_all(bus, ["stranger"] * 20, "sw2")
        await wait_until(lambda: not board.is_shared)
        await bus.settle()
        await ring_all(bus, ["mine"], "sw2")
        await wait_until(lambda: got == [b"mine"])
        for number in range(3):
            await board.connect(("sw2", f"more{number}"), ring)
        await wait_until(lambda: board.is_shared)
        await bus.settle()
        await ring_all(bus, ["mine", "more0", "more2"], "sw2")
        await wait_until(lambda: got[-3:] == [b"mine", b"more0", b"more2"])
        await board.stop()
