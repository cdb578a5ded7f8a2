"""Nodes as users start them (``callboard node``), for tests that need several of them, or their end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec

from bus import subjects
from bus.connection import Bus
from bus.errors import BusError
from bus.options import ConnectOptions
from bus.paths import DATA_DIR_VARIABLE
from bus.service import ask
from bus.streams import ensure_streams
from supervisor.child import ChildStatus
from supervisor.status import NodeStatus
from supervisor.tree import Supervisor
from tests.apps.five import LEDGER
from tests.command_line import callboard
from tests.stage import ROOT, Stage
from tests.waiting import wait_until

CREW = "tests.apps.crew:app"


class RunningNode:
    """One ``callboard node`` and what it prints."""

    def __init__(self, name: str, bus: Bus, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self._bus = bus
        self._log = log

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    async def ask(self, order: str, **body: Any) -> Any:
        """An order, and its answer decoded. Raises: UsageError."""
        return msgspec.json.decode(await self.ask_raw(order, msgspec.json.encode(body)))

    async def ask_raw(self, order: str, body: bytes = b"") -> bytes:
        """An order as it stands."""
        return await ask(self._bus, subjects.control(self.name, order), body, timeout_s=60)

    async def status(self) -> NodeStatus:
        """What it says of itself."""
        return msgspec.json.decode(await self.ask_raw("ps"), type=NodeStatus)

    async def actors(self) -> dict[str, ChildStatus]:
        """Its actors by name."""
        return {actor.name: actor for actor in (await self.status()).actors}

    async def pids(self) -> dict[str, int | None]:
        """The processes of its actors."""
        return {name: actor.pid for name, actor in (await self.actors()).items()}

    async def is_up(self) -> bool:
        """Whether every actor serves: only then it says what it does."""
        if self.process.returncode is not None:
            raise AssertionError(f"{self.name} has ended: {self.log}")
        with contextlib.suppress(BusError):
            return all(actor.doing for actor in (await self.actors()).values())
        return False

    async def kill(self, actor: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to an actor's process."""
        pid = (await self.pids())[actor]
        assert pid is not None, actor
        os.kill(pid, number)

    async def end(self, *, deadline_s: float = 60) -> int:
        """Its exit code, once it has ended."""
        try:
            async with asyncio.timeout(deadline_s):
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} goes on: {self.log}") from None


class Town(Stage):
    """A server with nodes on it."""

    def __init__(self, bus: Bus, url: str, folder: Path) -> None:
        super().__init__(bus, cast("Supervisor", None), folder / "ledger")
        self.url = url
        self.folder = folder
        self._nodes: list[RunningNode] = []
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("NATS_", "CALLBOARD_"))},
            "NATS_URL": url,
            DATA_DIR_VARIABLE: str(folder / "data"),
            LEDGER: str(self.ledger),
            "PYTHONPATH": str(ROOT),
        }

    def switch(self, name: str, *, on: bool = True) -> None:
        """Put a file beside the ledger, or take it away."""
        file = Path(f"{self.ledger}.{name}")
        file.touch() if on else file.unlink()

    async def node(self, name: str, *options: str, target: str = CREW, up: bool = True) -> RunningNode:
        """Start a node, and wait until all of its actors serve."""
        log = self.folder / f"{name}-{len(self._nodes)}.log"
        argv = (sys.executable, "-m", "cli", "node", target, "--name", name, *options)
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, env=self.env, stdout=out, stderr=out)
        running = RunningNode(name, self.bus, process, log)
        self._nodes.append(running)
        if up:
            await wait_until(running.is_up, 60, what=lambda: running.log)
        return running

    async def cli(self, *arguments: str) -> tuple[int, str, str]:
        """A command's exit code, standard output and standard error."""
        process = await asyncio.create_subprocess_exec(
            *callboard(), *arguments, cwd=ROOT, env=self.env, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(120):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def system_events(self, node: str) -> list[Any]:
        """What the log says of a node."""
        from store.log import read_job

        return [r.event for r in await read_job(self.bus, self.blobs, subjects.SYSTEM_WORKSPACE, node)]

    async def close(self) -> None:
        """End every node that runs."""
        running = [node for node in self._nodes if node.process.returncode is None]
        for node in running:
            node.process.send_signal(signal.SIGTERM)
        for node in running:
            try:
                async with asyncio.timeout(30):
                    await node.process.wait()
            except TimeoutError:
                node.process.kill()


@contextlib.asynccontextmanager
async def town(url: str, folder: Path) -> AsyncIterator[Town]:
    """A town without nodes yet; they are all gone afterwards."""
    async with await Bus.connect(ConnectOptions(servers=[url]), name="test") as bus:
        await ensure_streams(bus)
        it = Town(bus, url, folder)
        try:
            yield it
        finally:
            await it.close()
