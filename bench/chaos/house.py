"""Where documents are played under crashes: the tools, somebody who answers what a job asks, and who watches its end.

All of this lives in the process of the test; only hosts die.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from actors.clients.client import Client
from actors.tools.tool_actor import ToolActor
from bench.chaos import players
from bench.chaos.forking import Forks, forks
from bus import headers as h
from bus import subjects
from bus.connection import Bus, Message
from bus.errors import BusError, UsageError
from bus.messages import Event, decode
from bus.options import ConnectOptions
from bus.streams import JOBS, ensure_streams, stream_info
from bus.subjects import PRIORITIES
from store.log import Recorded, read_job

_LOOK_S = 0.05
ENDS = ("job.completed", "job.failed", "job.cancelled", "job.rejected")
Watcher = Callable[["House", Event], Coroutine[Any, Any, object] | None]


class House:
    """``watchers`` see each event of their job as it is stored, once, and may do something about it.

    ``stubborn`` are jobs that are retried when they fail: that is not their end.
    """

    def __init__(self, url: str, bus: Bus, forks: Forks, folder: Path) -> None:
        self.url = url
        self.bus = bus
        self.forks = forks
        self.folder = folder
        self.client = Client(bus)
        self.watchers: dict[str, Watcher] = {}
        self.stubborn: set[str] = set()
        self._ends: dict[str, asyncio.Future[str]] = {}
        self._tasks: set[asyncio.Task[object]] = set()

    def on_event(self, msg: Message) -> None:
        """One event of any job."""
        place = subjects.parse_event((msg.headers or {}).get(h.SUBJECT, msg.subject))
        if place.kind in ENDS and not (place.kind == "job.failed" and place.job in self.stubborn):
            self._end(place.job, place.kind)
        watcher = self.watchers.get(place.job)
        doing = watcher(self, decode(msg.data, subject=msg.subject, sequence=0)) if watcher else None
        if doing is not None:
            task = asyncio.create_task(_quietly(doing))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _end(self, job: str, kind: str) -> None:
        ended = self._ends.setdefault(job, asyncio.get_running_loop().create_future())
        if not ended.done():
            ended.set_result(kind)

    async def ended(self, job: str, deadline_s: float) -> str:
        """How a job ended. Raises: TimeoutError."""
        ended = self._ends.setdefault(job, asyncio.get_running_loop().create_future())
        async with asyncio.timeout(deadline_s):
            return await asyncio.shield(ended)

    async def submit(self, workflow: str, job: str, body: Any) -> None:
        """Publish a request."""
        await self.bus.append(f"jobs.default.{workflow}", msgspec.json.encode(body), headers={h.JOB_ID: job})

    async def events(self, job: str) -> list[Recorded]:
        """The job's log."""
        return await read_job(self.bus, self.client.blobs, "default", job)

    async def served(self, names: list[str], deadline_s: float) -> None:
        """Wait until no request of these workflows is in the queue. Raises: TimeoutError."""
        async with asyncio.timeout(deadline_s):
            while True:
                if not await self._requests(names):
                    return
                await asyncio.sleep(_LOOK_S)

    async def forget(self, names: list[str]) -> None:
        """Delete the consumers of these workflows: a stream has at most 1,000, and each run has its own."""
        for name in names:
            for priority in PRIORITIES:
                await self.bus.api(f"CONSUMER.DELETE.{JOBS}.job-{name}-{priority}")

    async def _requests(self, names: list[str]) -> int:
        info = await stream_info(self.bus, JOBS, subjects="jobs.>")
        assert info is not None
        left = info["state"].get("subjects") or {}
        return sum(number for subject, number in left.items() if subject.split(".")[2] in names)


async def _quietly(doing: Coroutine[Any, Any, object]) -> None:
    """A word that comes too late is no fault."""
    with contextlib.suppress(UsageError, BusError):
        await doing


@contextlib.asynccontextmanager
async def house(url: str) -> AsyncIterator[House]:
    """Open it on the server at ``url``."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callboard-matrix-")))
        bus = await stack.enter_async_context(await Bus.connect(ConnectOptions(servers=[url]), name="house"))
        await ensure_streams(bus)
        made = House(url, bus, await stack.enter_async_context(forks()), folder)
        await bus.subscribe("events.default.>", made.on_event)
        for component in (c for c in players.app.components if c.kind == "tool"):
            actor = ToolActor(bus, made.client.blobs, component, name=component.name)
            await actor.start()
            stack.push_async_callback(actor.stop, 0.1)
        yield made
