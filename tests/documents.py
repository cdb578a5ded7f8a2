"""Hypothesis strategies for workflow documents: valid ones, and ones with a single fault that has a code."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hypothesis import strategies as st

Step = dict[str, Any]
Value = dict[str, Any]

# What may stand in an expression beside steps and the variables of maps and loops.
_GROUND = ("input.sku", "params.limit", "now", "1", "'text with ${ in it'", "size('steps.no_such_step')")


class Known(NamedTuple):
    """What an expression may name where it stands."""

    names: tuple[str, ...] = _GROUND

    def and_steps(self, ids: list[str]) -> Known:
        outcomes = (f"steps.{each}.output" for each in ids)
        return Known((*self.names, *outcomes))


class Maker:
    """Draws one document. Each id is taken once."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self._draw = draw
        self._count = 0

    def document(self) -> Value:
        """A whole one."""
        steps, all_ids = self.steps(Known(), depth=0)
        return {
            "name": "made",
            "version": "1.2.3",
            "labels": {"a": "b"},
            "input": {"type": "object", "properties": {"sku": {"type": "string"}}},
            "params": {"limit": {"default": 3, "schema": {"type": "integer"}}},
            "steps": steps,
            "result": {"last": self.value(Known().and_steps(all_ids))},
        }

    def expression(self, known: Known) -> str:
        """One that names what is known."""
        names = self._draw(st.lists(st.sampled_from(known.names), min_size=1, max_size=3))
        pattern = self._draw(st.sampled_from(("[{}]", "[{}].map(x, x)", "[{}].exists(y, y == null) // steps.none")))
        return str(pattern).format(", ".join(names))

    def value(self, known: Known) -> Any:
        """A value for an input: a literal or an expression, also deep inside."""
        kind = self._draw(st.sampled_from(("literal", "expression", "inside")))
        if kind == "literal":
            return self._draw(st.sampled_from((1, 2.5, "text", True, None, [1], {"a": "b"})))
        text = f"${{ {self.expression(known)} }}".replace("// steps.none", "")
        return text if kind == "expression" else {"a": [{"b": text}]}

    def steps(self, known: Known, depth: int) -> tuple[list[Step], list[str]]:
        """A list of steps, and the ids that who comes after all of them may name."""
        steps: list[Step] = []
        shown: dict[str, list[str]] = {}
        before: dict[str, set[str]] = {}
        for _ in range(self._draw(st.integers(1, 4))):
            earlier = list(before)
            needs = self._draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
            through = {each for need in needs for each in (need, *before[need])}
            here = known.and_steps([name for each in sorted(through) for name in shown[each]])
            self._count += 1
            name = f"s{self._count}"
            step, inner = self.step(name, here, depth)
            if needs and self._draw(st.booleans()) and step["kind"] not in ("parallel", "map"):
                step["join"] = {"of": needs, "n": self._draw(st.integers(1, len(needs)))}
            elif needs:
                step["needs"] = needs
            if self._draw(st.booleans()):
                step["when"] = f"{self.expression(here).replace('// steps.none', '')} != null"
            if self._draw(st.booleans()):
                undo = self.value(here.and_steps([name, *inner]))
                step["compensate"] = {"tool": "undo@1", "with": {"of": undo}}
            steps.append(step)
            before[name], shown[name] = through, [name, *inner]
        return steps, [name for names in shown.values() for name in names]

    def step(self, name: str, known: Known, depth: int) -> tuple[Step, list[str]]:
        """A step of any kind, and the ids inside of it that can be seen from outside."""
        plain = ("tool", "agent", "job", "approval", "wait", "sleep", "emit", "set")
        kinds = plain if depth >= 2 else (*plain, "map", "switch", "loop", "parallel")
        kind = self._draw(st.sampled_from(kinds))
        step: Step = {"id": name, "kind": kind}
        if kind in plain:
            return step | self.plain(kind, known), []
        more, inner = getattr(self, kind)(known, depth + 1)
        return step | more, inner

    def plain(self, kind: str, known: Known) -> Step:
        """What a step without steps has beside id and kind."""
        match kind:
            case "tool" | "agent" | "job":
                retry = {"retry": {"attempts": 2}} if kind == "tool" else {}
                return {"run": "shop.quote@2", "with": {"x": self.value(known)}, **retry}
            case "approval":
                return {"title": "May I?", "details": {"x": self.value(known)}, "roles": ["boss"], "quorum": 2}
            case "wait":
                return {"signal": "go", "timeout_s": 5}
            case "sleep":
                return {"for_s": self._draw(st.sampled_from((1, 0.5, "${ params.limit }")))}
            case "emit":
                return {"event": "done", "data": {"x": self.value(known)}, "on_error": "continue"}
            case _:
                return {"values": {"x": self.value(known)}}

    def map(self, known: Known, depth: int) -> tuple[Step, list[str]]:
        """Steps for each item."""
        inside = Known((*known.names, "thing", "index"))
        steps, ids = self.steps(inside, depth)
        output = self.value(inside.and_steps(ids))
        return {"over": self.expression(known), "as": "thing", "steps": steps, "output": output}, []

    def loop(self, known: Known, depth: int) -> tuple[Step, list[str]]:
        """Steps in rounds."""
        inside = Known((*known.names, "round"))
        steps, ids = self.steps(inside, depth)
        until = self.expression(inside.and_steps(ids))
        return {"until": until, "max_rounds": 3, "steps": steps}, []

    def switch(self, known: Known, depth: int) -> tuple[Step, list[str]]:
        """Steps of one case."""
        cases, all_ids = [], []
        for _ in range(self._draw(st.integers(1, 2))):
            steps, ids = self.steps(known, depth)
            cases.append({"when": f"params.limit > {len(cases)}", "steps": steps})
            all_ids += ids
        otherwise, ids = self.steps(known, depth)
        return {"cases": cases, "else": otherwise}, [*all_ids, *ids]

    def parallel(self, known: Known, depth: int) -> tuple[Step, list[str]]:
        """Steps side by side."""
        branches, all_ids = {}, []
        for number in range(self._draw(st.integers(1, 3))):
            branches[f"b {number}"], ids = self.steps(known, depth)
            all_ids += ids
        join = {"n": self._draw(st.integers(1, len(branches))), "cancel_rest": True}
        return {"branches": branches, "join": join}, all_ids


@st.composite
def documents(draw: Any) -> Value:
    """Documents without a fault."""
    return Maker(draw).document()


def lists_of(value: Any) -> Iterator[list[Step]]:
    """Every list of steps in a document."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from lists_of(inner)
    elif isinstance(value, list):
        if value and isinstance(value[0], dict) and "kind" in value[0]:
            yield value
        for inner in value:
            yield from lists_of(inner)


def _clash(document: Value, steps: list[Step], step: Step) -> None:
    steps.append({"id": step["id"], "kind": "wait", "signal": "x"})


def _ring(document: Value, steps: list[Step], step: Step) -> None:
    """A new step between a step and itself."""
    steps.append({"id": "ring", "kind": "wait", "signal": "x", "needs": [step["id"]]})
    step["needs"] = [*step.get("needs", ()), "ring"]


def _follower(document: Value, steps: list[Step], step: Step) -> None:
    """Who needs a step of a ring is never reached."""
    _ring(document, steps, step)
    steps.append({"id": "after", "kind": "wait", "signal": "x", "needs": ["ring"]})


def _goto(document: Value, steps: list[Step], step: Step) -> None:
    step["on_error"] = {"goto": "nowhere"}


def _unfit_join(document: Value, steps: list[Step], step: Step) -> None:
    steps.append({"id": "joined", "kind": "wait", "signal": "x", "join": {"of": [step["id"]], "n": 2}})


def _other_list(document: Value, steps: list[Step], step: Step) -> None:
    inner = [{"id": "hidden", "kind": "wait", "signal": "x"}]
    steps.append({"id": "box", "kind": "parallel", "branches": {"a": inner}})
    steps.append({"id": "seeker", "kind": "wait", "signal": "x", "needs": ["hidden"]})


def _late(document: Value, steps: list[Step], step: Step) -> None:
    steps.append({"id": "late", "kind": "wait", "signal": "x"})
    step["when"] = "steps.late.output == 1"


def _set(**fields: Any) -> Callable[[Value, list[Step], Step], None]:
    return lambda document, steps, step: step.update(copy.deepcopy(fields))


# What is done to a step of a valid document, and the code of the finding that belongs to it.
MUTATIONS: dict[str, tuple[str, Callable[[Value, list[Step], Step], None]]] = {
    "a need of nothing": ("unknown_step", _set(needs=["no_such_step"])),
    "a need of a step elsewhere": ("other_list", _other_list),
    "a goto to nothing": ("unknown_step", _goto),
    "a ring": ("cycle", _ring),
    "a need of itself": ("cycle", lambda d, s, step: step.update(needs=[step["id"]])),
    "after a ring": ("unreachable", _follower),
    "an id twice": ("duplicate_id", _clash),
    "no expression": ("bad_expression", _set(when="1 +")),
    "an empty expression": ("bad_value", _set(when="")),
    "a marked expression": ("bad_expression", _set(when="${ 1 > 0 }")),
    "an unknown variable": ("unknown_name", _set(when="inptu.sku == ''")),
    "an unknown field of the input": ("unknown_name", _set(when="input.skuu == ''")),
    "an unknown parameter": ("unknown_name", _set(when="params['limt'] == 1")),
    "an unknown function": ("unknown_function", _set(when="siez('a') == 1")),
    "an unknown step": ("unknown_step", _set(when="steps.nobody.output == 1")),
    "a step that is not through": ("not_before", _late),
    "itself": ("not_before", lambda d, s, step: step.update(when=f"steps.{step['id']}.output == 1")),
    "never": ("unreachable", _set(when="1 > 2")),
    "half an expression": ("bad_expression", _set(compensate={"tool": "t", "with": {"a": "b ${ now }"}})),
    "no reference": ("bad_reference", _set(compensate={"tool": "t@one"})),
    "an unknown kind of step": ("unknown_kind", _set(kind="tol")),
    "no kind": ("missing_field", lambda d, s, step: step.pop("kind")),
    "no id": ("missing_field", lambda d, s, step: step.pop("id")),
    "a bad id": ("bad_value", _set(id="a-b")),
    "an unknown field": ("unknown_field", _set(neds=[])),
    "a wrong type": ("bad_value", _set(timeout_s="5")),
    "a join of too many": ("join_never_met", _unfit_join),
    "an empty join": ("empty_join", lambda d, s, step: s.append(
        {"id": "joined", "kind": "wait", "signal": "x", "join": {"n": 1}})),
    "no version": ("bad_version", lambda d, s, step: d.update(version="1.0")),
    "no schema": ("bad_schema", lambda d, s, step: d.update(output={"type": "txt"})),
    "a default that does not fit": ("bad_default", lambda d, s, step: d["params"]["limit"].update(default="3")),
    "a default of the input": ("bad_default", lambda d, s, step: d.update(
        input={**d.get("input", {}), "properties": {**d.get("input", {}).get("properties", {}), "odd": {
            "type": "integer", "default": "3"}}})),
}  # fmt: skip


@st.composite
def broken_documents(draw: Any) -> tuple[str, str, Value]:
    """(what was done, code of the finding, document)."""
    document = Maker(draw).document()
    steps = draw(st.sampled_from(list(lists_of(document["steps"]))))
    what = draw(st.sampled_from(sorted(MUTATIONS)))
    code, mutate = MUTATIONS[what]
    mutate(document, steps, draw(st.sampled_from(steps)))
    return what, code, document
