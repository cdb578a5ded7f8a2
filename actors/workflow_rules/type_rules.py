"""Rules of types: what can never fit where it is put, by the schemas of what gives it and of what takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from actors.workflow.document import CallStep, Document, EndStep
from actors.workflow.expression import Expression, parse
from actors.workflow.finding import Fault, Path, did_you_mean
from actors.workflow.outline import Entry, Outline
from actors.workflow_rules.component_rules import Catalogue
from actors.workflow_rules.expression_sites import Site, has_expression
from actors.workflow_rules.schema_rules import misfits
from actors.workflow_rules.schema_type import (
    ANYTHING,
    Known,
    Missing,
    is_anything,
    kinds,
    known,
    member,
    misfit,
    resolved,
)
from actors.workflow_rules.value_types import COUNT, Place, ValueTypes, component, component_of, route, routes

_CONDITION = known({"type": "boolean"})
_LIST = known({"type": "array"})
_NUMBER = known({"type": "number"})
# What an expression has to give, by the last part of its place.
_BY_FIELD = {"when": _CONDITION, "until": _CONDITION, "over": _LIST, "items": _LIST, "for_s": _NUMBER, "n": COUNT}
# How many members lead to the first one that these rules speak about; those before are the rules' of reference.
_TOP = Place(None)
_BEGIN = {"input": 2, "params": 2, "steps": 3}


def type_faults(
    document: Document, outline: Outline, expressions: Iterable[Site], catalogue: Catalogue | None
) -> Iterator[Fault]:
    """All faults of types."""
    rules = _Rules(document, outline, catalogue)
    for site in expressions:
        if site.text is not None:
            yield from rules.check(site, site.text)
    yield from _results(document, outline)


class _Rules:
    def __init__(self, document: Document, outline: Outline, catalogue: Catalogue | None) -> None:
        self._types = ValueTypes(document, outline, catalogue)
        self._catalogue = catalogue
        self._outline = outline
        # By identity, as in ValueTypes.
        self._misfits: dict[tuple[int, ...], tuple[str, Known, Known]] = {}
        self._output = known(document.output) if document.output else ANYTHING

    def check(self, site: Site, text: str) -> Iterator[Fault]:
        found = parse(text)
        if not isinstance(found, Expression) or not found.variables:
            return
        if self._may_miss(site, text, found):
            missing = self._missing(text, found, Place(site.entry, site.sees_inner))
            yield from (_unknown(each, site.path) for each in missing)
            if missing:
                return
        wanted = self._wanted(site) if found.may_be_route else ANYTHING
        if wanted is ANYTHING or not (steps := route(text)):
            return
        given = self._types.along(steps, Place(site.entry, site.sees_inner))
        if isinstance(given, Known) and given is not ANYTHING and (reason := self._misfit(given, wanted)):
            yield Fault("type_misfit", site.path, f"{text} does not fit here: {reason}", _advice(given, wanted))

    def _may_miss(self, site: Site, text: str, found: Expression) -> bool:
        """Whether anything is known of that whose members are named; the first ones are the rules' of reference."""
        for root, name, attribute in found.members:
            if root == "steps":
                entry = self._outline.by_id.get(name) if attribute == "output" else None
                if entry is not None and not is_anything(self._types.output(entry)):
                    return True
            elif root in _BEGIN:
                if (attribute or "[" in text) and not is_anything(self._types.along((root, name), _TOP)):
                    return True
            elif root in found.variables:
                place = Place(site.entry, site.sees_inner)
                if not is_anything(self._types.along((root,), place)):
                    return True
        return False

    def _missing(self, text: str, found: Expression, place: Place) -> list[Missing]:
        """Properties that are named and are not there."""
        named = [steps for steps in dict.fromkeys((*routes(text), route(text)))
                 if steps and steps[0] in found.variables and len(steps) > _BEGIN.get(str(steps[0]), 1)]  # fmt: skip
        types = (self._types.along(steps, place) for steps in named)
        return list(dict.fromkeys(each for each in types if isinstance(each, Missing)))

    def _inside(self, type_: Known, path: Path) -> Known:
        """The type of what is at that path of a value; what is not there may be anything."""
        found = self._types.inside(type_, path)
        return ANYTHING if isinstance(found, Missing) else found

    def _misfit(self, given: Known, wanted: Known) -> str:
        key = (id(given.schema), id(given.root), id(wanted.schema), id(wanted.root))
        if key not in self._misfits:
            self._misfits[key] = (misfit(given, wanted), given, wanted)
        return self._misfits[key][0]

    def _wanted(self, site: Site) -> Known:
        """What has to come of the expression."""
        if site.entry is None:
            return self._inside(self._output, site.path[1:])
        within = site.path[len(site.entry.path) :]
        step = site.entry.step
        match within:
            case ("with", *rest) if isinstance(step, CallStep) and self._catalogue is not None:
                info = component(self._catalogue, step)
                return ANYTHING if info is None else self._inside(known(info.input_schema), tuple(rest))
            case ("compensate", "with", *rest) if step.compensate is not None and self._catalogue is not None:
                info = component_of(self._catalogue, "tool", step.compensate.tool)
                return ANYTHING if info is None else self._inside(known(info.input_schema), tuple(rest))
            case ("result", *rest) if isinstance(step, EndStep):
                return self._inside(self._output, tuple(rest)) if step.status == "completed" else ANYTHING
            case ("with" | "compensate" | "values" | "data" | "details" | "output" | "result", *_):
                return ANYTHING
        return _BY_FIELD.get(str(within[-1]), ANYTHING)


def _unknown(missing: Missing, path: Path) -> Fault:
    if not missing.known:
        hint = f"{missing.what} has no properties"
        return Fault("unknown_property", path, f"there is no {missing.name!r} in it", hint)
    return Fault(
        "unknown_property", path, f"there is no property {missing.name!r}", did_you_mean(missing.name, missing.known)
    )


def _advice(given: Known, wanted: Known) -> str:
    """How it can be turned into what is wanted."""
    if kinds(wanted) == {"boolean"}:
        return "compare it with something"
    if kinds(wanted) == {"string"} and kinds(given) <= {"number", "boolean"}:
        return "write string(...)"
    if kinds(given) == {"string"} and kinds(wanted) == {"number"}:
        return "write int(...) or double(...)"
    return ""


# ---- results


def _results(document: Document, outline: Outline) -> Iterator[Fault]:
    """What a workflow gives fits its output, as far as that is known before."""
    if not document.output:
        return
    wanted = known(document.output)
    ends = [entry for entry in outline.entries if isinstance(entry.step, EndStep)]
    if document.result is not None:
        yield from _value(document.result, wanted, ("result",))
    elif not ends and "null" not in kinds(wanted):
        hint = "add 'result', or leave out 'output'"
        yield Fault("bad_output", ("output",), "nothing gives this: the document has no 'result'", hint)
    for entry in ends:
        yield from _end(entry, wanted)


def _end(entry: Entry, wanted: Known) -> Iterator[Fault]:
    step = entry.step
    if isinstance(step, EndStep) and step.status == "completed" and step.result is not None:
        yield from _value(step.result, wanted, (*entry.path, "result"))


def _value(value: Any, wanted: Known, path: Path) -> Iterator[Fault]:
    """A value with expressions inside of it; those themselves are checked where they stand."""
    wanted = resolved(wanted)
    if not isinstance(wanted.schema, dict):
        return
    if not has_expression(value):
        defs = wanted.root.get("$defs") if isinstance(wanted.root, dict) else None
        yield from misfits({**wanted.schema, "$defs": defs} if defs else wanted.schema, value, path, "bad_output")
        return
    if isinstance(value, dict | list) and not kinds(wanted) & {"object" if isinstance(value, dict) else "array"}:
        kind = "an object" if isinstance(value, dict) else "a list"
        yield Fault(
            "bad_output", path, f"the output cannot be {kind}", f"it has to be {' or '.join(sorted(kinds(wanted)))}"
        )
    elif isinstance(value, dict) and not wanted.schema.keys() & {"anyOf", "oneOf", "allOf", "not", "if"}:
        yield from _fields(value, wanted, path)


def _fields(value: dict[str, Any], wanted: Known, path: Path) -> Iterator[Fault]:
    required, properties = wanted.schema.get("required"), wanted.schema.get("properties")
    for name in required if isinstance(required, list) else ():
        if name not in value:
            yield Fault("bad_output", path, f"the output requires {name!r}", "add it")
    for name, inner in value.items():
        found = member(wanted, name)
        if isinstance(found, Known):
            yield from _value(inner, found, (*path, name))
        elif wanted.schema.get("additionalProperties") is False:
            hint = did_you_mean(name, properties or ())
            yield Fault("bad_output", (*path, name), f"the output has no {name!r}", hint)
