"""What breaks between two versions of a workflow: pure, against jsonschema as the judge of what a schema takes."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from actors.components.version import parse_version
from actors.workflow.document import Document
from actors.workflow_versions.compatibility import Change, breaking, compare, differences, next_version
from actors.workflow_versions.narrowing import narrowings
from tests.documents import documents

BASE: dict[str, Any] = {
    "name": "order",
    "version": "1.2.0",
    "input": {
        "type": "object",
        "required": ["sku"],
        "properties": {
            "sku": {"type": "string", "maxLength": 20},
            "qty": {"type": "integer", "minimum": 1},
            "size": {"enum": ["s", "m"]},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        },
        "$defs": {"line": {"type": "object", "properties": {"note": {"type": "string"}}}},
    },
    "output": {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}},
    "params": {"limit": {"schema": {"type": "integer"}, "default": 3}},
    "steps": [
        {"id": "a", "kind": "tool", "run": "quote@1", "with": {"sku": "${ input.sku }"}},
        {"id": "b", "kind": "parallel", "branches": {"left": [{"id": "c", "kind": "wait", "signal": "go"}]}},
    ],
}


def read(value: dict[str, Any]) -> Document:
    """A document of plain values."""
    return msgspec.convert(value, Document)


def changed(path: str, value: Any) -> Document:
    """The base with the value at a path (``input.properties.qty``) replaced, or removed if it is None."""
    copied = copy.deepcopy(BASE)
    *way, last = path.split(".")
    at: Any = copied
    for key in way:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is None:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return read(copied)


@pytest.mark.parametrize(
    ("path", "value", "at", "what"),
    [
        ("input.required", ["sku", "qty"], "$.input.qty", "required now"),
        ("input.properties.extra", {"type": "string"}, "", ""),
        ("input.properties.qty", None, "$.input.qty", "not known"),
        ("input.properties.qty", {"type": "string"}, "$.input.qty", "was integer, is string"),
        ("input.properties.qty", {"type": "number", "minimum": 1}, "", ""),
        ("input.properties.qty.minimum", 2, "$.input.qty", "minimum 2, had 1"),
        ("input.properties.qty.minimum", 0, "", ""),
        ("input.properties.qty.multipleOf", 2, "$.input.qty", "multipleOf"),
        ("input.properties.sku.maxLength", 10, "$.input.sku", "maxLength 10, had 20"),
        ("input.properties.sku.pattern", "^A", "$.input.sku", "has pattern now"),
        ("input.properties.sku.title", "A title", "", ""),
        ("input.properties.size.enum", ["s"], "$.input.size", 'cannot be "m"'),
        ("input.properties.size.enum", ["s", "m", "l"], "", ""),
        ("input.properties.size", {"type": "string"}, "", ""),
        ("input.additionalProperties", False, "$.input", "no other fields"),
        ("input.$defs.line.properties.note", {"type": "integer"}, "$.input.lines[].note", "was string, is integer"),
        ("input.$defs.line.required", ["note"], "$.input.lines[].note", "required now"),
        ("input.required", [], "", ""),
        ("input", {}, "$.input.sku", "not known"),
        ("output.properties.total", None, "$.output.total", "not given"),
        ("output.properties.total", {"type": ["number", "null"]}, "$.output.total", "takes more"),
        ("output.properties.total", {"type": "integer"}, "", ""),
        ("output.properties.more", {"type": "string"}, "", ""),
        ("output.required", [], "$.output.total", "optional now"),
        ("params.limit", None, "$.params.limit", "no parameter"),
        ("params.limit", {"schema": {"type": "integer"}}, "$.params.limit", "no default any more"),
        ("params.limit.default", 4, "", ""),
        ("params.limit.schema.maximum", 9, "$.params.limit", "has maximum 9"),
        ("params.other", {"default": 1}, "", ""),
        ("params.other", {}, "$.params.other", "is new"),
        ("name", "purchase", "$.name", "was order"),
        ("steps.0", {"id": "z", "kind": "wait", "signal": "go"}, "", ""),
        ("description", "Words.", "", ""),
    ],
)  # fmt: skip
def test_what_breaks(path: str, value: Any, at: str, what: str) -> None:
    """Who gives input or reads output is broken by less and more of it; steps and words break nobody."""
    changes = compare(read(BASE), changed(path, value))
    assert changes or path.endswith("title")
    found = breaking(changes)
    assert bool(found) == bool(at), found
    assert not at or any(change.path.startswith(at) and what in change.what for change in found), found


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("steps.0.kind", "job", "$.steps.a was tool, is job"),
        ("steps.0.run", "quote@2", "$.steps.a runs quote@2, ran quote@1"),
        ("steps.0.with", {}, "$.steps.a has other with"),
        ("steps.0.id", "x", "$.steps.a is gone"),
        ("steps.1.branches", {"right": [{"id": "c", "kind": "wait", "signal": "go"}]},
         "$.steps.c moved from b.branches.left to b.branches.right"),
    ],
)  # fmt: skip
def test_steps_are_told_and_break_nobody(path: str, value: Any, expected: str) -> None:
    """A job keeps its version, so other steps are news and no break."""
    changes = compare(read(BASE), changed(path, value))
    assert any(str(change).startswith(expected) for change in changes), changes
    assert not breaking(changes)


def test_a_result_without_an_output_is_a_promise_too() -> None:
    """Where no output is said, the fields of the result are what others read."""
    steps = BASE["steps"]
    old = read({"name": "a", "version": "1.0.0", "steps": steps, "result": {"total": 1, "parcel": 2}})
    new = read({"name": "a", "version": "1.0.0", "steps": steps, "result": {"total": 1}})
    assert [change.path for change in breaking(compare(old, new))] == ["$.output.parcel"]
    assert not breaking(compare(new, old))


def test_schemas_that_hold_themselves_come_to_an_end() -> None:
    """A tree that refers to itself twice is followed once, and its change is found."""
    node = {"type": "object", "properties": {"left": {"$ref": "#/$defs/n"}, "right": {"$ref": "#/$defs/n"}}}
    before = {"$ref": "#/$defs/n", "$defs": {"n": node}}
    after = copy.deepcopy(before)
    after["$defs"]["n"]["properties"]["left"] = {"type": "string"}  # type: ignore[index]
    assert list(narrowings(before, after))
    assert not list(narrowings(before, before))


def test_versions_say_what_changed() -> None:
    """A break takes a major, another input a minor, steps alone a patch."""
    assert next_version("1.2.3", [Change("$.input.a", "is required now", True, "")]) == "2.0.0"
    assert next_version("1.2.3", [Change("$.input.a", "is new", False, "")]) == "1.3.0"
    assert next_version("1.2.3", [Change("$.steps.a", "is new", False, "")]) == "1.2.4"
    assert parse_version(next_version("1.2.3", []), "version") > parse_version("1.2.3", "version")


def test_differences_are_said_with_their_places() -> None:
    """Two documents under one version: every place, and what stands there."""
    old, new = {"a": [1, {"b": 1}], "c": 1, "e": [1]}, {"a": [1, {"b": True}], "d": 2, "e": [1, 2]}
    assert list(differences(old, new)) == [
        "$.a[1].b: 1 published, true in yours",
        "$.c: only published",
        "$.e: 1 entries published, 2 in yours",
        "$.d: only in yours",
    ]


# ---- Hypothesis


_scalars = st.sampled_from([None, True, 0, 1, 5, 12, 2.5, "", "a", "abcdef"])
_leaf = st.one_of(
    st.fixed_dictionaries({}, optional={
        "type": st.sampled_from(["string", "integer", "number", "boolean", ["integer", "null"]]),
        "enum": st.lists(_scalars, min_size=1, max_size=3, unique_by=repr),
        "minimum": st.integers(0, 6), "maximum": st.integers(3, 9), "minLength": st.integers(0, 3),
        "maxLength": st.integers(1, 6), "multipleOf": st.integers(1, 3),
    }),
    st.booleans(),
)  # fmt: skip
_NAMES = ("p", "q", "r")


@st.composite
def objects(draw: Any, of: Any = _leaf) -> dict[str, Any]:
    """Schemas of an object with some of three fields."""
    schema: dict[str, Any] = {
        "type": "object", "properties": draw(st.dictionaries(st.sampled_from(_NAMES), of, max_size=3)),
        "required": draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=2)),
    }  # fmt: skip
    if draw(st.booleans()):
        schema["additionalProperties"] = draw(st.one_of(st.booleans(), _leaf))
    return schema


schemas = objects(st.one_of(_leaf, objects(), st.fixed_dictionaries({"type": st.just("array"), "items": _leaf}),
                            st.fixed_dictionaries({"anyOf": st.lists(_leaf, min_size=1, max_size=2)})))  # fmt: skip
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3)),
    max_leaves=5,
)
_inputs = st.dictionaries(st.sampled_from(_NAMES), _values, max_size=3)


def _known(schema: Any, value: Any) -> bool:
    """Whether the value has only fields that the schema names: of others nothing is promised."""
    if isinstance(schema, dict) and isinstance(value, dict) and "properties" in schema:
        return all(key in schema["properties"] and _known(schema["properties"][key], v) for key, v in value.items())
    return True


def _mutated(draw: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema near to another: one that has nothing in common with it says little."""
    near = copy.deepcopy(schema)
    for name in draw(st.lists(st.sampled_from(_NAMES), max_size=1)):
        near["properties"][name] = draw(_leaf)
    if draw(st.booleans()):
        near["required"] = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=2))
    return near


@settings(max_examples=150, deadline=None)
@given(data=st.data(), old=schemas, value=_inputs)
def test_what_is_not_told_is_not_refused(data: Any, old: dict[str, Any], value: Any) -> None:
    """No break told: whatever fitted the old schema, in the fields that it names, fits the new one."""
    new = _mutated(data.draw, old)
    assume(not list(narrowings(old, new)))
    assume(_known(old, value) and Draft202012Validator(old).is_valid(value))
    assert Draft202012Validator(new).is_valid(value)


@settings(max_examples=40, deadline=None)
@given(value=documents(), extra=_leaf)
def test_the_same_is_the_same_and_an_optional_input_breaks_nobody(value: dict[str, Any], extra: Any) -> None:
    """A document against itself has no change; one more optional field of its input is told and breaks nothing."""
    document = read(value)
    assert compare(document, document) == []
    more = copy.deepcopy(value)
    more["input"]["properties"]["added"] = extra
    changes = compare(document, read(more))
    assert not breaking(changes)
    assert changes
    taken_back = breaking(compare(read(more), document))
    assert [change.path for change in taken_back] == ["$.input.added"]


@settings(max_examples=60, deadline=None)
@given(schema=schemas)
def test_the_narrowest_and_the_widest(schema: dict[str, Any]) -> None:
    """Each schema against itself, against one that takes all, and against one that takes nothing."""
    assert not list(narrowings(schema, schema))
    assert not list(narrowings({**schema, "properties": {}, "required": []}, {}))
    assert list(narrowings(schema, False))
