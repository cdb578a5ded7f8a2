"""What differs between two versions of a workflow, and whether it breaks who uses it. Pure.

A job keeps its version to the end, so a change of steps breaks no job that runs, and who calls the workflow sees none
of them: steps are told and never break. What is promised to others is the name, what is taken (``input``, ``params``)
and what is given (``output``; without one the fields of ``result``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from actors.components.version import parse_version
from actors.workflow.document import CallStep, Document
from actors.workflow.finding import Path, path_text
from actors.workflow.outline import Entry, outline
from actors.workflow_versions.narrowing import Narrowing, narrowings

Schema = dict[str, Any]
_KEEPS = "a job that runs keeps its version"
_VALUES_LIMIT_CHARS = 60
_PROSE = ("description", "category", "labels")


class Change(msgspec.Struct, frozen=True):
    """One difference. ``path`` is as in findings, with ids in the place of numbers for steps; ``why`` is its reason."""

    path: str
    what: str
    breaking: bool
    why: str

    def __str__(self) -> str:
        return f"{self.path} {self.what} ({self.why})"


def compare(old: Document, new: Document) -> list[Change]:
    """All differences that matter to somebody, those that break first. Versions are not compared."""
    found = [*_name(old, new), *_input(old, new), *_output(old, new), *_params(old, new), *_steps(old, new)]
    found += _words(old, new)
    return sorted(found, key=lambda change: not change.breaking)


def breaking(changes: list[Change]) -> list[Change]:
    """Those that break somebody."""
    return [change for change in changes if change.breaking]


def next_version(newest: str, changes: list[Change]) -> str:
    """The version after ``newest`` that says what ``changes`` mean: a major for a break, a patch for steps alone.

    Raises: UsageError if ``newest`` is no semantic version.
    """
    version = parse_version(newest, "version")
    if breaking(changes):
        return f"{version.major + 1}.0.0"
    if any(change.path.startswith(("$.input", "$.output", "$.params")) for change in changes):
        return f"{version.major}.{version.minor + 1}.0"
    return f"{version.major}.{version.minor}.{version.patch + 1}"


def differences(old: Any, new: Any, path: Path = ()) -> Iterator[str]:
    """Every place at which two plain values differ, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in new or key not in old:
                yield f"{path_text((*path, key))}: only {'published' if key in old else 'in yours'}"
            else:
                yield from differences(old[key], new[key], (*path, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, (*path, number))
    elif isinstance(old, list) and isinstance(new, list):
        yield f"{path_text(path)}: {len(old)} entries published, {len(new)} in yours"
    elif old != new or type(old) is not type(new):
        yield f"{path_text(path)}: {_shown(old)} published, {_shown(new)} in yours"


# ---- what is promised


def _name(old: Document, new: Document) -> Iterator[Change]:
    if old.name != new.name:
        yield Change("$.name", f"was {old.name}, is {new.name}", True, "who runs it asks for it by name")


def _input(old: Document, new: Document) -> Iterator[Change]:
    for narrowing in narrowings(old.input, new.input):
        yield _change("$.input", narrowing, True, "who gives what was right before is refused")
    lost = {narrowing.path for narrowing in narrowings(old.input, new.input)}
    for widening in _other_way(new.input, old.input, lost):
        yield _change("$.input", widening, False, "what was right before still is")


def _output(old: Document, new: Document) -> Iterator[Change]:
    before, after = given(old), given(new)
    removed = {narrowing.path for narrowing in narrowings(before, after) if narrowing.how == "gone"}
    for path in sorted(removed):
        yield Change(f"$.output{path}", "is not given any more", True, "who reads it does not find it")
    for widening in _other_way(after, before, removed):
        if widening.how in ("gone", "closed"):
            yield _change("$.output", widening, False, "who reads what was there before finds it")
        else:
            yield _change("$.output", widening, True, "who reads it may get what could not come before")
    for narrowing in narrowings(before, after):
        if narrowing.path not in removed:
            yield _change("$.output", narrowing, False, "who reads it gets nothing that could not come before")


def given(document: Document) -> Schema:
    """What a workflow promises to give: its output, else the fields of its result."""
    if document.output or not isinstance(document.result, dict):
        return document.output
    return {"type": "object", "properties": {key: {} for key in document.result}, "required": [*document.result]}


_WIDENED = {
    "required": "is optional now",
    "gone": "is new",
    "closed": "takes other fields now",
    "less": "takes more than before",
}


def _other_way(more: Schema, less: Schema, told: set[str]) -> Iterator[Narrowing]:
    """What ``more`` takes and ``less`` did not, said from the side of ``more``; at ``told`` is said enough."""
    for path, _, how in narrowings(more, less):
        if path not in told:
            yield Narrowing(path, _WIDENED[how], how)


def _change(at: str, narrowing: Narrowing, breaks: bool, why: str) -> Change:
    return Change(at + narrowing.path, narrowing.what, breaks, why)


def _params(old: Document, new: Document) -> Iterator[Change]:
    """Whoever publishes it with parameters of their own has to be able to do so again."""
    for name in [*old.params, *(name for name in new.params if name not in old.params)]:
        yield from _param(f"$.params.{name}", old, new, name)


def _param(path: str, old: Document, new: Document, name: str) -> Iterator[Change]:
    if name not in new.params:
        yield Change(path, "is no parameter any more", True, "who gives it is refused")
        return
    after = new.params[name]
    has_default = after.default is not msgspec.UNSET
    if name not in old.params:
        why = "it has a default" if has_default else "it has no default, so who gives none is refused"
        yield Change(path, "is new", not has_default, why)
        return
    before = old.params[name]
    for narrowing in narrowings(before.schema, after.schema):
        yield _change(path, narrowing, True, "who gives what was right before is refused")
    if before.default == after.default:
        return
    if not has_default:
        yield Change(path, "has no default any more", True, "who gives none is refused")
    else:
        yield Change(path, f"has default {_shown(after.default)}", False, "who gives a value sees no difference")


# ---- steps


def _steps(old: Document, new: Document) -> Iterator[Change]:
    olds, news = _places(old), _places(new)
    for name, (entry, place) in olds.items():
        if name not in news:
            yield _step(name, "is gone")
        else:
            yield from _step_changes(name, entry, place, *news[name])
    for name in news:
        if name not in olds:
            yield _step(name, "is new")


def _places(document: Document) -> dict[str, tuple[Entry, str]]:
    """Each step by id, with the list that it stands in: ids and not numbers, which shift."""
    return {entry.step.id: (entry, _place(entry)) for entry in outline(document).entries}


def _place(entry: Entry) -> str:
    owner = entry.scope.owner
    if owner is None:
        return "the top"
    return f"{owner.step.id}{path_text(entry.scope.path[len(owner.path) :])[1:]}"


def _step_changes(name: str, old: Entry, place: str, new: Entry, new_place: str) -> Iterator[Change]:
    if place != new_place:
        yield _step(name, f"moved from {place} to {new_place}")
    before, after = old.step.__struct_config__.tag, new.step.__struct_config__.tag
    if before != after:
        yield _step(name, f"was {before}, is {after}")
        return
    if isinstance(old.step, CallStep) and isinstance(new.step, CallStep) and old.step.run != new.step.run:
        yield _step(name, f"runs {new.step.run}, ran {old.step.run}")
    if fields := _fields(old, new):
        yield _step(name, f"has other {', '.join(fields)}")


def _fields(old: Entry, new: Entry) -> list[str]:
    """What else differs; steps inside of it are told by themselves."""
    names = zip(type(old.step).__struct_encode_fields__, type(old.step).__struct_fields__, strict=True)
    left_out = ("id", "run", "steps", "cases", "else", "branches", "description")
    return [wire for wire, name in names if wire not in left_out and getattr(old.step, name) != getattr(new.step, name)]


def _step(name: str, what: str) -> Change:
    return Change(f"$.steps.{name}", what, False, _KEEPS)


def _words(old: Document, new: Document) -> Iterator[Change]:
    if old.result != new.result:
        yield Change("$.result", "is another", False, "what it may be is said by the output")
    for name in _PROSE:
        if getattr(old, name) != getattr(new, name):
            yield Change(f"$.{name}", "is another", False, "it is for people")
    for name in ("at_once", "rate"):
        if getattr(old, name) != getattr(new, name):
            yield Change(f"$.{name}", "is another", False, "it says when a job begins, and not what it does")


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _VALUES_LIMIT_CHARS else f"{text[:_VALUES_LIMIT_CHARS]}..."
