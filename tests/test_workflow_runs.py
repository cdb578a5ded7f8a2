"""Workflow documents on a real server, with real tools: what the machine says is done, durably."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from actors import App, Retry, ToolContext
from actors.clients.client import Client
from actors.console.job_page import job_page
from actors.console.page import plain_lines
from actors.interpreter.component import workflow_component
from actors.testing import replay
from bus.amendment import AddItems, AddSteps, FinishMap, SkipStep
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.failure import TerminalError
from bus.messages import (
    CallJob,
    CallTool,
    Emitted,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobRetried,
    ReplyCompleted,
    ReplyFailed,
)
from tests.play import document
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

app = App("docs")
undone: list[str] = []
counted: Counter[str] = Counter()


@app.tool
async def double(n: int) -> int:
    """Twice the number."""
    return n * 2


@app.tool(retry=Retry(attempts=1))
async def broken(n: int = 0) -> int:
    """Always fails."""
    raise TerminalError("it is broken", code="broken")


@app.tool
async def undo(what: str) -> None:
    """Notes what it undoes."""
    undone.append(what)


@app.tool
async def slow(s: float) -> str:
    """Takes its time."""
    await asyncio.sleep(s)
    return "slow"


@app.tool
async def count(name: str) -> int:
    """How often it was called under that name."""
    counted[name] += 1
    return counted[name]


mended: set[str] = set()
stopped: list[str] = []


@app.tool
async def patient(ctx: ToolContext, s: float) -> None:
    """Takes long, and notes it when it is stopped."""
    try:
        await asyncio.sleep(s)
    except asyncio.CancelledError:
        stopped.append(ctx.job)
        raise


@app.tool(retry=Retry(attempts=1))
async def work_if(name: str) -> str:
    """Fails until it is mended."""
    if name not in mended:
        raise TerminalError("not mended", code="broken")
    return "works"


DOCUMENTS = {
    "sequence": """
input: {type: object, required: [n], properties: {n: {type: integer}}}
steps:
  - {id: one, kind: tool, run: double, with: {n: "${ input.n }"}}
  - {id: two, kind: tool, run: double, with: {n: "${ steps.one.output + 1 }"}, needs: [one]}
  - {id: told, kind: emit, event: done, data: {n: "${ steps.two.output }"}, needs: [two]}
result: {n: "${ steps.two.output }", at: "${ now != null }"}
""",
    "fan": """
steps:
  - id: each
    kind: map
    over: "[1, 2, 3]"
    steps: [{id: twice, kind: tool, run: double, with: {n: "${ item }"}}]
    output: ${ steps.twice.output }
result: ${ steps.each.output }
""",
    "saga": """
steps:
  - {id: a, kind: tool, run: double, with: {n: 1}, compensate: {tool: undo, with: {what: a}}}
  - {id: b, kind: tool, run: double, with: {n: 2}, needs: [a], compensate: {tool: undo, with: {what: b}}}
  - {id: c, kind: tool, run: broken, needs: [b], on_error: compensate}
""",
    "waits": """
steps:
  - {id: a, kind: tool, run: double, with: {n: 1}, compensate: {tool: undo, with: {what: waits}}}
  - {id: go, kind: wait, signal: go, needs: [a]}
result: ${ steps.go.output }
""",
    "asks": """
input: {type: object}
steps:
  - {id: a, kind: tool, run: double, with: {n: 21}}
  - {id: ask, kind: approval, needs: [a], title: "${ 'Pay ' + string(steps.a.output) + '?' }",
     details: {amount: "${ steps.a.output }"}, edit: {amount: "${ steps.a.output }"}, roles: [boss]}
result: {amount: "${ steps.ask.output.edited.amount }", by: "${ steps.ask.output.answers[0].by }"}
""",
    "crawl": """
steps:
  - id: each
    kind: map
    over: "[1]"
    steps: [{id: visit, kind: wait, signal: go}]
    output: ${ item }
  - {id: last, kind: set, needs: [each], values: {all: "${ steps.each.output }"}}
result: ${ steps.last.output.all }
""",
    "hedged": """
steps:
  - {id: quick, kind: tool, run: double, with: {n: 1}}
  - {id: patient, kind: tool, run: patient, with: {s: 60}}
  - {id: first, kind: set, join: {of: [quick, patient], n: 1, cancel_rest: true}, values: {n: 1}}
  - {id: later, kind: wait, signal: go, needs: [first]}
""",
    "racing": """
steps:
  - {id: quick, kind: tool, run: double, with: {n: 1}}
  - {id: child, kind: job, run: waits, with: {}}
  - {id: first, kind: set, join: {of: [quick, child], n: 1, cancel_rest: true}, values: {n: 1}}
""",
    "brittle": """
steps:
  - {id: a, kind: tool, run: count, with: {name: brittle}}
  - {id: odd, kind: tool, run: work_if, with: {name: brittle}, needs: [a]}
result: ${ steps.odd.output }
""",
    "cached": """
input: {type: object}
steps:
  - {id: a, kind: tool, run: count, with: {name: "${ input.name }"}, cache: {ttl_s: 60}}
  - {id: b, kind: tool, run: count, with: {name: x}, cache: {ttl_s: 60, key: "input.name"}, needs: [a]}
result: ["${ steps.a.output }", "${ steps.b.output }"]
""",
    "locked": """
steps:
  - {id: a, kind: tool, run: slow, with: {s: 0.05}, lock: "${ 'of ' + job.id }"}
  - {id: b, kind: tool, run: slow, with: {s: 0.05}, lock: "${ 'of ' + job.id }"}
result: done
""",
    "race": """
steps:
  - {id: quick, kind: tool, run: double, with: {n: 4}}
  - {id: late, kind: tool, run: slow, with: {s: 3}}
  - {id: first, kind: set, join: {of: [quick, late], n: 1, cancel_rest: true}, values: {n: "${ steps.quick.output }"}}
result: ${ steps.first.output }
""",
    "parent": """
steps:
  - {id: child, kind: job, run: sequence, with: {n: 3}}
result: ${ steps.child.output.n }
""",
    "forsaken": """
steps: [{id: ever, kind: wait, signal: never}]
""",
    "forsakes": """
steps:
  - {id: a, kind: job, run: forsaken}
  - {id: b, kind: parallel, join: {n: 1, cancel_rest: true},
     branches: {x: [{id: c, kind: job, run: forsaken}], y: [{id: d, kind: tool, run: double, with: {n: 1}}]}}
  - {id: over, kind: end, needs: [b]}
""",
    "patient": """
input: {type: object}
steps:
  - {id: kid, kind: job, run: waits}
  - {id: odd, kind: tool, run: work_if, with: {name: "${ input.name }"}}
result: ["${ steps.kid.output }", "${ steps.odd.output }"]
""",
    "keeps": """
steps: [{id: a, kind: job, run: forsaken, compensate: {tool: undo, with: {what: a}}}]
""",
    "one_each": """
input: {type: object, properties: {who: {type: string}}}
at_once: {limit: 1, key: who}
rate: {limit: 100}
steps: [{id: hold, kind: wait, signal: go}]
result: ${ steps.hold.output }
""",
    "endless": """
steps: [{id: again, kind: job, run: endless, with: {}}]
""",
    "nobody": """
steps: [{id: a, kind: tool, run: no_such_tool, on_error: continue}]
result: ${ steps.a.error.code }
""",
}

for name, text in DOCUMENTS.items():
    made = msgspec.structs.replace(document(text.replace("now != null", "true")), name=name)
    app.components.append(workflow_component(made, app="docs"))


@pytest.fixture
async def on(server: EmbeddedServer) -> AsyncIterator[Troupe]:
    """Hosts and tools of the documents."""
    async with troupe(server.url, app, park_after_s=0.3) as found:
        yield found


async def completed(on: Troupe, workflow: str, input_: Any = None) -> Any:
    """The result of a job."""
    job = f"{workflow}-{os.urandom(4).hex()}"
    await on.submit(workflow, job, input_ or {})
    end = await on.end(job)
    assert isinstance(end, JobCompleted), end
    return msgspec.json.decode(end.output)


async def check_replay(on: Troupe, workflow: str, job: str) -> None:
    """The document does what the log says, whole, and cut off at any event."""
    component, history = app.find("job", workflow, None), await on.events(job)
    assert component is not None
    for length in range(2, len(history) + 1):
        (await replay(component, history[:length])).check()


async def test_documents_run(on: Troupe) -> None:
    """Each kind of step does what it says, and the keys in the log begin with the step's place."""
    job = f"seq-{os.urandom(4).hex()}"
    await on.submit("sequence", job, {"n": 5})
    end = await on.end(job)
    assert msgspec.json.decode(end.output) == {"n": 22, "at": True}
    events = [r.event for r in await on.events(job)]
    assert [e.call for e in events if isinstance(e, CallTool)] == ["one/double:1", "two/double:1"]
    assert [(e.name, e.call) for e in events if isinstance(e, Emitted)] == [("done", "told/emit-done:1")]
    assert await completed(on, "fan") == [2, 4, 6]
    assert await completed(on, "race") == {"n": 8}
    assert await completed(on, "parent") == 14


async def test_steps_under_one_lock_run_one_after_the_other(on: Troupe) -> None:
    """The second step is asked for only when the first has given the lock back."""
    job = f"locked-{os.urandom(4).hex()}"
    await on.submit("locked", job, {})
    assert isinstance(await on.end(job), JobCompleted)
    events = [r.event for r in await on.events(job)]
    seen = [(e.kind.split(".")[0], e.call.split("/")[0]) for e in events
            if isinstance(e, CallTool) or (isinstance(e, ReplyCompleted) and not e.op)]  # fmt: skip
    assert seen in ([("call", x), ("reply", x), ("call", y), ("reply", y)] for x, y in ("ab", "ba"))


async def test_a_limit_of_a_document_holds_for_each_value_of_its_key(on: Troupe) -> None:
    """A second job of the same customer begins only when the first has ended; one of another customer at once."""
    for job, who in (("k1", "Kim"), ("k2", "Kim"), ("l1", "Lou")):
        await on.submit("one_each", job, {"who": who})
        await wait_until(lambda job=job: asked(on, job), 30)
    for job in ("k2", "l1", "k1"):
        await on.signal("one_each", job, "go", f'"{job}"'.encode())
        if job == "l1":
            assert msgspec.json.decode((await on.end(job)).output) == "l1"
            assert not any(isinstance(r.event, JobCompleted) for r in await on.events("k2"))
    for job in ("k1", "k2"):
        assert msgspec.json.decode((await on.end(job)).output) == job


async def asked(on: Troupe, job: str) -> bool:
    """Whether the job has asked for its place."""
    return any(getattr(r.event, "call", "").startswith("slot-") for r in await on.events(job))


async def test_a_saga_on_a_real_server(on: Troupe) -> None:
    """What was done is undone in reverse, by calls that are in the log."""
    undone.clear()
    job = f"saga-{os.urandom(4).hex()}"
    await on.submit("saga", job, {})
    end = await on.end(job)
    assert isinstance(end, JobFailed)
    assert end.failure.code == "broken"
    assert undone == ["b", "a"]


async def test_cancel_of_a_parked_job_undoes(on: Troupe) -> None:
    """The word wakes the job, and what it did is undone before it ends as cancelled."""
    undone.clear()
    job = f"waits-{os.urandom(4).hex()}"
    await on.submit("waits", job, {})
    await on.parked(job)
    await on.signal("waits", job, "cancel", b'{"reason": "no more"}')
    end = await on.end(job)
    assert isinstance(end, JobCancelled)
    assert end.reason == "no more"
    assert undone == ["waits"]
    await check_replay(on, "waits", job)


async def test_jobs_that_are_given_up_are_cancelled(on: Troupe) -> None:
    """By a join, by the end of the workflow, and by its cancellation, also one that would have to be undone."""
    ended, cancelled = f"forsakes-{os.urandom(4).hex()}", f"keeps-{os.urandom(4).hex()}"
    await on.submit("forsakes", ended, {})
    await on.submit("keeps", cancelled, {})
    await on.parked(cancelled)
    await on.signal("keeps", cancelled, "cancel")
    for job, kind, number in ((ended, JobCompleted, 2), (cancelled, JobCancelled, 1)):
        assert isinstance(await on.end(job), kind)
        children = [r.event.child for r in await on.events(job) if isinstance(r.event, CallJob)]
        assert len(children) == number
        for child in children:
            assert isinstance(await on.end(child), JobCancelled)


async def test_an_output_is_used_again(on: Troupe) -> None:
    """Within its time the same input is not computed twice, in this job or another; nor is the same key."""
    name = os.urandom(4).hex()
    assert await completed(on, "cached", {"name": name}) == [1, 1]
    counted["x"] = 7
    assert await completed(on, "cached", {"name": name}) == [1, 1]
    other = os.urandom(4).hex()
    assert await completed(on, "cached", {"name": other}) == [1, 8]
    assert counted[name] == 1


async def test_a_failed_step_is_retried(on: Troupe) -> None:
    """A retry goes on with the failed step and runs nothing before it again; what has undone itself is refused."""
    counted["brittle"] = 0
    client = Client(on.bus)
    job, saga = f"brittle-{os.urandom(4).hex()}", f"saga-{os.urandom(4).hex()}"
    await on.submit("brittle", job, {})
    await on.submit("saga", saga, {})
    assert (await on.end(job)).failure.message == "step odd: not mended"
    mended.add("brittle")
    handle = await client.retry(job)
    assert await handle.result(30) == "works"
    retried = next(r.event for r in await on.events(job) if isinstance(r.event, JobRetried))
    assert retried.calls == ("odd/work_if:1",)
    assert counted["brittle"] == 1
    await on.end(saga)
    with pytest.raises(UsageError, match="has undone what it did"):
        await client.retry(saga)


async def test_a_tool_whose_call_is_given_up_stops(on: Troupe) -> None:
    """The loser of a race is stopped where it runs, and what it says is not waited for."""
    job = f"hedged-{os.urandom(4).hex()}"
    await on.submit("hedged", job, {})
    await wait_until(lambda: stopped == [job])
    await on.signal("hedged", job, "go")
    assert isinstance(await on.end(job), JobCompleted)
    failed = [r.event for r in await on.events(job) if isinstance(r.event, ReplyFailed)]
    assert (failed[0].call, failed[0].failure.code) == ("patient/patient:1", "given_up")


async def test_a_deadline_undoes(on: Troupe) -> None:
    """A workflow whose time is up undoes what it did, and fails by the deadline."""
    undone.clear()
    job = f"waits-{os.urandom(4).hex()}"
    await on.submit("waits", job, {}, **{"Job-Deadline": "2s"})
    end = await on.end(job)
    assert isinstance(end, JobFailed)
    assert end.failure.code == "deadline"
    assert undone == ["waits"]
    await check_replay(on, "waits", job)


async def test_a_child_that_lost_the_race_is_cancelled(on: Troupe) -> None:
    """A job that was started for a step is cancelled when the step is given up, also if the parent ends just then."""
    job = f"racing-{os.urandom(4).hex()}"
    await on.submit("racing", job, {})
    assert isinstance(await on.end(job), JobCompleted)
    child = next(r.event.child for r in await on.events(job) if isinstance(r.event, CallJob))
    assert isinstance(await on.end(child), JobCancelled)


async def taken(on: Troupe, job: str, number: int) -> bool:
    """Whether so many signals were taken by steps."""
    events = [r.event for r in await on.events(job)]
    return sum(isinstance(e, ReplyCompleted) and e.op == "signal" for e in events) == number


async def test_changes_reach_a_job_that_runs_and_one_that_is_parked(on: Troupe) -> None:
    """Items, steps and the end of a map, each at its place in the log; what does not fit is told by an event."""
    client = Client(on.bus)
    job = f"crawl-{os.urandom(4).hex()}"
    await on.submit("crawl", job, {})
    await on.parked(job)
    await client.amend(job, AddItems("each", msgspec.Raw(b"[2, 3]")))
    new = [{"id": "extra", "kind": "tool", "run": "double", "with": {"n": 8}}]
    await client.amend(job, AddSteps(msgspec.Raw(msgspec.json.encode(new))))
    await client.amend(job, SkipStep("nobody"))
    with pytest.raises(UsageError, match="no kind of step 'tol'") as refused:
        await client.add_steps(job, [{"id": "typo", "kind": "tol"}])
    assert (refused.value.code, refused.value.hint) == ("bad_change", "did you mean 'tool'?")
    for _ in range(2):
        await on.signal("crawl", job, "go")
    await wait_until(lambda: taken(on, job, 2))
    await client.amend(job, FinishMap("each"))
    end = await on.end(job)
    assert msgspec.json.decode(end.output) == [1, 2]
    events = [r.event for r in await on.events(job)]
    assert [e.call for e in events if isinstance(e, CallTool)] == ["extra/double:1"]
    told = [msgspec.json.decode(e.data) for e in events if isinstance(e, Emitted)]
    assert [each["reason"] for each in told] == ["no step 'nobody' waits or runs"]
    shown = "\n".join(plain_lines(job_page(await client.get(job), datetime.now(UTC))))
    assert "left out: no step 'nobody' waits or runs" in shown
    assert "taken:1" not in shown
    assert "calls      3" in shown


async def test_a_retry_finds_the_jobs_that_the_workflow_started(on: Troupe) -> None:
    """A workflow that fails leaves them alone, so that a retry does not find them cancelled."""
    client = Client(on.bus)
    job = f"patient-{os.urandom(4).hex()}"
    await on.submit("patient", job, {"name": job})
    assert isinstance(await on.end(job), JobFailed)
    mended.add(job)
    handle = await client.retry(job)
    await on.signal("waits", next(r.event.child for r in await on.events(job) if isinstance(r.event, CallJob)), "go")
    assert await handle.result(30) == [None, "works"]


async def test_bad_input_is_refused(on: Troupe) -> None:
    """The document's schema is checked before anything runs."""
    job = f"bad-{os.urandom(4).hex()}"
    await on.submit("sequence", job, {"n": "five"})
    end = await on.end(job)
    assert end.kind == "job.rejected"
    assert end.failure.path == "$.n"


async def test_recursion_has_an_end(on: Troupe) -> None:
    """A workflow that starts itself fails at the depth limit, and says so."""
    job = f"deep-{os.urandom(4).hex()}"
    await on.submit("endless", job, {})
    end = await on.end(job, deadline_s=60)
    assert isinstance(end, JobFailed)
    assert end.failure.code == "too_deep"


async def test_an_unknown_component_is_a_failure_of_its_step(on: Troupe) -> None:
    """What is not there fails the step, on record."""
    assert await completed(on, "nobody") == "unknown_component"


async def test_an_approval_with_an_edit(on: Troupe) -> None:
    """People decide by the step's id; what they changed is in the step's output; a rejection fails the step."""
    client = Client(on.bus)
    job, other = f"ask-{os.urandom(4).hex()}", f"ask-{os.urandom(4).hex()}"
    for each in (job, other):
        await on.submit("asks", each, {})
        await on.parked(each)
    await client.approve(job, "ask", by="ann", roles=["boss"], edit={"amount": 40})
    assert msgspec.json.decode((await on.end(job)).output) == {"amount": 40, "by": "ann"}
    await client.reject(other, by="ann", roles=["boss"], comment="too much")
    end = await on.end(other)
    assert (end.failure.code, end.failure.message) == ("rejected", "step ask: rejected by ann: too much")
