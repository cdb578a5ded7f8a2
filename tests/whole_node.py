"""A node as users run it (``callboard node``), in processes that a test may kill, stop and continue as one machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from bus.connection import Bus
from bus.paths import DATA_DIR_VARIABLE
from supervisor.node import NodeStatus, node_statuses
from tests.stage import ROOT
from tests.waiting import wait_until


class WholeNode:
    """The supervisor and all its descendants. Each has its own data directory, like a machine of its own."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._stopped: list[int] = []

    def pids(self) -> list[int]:
        """The supervisor's pid, then those of its descendants that live."""
        try:
            children = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [self._process.pid, *(child.pid for child in children)]

    async def kill(self) -> None:
        """As if the machine had lost its power."""
        self._signal(signal.SIGKILL, self.pids())
        await self._process.wait()

    def stop(self) -> None:
        """As if the machine were paused: the supervisor first, so that it sees nobody stop."""
        self._stopped = self.pids()
        self._signal(signal.SIGSTOP, self._stopped)

    def go_on(self) -> None:
        """The machine runs again."""
        self._signal(signal.SIGCONT, self._stopped)
        self._stopped = []

    async def end(self) -> None:
        """In order, and by force if that takes too long."""
        self.go_on()
        if self._process.returncode is None:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 20)
        await self.kill()

    def _signal(self, number: int, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@contextlib.asynccontextmanager
async def whole_node(
    url: str, tmp_path: Path, name: str, target: str = "tests.apps.five:app", *, env: dict[str, str] | None = None
) -> AsyncIterator[WholeNode]:
    """Start a node; it is gone afterwards. Use :func:`all_serve` to wait until it works."""
    surroundings = {
        **os.environ,
        "NATS_URL": url,
        DATA_DIR_VARIABLE: str(tmp_path / f"data-{name}"),
        "CALLBOARD_TEST_LEDGER": str(tmp_path / "ledger"),
        **(env or {}),
    }
    log = tmp_path / f"{name}.log"
    with log.open("a") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", "node", target, "--name", name, cwd=ROOT, env=surroundings,
            stdout=output, stderr=output, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    node = WholeNode(name, process, log)
    try:
        yield node
    finally:
        await node.end()


async def all_serve(bus: Bus, *names: str) -> None:
    """Wait until each of these nodes answers, and all its actors run and say so."""

    async def serve() -> bool:
        there = {status.node: status for status in await node_statuses(bus, wait_s=0.3)}
        return all(name in there and _works(there[name]) for name in names)

    await wait_until(serve, 60, what=f"{', '.join(names)} serve")


def _works(status: NodeStatus) -> bool:
    return all(actor.state == "running" and actor.doing not in ("", "starting") for actor in status.actors)
