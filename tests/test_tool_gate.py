"""What counts against a tool, in the test's own process: slowness if asked, final answers never."""

from __future__ import annotations

import asyncio

from actors import App, Breaker, Job, Retry, ToolContext
from actors.breakers.breaker_states import breaker_states, force
from bus.embedded import EmbeddedServer
from bus.failure import TerminalError
from bus.messages import JobCompleted, JobFailed
from bus.subjects import SYSTEM_WORKSPACE
from bus.system_events import BREAKERS_LOG, BreakerOpened
from store.log import read_job
from supervisor.circuit import ForcedOpen
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

app = App("gated", version="1.0.0")
ONCE = Retry(attempts=1)
FEW = Breaker(min_calls=3, open_s=0.3)


@app.tool(retry=ONCE, breaker=Breaker(min_calls=3, open_s=0.3, slow_s=0.02))
async def slow() -> int:
    """Works, and takes its time."""
    await asyncio.sleep(0.05)
    return 1


@app.tool(retry=ONCE, breaker=FEW)
async def says(what: str) -> str:
    """Answers, or says that there is no answer."""
    if what == "never":
        raise TerminalError("never", code="never")
    return what


@app.tool(retry=ONCE, breaker=FEW)
async def leans(ctx: ToolContext) -> int:
    """Depends on something."""
    async with ctx.dependency("far", FEW):
        return 1


@app.job
async def run_slow(job: Job) -> int:
    """One call."""
    return await job.call(slow)


@app.job
async def run_says(job: Job, what: str) -> str:
    """One call."""
    return await job.call(says, what=what)


@app.job
async def run_leans(job: Job) -> int:
    """One call."""
    return await job.call(leans)


async def kinds(on: Troupe) -> list[str]:
    """What has happened to circuits."""
    log = await read_job(on.bus, on.blobs, SYSTEM_WORKSPACE, BREAKERS_LOG)
    return [r.event.kind for r in log]


async def test_slow_calls_open_the_circuit(nats_server: EmbeddedServer) -> None:
    """They succeed, each of them; there are too many of them all the same, and the probe is as slow."""
    async with troupe(nats_server.url, app) as on:
        for n in range(3):
            await on.submit("run_slow", f"slow-{n}", {})
        for n in range(3):
            assert isinstance(await on.end(f"slow-{n}"), JobCompleted)

        async def opened() -> list[BreakerOpened]:
            log = await read_job(on.bus, on.blobs, SYSTEM_WORKSPACE, BREAKERS_LOG)
            return [r.event for r in log if isinstance(r.event, BreakerOpened)]

        (first,) = await wait_until(opened)
        assert (first.calls, first.failures, first.slow) == (3, 0, 3)
        assert first.reason == "3 of 3 calls within 30 s took longer than 0.02 s"
        await on.submit("run_slow", "probe", {})
        assert isinstance(await on.end("probe"), JobCompleted)

        async def again() -> bool:
            return [event.reason for event in await opened()][1:2] == ["the probe was slow"]

        await wait_until(again)


async def test_final_answers_do_not_count(nats_server: EmbeddedServer) -> None:
    """Ten calls that say never, ten that another circuit refused: no circuit of a tool opens."""
    async with troupe(nats_server.url, app) as on:
        await force(on.bus, "dep.far", ForcedOpen("test"))
        for n in range(10):
            await on.submit("run_says", f"never-{n}", {"what": "never"})
            await on.submit("run_leans", f"leans-{n}", {})
        for n in range(10):
            for job, code in ((f"never-{n}", "never"), (f"leans-{n}", "circuit_open")):
                end = await on.end(job)
                assert isinstance(end, JobFailed)
                assert end.failure.code == code
        assert [row.key for row in await breaker_states(on.bus)] == ["dep.far"]
        assert await kinds(on) == ["breaker.opened"]


async def test_probe_that_says_nothing_is_made_again(nats_server: EmbeddedServer) -> None:
    """A call that ends with a final answer neither closes nor opens: the next one probes, under the same lease."""
    async with troupe(nats_server.url, app) as on:
        await force(on.bus, "tool.says.v1", ForcedOpen("test", open_s=0.3))
        for number, what in enumerate(("never", "never", "yes", "more")):
            await on.submit("run_says", f"job-{number}", {"what": what})
        for number, kind in enumerate((JobFailed, JobFailed, JobCompleted, JobCompleted)):
            assert isinstance(await on.end(f"job-{number}"), kind)

        async def closed() -> bool:
            return (await kinds(on))[-1:] == ["breaker.closed"]

        await wait_until(closed)
        assert await kinds(on) == ["breaker.opened", "breaker.half_opened", "breaker.closed"]
