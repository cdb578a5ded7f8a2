"""Rules of components: what a document runs exists, is given all that it requires, and literals that fit.

Without a catalogue only the references' spelling is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from actors.components.component import ComponentInfo
from actors.components.registry import exact_version, parse_ref
from actors.components.version import parse_version
from actors.workflow.document import CallStep
from actors.workflow.finding import Fault, Path, did_you_mean
from actors.workflow.outline import Entry, Outline
from actors.workflow_rules.expression_sites import has_expression
from actors.workflow_rules.schema_rules import misfits
from bus.errors import UsageError
from bus.subjects import CallKind

_ELSE = ("callboard components lists them", "no node has registered any")


class Catalogue:
    """The components that there are, the newest version of each first."""

    def __init__(self, infos: Iterable[ComponentInfo]) -> None:
        self._infos: dict[tuple[str, str], list[ComponentInfo]] = {}
        for info in sorted(infos, key=lambda info: parse_version(info.version, "version"), reverse=True):
            self._infos.setdefault((info.kind, info.name), []).append(info)
        self._found: dict[tuple[str, str], ComponentInfo | Fault] = {}

    def find(self, kind: CallKind, ref: str) -> ComponentInfo | Fault:
        """What ``ref`` names, or a fault (with an empty path) that says what is near."""
        if (kind, ref) not in self._found:
            self._found[kind, ref] = self._find(kind, ref)
        return self._found[kind, ref]

    def _find(self, kind: CallKind, ref: str) -> ComponentInfo | Fault:
        app, name, major = parse_ref(ref)
        exact = exact_version(ref)
        versions = self._infos.get((kind, name), [])
        for info in versions:
            if app in ("", info.app) and major in (None, info.major) and exact in ("", info.version):
                return info
        if versions:
            there_is = ", ".join(
                sorted({f"{info.app}.{name}@{info.version if exact else info.major}".lstrip(".") for info in versions})
            )
            return Fault("unknown_version", (), f"there is no {kind} {ref!r}", f"there is {there_is}")
        others = sorted({other for other, named in self._infos if named == name})
        if others:
            return Fault("unknown_component", (), f"there is no {kind} {name!r}", f"{name!r} is of kind {others[0]!r}")
        names = [named for other, named in self._infos if other == kind]
        return Fault(
            "unknown_component", (), f"there is no {kind} {name!r}", did_you_mean(name, names, _ELSE[not names])
        )


def component_faults(outline: Outline, catalogue: Catalogue | None) -> Iterator[Fault]:
    """All faults of what the steps run."""
    for entry in outline.entries:
        for kind, ref, path, values, where in _calls(entry):
            yield from _call(kind, ref, path, values, where, catalogue)


def _calls(entry: Entry) -> Iterator[tuple[CallKind, str, Path, dict[str, Any], Path]]:
    """What a step runs: kind, reference and its place, input and its place."""
    step, path = entry.step, entry.path
    if isinstance(step, CallStep):
        kind = cast("CallKind", step.__struct_config__.tag)
        yield kind, step.run, (*path, "run"), step.with_, (*path, "with") if step.with_ else path
    if (undo := step.compensate) is not None:
        place: Path = (*path, "compensate")
        yield "tool", undo.tool, (*place, "tool"), undo.with_, (*place, "with") if undo.with_ else place


def _call(
    kind: CallKind, ref: str, path: Path, values: dict[str, Any], where: Path, catalogue: Catalogue | None
) -> Iterator[Fault]:
    if kind != "job" and exact_version(ref):
        hint = f"write {ref.partition('@')[0]}@{ref.partition('@')[2].partition('.')[0]}"
        yield Fault("bad_reference", path, f"a whole version is asked of jobs only, not of {kind} {ref!r}", hint)
        return
    try:
        found = catalogue.find(kind, ref) if catalogue else parse_ref(ref)
    except UsageError as error:
        yield Fault("bad_reference", path, error.args[0], error.hint)
        return
    if isinstance(found, Fault):
        yield Fault(found.code, path, found.message, found.hint)
    elif isinstance(found, ComponentInfo):
        yield from _inputs(found, values, where)


def _inputs(info: ComponentInfo, values: dict[str, Any], where: Path) -> Iterator[Fault]:
    schema = info.input_schema
    properties: dict[str, Any] = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in values:
            message = f"{info.kind} {info.name!r} requires the input {name!r}"
            yield Fault("missing_input", where, message, f"add it to 'with': {_shown(properties.get(name))}")
    for name, value in values.items():
        if name in properties:
            if not has_expression(value):
                yield from misfits(_whole(properties[name], schema), value, (*where, name), "bad_input")
        elif schema.get("additionalProperties") is False:
            message = f"{info.kind} {info.name!r} has no input {name!r}"
            yield Fault("unknown_input", (*where, name), message, did_you_mean(name, properties, "it takes no inputs"))


def _whole(part: Any, schema: dict[str, Any]) -> Any:
    """The schema of one field, with the definitions that it may refer to."""
    return {**part, "$defs": schema["$defs"]} if isinstance(part, dict) and "$defs" in schema else part


def _shown(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, dict) else None
    return f"a value of type {kind}" if isinstance(kind, str) else "any value that fits its schema"
