"""Changed code: it never corrupts a run, and the replay kit shows users where theirs departs from the history."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from actors import App, CallFailed, Client, Job
from actors.components.component import Component
from actors.testing import ReplayDiffers, load_history, record_history, replay, save_history
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.failure import TerminalError
from bus.messages import JobCompleted, JobFailed, JobOwned, JobSubmitted
from store.log import Recorded
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

Function = Callable[..., Awaitable[Any]]


def make(fn: Function, version: str = "1.0.0") -> tuple[App, Component[..., Any]]:
    """An app with that function as its job ``w``, and two tools."""
    app = App("changing", version=version)
    app.tool(add)
    app.tool(double)
    return app, app.job(name="w")(fn)  # type: ignore[arg-type]


async def add(n: int) -> int:
    """Add one."""
    if n < 0:
        raise TerminalError("negative")
    return n + 1


async def double(n: int) -> int:
    """Double it."""
    return n * 2


async def original(job: Job, start: int) -> list[int]:
    """Of everything something."""
    first = await job.call("add", n=start)
    local = await job.local(_seven)
    left, right = await job.gather(job.call("add", n=local), _branch(job, first))
    try:
        await job.call("add", n=-1)
    except CallFailed:
        left += (await job.random()).randrange(10)
    await job.sleep(0.05)
    return [first, left, right, await job.wait_for("go")]


def _seven() -> int:
    return 7


async def _branch(job: Job, n: int) -> int:
    return await job.call("double", n=await job.call("add", n=n))


async def history_of(url: str, fn: Function) -> list[Recorded]:
    """The log of one run of ``fn``."""
    app, _ = make(fn)
    async with troupe(url, app) as on:
        await on.submit("w", "h", {"start": 1})
        await wait_until(lambda: on.in_memory == 1)
        await on.signal("w", "h", "go", b"5")
        await on.end("h")
        return await record_history(Client(on.bus), "h")


async def test_unchanged_code_fits_its_history(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The function that ran fits its history, whole or cut off anywhere, from a list or from a file."""
    history = await history_of(nats_server.url, original)
    _, component = make(original)
    assert isinstance(history[-1].event, JobCompleted)
    for length in range(1, len(history) + 1):
        if not any(isinstance(r.event, JobSubmitted) for r in history[:length]):
            continue  # the signal may have been stored before a host took the job up
        result = await replay(component, history[:length])
        result.check()
        assert result.ok
    save_history(tmp_path / "h.jsonl", history)
    assert load_history(tmp_path / "h.jsonl") == history
    result = await replay(component, tmp_path / "h.jsonl")
    assert result.asked[:2] == ("add:1", "_seven:1") and "gather:1.1/double:1" in result.asked


async def other_tool(job: Job, start: int) -> Any:
    """The first call goes elsewhere."""
    await job.call("double", n=start)


async def other_kind(job: Job, start: int) -> Any:
    """The key is the same, the operation is not."""

    def add() -> int:
        return 1

    await job.local(add)


async def other_input(job: Job, start: int) -> Any:
    """The first call has another input."""
    await job.call("add", n=start + 1)


async def less(job: Job, start: int) -> Any:
    """It ends too early."""
    return [await job.call("add", n=start)]


async def more(job: Job, start: int) -> Any:
    """It does something more at the end."""
    result = await original(job, start)
    await job.call("double", n=1)
    return result


async def other_result(job: Job, start: int) -> Any:
    """It does the same and returns something else."""
    return [*await original(job, start), 0]


async def raises(job: Job, start: int) -> Any:
    """It does the same and fails."""
    await original(job, start)
    raise ValueError("new")


async def waits_more(job: Job, start: int) -> Any:
    """It waits for a signal that nobody gave."""
    await original(job, start)
    return await job.wait_for("more")


@pytest.mark.parametrize(
    ("changed", "kind", "call"),
    [
        (other_tool, "new", "double:1"), (other_kind, "operation", "add:1"), (other_input, "input", "add:1"),
        (less, "unasked", "_seven:1"), (more, "new", "double:1"), (other_result, "end", ""), (raises, "end", ""),
        (waits_more, "stuck", "signal-more:1"),
    ],
)  # fmt: skip
async def test_the_first_difference_is_named(
    nats_server: EmbeddedServer, changed: Function, kind: str, call: str
) -> None:
    """Every way to change a function is found, with the place, what is recorded and what the present code does."""
    history = await history_of(nats_server.url, original)
    result = await replay(make(changed)[1], history)
    assert result.difference is not None
    assert (result.difference.kind, result.difference.call) == (kind, call)
    with pytest.raises(ReplayDiffers, match=r"recorded is .*, present is"):
        result.check()


async def by_the_clock(job: Job, start: int) -> int:
    """Branches by the clock."""
    return int(await job.call("add" if time.time() < _CHANGED_AT["limit"] else "double", n=start))


async def by_chance(job: Job, start: int) -> int:
    """Branches by a random number."""
    return int(await job.call("add" if random.random() < _CHANCE["limit"] else "double", n=start))


async def by_its_own_clock(job: Job, start: int) -> int:
    """Branches by the recorded clock and chance."""
    even = (await job.now()).microsecond % 2 == 0 and (await job.random()).random() < 0.5
    return int(await job.call("add" if even else "double", n=start))


_CHANGED_AT, _CHANCE = {"limit": 4e9}, {"limit": 1.0}


async def test_clock_and_chance_are_caught(nats_server: EmbeddedServer) -> None:
    """A job that branches by a clock or chance of its own is caught; one that asks the job for them is not."""
    for fn, setting in ((by_the_clock, _CHANGED_AT), (by_chance, _CHANCE)):
        app, component = make(fn)
        async with troupe(nats_server.url, app) as on:
            await on.submit("w", fn.__name__, {"start": 1})
            await on.end(fn.__name__)
            history = await on.events(fn.__name__)
        assert (await replay(component, history)).ok
        setting["limit"] = 0.0
        assert not (await replay(component, history)).ok
    app, component = make(by_its_own_clock)
    async with troupe(nats_server.url, app) as on:
        for n in range(5):
            await on.submit("w", f"own-{n}", {"start": 1})
            await on.end(f"own-{n}")
            assert (await replay(component, await on.events(f"own-{n}"))).ok


async def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    """A history of another job, an empty one and a broken file are told apart from a difference."""
    _, component = make(original)
    other = [Recorded(1, JobSubmitted(job="j", workflow="other", version="1.0.0"))]
    (tmp_path / "broken").write_text("{}\n")
    for history in (other, [], tmp_path / "broken"):
        with pytest.raises(UsageError):
            await replay(component, history)


# ---- on a server


async def test_changed_code_fails_the_job(nats_server: EmbeddedServer) -> None:
    """A job that goes on under code that asks for another operation at a recorded place fails, and says where."""

    async def before(job: Job, start: int) -> int:
        """A local value, then a wait."""
        return await job.local(_seven) + int(await job.wait_for("go"))

    async def after(job: Job, start: int) -> int:
        """The local value has become a call."""
        return int(await job.call("_seven"))

    app, _ = make(before)
    async with troupe(nats_server.url, app, park_after_s=0.02) as on:
        await on.submit("w", "c", {"start": 1})
        await on.parked("c")
    changed, _ = make(after)
    changed.tool(name="_seven")(double)
    async with troupe(nats_server.url, changed) as on:
        await on.signal("w", "c", "go", b"1")
        end = await on.end("c")
        assert isinstance(end, JobFailed) and end.failure.code == "changed_code"
        assert end.failure.details == {"call": "_seven:1", "recorded": "local _seven", "present": "tool _seven"}


async def owner_versions(on: Troupe, job: str) -> list[str]:
    return [r.event.version for r in await on.events(job) if isinstance(r.event, JobOwned)]


async def test_majors_side_by_side(nats_server: EmbeddedServer) -> None:
    """A job begun on one major stays on it; a host without that major hands it on to one that has it."""

    async def first(job: Job, start: int) -> str:
        """Major 1."""
        return f"one {await job.wait_for('go')}"

    async def second(job: Job, start: int) -> str:
        """Major 2."""
        return f"two {await job.wait_for('go')}"

    old, _ = make(first)
    new = App("changing", version="2.0.0")
    new.job(name="w")(second)
    both = App("changing", version="2.0.0")
    both.job(name="w", version="1.4.0")(first)
    both.job(name="w")(second)
    async with troupe(nats_server.url, old, park_after_s=0.02) as on:
        await on.submit("w", "begun", {"start": 1})
        await on.parked("begun")
    async with troupe(nats_server.url, new, park_after_s=0.02) as on:
        await on.submit("w", "fresh", {"start": 1})
        await on.parked("fresh")
        await on.signal("w", "begun", "go", b"1")
        async with troupe(nats_server.url, both) as other:
            assert bytes((await other.end("begun")).output) == b'"one 1"'
            await other.signal("w", "fresh", "go", b"2")
            assert bytes((await other.end("fresh")).output) == b'"two 2"'
            assert await owner_versions(other, "begun") == ["1.0.0", "1.0.0"]
            assert await owner_versions(other, "fresh") == ["2.0.0", "2.0.0"]
