"""Random documents end as a second, small interpreter says, and so they do after a crash at any event."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.interpreter.asks import Ask, Call, Clock, Lock, Sleep, Unlock
from actors.interpreter.end import Broken, End, Finished
from actors.interpreter.machine import Machine
from actors.interpreter.plan import make_plan
from actors.workflow.document import Document
from bus.failure import Failure
from tests.play import JOB
from tests.reference_interpreter import call_takes_s, reference_run

Value = dict[str, Any]


class Maker:
    """Draws a document that runs: steps that compute with numbers, may fail, and are joined in all ways."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self._draw = draw
        self._count = 0

    def document(self) -> Document:
        """A whole one; its result tells what became of each step of the top list."""
        steps = self.steps([], depth=0)
        told = {each["id"]: f"${{ [steps.{each['id']}.status, {self.number_of(each['id'])}] }}" for each in steps}
        return msgspec.convert(
            {"name": "made", "version": "1.0.0", "steps": steps, "result": told}, Document
        )  # fmt: skip

    def chance(self, percent: int) -> bool:
        """True so often."""
        return bool(self._draw(st.integers(0, 99)) < percent)

    def number_of(self, step: str) -> str:
        """An expression for a number that a step gave, or 0."""
        return f"(type(steps.{step}.output) == int ? steps.{step}.output : 0)"

    def number(self, known: list[str]) -> str:
        """An expression for a number."""
        parts = [str(self._draw(st.integers(0, 5)))]
        parts += [self.number_of(each) for each in known[-2:] if self.chance(70)]
        return " + ".join(parts)

    def condition(self, known: list[str]) -> str:
        """An expression for true or false."""
        return f"{self.number(known)} {self._draw(st.sampled_from(('>', '<', '!=')))} {self._draw(st.integers(0, 6))}"

    def new_id(self) -> str:
        """Each once."""
        self._count += 1
        return f"s{self._count}"

    def steps(self, known: list[str], depth: int, *, first_calls: bool = False) -> list[Value]:
        """A list of steps; what a step needs comes before it."""
        made: list[Value] = []
        before: dict[str, list[str]] = {}
        for number in range(self._draw(st.integers(1, 4 if depth == 0 else 2))):
            needs = [each["id"] for each in made if self.chance(50)]
            seen = known + sorted({name for need in needs for name in (need, *before[need])})
            is_call = first_calls and number == 0
            step = self.call(seen) if is_call else self.step(seen, depth)
            if needs:
                self.tie(step, needs, made)
            if not is_call and self.chance(25):
                step["when"] = self.condition(seen)
            before[step["id"]] = [name for need in needs for name in (need, *before[need])]
            made.append(step)
        return made

    def tie(self, step: Value, needs: list[str], made: list[Value]) -> None:
        """Let a step wait for others: for all, or for some calls out of several."""
        calls = [each["id"] for each in made if each["id"] in needs and each["kind"] == "tool"]
        if len(calls) > 1 and step["kind"] not in ("map", "parallel") and self.chance(50):
            n = self._draw(st.integers(1, len(calls)))
            step["join"] = {"of": calls, "n": n, "cancel_rest": self.chance(50)}
            needs = [name for name in needs if name not in calls]
        if needs:
            step["needs"] = needs

    def call(self, known: list[str]) -> Value:
        """A call of a tool, which may fail."""
        step: Value = {
            "id": self.new_id(),
            "kind": "tool",
            "run": "work",
            "with": {"n": f"${{ {self.number(known)} }}"},
        }
        if self.chance(20):
            step["with"]["fail"] = True
            if self.chance(70):
                step["on_error"] = "continue"
        return step

    def step(self, known: list[str], depth: int) -> Value:
        """Any step."""
        kinds = ["tool", "tool", "set", "sleep"] + (["map", "switch", "loop", "parallel"] if depth < 2 else [])
        kind = self._draw(st.sampled_from(kinds))
        if kind == "tool":
            return self.call(known)
        name = self.new_id()
        if kind == "set":
            return {"id": name, "kind": "set", "values": {"n": f"${{ {self.number(known)} }}"}}
        if kind == "sleep":
            return {"id": name, "kind": "sleep", "for_s": 0.137 * self._count}
        step: Value = getattr(self, f"_{kind}")(name, known, depth)
        if self.chance(30):
            step["on_error"] = "continue"
        return step

    def _join(self, of: int) -> Value:
        return {"join": {"n": self._draw(st.integers(1, max(1, of))), "cancel_rest": True}} if self.chance(40) else {}

    def _map(self, name: str, known: list[str], depth: int) -> Value:
        items = self._draw(st.lists(st.integers(0, 3), max_size=3))
        steps = self.steps(known, depth + 1, first_calls=True)
        more: Value = {"max_parallel": 1} if self.chance(30) else self._join(len(items))
        return {
            "id": name, "kind": "map", "over": str(items), "steps": steps,
            "output": f"${{ {self.number_of(steps[0]['id'])} + item }}", **more,
        }  # fmt: skip

    def _parallel(self, step: str, known: list[str], depth: int) -> Value:
        branches = {
            f"b{n}": self.steps(known, depth + 1, first_calls=True) for n in range(self._draw(st.integers(1, 3)))
        }
        first = [branch[0]["id"] for branch in branches.values()]
        output = " + ".join(self.number_of(each) for each in first)
        return {"id": step, "kind": "parallel", "branches": branches, "output": f"${{ {output} }}",
                **self._join(len(branches))}  # fmt: skip

    def _switch(self, name: str, known: list[str], depth: int) -> Value:
        cases = [{"when": self.condition(known), "steps": self.steps(known, depth + 1)} for _ in range(2)]
        other = self.steps(known, depth + 1)
        return {"id": name, "kind": "switch", "cases": cases, "else": other,
                "output": f"${{ {self.number_of(other[0]['id'])} }}"}  # fmt: skip

    def _loop(self, name: str, known: list[str], depth: int) -> Value:
        steps = self.steps(known, depth + 1)
        until = f"round >= {self._draw(st.integers(0, 3))}"
        output = f"${{ {self.number_of(steps[0]['id'])} + (last == null ? 0 : int(last)) }}"
        return {"id": name, "kind": "loop", "until": until, "max_rounds": self._draw(st.integers(1, 4)),
                "steps": steps, "output": output}  # fmt: skip


@st.composite
def documents(draw: Any) -> Document:
    """Documents that run."""
    return Maker(draw).document()


class Run:
    """The real machine on the same made-up clock. ``told`` is what it was told, in order."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.machine = self._fresh()
        self.told: list[tuple[str, Any, Failure | None]] = []
        self._due: list[tuple[float, int, Ask]] = []
        self._count = 0
        self._now_s = 0.0

    def _fresh(self) -> Machine:
        machine = Machine(make_plan(self._document), {}, JOB)
        machine.start()
        return machine

    def run(self, crash_at: int | None = None) -> End | None:
        """To its end; after so many answers the machine is thrown away, and another one told all of it again."""
        self._take()
        while self._due and self.machine.end is None:
            self._now_s, _, ask = heapq.heappop(self._due)
            self._tell(self.machine, ask.id, *_answer(ask))
            self.told.append((ask.id, *_answer(ask)))
            if len(self.told) == crash_at:
                self._crash()
            self._take()
        return self.machine.end

    def _take(self) -> None:
        asks, self.machine.asks = self.machine.asks, []
        drops, self.machine.drops = set(self.machine.drops), []
        for ask in asks:
            self._count += 1
            heapq.heappush(self._due, (self._now_s + _takes_s(ask), self._count, ask))
        self._due = [each for each in self._due if each[2].id not in drops]
        heapq.heapify(self._due)

    @staticmethod
    def _tell(machine: Machine, ask: str, value: Any, failure: Failure | None) -> None:
        if failure is not None:
            machine.failed(ask, failure)
        else:
            machine.answered(ask, value)

    def _crash(self) -> None:
        """What another machine asks for after the same answers is what this one asks for."""
        again = self._fresh()
        for answer in self.told:
            self._tell(again, *answer)
        assert again.end == self.machine.end
        open_now = {each[2].id for each in self._due} | {ask.id for ask in self.machine.asks}
        asked_again = {ask.id for ask in again.asks} - {answer[0] for answer in self.told}
        dropped = set(self.machine.drops) | set(again.drops)
        assert open_now - dropped == asked_again - dropped
        again.asks, again.drops = self.machine.asks, self.machine.drops
        self.machine = again


def _takes_s(ask: Ask) -> float:
    match ask.what:
        case Call():
            return call_takes_s(ask.place.removesuffix("/"))
        case Sleep(seconds):
            return seconds
        case _:
            return 0.0


def _answer(ask: Ask) -> tuple[Any, Failure | None]:
    match ask.what:
        case Call(input=given):
            if given.get("fail"):
                return None, Failure(code="broken", message="it is broken")
            return given["n"] + 1, None
        case Sleep() | Clock() | Lock() | Unlock():
            return None, None
        case _:
            raise AssertionError(ask)


def told_by(end: End | None) -> tuple[str, Any]:
    """An end as the reference says it."""
    if isinstance(end, Finished):
        return "completed", end.result
    assert isinstance(end, Broken), end
    return "failed", end.failure.code


@settings(max_examples=300, deadline=None)
@given(documents())
def test_a_random_document_ends_as_the_reference_says(document: Document) -> None:
    """Conditions, maps, loops, joins and failures in any mixture."""
    assert told_by(Run(document).run()) == reference_run(document, {})


@settings(max_examples=150, deadline=None)
@given(documents(), st.data())
def test_a_crash_at_any_event_changes_nothing(document: Document, data: st.DataObject) -> None:
    """A machine that is told again what was answered before goes on where the lost one was."""
    whole = Run(document)
    end = whole.run()
    if whole.told:
        again = Run(document)
        assert told_by(again.run(crash_at=data.draw(st.integers(1, len(whole.told))))) == told_by(end)
        assert again.told == whole.told
