"""Teams in a troupe, with scripted models: plans, parallel work, reviews, reports with their sources."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from actors import App, Budget, Team, TerminalError, ToolContext
from actors.clients.client import Client
from actors.clients.outcome import JobFailedError
from actors.model.model import ModelRequest
from actors.roles.plan import Plan
from actors.teams.result import TeamResult
from actors.testing import ScriptedModel, fail, replay, say, use
from bus.approval_events import ApprovalAsked
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import Emitted
from store.artifact import Artifact
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 50
DRAWN: list[str] = []
FAILING: list[str] = []
PLAN = {
    "reason": "figures first",
    "tasks": [
        {"id": "t1", "role": "analyst", "task": "count the orders"},
        {"id": "t2", "role": "analyst", "task": "draw the orders", "needs": ["t1"]},
        {"id": "t3", "role": "coder", "task": "look at the code"},
    ],
}


def words(request: ModelRequest) -> str:
    """All that the model was told in this conversation."""
    return "\n".join(getattr(part, "text", "") or getattr(part, "content", "") for message in request.messages
                     for part in message.parts)  # fmt: skip


def plan(request: ModelRequest) -> Any:
    """The planner: its first plan is wrong in three ways."""
    if "# What is wrong" in words(request):
        return say(PLAN)
    wrong = [{"id": "t1", "role": "poet", "task": "rhyme", "needs": ["t2"]},
             {"id": "t2", "role": "analyst", "task": "", "needs": ["t1"]}]  # fmt: skip
    return say({"tasks": wrong})


def analyse(request: ModelRequest) -> Any:
    """The analyst: one or two tools, then an answer."""
    if len(request.messages) == 3 and "count the orders" in words(request):
        return use("sql", {"query": "select 12"}, "sql", {"query": "select 13 from lines"})
    if len(request.messages) > 1:
        return say("There are 12 orders." if "count the orders" in words(request) else "Drawn: chart.svg")
    if "count the orders" in words(request):
        return use("sql", {"query": "select count(*) from orders"})
    return use("draw", {"title": "late" if "# Why it comes back" in words(request) else "early"})


def review(request: ModelRequest) -> Any:
    """The reviewer: sends the first task back once, after it named one that there is not."""
    if "You sent back in review 1" in words(request):
        return say({"comment": "good now"})
    if "# What is wrong" in words(request):
        return say({"returned": [{"task": "t1", "reason": "name the table"}]})
    return say({"returned": [{"task": "t9", "reason": "what is it?"}]})


def code(_: ModelRequest) -> Any:
    """The coder, whose key is missing at times."""
    return fail(TerminalError("no key", code="unauthorized")) if FAILING else say("fine")


def write(request: ModelRequest) -> Any:
    """The writer: first without a source, then with one that there is."""
    if "# What is wrong" not in words(request):
        return say("There are 12 orders [t7.1].\n\n![orders](pie.png)")
    return say("# Orders\n\nThere are 12 orders [t1.1].\n\n![orders](chart.svg) [t2.1]")


MODELS = {
    "planner": ScriptedModel(plan), "analyst": ScriptedModel(analyse), "coder": ScriptedModel(code),
    "reviewer": ScriptedModel(review), "writer": ScriptedModel(write),
    "poor": ScriptedModel(lambda _: say({"tasks": []})),
    "stern": ScriptedModel(lambda _: say({"returned": [{"task": "t3", "reason": "never good"}]})),
}  # fmt: skip

app = App("desk", version="1.0.0")


@app.tool(read_only=True)
def sql(query: str) -> list[int]:
    """Run a query."""
    assert query
    return [12]


@app.tool
async def draw(ctx: ToolContext, title: str) -> Artifact:
    """Draw something."""
    DRAWN.append(title)
    return await ctx.artifact("chart.svg", title.encode())


@app.tool
def python() -> str:
    """Not used."""
    raise TerminalError("no")


analyst = app.role("analyst", model=MODELS["analyst"], tools=[sql, draw])
coder = app.role("coder", model=MODELS["coder"])
planner = app.role("planner", model=MODELS["planner"])
writer = app.role("writer", model=MODELS["writer"])
reviewer = app.role("reviewer", model=MODELS["reviewer"])
bureau = Team(app, "bureau", planner=planner, roles=[analyst, coder], reviewer=reviewer, writer="writer")
asking = Team(app, "asking", planner=planner, roles=[analyst, coder], writer=writer, approve_plan=True)
lost = Team(app, "lost", planner=app.role("planner", name="poor", model=MODELS["poor"]), roles=[coder], mendings=1)
stubborn = Team(app, "stubborn", planner=planner, roles=[analyst, coder], rounds=1, writer=writer,
                reviewer=app.role("reviewer", name="stern", model=MODELS["stern"]))  # fmt: skip
plain = Team(app, "plain", planner=planner, roles=[analyst, coder], writer=writer)
tight = Team(app, "tight", planner=planner, roles=[analyst, coder], writer=writer, budget=Budget(turns=2))


@pytest.fixture
async def cast_(nats_server: EmbeddedServer) -> AsyncIterator[Troupe]:
    """The app on a server of the test's own."""
    for model in MODELS.values():
        model.requests.clear()
    DRAWN.clear()
    FAILING.clear()
    async with troupe(nats_server.url, app) as found:
        yield found


async def run(cast_: Troupe, team: str) -> TeamResult:
    """Submit, and wait for the result."""
    await cast_.submit(team, f"{team}-1", {"task": "How many orders are there?"})
    found = await Client(cast_.bus).result(f"{team}-1", timeout_s=DEADLINE_S)
    return msgspec.convert(found, TeamResult)


async def test_a_team_goes_from_plan_to_report(cast_: Troupe) -> None:
    """A wrong plan is mended, work that was sent back is done again with all that builds on it, and the report names
    sources that are on record."""
    result = await run(cast_, "bureau")
    assert result.accepted
    assert not result.doubts
    assert result.plan == msgspec.convert(PLAN, Plan)
    assert {task.id: task.rounds for task in result.tasks} == {"t1": 2, "t2": 2, "t3": 1}
    assert [(s.text, s.sources) for s in result.statements] == [
        ("There are 12 orders [t1.1].", ("t1.1",)), ("![orders](chart.svg) [t2.1]", ("t2.1",)),
    ]  # fmt: skip
    assert [(source.mark, source.call) for source in result.sources] == [
        ("t1.1", "gather:1.0/sql:1"), ("t1.2", "gather:2.0/sql:1"), ("t1.3", "gather:2.1/sql:1"),
        ("t2.1", "gather:1.0/draw:1"),
    ]  # fmt: skip
    counted = result.sources[0]
    assert (counted.origins, counted.tool, counted.excerpt) == (("table orders",), "sql", "[12]")
    calls = [r.event.call for r in await cast_.events(counted.job) if r.event.kind.startswith("call.tool")]
    assert calls == [source.call for source in result.sources[:3]]
    assert DRAWN == ["early", "late"]
    assert [each.name for each in result.artifacts] == ["chart.svg"]
    assert await cast_.blobs.get(result.artifacts[0].sha256) == b"late"
    told = {name: [words(request) for request in model.requests] for name, model in MODELS.items()}
    assert "there is no role 'poet'" in told["planner"][1]
    assert "circle: t1 -> t2 -> t1" in told["planner"][1]
    assert "# Work t1, by analyst\n\nThere are 12 orders." in told["analyst"][3]
    assert "# Why it comes back\n\nname the table" in told["analyst"][5]
    assert "there is no work 't9'" in told["reviewer"][1]
    assert "there is no source [t7.1]" in told["writer"][1]
    assert "there is no file 'pie.png' to show (chart.svg)" in told["writer"][1]
    events = [r.event for r in await cast_.events("bureau-1")]
    assert [e.name for e in events if isinstance(e, Emitted)] == ["plan", "review", "review"]
    (await replay(bureau.job, await cast_.events("bureau-1"))).check()


async def test_people_allow_a_plan_and_change_it(cast_: Troupe) -> None:
    """An edit that makes the plan wrong is asked for again; what is carried out is what was allowed."""
    client = Client(cast_.bus)
    await cast_.submit("asking", "asking-1", {"task": "How many orders are there?"})
    await _asked(cast_, 1)
    await client.approve("asking-1", by="ann", edit={"tasks": [{"id": "t1", "role": "nobody", "task": "count"}]})
    asked = await _asked(cast_, 2)
    assert msgspec.json.decode(asked.details)["wrong"] == [
        "task t1: there is no role 'nobody' (there is analyst, coder)"
    ]
    await client.approve("asking-1", by="ann", edit={"tasks": [PLAN["tasks"][0]]})
    result = msgspec.convert(await client.result("asking-1", timeout_s=DEADLINE_S), TeamResult)
    assert [task.id for task in result.tasks] == ["t1"]
    assert result.doubts == ("there is no file 'chart.svg' to show (there are none)", "there is no source [t2.1]")[::-1]
    assert len(MODELS["writer"].requests) == 4


async def _asked(cast_: Troupe, count: int) -> ApprovalAsked:
    async def asked() -> list[ApprovalAsked]:
        found = [r.event for r in await cast_.events("asking-1") if isinstance(r.event, ApprovalAsked)]
        return found if len(found) == count else []

    return (await wait_until(asked, DEADLINE_S))[-1]


async def test_a_plan_that_stays_wrong_fails_the_job(cast_: Troupe) -> None:
    """After so many tries the job fails and says what was wrong last."""
    with pytest.raises(JobFailedError, match="can be carried out: the plan has no tasks") as caught:
        await run(cast_, "lost")
    assert caught.value.failure.code == "bad_plan"
    assert len(MODELS["poor"].requests) == 2


async def test_a_reviewer_who_is_never_content_is_bounded(cast_: Troupe) -> None:
    """Work goes back as often as allowed; then the report is made, and says that it is not accepted."""
    result = await run(cast_, "stubborn")
    assert not result.accepted
    assert [len(review.returned) for review in result.reviews] == [1, 1]
    assert {task.id: task.rounds for task in result.tasks} == {"t1": 1, "t2": 1, "t3": 2}
    assert "Not settled, t3: never good" in words(MODELS["writer"].requests[0])


async def test_a_team_that_failed_goes_on(cast_: Troupe) -> None:
    """Somebody's failure is the team's, and says whose it is; after a retry only that work is done anew."""
    FAILING.append("coder")
    with pytest.raises(JobFailedError, match=r"task t3 \(coder\): no key"):
        await run(cast_, "plain")
    FAILING.clear()
    handle = await Client(cast_.bus).retry("plain-1")
    result = msgspec.convert(await handle.result(DEADLINE_S), TeamResult)
    assert {task.id: (task.rounds, task.text) for task in result.tasks} == {
        "t1": (1, "There are 12 orders."), "t2": (1, "Drawn: chart.svg"), "t3": (1, "fine"),
    }  # fmt: skip
    asked = {name: len(MODELS[name].requests) for name in ("planner", "analyst", "coder")}
    assert asked == {"planner": 2, "analyst": 3 + 2, "coder": 2}
    assert DRAWN == ["early"]


async def test_all_who_work_draw_on_the_budget_of_the_team(cast_: Troupe) -> None:
    """The planner takes both turns that there are; whoever asks a model next is refused, and so the job fails."""
    with pytest.raises(JobFailedError, match=r"task t[13]") as caught:
        await run(cast_, "tight")
    assert caught.value.failure.code == "budget_exceeded"
    assert len(MODELS["planner"].requests) == 2
    assert not MODELS["analyst"].requests and not MODELS["coder"].requests


def test_what_cannot_be_a_team_is_refused() -> None:
    """Who cannot take a task, or gives something else than is needed, is named when the team is declared."""
    other = App("other")
    with pytest.raises(UsageError, match="has to take task and context"):
        Team(other, "a", roles=[sql])
    with pytest.raises(UsageError, match="gives no Plan"):
        Team(other, "b", roles=[coder], planner=coder)
    with pytest.raises(UsageError, match="has no roles"):
        Team(other, "c", roles=[])
    with pytest.raises(UsageError, match="two roles of one name"):
        Team(other, "d", roles=[coder, coder])
    with pytest.raises(UsageError, match="rounds cannot be -1"):
        Team(other, "e", roles=[coder], rounds=-1)
    with pytest.raises(UsageError, match=r"no role 'analist'.*did you mean 'analyst'"):
        Team(other, "f", roles=["analist"])
