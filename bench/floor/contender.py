"""The floor as a contender: host and tool as processes of their own, the submitter in this one."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process

import nats

from bench.floor import streams
from bench.floor.process import READY
from bench.floor.submitter import Submitter

START_LIMIT_S = 10.0
STOP_LIMIT_S = 5.0


class Floor:
    """``style`` is ``plain`` (the library's own calls) or ``tuned`` (lighter ones over the same public API)."""

    def __init__(self, style: str) -> None:
        self.name = f"floor-{style}"
        self._style = style
        self._processes: dict[str, Process] = {}
        self._submitter: Submitter | None = None

    async def start(self, server_url: str) -> None:
        async with await nats.connect(server_url) as nc:
            await streams.create(nc.jetstream())
        for role in ("host", "tool"):
            self._processes[role] = await self._spawn(role, server_url)
        async with asyncio.timeout(START_LIMIT_S):
            for role, process in self._processes.items():
                await _ready(role, process)
        self._submitter = await Submitter.connect(server_url, self._style)

    async def run_job(self, qty: int, steps: int) -> int:
        assert self._submitter is not None, "start() comes first"
        return await self._submitter.run_job(qty, steps)

    def pids(self) -> dict[str, int]:
        return {role: process.pid for role, process in self._processes.items()}

    async def stop(self) -> None:
        if self._submitter is not None:
            await self._submitter.close()
        for process in self._processes.values():
            await _end(process)

    async def _spawn(self, role: str, server_url: str) -> Process:
        argv = [sys.executable, "-m", f"bench.floor.{role}", server_url, self._style]
        return await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)


async def _ready(role: str, process: Process) -> None:
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode().strip()
    if line != READY:
        raise RuntimeError(f"the floor's {role} said {line!r} instead of {READY!r}; its own error is above")


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
