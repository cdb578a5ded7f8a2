"""Limits on a child, with real processes: who takes too much is ended, its call fails with the reason, others go on."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from bus.embedded import EmbeddedServer
from bus.messages import JobCompleted, JobFailed
from tests.waiting import wait_until
from tests.watched import call, failures, replies, runs, status_of, watched


def pids(tmp_path: Path) -> list[int]:
    """The processes that the tool has started."""
    noted = tmp_path / "ledger.pids"
    return [int(line) for line in noted.read_text().split()] if noted.exists() else []


def lives(pid: int) -> bool:
    """Whether the process runs: a zombie holds nothing."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("where", ["here", "in a child process", "in a session of its own"])
async def test_tool_that_takes_too_much_memory(nats_server: EmbeddedServer, tmp_path: Path, where: str) -> None:
    """Itself or by a process that it has started: killed with its family, the call fails after its attempts, and the
    next call, which takes little, is served."""
    async with watched(nats_server.url, tmp_path, only=("greedy", "ask")) as (on, _):
        await call(on, "greed", "greedy", where=where, mib=600)
        end = await on.end("greed", deadline_s=90)
        assert isinstance(end, JobFailed), end
        assert end.failure.code == "process_died"
        assert "MiB of memory, at most 250 MiB are allowed" in end.failure.message, "whoever reads it knows the reason"
        assert await failures(on, "greed") == [(1, "process_died"), (2, "process_died")]
        assert await replies(on, "greed") == ["reply.failed"]
        assert len({pid for _, pid in runs(on, "greed")}) == 2
        status = status_of(on, "greedy-1")
        assert "killed: " in status.last_exit
        assert "MiB of memory, at most 250 MiB are allowed" in status.last_exit
        assert not [pid for pid in pids(tmp_path) if lives(pid)], "what it had started is gone as well"
        await call(on, "modest", "greedy", where=where, mib=10)
        assert isinstance(await on.end("modest", deadline_s=60), JobCompleted)
        assert status_of(on, "greedy-1").restarts == 2


async def test_tool_that_takes_too_much_cpu_time(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A loop without an end is ended long before its time-out, each time it is tried."""
    async with watched(nats_server.url, tmp_path, only=("burn", "ask")) as (on, _):
        await call(on, "hot", "burn")
        end = await on.end("hot", deadline_s=90)
        assert isinstance(end, JobFailed), end
        assert await failures(on, "hot") == [(1, "process_died"), (2, "process_died")]
        assert "s of CPU time within 30 s, at most 2.5 s are allowed" in status_of(on, "burn-1").last_exit
        await call(on, "cool", "burn", n=0)
        assert isinstance(await on.end("cool", deadline_s=60), JobCompleted)


async def test_child_without_limits_is_not_measured(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Where no component asks for limits, no process is ever read."""
    async with watched(nats_server.url, tmp_path, only=("listen", "ask")) as (_, watch):
        read: list[int] = []
        watch._read_usage = read.append  # type: ignore[assignment]
        await wait_until(lambda: watch.lookout.last_beat("listen-1"), 30)
        await watch._measure_once()
        assert not read
        assert not watch._has_limits
