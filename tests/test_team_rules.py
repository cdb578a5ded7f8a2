"""What a team decides: whether a plan can be carried out, what may begin, what a report rests on. All pure."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.agents.tool_use import MadeCall
from actors.roles.evidence import tables_in, work_of
from actors.roles.plan import Plan, PlannedTask
from actors.roles.verdict import Returned, Verdict
from actors.roles.work import Evidence, Work
from actors.teams.board import Board
from actors.teams.citations import marks_in, report_faults, statements_in
from actors.teams.plan_rules import circle_in, plan_faults, with_dependents
from actors.teams.result import TeamResult
from actors.teams.team_run import as_work
from store.artifact import describe

ROLES = ("analyst", "coder")


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans in which each task needs some of those before it, in any order."""
    count = draw(st.integers(1, 8))
    tasks = [
        PlannedTask(f"t{i}", "analyst", "do it", tuple(draw(st.sets(st.sampled_from([f"t{k}" for k in range(i)])))))
        if i else PlannedTask("t0", "coder", "do it")
        for i in range(count)
    ]  # fmt: skip
    return Plan(tuple(draw(st.permutations(tasks))))


@given(plans(), st.randoms())
def test_all_that_is_planned_is_done_after_what_it_needs(plan: Plan, order: Random) -> None:
    """Whoever is ready first, in whatever order work is handed in: each task once, none before what it needs."""
    assert plan_faults(plan, ROLES, 8) == []
    board, done = Board.of(plan), list[str]()
    while board.due:
        task = order.choice(board.ready)
        assert set(task.needs) <= set(done)
        assert set(board.needed(task)) == set(task.needs)
        board = board.handed_in(task.id, Work(text="x"), f"job-{task.id}")
        done.append(task.id)
    assert sorted(done) == sorted(task.id for task in plan.tasks)


@given(plans(), st.data())
def test_what_is_sent_back_is_done_again_with_what_builds_on_it(plan: Plan, data: st.DataObject) -> None:
    """Nobody else works again, and who does not need what was sent back keeps their work."""
    board = Board.of(plan)
    for task in plan.tasks:
        board = board.handed_in(task.id, Work(text="x"), "job")
    back = data.draw(st.sampled_from(plan.tasks)).id
    board = board.sent_back(Verdict((Returned(back, "wrong"), Returned(back, "dull"))))
    for task in plan.tasks:
        assert (task.id in board.due) == (task.id == back or bool(board.due & set(task.needs)))
    assert dict(board.reasons) == {back: "wrong\ndull"}
    assert [task.id for task in board.ready] == [back]
    assert board.handed_in(back, Work(text="y"), "job").done[back].rounds == 2


def test_a_wrong_plan_is_told_all_that_is_wrong() -> None:
    """Ids, roles, needs, circles, size and empty words."""
    plan = Plan((
        PlannedTask("t1", "coder", "a", ("t2",)), PlannedTask("t2", "coder", "b", ("t1", "t9")),
        PlannedTask("t2", "codr", " "), PlannedTask("1.1", "coder", "c"),
    ))  # fmt: skip
    told = "\n".join(plan_faults(plan, ROLES, 3))
    for words in ("4 tasks; 3 is the most", "'t2' is there 2 times", "needs 't9'", "did you mean 'coder'?",
                  "t2 does not say", "'1.1' is no id"):  # fmt: skip
        assert words in told
    assert circle_in(plan.tasks[:2]) == ["t1", "t2", "t1"]
    assert circle_in([PlannedTask("t1", "coder", "a", ("t1",))]) == ["t1", "t1"]
    assert plan_faults(Plan(()), ROLES, 3) == ["the plan has no tasks"]
    assert with_dependents(plan, ["t9"]) == {"t9", "t2", "t1"}


def test_files_of_one_name_are_told_apart() -> None:
    """The second task's file gets its name; the same content under the same name is one file."""
    board = Board.of(Plan((PlannedTask("t1", "coder", "a"), PlannedTask("t2", "coder", "b"))))
    first, second = describe("chart.png", b"1"), describe("chart.png", b"2")
    board = board.handed_in("t1", Work(text="", artifacts=(first,)), "j").handed_in(
        "t2", Work(text="", artifacts=(second, first)), "k"
    )
    assert [each.name for each in board.done["t2"].work.artifacts] == ["t2-chart.png", "chart.png"]
    assert [
        each.name for each in board.handed_in("t1", Work(text="", artifacts=(first,)), "j").done["t1"].work.artifacts
    ] == ["chart.png"]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("It rose [t1.2].", ["t1.2"]),
        ("Both [t1.2, t3.1; t1.2] and [a-b.10]", ["t1.2", "t3.1", "a-b.10"]),
        ("a link [t1.2](x) and a reference [t1.2][x]", []),
        ("[1], [x], [t1], [t1.]", []),
    ],
)
def test_marks_are_found(text: str, marks: list[str]) -> None:
    """Marks of sources, alone or several; links and other brackets are none."""
    assert list(marks_in(text)) == marks


def test_a_report_is_compared_with_what_there_is() -> None:
    """Strange marks and files are told, and a report without any mark; code and pictures of the web are not read."""
    report = "# A\n\nIt rose [t1.1].\n\n```\nx[t8.1]\n```\n![c](chart.png) ![d](https://a.b/c.png)\n- fell [t1.2]"
    assert [(s.text, s.sources) for s in statements_in(report)] == [
        ("It rose [t1.1].", ("t1.1",)), ("- fell [t1.2]", ("t1.2",)),
    ]  # fmt: skip
    assert report_faults(report, ["t1.1", "t1.2"], ["chart.png"]) == []
    assert report_faults(report, ["t1.1"], []) == [
        "there is no source [t1.2]", "there is no file 'chart.png' to show (there are none)",
    ]  # fmt: skip
    assert report_faults("It rose.", ["t1.1"], []) == [
        "no statement names a source; put marks such as [t1.1] behind what they show"
    ]
    assert report_faults("It rose.", [], []) == []


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("select a from t1 join s.t2 on true", ["t1", "s.t2"]),
        ('with x as (select * from "T 1".b) select * from x, y', ["T"]),
        ("WITH a(n) AS (SELECT 1 FROM b), c AS (SELECT 2 FROM a) SELECT * FROM a JOIN c", ["b"]),
        ("select 1", []),
    ],
)
def test_tables_of_a_query(query: str, tables: list[str]) -> None:
    """Names behind FROM and JOIN, without those that the query makes itself."""
    assert tables_in(query) == tables


def test_work_has_what_tools_gave() -> None:
    """Calls in their order, with the tables, addresses and files that they read; the latest file of a name counts."""
    chart, later = describe("c.svg", b"1"), describe("c.svg", b"2")
    work = work_of("done", [
        MadeCall("sql:1", "sql", {"query": "select * from life"}, {"rows": [[1]]}),
        MadeCall("search:1", "search", {"query": "life"}, [{"url": "https://a.b/c", "text": "x" * 2000}]),
        MadeCall("draw:1", "draw", {"files": [msgspec.to_builtins(chart)]}, msgspec.to_builtins([chart, later])),
    ])  # fmt: skip
    assert [(each.call, each.origins) for each in work.evidence] == [
        ("sql:1", ("table life",)), ("search:1", ("https://a.b/c",)), ("draw:1", ("file c.svg",)),
    ]  # fmt: skip
    assert work.evidence[0] == Evidence(call="sql:1", tool="sql", asked='{"query":"select * from life"}',
                                        origins=("table life",), excerpt='{"rows":[[1]]}')  # fmt: skip
    assert work.evidence[1].excerpt.endswith("…")
    assert work.artifacts == (later,)


def test_members_of_any_kind_hand_in_work() -> None:
    """Words, data, a role's work and the result of another team."""
    assert as_work("x") == Work(text="x")
    assert as_work({"a": 1}) == Work(text='{"a":1}')
    assert as_work(Work(text="y")) == Work(text="y")
    assert as_work(TeamResult(report="r", plan=Plan(()), tasks=())) == Work(text="r")
