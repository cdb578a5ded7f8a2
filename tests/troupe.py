"""A troupe for tests: an app's hosts and tools in the test's own process, on a real server, each on its own connection.

Where a test needs processes to kill it takes a ``stage`` instead; here it can look into the hosts, and start quickly.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from actors.assets.supply import Supply
from actors.components.app import App
from actors.components.component import Component
from actors.components.registry import Registry
from actors.hosts.host import CAPACITY, JobHost
from actors.jobs.ends import read_ends
from actors.jobs.requests import publish_wake
from actors.operations.hosting import Hosting
from actors.tools.tool_actor import ToolActor
from bus.connection import Bus
from bus.messages import CallAgent, CallJob, CallTool, Ended, Signal
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import EVENTS, JOBS, ensure_streams, stream_info
from bus.subjects import PRIORITIES
from store.log import Recorded, append_unfenced
from supervisor.tree import Supervisor
from tests.stage import Stage
from tests.waiting import wait_until


class Troupe(Stage):
    """The bus of the test, and the hosts beside it."""

    def __init__(self, bus: Bus, app: App) -> None:
        super().__init__(bus, cast("Supervisor", None), Path("/nonexistent"))
        self.app = app
        self.hosts: list[JobHost] = []

    @property
    def in_memory(self) -> int:
        """How many jobs the hosts hold."""
        return sum(len(host.running) for host in self.hosts)

    async def signal(self, workflow: str, job: str, name: str, data: bytes = b"null", *, wake: bool = True) -> int:
        """Append a signal and wake the job, as any client does."""
        sequence = await append_unfenced(
            self.bus, self.blobs, "default", Signal(job=job, name=name, data=msgspec.Raw(data))
        )
        if wake:
            await publish_wake(self.bus, "default", workflow, job, f"signal.{name}")
        return sequence

    async def requests_left(self) -> int:
        """How many requests are in JOBS, schedules aside."""
        info = await stream_info(self.bus, JOBS, subjects="jobs.>")
        assert info is not None
        return sum((info["state"].get("subjects") or {}).values())

    async def unacked(self, workflow: str) -> int:
        """How many requests of a workflow some host holds."""
        names = [f"job-{workflow}-{priority}" for priority in PRIORITIES]
        return sum([(await self.bus.api(f"CONSUMER.INFO.{JOBS}.{name}"))["num_ack_pending"] for name in names])

    async def parked(self, job: str) -> None:
        """Wait until the job is parked: out of memory, its request acked."""

        async def is_parked() -> bool:
            kinds = [r.event.kind for r in await self.events(job)]
            return kinds[-1:] == ["job.waiting"] and not await self.requests_left() and not self.in_memory

        await wait_until(is_parked, what=f"{job} is parked")

    async def waiting(self, number: int) -> bool:
        """Whether so many jobs have said that they wait."""
        info = await stream_info(self.bus, EVENTS, subjects="log.default.*.job.waiting")
        assert info is not None
        return len(info["state"].get("subjects") or {}) >= number

    async def all_end(self, jobs: Iterable[str], *, deadline_s: float = 60) -> None:
        """Wait until all of these jobs have ended."""
        left = set(jobs)

        async def done() -> bool:
            some = sorted(left)[:100]
            left.difference_update(await read_ends(self.bus, "default", [(job, 0) for job in some]))
            return not left

        await wait_until(
            done, deadline_s=deadline_s, what=lambda: f"{len(left)} jobs have not ended: {sorted(left)[:5]}"
        )


@contextlib.asynccontextmanager
async def troupe(
    url: str, app: App, *, hosts: int = 1, park_after_s: float = 3.0, lease_s: float = 8.0, tools: bool = True,
    capacity: int = CAPACITY, supplies: Mapping[Component[..., Any], Supply] | None = None,
) -> AsyncIterator[Troupe]:  # fmt: skip
    """Start ``hosts`` hosts with all jobs of ``app``, and an actor for each tool."""
    options = ConnectOptions(servers=[url])
    async with contextlib.AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await Bus.connect(options, name="test"))
        await ensure_streams(bus)
        cast_ = Troupe(bus, app)
        workflows = sorted({c.name for c in app.components if c.kind != "tool"})
        for component in (c for c in app.components if c.kind == "tool" and tools):
            tool = ToolActor(bus, cast_.blobs, component, name=component.name)
            await tool.start()
            stack.push_async_callback(tool.stop, 0.1)
        for number in range(hosts):
            own = await stack.enter_async_context(await Bus.connect(options, name=f"host {number}"))
            registry = Registry(own)
            await registry.start()
            stack.push_async_callback(registry.stop)
            hosting = Hosting(own, Blobs(own), app, registry, host=f"t/host-{number}", park_after_s=park_after_s,
                              supplies=supplies or {})  # fmt: skip
            host = JobHost(hosting, workflows, lease_s=lease_s, capacity=capacity)
            await host.start()
            stack.push_async_callback(host.stop)
            cast_.hosts.append(host)
        yield cast_


def check_decisions(events: list[Recorded]) -> None:
    """No decision twice: each command once, at most one end, and it is the last that a host wrote."""
    commands = Counter(r.event.call for r in events if isinstance(r.event, CallTool | CallAgent | CallJob))
    assert not {call: times for call, times in commands.items() if times > 1}
    assert sum(isinstance(r.event, Ended) for r in events) <= 1


__all__ = ["EVENTS", "Troupe", "check_decisions", "troupe"]
