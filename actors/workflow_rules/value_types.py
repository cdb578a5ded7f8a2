"""The types of what expressions name, from schemas: of the input, of parameters, and of what steps give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from actors.components.component import ComponentInfo
from actors.workflow.document import CallStep, Document, JobStep, MapStep, ParallelStep, SetStep, SwitchStep
from actors.workflow.expression import embedded, without_texts
from actors.workflow.outline import Entry, Outline, goes_to
from actors.workflow_rules.component_rules import Catalogue
from actors.workflow_rules.schema_type import ANYTHING, Known, Missing, is_anything, item, known, member
from bus.errors import UsageError
from bus.subjects import CallKind

_NAME = r"[A-Za-z_]\w*"
_PATH = re.compile(
    rf"""\s*({_NAME})((?:\s*\.\s*{_NAME}|\s*\[\s*(?:\d+|"[^"\\]*"|'[^'\\]*')\s*\])+)\s*|\s*{_NAME}\s*""", re.ASCII
)
_STEP = re.compile(rf"""\.\s*({_NAME})|\[\s*(?:(\d+)|["']([^"'\\]*)["'])\s*\]""", re.ASCII)
_CHAIN = re.compile(rf"(?<![\w.])({_NAME})((?:\.{_NAME}|\[\d+\])+)(\s*\()?", re.ASCII)

Route = tuple[str | int, ...]

COUNT = known({"type": "integer"})
TEXT = known({"type": "string"})
NULL = known({"type": "null"})


def route(text: str) -> Route:
    """The members that an expression goes along if it does nothing else, such as ``input.items[0].sku``; else ()."""
    found = _PATH.fullmatch(text)
    if found is None:
        return ()
    return (found[1], *_steps(found[2])) if found[1] else (text.strip(),)


def routes(text: str) -> Iterator[Route]:
    """All members that an expression goes along, those left out whose presence it asks for itself (``has``)."""
    plain = without_texts(text)
    if "has(" in plain or ".?" in plain or "[?" in plain:
        return
    for root, rest, call in _CHAIN.findall(plain):
        steps = (root, *_steps(rest))
        yield steps[:-1] if call else steps


def _steps(text: str) -> Iterator[str | int]:
    for name, number, quoted in _STEP.findall(text):
        yield int(number) if number else name or quoted


class Place(NamedTuple):
    """Where an expression stands: before ``entry`` or, ``is_inside``, among the steps that it holds."""

    entry: Entry | None
    is_inside: bool = False


class ValueTypes:
    """Of one document. Without a catalogue nobody knows what components give."""

    def __init__(self, document: Document, outline: Outline, catalogue: Catalogue | None) -> None:
        self._document = document
        self._outline = outline
        self._catalogue = catalogue
        self._outputs: dict[str, Known] = {}
        # By identity: many steps run the same component. What has the identity is kept with it.
        self._members: dict[tuple[int, int, str | int], tuple[Known, Known | Missing]] = {}
        self._absent: frozenset[str] | None = None

    def along(self, steps: Route, place: Place) -> Known | Missing:
        """The type of what these members lead to, or the first one that there is not."""
        return self.inside(*self._start(steps, place))

    def inside(self, type_: Known, steps: Route) -> Known | Missing:
        """The type of what is inside of a value, along these members."""
        for step in steps:
            key = (id(type_.schema), id(type_.root), step)
            if (noted := self._members.get(key)) is None:
                found = item(type_, step) if isinstance(step, int) else member(type_, step)
                noted = self._members[key] = (type_, found)
            if noted[1] is ANYTHING or isinstance(noted[1], Missing):
                return noted[1]
            type_ = noted[1]
        return type_

    def _start(self, steps: Route, place: Place) -> tuple[Known, Route]:
        match steps:
            case ("input", *rest) if self._document.input:
                return known(self._document.input), tuple(rest)
            case ("params", str(name), *rest) if name in self._document.params:
                return known(self._document.params[name].schema), tuple(rest)
            case ("steps", str(name), "output", *rest) if name in self._outline.by_id:
                entry = self._outline.by_id[name]
                type_ = self.output(entry)
                if not rest and not is_anything(type_) and self._may_be_absent(entry):
                    type_ = known({"anyOf": [NULL, type_]})
                return type_, tuple(rest)
            case ("steps", str(name), "status") if name in self._outline.by_id:
                return TEXT, ()
            case (str(name), *rest) if name not in ("input", "params", "steps"):
                return self._variable(name, place), tuple(rest)
        return ANYTHING, ()

    def _variable(self, name: str, place: Place) -> Known:
        """Of a map's item and of what counts; others are not known."""
        entry = place.entry
        if entry is not None and not place.is_inside:
            entry = entry.scope.owner
        while entry is not None:
            step = entry.step
            if isinstance(step, MapStep) and name == step.as_:
                over = self._expression(step.over, Place(entry))
                return item(over)
            if entry.inner and name in entry.inner[0].variables:
                return COUNT if name in ("index", "round") else ANYTHING
            entry = entry.scope.owner
        return ANYTHING

    # ---- what steps give

    def output(self, entry: Entry) -> Known:
        """The type of a step's output once it has completed."""
        name = entry.step.id
        type_ = self._outputs.get(name)
        if type_ is None:
            self._outputs[name] = ANYTHING  # for one that refers to itself, which is a fault of its own
            type_ = self._outputs[name] = self._output(entry)
        return type_

    def _output(self, entry: Entry) -> Known:
        step = entry.step
        if isinstance(step, CallStep):
            if self._catalogue is None or (isinstance(step, JobStep) and not step.wait):
                return ANYTHING
            info = component(self._catalogue, step)
            return known(info.output_schema) if info is not None and info.output_schema else ANYTHING
        if isinstance(step, SetStep):
            return self.value(step.values, Place(entry))
        given = getattr(step, "output", None)
        type_ = ANYTHING if given is None else self.value(given, Place(entry, is_inside=True))
        return known({"type": "array", "items": type_}) if isinstance(step, MapStep) else type_

    def value(self, value: Any, place: Place) -> Known:
        """The type of a value of the document with the expressions inside of it."""
        if isinstance(value, str):
            text = embedded(value) if "${" in value else None
            return known({"const": value}) if text is None else self._expression(text, place)
        if isinstance(value, dict):
            parts = {name: self.value(inner, place) for name, inner in value.items()}
            closed = {"required": list(parts), "additionalProperties": False}
            return known({"type": "object", "properties": parts, **closed})
        if isinstance(value, list | tuple):
            return known({"type": "array", "prefixItems": [self.value(inner, place) for inner in value]})
        return known({"const": value})

    def _expression(self, text: str, place: Place) -> Known:
        steps = route(text)
        found = self.along(steps, place) if steps else ANYTHING
        return found if isinstance(found, Known) else ANYTHING

    def _may_be_absent(self, entry: Entry) -> bool:
        """Whether the step may be skipped, left or given up, so that its output is null."""
        if self._absent is None:
            self._absent = frozenset(_left_out(self._outline))
        here: Entry | None = entry
        while here is not None:
            step = here.step
            if step.when is not None or step.on_error != "fail" or step.id in self._absent or here.is_gone_to:
                return True
            here = here.scope.owner
            if here is not None and (isinstance(here.step, SwitchStep) or here.step.join is not None):
                return True
        return False


def _left_out(outline: Outline) -> Iterator[str]:
    """Steps that others may give up, or that only run when another one fails."""
    for entry in outline.entries:
        step = entry.step
        yield from step.cancels
        yield from goes_to(step)
        if step.join is not None and not isinstance(step, MapStep | ParallelStep):
            yield from step.join.of


def component(catalogue: Catalogue, step: CallStep) -> ComponentInfo | None:
    """What a step runs, if there is such a thing."""
    return component_of(catalogue, str(step.__struct_config__.tag), step.run)


def component_of(catalogue: Catalogue, kind: str, ref: str) -> ComponentInfo | None:
    """The component that a reference names, if there is one."""
    calls: dict[str, CallKind] = {"tool": "tool", "agent": "agent", "job": "job"}
    try:
        found = catalogue.find(calls[kind], ref)
    except UsageError:
        return None
    return found if isinstance(found, ComponentInfo) else None
