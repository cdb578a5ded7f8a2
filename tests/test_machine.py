"""The machine that runs workflow documents, played in memory: what it asks for, in which order, and how it ends."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import cel
import pytest

from actors.interpreter.amending import CannotChange, add_steps, add_to_map, finish_map, skip
from actors.interpreter.effort import Loops, loops_in
from actors.interpreter.end import Broken, Finished, Withdrawn
from actors.interpreter.formula import Formula, FormulaFailed, Scope
from tests.play import NEVER, Fails, Play, document


def double(n: int) -> int:
    """Plays a tool."""
    return n * 2


def broken(**_: Any) -> Any:
    """Plays a tool that always fails."""
    raise Fails("it is broken")


def later(**_: Any) -> Any:
    """Plays a tool whose answer the test gives."""
    return NEVER


def played(text: str, input_: Any = None, **tools: Any) -> Play:
    """A document, played as far as it goes by itself."""
    return Play(document(text), input_, {"double": double, "broken": broken, **tools}).start()


def result(play: Play) -> Any:
    """What it finished with."""
    assert isinstance(play.end, Finished), play.end
    return play.end.result


def failure(play: Play) -> Any:
    """The failure that it ended with."""
    assert isinstance(play.end, Broken), play.end
    return play.end.failure


SEQUENCE = """
input: {type: object, properties: {n: {type: integer}}}
steps:
  - {id: one, kind: tool, run: double, with: {n: "${ input.n }"}}
  - {id: two, kind: tool, run: double, with: {n: "${ steps.one.output + 1 }"}, needs: [one]}
result: {two: "${ steps.two.output }", name: "${ job.id }"}
"""


def test_sequence() -> None:
    """Each step sees what came before it; the result is computed of all."""
    play = played(SEQUENCE, {"n": 5})
    assert result(play) == {"two": 22, "name": "j1"}
    assert [ask.place for ask in play.asked] == ["one/", "two/"]


def test_a_false_condition_skips() -> None:
    """A skipped step counts as through, and its output is null."""
    play = played(
        """
input: {type: object, properties: {go: {type: boolean}}}
steps:
  - {id: a, kind: tool, run: double, with: {n: 1}, when: input.go}
  - {id: b, kind: set, values: {a: "${ steps.a.output }", was: "${ steps.a.status }"}, needs: [a]}
result: ${ steps.b.output }
""",
        {"go": False},
    )
    assert result(play) == {"a": None, "was": "skipped"}


def test_a_failure_ends_it_with_the_step_named() -> None:
    """Without any more ado a failed step fails the workflow; what runs beside it is dropped."""
    play = played(
        """
steps:
  - {id: slow, kind: tool, run: later}
  - {id: bad, kind: tool, run: broken}
""",
        later=later,
    )
    assert failure(play).message == "step bad: it is broken"
    assert failure(play).details == {"step": "bad"}
    assert play.dropped == ["slow/"]


def test_continue_and_the_error_in_expressions() -> None:
    """A failed step that may fail is through, and others see its error."""
    play = played("""
steps:
  - {id: bad, kind: tool, run: broken, on_error: continue}
  - {id: told, kind: set, values: {why: "${ steps.bad.error.message }", is: "${ steps.bad.status }"}, needs: [bad]}
result: ${ steps.told.output }
""")
    assert result(play) == {"why": "step bad: it is broken", "is": "failed"}


def test_goto_after_a_failure() -> None:
    """The handler runs only then, and what needed the failed step does not run."""
    text = """
steps:
  - {id: a, kind: tool, run: TOOL, with: {n: 2}, on_error: {goto: rescue}}
  - {id: use, kind: set, values: {x: 1}, needs: [a]}
  - {id: rescue, kind: set, values: {why: "${ steps.a.error.code }"}}
result: {rescue: "${ steps.rescue.output }", use: "${ steps.use.status }"}
"""
    assert result(played(text.replace("TOOL", "broken"))) == {"rescue": {"why": "broken"}, "use": "skipped"}
    assert result(played(text.replace("TOOL", "double"))) == {"rescue": None, "use": "completed"}


def test_goto_back_runs_all_that_comes_after_anew() -> None:
    """A step of kind goto closes a cycle; its limit ends one that would never end."""
    seen: list[int] = []

    def draft(n: int) -> int:
        seen.append(n)
        return len(seen)

    text = """
steps:
  - {id: write, kind: tool, run: draft, with: {n: 7}}
  - {id: again, kind: goto, to: write, max_times: 5, when: steps.write.output < LIMIT, needs: [write]}
  - {id: publish, kind: set, values: {n: "${ steps.write.output }"}, needs: [again]}
result: ${ steps.publish.output }
"""
    assert result(played(text.replace("LIMIT", "3"), draft=draft)) == {"n": 3}
    assert failure(played(text.replace("LIMIT", "300"), draft=draft)).code == "goto_limit"


MAP = """
input: {type: object, properties: {all: {type: array}}}
steps:
  - id: each
    kind: map
    over: input.all
    max_parallel: 2
    steps:
      - {id: twice, kind: tool, run: double, with: {n: "${ item }"}}
      - {id: label, kind: set, values: {text: "${ string(index) + ':' + string(steps.twice.output) }"}, needs: [twice]}
    output: ${ steps.label.output.text }
result: ${ steps.each.output }
"""


def test_map() -> None:
    """An instance for each item, with outputs in the items' order."""
    play = played(MAP, {"all": [3, 4, 5]})
    assert result(play) == ["0:6", "1:8", "2:10"]
    assert [ask.place for ask in play.asked] == ["each.0/twice/", "each.1/twice/", "each.2/twice/"]
    assert result(played(MAP, {"all": []})) == []


def test_map_keeps_to_max_parallel() -> None:
    """No more instances run at once than it says; the next one begins when one is over."""
    play = played(MAP, {"all": [1, 2, 3]}, double=later)
    assert [ask.place for ask in play.pending] == ["each.0/twice/", "each.1/twice/"]
    play.answer("each.1/twice/", 4)
    assert [ask.place for ask in play.pending] == ["each.0/twice/", "each.2/twice/"]
    play.answer("each.2/twice/", 6).answer("each.0/twice/", 2)
    assert result(play) == ["0:2", "1:4", "2:6"]


HEDGE = """
steps:
  - {id: a, kind: tool, run: left}
  - {id: b, kind: tool, run: right}
  - {id: first, kind: set, values: {a: "${ steps.a.output }", b: "${ steps.b.output }"},
     join: {of: [a, b], n: 1, cancel_rest: true}}
result: ${ steps.first.output }
"""


def test_the_first_of_several() -> None:
    """The first to complete wins, and the other is given up."""
    play = played(HEDGE, left=later, right=later).answer("b/", "right")
    assert result(play) == {"a": None, "b": "right"}
    assert play.dropped == ["a/"]


def test_a_join_that_cannot_be_met() -> None:
    """When too few are left the joining step fails."""
    play = played(
        HEDGE.replace("run: left", "run: left, on_error: continue").replace(
            "run: right", "run: right, on_error: continue"
        ),
        left=later,
        right=later,
    )
    play.fail("a/").fail("b/")
    assert failure(play).code == "join_unmet"


PARALLEL = """
steps:
  - id: vote
    kind: parallel
    join: {n: 2, cancel_rest: true}
    branches:
      a: [{id: a, kind: tool, run: later}]
      b: [{id: b, kind: tool, run: later}]
      c: [{id: c, kind: tool, run: later}]
    output: [ "${ steps.a.output }", "${ steps.b.output }", "${ steps.c.output }" ]
result: ${ steps.vote.output }
"""


def test_two_of_three_branches() -> None:
    """A branch that fails does not matter as long as enough can complete."""
    play = played(PARALLEL, later=later).fail("a/").answer("b/", 1)
    assert play.end is None
    assert result(play.answer("c/", 2)) == [None, 1, 2]
    lost = played(PARALLEL, later=later).fail("a/").fail("b/")
    assert failure(lost).code == "join_unmet"


def test_without_cancel_the_rest_goes_on() -> None:
    """What is not cancelled goes on beside what comes next, and the workflow waits for it."""
    play = played(PARALLEL.replace("n: 2, cancel_rest: true", "n: 2"), later=later)
    play.answer("a/", 1).answer("b/", 1)
    assert play.end is None
    assert result(play.answer("c/", 3)) == [1, 1, None]


def test_switch_takes_the_first_case_that_holds() -> None:
    """One way is taken, and who comes after sees the steps in it."""
    text = """
input: {type: object, properties: {n: {type: integer}}}
steps:
  - id: way
    kind: switch
    cases:
      - {when: input.n > 10, steps: [{id: big, kind: set, values: {is: big}}]}
      - {when: input.n > 5, steps: [{id: mid, kind: set, values: {is: mid}}]}
    else: [{id: small, kind: set, values: {is: small}}]
  - {id: after, kind: set, needs: [way],
     values: {big: "${ steps.big.output }", mid: "${ steps.mid.output }", small: "${ steps.small.status }"}}
result: ${ steps.after.output }
"""
    assert result(played(text, {"n": 11})) == {"big": {"is": "big"}, "mid": None, "small": "skipped"}
    assert result(played(text, {"n": 6})) == {"big": None, "mid": {"is": "mid"}, "small": "skipped"}
    assert result(played(text, {"n": 1}))["small"] == "completed"


def test_loop() -> None:
    """Rounds until it holds; each sees the output of the one before; the rounds have an end."""
    text = """
steps:
  - id: grow
    kind: loop
    until: steps.step.output > 20
    max_rounds: ROUNDS
    steps: [{id: step, kind: tool, run: double, with: {n: "${ last == null ? 1 : last }"}}]
    output: ${ steps.step.output }
result: ${ steps.grow.output }
"""
    play = played(text.replace("ROUNDS", "10"))
    assert result(play) == 32
    assert [ask.place for ask in play.asked][:2] == ["grow.0/step/", "grow.1/step/"]
    assert failure(played(text.replace("ROUNDS", "3"))).code == "max_rounds"


SAGA = """
steps:
  - {id: hotel, kind: tool, run: book, with: {what: hotel}, on_error: compensate,
     compensate: {tool: undo, with: {what: "${ steps.hotel.output }"}}}
  - {id: car, kind: tool, run: book, with: {what: car}, needs: [hotel], on_error: compensate,
     compensate: {tool: undo, with: {what: "${ steps.car.output }"}}}
  - {id: pay, kind: tool, run: pay, needs: [car], on_error: compensate}
"""


def test_saga() -> None:
    """After a failure what was done is undone, the last first, and then it fails with the reason."""
    undone: list[str] = []
    play = played(SAGA, book=lambda what: f"id of {what}", pay=broken, undo=lambda what: undone.append(what))
    assert failure(play).message == "step pay: it is broken"
    assert undone == ["id of car", "id of hotel"]


def test_what_cannot_be_undone_is_told() -> None:
    """A compensation that fails does not keep the others from being done."""
    undone: list[str] = []

    def undo(what: str) -> None:
        if what == "id of car":
            raise Fails("cannot")
        undone.append(what)

    play = played(SAGA, book=lambda what: f"id of {what}", pay=broken, undo=undo)
    assert failure(play).details == {"step": "pay", "not_undone": ["car"]}
    assert undone == ["id of hotel"]


def test_cancel_undoes() -> None:
    """A workflow that is cancelled undoes what it did, and what was out just then if it completes after all."""
    undone: list[str] = []
    play = played(SAGA, book=later, undo=lambda what: undone.append(what))
    play.answer("hotel/", "H").cancel()
    assert play.end is None  # the car is being booked
    play.answer("car/", "C")
    assert isinstance(play.end, Withdrawn)
    assert undone == ["C", "H"]


def test_what_is_given_up_while_it_is_out() -> None:
    """A call that would have to be undone is still waited for, and said not to be wanted; a wait is just left."""
    play = played(
        """
steps:
  - {id: a, kind: job, run: child, compensate: {tool: undo, with: {of: "${ steps.a.output }"}}}
  - {id: b, kind: wait, signal: go, compensate: {tool: undo, with: {of: b}}}
""",
        undo=lambda of: None,
    )
    play.cancel()
    assert play.dropped == ["b/"]
    assert play.machine.recalls == [play.pending[0].id]
    play.answer("a/", 7)
    assert isinstance(play.end, Withdrawn)
    assert play.inputs("undo") == [{"of": 7}]


def test_explicit_end() -> None:
    """A step of kind end ends everything at once."""
    play = played(
        """
steps:
  - {id: slow, kind: tool, run: later}
  - {id: n, kind: tool, run: double, with: {n: 4}}
  - {id: stop, kind: end, needs: [n], result: {n: "${ steps.n.output }"}}
""",
        later=later,
    )
    assert result(play) == {"n": 8}
    bad = played("steps: [{id: stop, kind: end, status: failed, message: enough}]")
    assert (failure(bad).code, failure(bad).message) == ("ended", "step stop: enough")


def test_cancels_another_step() -> None:
    """A step that has completed withdraws others; what needs those goes on."""
    play = played("""
steps:
  - {id: offer, kind: wait, signal: accept}
  - {id: time, kind: sleep, for_s: 5, cancels: [offer]}
  - {id: then, kind: set, needs: [offer], values: {offer: "${ steps.offer.status }"}}
result: ${ steps.then.output }
""")
    assert result(play.answer("time/")) == {"offer": "cancelled"}
    assert play.dropped == ["offer/"]


def test_timeout_of_a_step() -> None:
    """A step that takes too long fails, with all that is inside of it."""
    play = played(
        """
steps:
  - {id: p, kind: parallel, timeout_s: 9, branches: {a: [{id: a, kind: tool, run: later}]}}
""",
        later=later,
    )
    play.answer("p/timeout/")
    assert failure(play).code == "timeout"
    assert play.dropped == ["a/"]


def test_instances_are_added_to_a_running_map() -> None:
    """Work that is found while a map runs becomes more instances of it."""
    play = played(
        """
steps:
  - id: crawl
    kind: map
    over: "[1]"
    steps:
      - {id: visit, kind: tool, run: visit, with: {n: "${ item }"}}
      - {id: more, kind: add, to: crawl, items: steps.visit.output, needs: [visit]}
    output: ${ item }
result: ${ steps.crawl.output }
""",
        visit=lambda n: [n * 2, n * 2 + 1] if n < 4 else [],
    )
    assert result(play) == [1, 2, 3, 4, 5, 6, 7]


def test_now_is_asked_for_once() -> None:
    """The time is an ask like any other, so that it is recorded."""
    play = played("""
steps: [{id: t, kind: set, values: {at: "${ now }", year: "${ now.getFullYear() }"}}]
result: ${ steps.t.output }
""")
    assert result(play) == {"at": "2026-01-02T00:00:00Z", "year": 2026}
    assert [ask.place for ask in play.asked] == ["t/clock/"]


def test_an_expression_that_has_no_value() -> None:
    """It fails its step, and says which part leads nowhere."""
    play = played(
        """
input: {type: object}
steps: [{id: s, kind: set, values: {x: "${ input.a.b }"}}]
""",
        {"a": 1},
    )
    assert failure(play).code == "expression"
    assert "input.a is a int" in failure(play).message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("input.a * 2 + input.nix", "input has no 'nix'"),
        ("input.half + input.a", "types do not mix: input.half is double, input.a is int"),
        ("input.nil.total + 1", "input.nil is null"),
        ("input.name.startsWith('x') + 1", "types do not mix: input.name is string"),
        ("has(input.nix) ? input.nix.far : input.a + input.half", "types do not mix"),
        ("'input.nix' + input.a", "types do not mix: input.a is int"),
        ("steps.t.output.list[7] + 1", "cannot be computed"),
        ("input.a / 0", "cannot be computed"),
    ],
)
def test_an_expression_that_cannot_be_computed(text: str, says: str) -> None:
    """Which part of it leads nowhere, or which types do not go together, in words that are its own."""
    scope = Scope(None, {"input": {"a": 1, "half": 0.5, "name": "x", "nil": None}})
    scope.outcomes["t"] = {"output": {"list": [1]}, "status": "completed", "error": None}
    with pytest.raises(FormulaFailed, match=re.escape(says)):
        Formula(text, "s.values.x").value(scope)


def test_a_long_chain_needs_no_stack() -> None:
    """Two thousand steps that only compute are worked off in one go."""
    steps = "\n".join(
        f"  - {{id: s{n}, kind: set, values: {{n: {n}}}{f', needs: [s{n - 1}]' if n else ''}}}" for n in range(2000)
    )
    assert result(played(f"steps:\n{steps}\nresult: ${{ steps.s1999.output.n }}")) == 1999


@pytest.mark.parametrize("locked", [True, False])
def test_locks(locked: bool) -> None:
    """A step with a lock takes it before it begins and gives it back when it has ended."""
    lock = ", lock: \"${ 'acc-' + job.id }\"" if locked else ""
    play = played(f"steps: [{{id: a, kind: tool, run: double, with: {{n: 1}}{lock}}}]")
    assert [ask.place for ask in play.asked] == (["a/lock/", "a/", "a/lock/"] if locked else ["a/"])


EXPRESSIONS = (
    "input.n + 1",
    "steps.a.output.x + input.n * 2",
    "input.n > 1 || steps.gone.output.x > 1",
    "input.s.startsWith('a.b')",
    "input.list[0] + input.n",
    "input.s + '.input.n' // input.n",
    "[input.n, steps.a.output.x]",
    "{'a': input.n}",
    "input.n == 2 ? input.s : steps.a.output.nothing",
    "steps.a.status == 'completed' && item.z.w == 3",
    "has(input.q) ? 1 : 2",
    "input.list.map(x, x + 1)",
    "size(steps)",
    "job.id + input.s",
    "item.z",
    "input.q.r + input.n",
    "input.s.size() + input.n",
    "string(item.z.w) + input.s",
    "-input.n + 3",
    "!(input.n == 1)",
    "now.getFullYear() + input.n",
)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_paths_are_taken_out_of_expressions_without_a_difference(text: str) -> None:
    """An expression has the value that the library gives for it as it stands, or fails where that fails."""
    scope = Scope(None, {"input": {"n": 2, "s": "a.b", "list": [7]}, "item": {"z": {"w": 3}}, "job": {"id": "j"}})
    scope.outcomes["a"] = {"output": {"x": 5}, "status": "completed", "error": None}
    now = datetime(2026, 1, 2, tzinfo=UTC)
    whole = {name: scope.variable(name) for name in ("input", "item", "job")} | {"steps": scope.outcomes, "now": now}
    try:
        expected = cel.evaluate(text, whole)
    except Exception:
        with pytest.raises(FormulaFailed):
            Formula(text, "here").value(scope, now)
    else:
        assert Formula(text, "here").value(scope, now) == expected


ENOUGH = """
steps:
  - id: bids
    kind: map
    over: "[1, 2, 3]"
    until: "UNTIL"
    join: {cancel_rest: REST}
    steps: [{id: ask, kind: tool, run: later}]
    output: ${ steps.ask.output }
result: ${ steps.bids.output }
"""


def test_a_map_until_it_is_enough() -> None:
    """After each instance it is asked whether the outputs so far are enough; then the rest is given up, or goes on."""
    text = ENOUGH.replace("UNTIL", "outputs.exists(x, x > 5) && size(outputs) * 2 > total")
    play = played(text.replace("REST", "true"), later=later).answer("bids.2/ask/", 9)
    assert play.end is None
    assert result(play.answer("bids.0/ask/", 1)) == [1, 9]
    assert play.dropped == ["bids.1/ask/"]
    play = played(text.replace("REST", "false"), later=later).answer("bids.2/ask/", 9).answer("bids.0/ask/", 1)
    assert play.end is None  # the last one goes on
    assert result(play.answer("bids.1/ask/", 7)) == [1, 9]
    never = played(ENOUGH.replace("UNTIL", "false").replace("REST", "true"), later=later)
    assert result(never.answer("bids.2/ask/", 3).answer("bids.0/ask/", 1).answer("bids.1/ask/", 2)) == [1, 2, 3]
    wrong = played(ENOUGH.replace("UNTIL", "outputs[0].x").replace("REST", "true"), later=later)
    assert failure(wrong.answer("bids.2/ask/", 3)).code == "expression"


def test_a_step_completes_a_map() -> None:
    """The map has the outputs that are there by then; one that has not begun is not touched."""
    play = played(
        """
steps:
  - {id: time, kind: sleep, for_s: 5, completes: [each, next]}
  - {id: each, kind: map, over: "[1, 2]", steps: [{id: a, kind: tool, run: later}], output: "${ steps.a.output }"}
  - {id: next, kind: map, over: "[3]", needs: [each], steps: [{id: b, kind: tool, run: later}],
     output: "${ steps.b.output }"}
result: ["${ steps.each.output }", "${ steps.next.output }"]
""",
        later=later,
    )
    play.answer("each.1/a/", "two").answer("time/")
    assert play.dropped == ["each.0/a/"]
    assert result(play.answer("next.0/b/", "three")) == [["two"], ["three"]]


def test_an_instance_that_waits_for_the_time_when_its_map_is_complete() -> None:
    """It comes too late for the map's output, and does not keep the workflow from its end."""
    play = played(
        """
steps:
  - id: each
    kind: map
    over: "[1, 2]"
    join: {n: 1}
    steps: [{id: a, kind: tool, run: later}]
    output: "${ now != null }"
result: ${ steps.each.output }
""",
        later=later,
    )
    for place in ("each.0/a/", "each.1/a/"):
        play.machine.answered(play._open(place).id, 1)
    assert result(play.go_on()) == [True]


# ---- changes to what runs


CRAWL = """
steps:
  - id: each
    kind: map
    over: "[1]"
    steps: [{id: visit, kind: tool, run: later, with: {n: "${ item }"}}]
    output: ${ steps.visit.output }
  - {id: last, kind: set, needs: [each], values: {all: "${ steps.each.output }"}}
result: ${ steps.last.output.all }
"""


def test_items_are_added_and_a_map_is_finished() -> None:
    """Instances begin for the items that are added; finishing gives up those that are not through."""
    play = played(CRAWL, later=later)
    play.machine.tell(lambda: add_to_map(play.machine, "each", [2, 3]))
    play.go_on().answer("each.1/visit/", "two")
    play.machine.tell(lambda: finish_map(play.machine, "each"))
    assert result(play.go_on()) == ["two"]
    assert play.dropped == ["each.0/visit/", "each.2/visit/"]


def test_steps_are_injected() -> None:
    """New steps join a list that runs, and are run; the list waits for them."""
    play = played(CRAWL, later=later)
    new = [{"id": "check", "kind": "tool", "run": "double", "with": {"n": 4}, "needs": ["each"]}]
    play.machine.tell(lambda: add_steps(play.machine, new))
    play.machine.tell(lambda: add_steps(play.machine, [{"id": "more", "kind": "tool", "run": "later"}], "each.0"))
    play.go_on().answer("each.0/visit/", 1)
    assert play.end is None
    play.answer("each.0/more/")
    assert result(play) == [1]
    assert play.calls() == ["later", "later", "double"]


@pytest.mark.parametrize(
    ("values", "into", "why"),
    [
        ([{"id": "visit", "kind": "wait", "signal": "x"}], "", "is taken"),
        ([{"id": "new", "kind": "wait", "signal": "x", "needs": ["visit"]}], "", "needs 'visit'"),
        ([{"id": "new", "kind": "wit"}], "", "no kind of step"),
        ([{"id": "new", "kind": "wait", "signal": "x"}], "nowhere", "0 lists"),
        ([{"id": "new", "kind": "set", "values": {"x": "${ 1 + }"}}], "", "no expression"),
    ],
)
def test_steps_that_cannot_be_injected_change_nothing(values: Any, into: str, why: str) -> None:
    """What does not fit is told, and the workflow goes on as it was."""
    play = played(CRAWL, later=later)
    with pytest.raises(CannotChange, match=why):
        add_steps(play.machine, values, into)
    assert result(play.answer("each.0/visit/", 1)) == [1]


def test_a_step_is_skipped_from_outside() -> None:
    """What waits or runs is given up, and what needs it goes on."""
    play = played(CRAWL, later=later)
    play.machine.tell(lambda: skip(play.machine, "each"))
    assert result(play.go_on()) is None
    with pytest.raises(CannotChange, match="no step"):
        skip(play.machine, "each")


def test_a_loop_that_only_computes_has_an_end() -> None:
    """It cannot hold up everything else in its process for ever."""
    play = played("""
steps:
  - {id: spin, kind: loop, until: "false", max_rounds: 100000000,
     steps: [{id: a, kind: set, values: {n: "${ round }"}}]}
""")
    assert failure(play).code == "runaway"


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("input.a + 1", None),
        ("input.a.all(x, x > 1)", Loops(1, builds=False)),
        ("input.a.filter(x, x > 1).map(x, x + 1)", Loops(1, builds=True)),
        ("input.a.exists(x, input.b.exists(y, y == x))", Loops(2, builds=False)),
        ("input.a.map(x, [(x + 1)].all(z, z > 0))", Loops(2, builds=True)),
        ("'a.map(x, y)' + input.map", None),
    ],
)
def test_loops_of_an_expression(text: str, loops: Loops | None) -> None:
    """How deep they are within each other, and whether one makes a list."""
    assert loops_in(text) == loops


def test_an_expression_that_would_hold_up_its_host_fails() -> None:
    """Told from its loops and the data before it is computed; what is beside the data that it names does not count."""
    scope = Scope(None, {"input": {"few": [1, 2], "many": list(range(20_000)), "some": list(range(1_000))}})
    assert Formula("input.few.map(x, x + 1)", "here").value(scope) == [2, 3]
    assert Formula("input.many.all(x, x >= 0)", "here").value(scope) is True
    assert Formula("input.some.exists(x, input.some.exists(y, x + y == 0))", "here").value(scope) is True
    for text in ("input.many.map(x, x + 1)", "input.some.all(x, input.some.all(y, input.some.all(z, z < x + y)))"):
        with pytest.raises(FormulaFailed, match="would take too long"):
            Formula(text, "here").value(scope)
