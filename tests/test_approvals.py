"""Approvals: people are asked, the job parks, and what they say becomes one decision, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from actors import App, Escalation, Job, Retry
from actors.clients.client import Client
from actors.duties.stuck_jobs import StuckJobs
from actors.hosts.host import JobHost
from actors.jobs.requests import publish_wake
from actors.testing import record_history, replay
from bus.approval_events import ApprovalAnswered, ApprovalAsked, ApprovalEscalated
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import CallTool, JobCancelled, JobCompleted, JobFailed, JobPaused, JobResumed, ReplyCompleted
from store.approval import Decision
from store.log import append_unfenced
from tests.test_duties import AT_ONCE, term_on
from tests.troupe import Troupe, check_decisions, troupe
from tests.waiting import wait_until

DEADLINE_S = 40
SOON_S = 0.05
app = App("approvals", version="1.0.0")
RAN: Counter[str] = Counter()


class Terms(msgspec.Struct):
    """What a buyer has to say."""

    account: str
    limit: int = 0


@app.tool
async def effect(name: str) -> str:
    """Done once, and counted."""
    RAN[name] += 1
    return name


@app.job
async def buy(job: Job, amount: float = 100.0, expires_s: float | None = None) -> dict[str, Any]:
    """Something before, an approval with an edit, something after."""
    await job.call(effect, name=f"before-{job.id}")
    decision = await job.approval(
        "Buy it?", details={"amount": amount}, answer=Terms, roles=["buyer"], expires_s=expires_s,
        edit={"amount": amount, "note": None},
    )  # fmt: skip
    if decision.approved:
        await job.call(effect, name=f"after-{job.id}")
    account = decision.answers[-1].answer.account if decision.approved else None
    return {"approved": decision.approved, "expired": decision.expired, "edited": decision.edited, "account": account}


@app.job
async def council(job: Job, quorum: int) -> Decision:
    """As many as have to agree."""
    return await job.approval("Go to war?", quorum=quorum, edit={"troops": 100})


@app.job
async def climb(job: Job, first_s: float, second_s: float, expires_s: float | None = None) -> Decision:
    """Asks clerks, then heads, then the chief."""
    steps = [Escalation(second_s, ("chief",)), Escalation(first_s, ("head",))]
    return await job.approval("Raise?", roles=("clerk",), expires_s=expires_s, escalate=steps)


@app.job
async def both(job: Job) -> list[bool]:
    """Two approvals side by side, each with a call behind it."""

    async def ask(title: str) -> bool:
        decision = await job.approval(title)
        await job.call(effect, name=f"{title}-{job.id}")
        return decision.approved

    return list(await job.gather(ask("left"), ask("right")))


@app.tool(retry=Retry(attempts=1))
async def breaks(name: str) -> None:
    """Fail the first time."""
    RAN[name] += 1
    if RAN[name] == 1:
        raise RuntimeError("as told")


@app.job
async def torn(job: Job) -> bool:
    """An approval beside a branch that fails."""

    async def fails() -> None:
        await job.wait_for("fail")
        await job.call(breaks, name=f"breaks-{job.id}")

    async def ask() -> bool:
        return (await job.approval("Beside?")).approved

    decision, _ = await job.gather(ask(), fails())
    return decision


async def asked(on: Troupe, job: str, times: int = 1) -> None:
    """Wait until the job has asked."""

    async def has_asked() -> bool:
        return sum(isinstance(r.event, ApprovalAsked) for r in await on.events(job)) >= times

    await wait_until(has_asked, DEADLINE_S, what=f"{job} has asked")


async def output(on: Troupe, job: str) -> Any:
    """What the job returned."""
    end = await on.end(job, deadline_s=DEADLINE_S)
    assert isinstance(end, JobCompleted), end
    return msgspec.json.decode(end.output)


async def output_after_retry(on: Troupe, client: Client, job: str) -> Any:
    """What the job returned after all."""
    await wait_until(lambda: _is(_has(on, job, JobCompleted), True), DEADLINE_S)
    return await client.result(job, timeout_s=DEADLINE_S)


async def refusal(answer: Any) -> str:
    """The code that an answer is refused with."""
    with pytest.raises(UsageError) as caught:
        await answer
    return caught.value.code


async def decisions(on: Troupe, job: str) -> list[Decision]:
    """What the host has recorded."""
    events = [r.event for r in await on.events(job)]
    found = [e for e in events if isinstance(e, ReplyCompleted) and e.op == "approval"]
    return [msgspec.json.decode(e.output, type=Decision) for e in found]


async def test_approved_with_an_edit(nats_server: EmbeddedServer) -> None:
    """The job parks; bad answers are refused and leave nothing; a good one is in the log with who, why and what."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on, Client(on.bus) as client:
        before = datetime.now(UTC)
        await on.submit("buy", "own", {"amount": 250.0})
        await asked(on, "own")
        await on.parked("own")
        (listed,) = await client.approvals(role="buyer")
        assert (listed.job, listed.workflow, listed.step, listed.title) == ("own", "buy", "approval:1", "Buy it?")
        assert listed.values == {"amount": 250.0, "note": None} and listed.asked_at >= before
        assert not await client.approvals(role="seller")
        good: dict[str, Any] = {"by": "ann", "roles": ["buyer"], "answer": {"account": "a7"}}
        log = await on.events("own")
        assert await refusal(client.approve("own", "approval:2", **good)) == "unknown_step"
        assert await refusal(client.approve("nobody", **good)) == "unknown_job"
        assert await refusal(client.approve("own", **(good | {"roles": ["clerk"]}))) == "wrong_role"
        assert await refusal(client.approve("own", **(good | {"by": " "}))) == "no_name"
        assert await refusal(client.approve("own", **(good | {"answer": {"limit": 1}}))) == "bad_answer"
        assert await refusal(client.approve("own", **(good | {"answer": None}))) == "bad_answer"
        assert await refusal(client.approve("own", **good, edit={"amount": "many"})) == "bad_edit"
        assert await refusal(client.approve("own", **good, edit={"amounts": 1})) == "bad_edit"
        assert await on.events("own") == log
        answered = await client.approve("own", **good, comment="as agreed", edit={"amount": 200, "note": "less"})
        assert await output(on, "own") == {
            "approved": True, "expired": False, "edited": {"amount": 200, "note": "less"}, "account": "a7",
        }  # fmt: skip
        (decision,) = await decisions(on, "own")
        (answer,) = decision.answers
        assert (answer.by, answer.comment, answer.edited) == ("ann", "as agreed", {"amount": 200, "note": "less"})
        assert answer.sequence == answered.sequence and answer.at >= before
        assert await refusal(client.approve("own", **good)) == "job_ended"
        assert not await client.approvals()
        (shown,) = (await client.get("own")).approvals
        assert (shown.state, shown.answers, shown.ignored) == ("approved", decision.answers, ())
        assert RAN["before-own"] == RAN["after-own"] == 1
        check_decisions(await on.events("own"))
        (await replay(buy, await record_history(client, "own"))).check()


async def test_rejected_expired_and_quorum(nats_server: EmbeddedServer) -> None:
    """One rejection rejects; an expiry decides without people; of a quorum each counts once, and an edit voids."""
    async with troupe(nats_server.url, app, hosts=1, park_after_s=SOON_S) as on, Client(on.bus) as client:
        await on.submit("buy", "r1", {})
        await on.submit("buy", "e1", {"expires_s": 0.3})
        for job, quorum in (("c1", 3), ("c2", 2)):
            await on.submit("council", job, {"quorum": quorum})
            await asked(on, job)
        await asked(on, "r1")
        await client.reject("r1", by="bob", roles=["buyer"], comment="too dear")
        assert (await output(on, "r1"))["approved"] is False
        assert [(a.by, a.comment) for a in (await decisions(on, "r1"))[0].answers] == [("bob", "too dear")]
        assert await output(on, "e1") == {
            "approved": False, "expired": True, "edited": {"amount": 100.0, "note": None}, "account": None,
        }  # fmt: skip
        await client.approve("c1", by="ann")
        await client.approve("c1", by="bob")
        assert await refusal(client.approve("c1", by="bob")) == "answered_already"
        (listed,) = await client.approvals(job_id="c1")
        assert [a.by for a in listed.answers] == ["ann", "bob"]
        await client.reject("c1", by="cid")
        assert (await output(on, "c1"))["approved"] is False
        first = await client.approve("c2", by="ann")
        await client.approve("c2", by="bob", edit={"troops": 50})
        assert await refusal(client.approve("c2", by="ann", seen=first.sequence)) == "edited"
        await client.approve("c2", by="ann")
        decision = (await decisions(on, "c2") if await output(on, "c2") else [])[0]
        assert decision.approved and decision.edited == {"troops": 50}
        assert [(a.by, a.void) for a in decision.answers] == [("ann", True), ("bob", False), ("ann", False)]


async def test_escalations_and_raw_answers(nats_server: EmbeddedServer) -> None:
    """Roles are asked one after the other, each on the record; what was appended raw and is invalid is ignored."""
    async with troupe(nats_server.url, app, hosts=1, park_after_s=SOON_S) as on, Client(on.bus) as client:
        await on.submit("climb", "k1", {"first_s": 0.2, "second_s": 0.6})
        await asked(on, "k1")
        await raw(on, "climb", ApprovalAnswered(job="k1", call="approval:1", approved=True, by="eve", roles=("chief",)))
        assert await refusal(client.approve("k1", by="eve", roles=["chief"])) == "wrong_role"

        async def levels() -> list[tuple[int, tuple[str, ...]]]:
            events = [r.event for r in await on.events("k1")]
            return [(e.level, e.roles) for e in events if isinstance(e, ApprovalEscalated)]

        await wait_until(lambda: _is(levels(), [(1, ("head",)), (2, ("chief",))]), DEADLINE_S)
        await on.parked("k1")
        (shown,) = (await client.get("k1")).approvals
        assert (shown.state, shown.level, shown.roles) == ("open", 2, ("clerk", "head", "chief"))
        assert [(each.by, each.code) for each in shown.ignored] == [("eve", "wrong_role")]
        await raw(on, "climb", ApprovalAnswered(job="k1", call="approval:1", approved=True, by="eve", roles=("chief",)))
        assert (await output(on, "k1"))["approved"] is True
        await on.submit("climb", "k2", {"first_s": 0.1, "second_s": 0.2, "expires_s": 0.4})
        assert (await output(on, "k2"))["expired"] is True
        check_decisions(await on.events("k2"))
        for job in ("k1", "k2"):
            (await replay(climb, await record_history(client, job))).check()


async def raw(on: Troupe, workflow: str, event: ApprovalAnswered) -> None:
    """As ``nats pub`` would, with a wake-up."""
    await append_unfenced(on.bus, on.blobs, "default", event)
    await publish_wake(on.bus, "default", workflow, event.job, event.kind)


async def _is(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)


async def test_side_by_side(nats_server: EmbeddedServer) -> None:
    """Two approvals of a job are answered apart, by step; each branch goes on when its own is decided."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=SOON_S) as on, Client(on.bus) as client:
        await on.submit("both", "g1", {})
        await asked(on, "g1", 2)
        assert await refusal(client.approve("g1", by="ann")) == "which_step"
        await client.reject("g1", "gather:1.1/approval:1", by="ann")
        await wait_until(lambda: RAN["right-g1"], DEADLINE_S)
        assert await refusal(client.approve("g1", "gather:1.1/approval:1", by="bob")) == "already_decided"
        await on.parked("g1")
        await client.approve("g1", by="ann")
        assert await output(on, "g1") == [True, False]
        assert RAN["right-g1"] == RAN["left-g1"] == 1
        (await replay(both, await record_history(client, "g1"))).check()


async def test_control_of_a_job_that_waits_for_approval(nats_server: EmbeddedServer) -> None:
    """Paused, it keeps the answer and decides once resumed; cancelled or terminated it ends; retried it still waits."""
    async with troupe(nats_server.url, app, hosts=1, park_after_s=SOON_S) as on, Client(on.bus) as client:
        for job in ("p1", "x1", "x2", "f1"):
            await on.submit("torn" if job == "f1" else "council", job, {} if job == "f1" else {"quorum": 1})
            await asked(on, job)
        await client.pause("p1", by="ann")
        await wait_until(lambda: _is(_has(on, "p1", JobPaused), True), DEADLINE_S)
        await client.approve("p1", by="bob")
        await client.cancel("x1")
        await client.terminate("x2")
        for job in ("x1", "x2"):
            assert isinstance(await on.end(job, deadline_s=DEADLINE_S), JobCancelled)
            assert (await client.get(job)).approvals[0].state == "closed"
            assert await refusal(client.approve(job, by="ann")) == "job_ended"
        await client.signal("f1", "fail")
        assert isinstance(await on.end("f1", deadline_s=DEADLINE_S), JobFailed)
        assert await refusal(client.approve("f1", by="ann")) == "job_ended"
        await client.retry("f1")
        await wait_until(lambda: RAN["breaks-f1"] == 2, DEADLINE_S)
        await on.parked("f1")
        await client.approve("f1", by="ann")
        assert await output_after_retry(on, client, "f1") is True
        assert sum(isinstance(r.event, ApprovalAsked) for r in await on.events("f1")) == 1
        assert await refusal(client.retry("p1")) == "not_failed"
        assert not await decisions(on, "p1")
        await client.resume("p1")
        assert (await output(on, "p1"))["approved"] is True
        kinds = [type(r.event) for r in await on.events("p1") if r.event.kind != "job.owned"]
        assert kinds.index(ApprovalAnswered) < kinds.index(JobResumed) < kinds.index(ReplyCompleted)


async def _has(on: Troupe, job: str, kind: type) -> bool:
    return any(isinstance(r.event, kind) for r in await on.events(job))


async def test_answers_crossed_with_parking(nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes at any moment of parking, deaf hosts and all, is decided on once."""
    async with troupe(nats_server.url, app, hosts=2, park_after_s=0.01) as on, Client(on.bus) as client:
        monkeypatch.setattr(JobHost, "_on_word", lambda *_: None)
        jobs = [f"q{n}" for n in range(12)]
        for job in jobs:
            await on.submit("council", job, {"quorum": 2})

        async def vote(job: str, number: int) -> None:
            await asked(on, job)
            await asyncio.sleep(number * 0.003)
            await asyncio.gather(*(client.approve(job, by=name) for name in ("ann", "bob")))

        await asyncio.gather(*(vote(job, n) for n, job in enumerate(jobs)))
        for job in jobs:
            assert (await output(on, job))["approved"] is True
            events = await on.events(job)
            check_decisions(events)
            assert len(await decisions(on, job)) == 1
            assert sum(isinstance(r.event, ApprovalAsked) for r in events) == 1
            assert not [r for r in events if isinstance(r.event, CallTool)]


async def test_an_answer_that_woke_nobody(nats_server: EmbeddedServer) -> None:
    """Whoever wrote the answer died before the wake-up: the sweep for stuck jobs makes up for it."""
    async with troupe(nats_server.url, app, hosts=1, park_after_s=SOON_S) as on:
        await on.submit("council", "s1", {"quorum": 1})
        await asked(on, "s1")
        await on.parked("s1")
        sweep = StuckJobs(await term_on(on.bus), AT_ONCE)
        await sweep.sweep()
        assert sweep.redriven == 0, "it has reason to wait"
        answer = ApprovalAnswered(job="s1", call="approval:1", approved=True, by="ann")
        await append_unfenced(on.bus, on.blobs, "default", answer)
        await sweep.sweep()
        assert (await output(on, "s1"))["approved"] is True and sweep.redriven == 1


async def test_a_fork_keeps_the_decision(nats_server: EmbeddedServer) -> None:
    """A fork after the approval does not ask again; one before it does."""
    async with troupe(nats_server.url, app, hosts=1, park_after_s=SOON_S) as on, Client(on.bus) as client:
        await on.submit("buy", "b1", {})
        await asked(on, "b1")
        await client.approve("b1", by="ann", roles=["buyer"], answer={"account": "a7"}, edit={"amount": 5})
        first = await output(on, "b1")
        after = await client.fork("b1", from_="effect:2")
        assert await client.result(after.id, timeout_s=DEADLINE_S) == first
        assert not [r for r in await on.events(after.id) if isinstance(r.event, ApprovalAsked)]
        before = await client.fork("b1", from_="approval:1")
        await asked(on, before.id)
        await client.reject(before.id, by="bob", roles=["buyer"])
        assert (await output(on, before.id))["approved"] is False
