"""Types of connected steps: what can never fit is found, and nothing that may fit is."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from actors import App, Job
from actors.workflow.finding import Finding
from actors.workflow_rules.component_rules import Catalogue
from actors.workflow_rules.schema_type import Known, item, known, member, misfit
from actors.workflow_rules.validation import validate
from actors.workflow_rules.value_types import route, routes
from tests.strategies import json_values

HEAD = """\
name: w
version: 1.0.0
input:
  type: object
  required: [sku]
  properties:
    sku: {type: string}
    qty: {type: [integer, 'null']}
    lines: {type: array, items: {type: object, properties: {id: {type: string}, n: {type: integer}}}}
    any: {}
params: {limit: {schema: {type: number}}}
steps:
- {id: quote, kind: tool, run: quote, with: {sku: '${ input.sku }'}}
- {id: maybe, kind: tool, run: quote, with: {sku: a}, when: 'now != null'}
"""


class Quote(msgspec.Struct):
    total: float
    currency: Literal["EUR", "USD"]
    tags: list[str]
    note: str | None = None


class Parcel(msgspec.Struct, forbid_unknown_fields=True):
    weight: float
    to: str = ""


def shop() -> Catalogue:
    """A catalogue whose components give and take structures."""
    app = App("shop", version="1.0.0")

    async def quote(sku: str, qty: int = 1, parcel: Parcel | None = None) -> Quote:
        raise NotImplementedError

    async def pay(currency: Literal["CHF", "USD"], quote: Quote | None = None, note: str | None = None) -> str | None:
        raise NotImplementedError

    async def crowns(currency: Literal["SEK"]) -> None:
        raise NotImplementedError

    async def anything(x: Any = None) -> dict[str, int]:
        raise NotImplementedError

    async def settle(job: Job, sku: str, lines: list[Quote]) -> list[Parcel]:
        raise NotImplementedError

    return Catalogue([app.tool(each).info() for each in (quote, pay, crowns, anything)] + [app.job(settle).info()])


CATALOGUE = shop()


def found(steps: str, rest: str = "") -> list[Finding]:
    """The findings of steps after the first two."""
    return validate("w.yaml", f"{HEAD}{steps}\n{rest}".encode(), catalogue=CATALOGUE)


def tool(name: str, values: str, needs: str = "quote, maybe") -> str:
    """A step that runs a tool with these values."""
    return f"- {{id: x, kind: tool, run: {name}, needs: [{needs}], with: {{{values}}}}}"


FITS = [
    tool("quote", "sku: '${ steps.quote.output.currency }', qty: '${ input.qty }'"),
    tool("quote", "sku: '${ input.any }', qty: '${ steps.quote.output.total }'"),
    tool("quote", "sku: '${ steps.quote.output.tags[0] }', parcel: {weight: '${ params.limit }'}"),
    tool("quote", "sku: '${ string(steps.quote.output.total) }', parcel: '${ null }'"),
    tool("pay", "currency: '${ steps.quote.output.currency }', quote: '${ steps.maybe.output }'"),
    tool("pay", "currency: USD, note: '${ steps.quote.output.note }'"),
    tool("pay", "currency: USD, quote: '${ has(steps.quote.output.x) ? steps.quote.output.x : null }'"),
    tool("anything", "x: '${ steps.quote.output }'"),
    ("- {id: x, kind: tool, run: anything}\n- {id: y, kind: tool, run: quote, needs: [x], "
     "with: {sku: a, qty: '${ steps.x.output.whatever }'}}"),
    "- {id: x, kind: wait, signal: s, needs: [quote], when: 'steps.quote.output.note == null'}",
    "- {id: x, kind: wait, signal: s, when: input.any}",
    ("- {id: m, kind: map, over: input.lines, output: '${ item.n }', steps: [{id: x, kind: tool, run: quote, "
     "with: {sku: '${ item.id }', qty: '${ index }'}}]}"),
    ("- {id: s, kind: set, values: {a: {b: '${ input.sku }'}}}\n"
     "- {id: x, kind: tool, run: quote, needs: [s], with: {sku: '${ steps.s.output.a.b }'}}"),
    ("- {id: x, kind: job, run: settle, wait: false, with: {sku: a, lines: []}}\n"
     "- {id: y, kind: set, needs: [x], values: {x: '${ steps.x.output.id }'}}"),
    "- {id: x, kind: sleep, for_s: '${ input.qty }'}",
]  # fmt: skip


@pytest.mark.parametrize("steps", FITS)
def test_what_may_fit_is_let_be(steps: str) -> None:
    """Nothing is said of types that are not known, that may be null, or that fit for some values."""
    assert found(steps) == []


MISFITS = {
    tool("quote", "sku: '${ params.limit }'"): (
        "type_misfit", "with.sku", "it is number, and has to be string", "write string(...)"),
    tool("quote", "sku: a, qty: '${ steps.quote.output.currency }'"): (
        "type_misfit", "with.qty", "it is string, and has to be integer", "write int(...) or double(...)"),
    tool("quote", "sku: '${ steps.quote.output }'"): (
        "type_misfit", "with.sku", "it is object, and has to be string", ""),
    tool("quote", "sku: '${ steps.maybe.output }'"): (
        "type_misfit", "with.sku", "it is null or object, and has to be string", ""),
    tool("quote", "sku: a, parcel: {weight: '${ steps.quote.output.tags }'}"): (
        "type_misfit", "with.parcel.weight", "it is array, and has to be number", ""),
    tool("quote", "sku: a, parcel: '${ input.lines[0] }'"): (
        "type_misfit", "with.parcel", "it is object, and has to be object or null", ""),
    tool("crowns", "currency: '${ steps.quote.output.currency }'"): (
        "type_misfit", "with.currency", "it is 'EUR' or 'USD', and has to be 'SEK'", ""),
    tool("pay", "currency: USD, quote: '${ steps.quote.output.totl }'"): (
        "unknown_property", "with.quote", "there is no property 'totl'", "did you mean 'total'?"),
    tool("pay", "currency: USD, quote: '${ steps.quote.output.total.amount }'"): (
        "unknown_property", "with.quote", "there is no 'amount' in it", "number has no properties"),
    "- {id: x, kind: wait, signal: s, needs: [quote], when: 'steps.quote.output.totl > 3'}": (
        "unknown_property", "when", "there is no property 'totl'", "did you mean 'total'?"),
    "- {id: x, kind: wait, signal: s, needs: [quote], when: steps.quote.output.total}": (
        "type_misfit", "when", "it is number, and has to be boolean", "compare it with something"),
    "- {id: x, kind: loop, max_rounds: 2, until: round, steps: [{id: y, kind: wait, signal: s}]}": (
        "type_misfit", "until", "it is integer, and has to be boolean", "compare it with something"),
    "- {id: x, kind: map, over: input.sku, steps: [{id: y, kind: wait, signal: s}]}": (
        "type_misfit", "over", "it is string, and has to be array", ""),
    "- {id: x, kind: sleep, for_s: '${ input.sku }'}": (
        "type_misfit", "for_s", "it is string, and has to be number", "write int(...) or double(...)"),
    "- {id: m, kind: map, over: input.lines, steps: [{id: x, kind: set, values: {x: '${ item.nn }'}}]}": (
        "unknown_property", "steps[0].values.x", "there is no property 'nn'", "did you mean 'n'?"),
    "- {id: m, kind: map, over: input.lines, as: line, steps: [{id: x, kind: tool, run: quote, "
    "with: {sku: '${ line.n }'}}]}": (
        "type_misfit", "steps[0].with.sku", "it is integer, and has to be string", "write string(...)"),
    "- {id: s, kind: set, values: {count: 3}}\n"
    "- {id: x, kind: set, needs: [s], values: {y: '${ steps.s.output.cnt }'}}": (
        "unknown_property", "values.y", "there is no property 'cnt'", "did you mean 'count'?"),
    "- {id: s, kind: set, values: {n: 3}}\n"
    "- {id: x, kind: tool, run: quote, needs: [s], with: {sku: '${ steps.s.output.n }'}}": (
        "type_misfit", "with.sku", "it is number, and has to be string", "write string(...)"),
    "- {id: m, kind: map, over: input.lines, output: '${ item.id }', steps: [{id: y, kind: wait, signal: s}]}\n"
    "- {id: x, kind: tool, run: quote, needs: [m], with: {sku: a, qty: '${ steps.m.output[0] }'}}": (
        "type_misfit", "with.qty", "it is string, and has to be integer", "write int(...) or double(...)"),
    "- {id: x, kind: job, run: settle, needs: [quote], with: {sku: a, lines: '${ steps.quote.output.tags[0] }'}}": (
        "type_misfit", "with.lines", "it is string, and has to be array", ""),
    "- {id: x, kind: job, run: settle, needs: [quote], with: {sku: a, lines: ['${ input.sku }']}}": (
        "type_misfit", "with.lines[0]", "it is string, and has to be object", ""),
    "- {id: x, kind: wait, signal: s, compensate: {tool: quote, with: {sku: '${ params.limit }'}}}": (
        "type_misfit", "compensate.with.sku", "it is number, and has to be string", "write string(...)"),
    "- {id: x, kind: wait, signal: s, when: \"input.lines[0].x == 'input.y'\"}": (
        "unknown_property", "when", "there is no property 'x'", "there is id, n"),
}  # fmt: skip


@pytest.mark.parametrize("steps", MISFITS)
def test_what_can_never_fit_is_found(steps: str) -> None:
    """Once, where it is put, with both types or the nearest property."""
    (finding,) = found(steps)
    code, path, message, hint = MISFITS[steps]
    assert (finding.code, finding.hint) == (code, hint)
    assert finding.message.endswith(message) and finding.path.endswith(f".{path}"), finding


OUTPUT = """\
output: {type: object, required: [total], additionalProperties: false,
         properties: {total: {type: number}, who: {type: string}}}
"""
RESULTS = {
    "result: {total: '${ steps.quote.output.total }', who: '${ input.sku }'}": [],
    "result: {total: 3}": [],
    "result: '${ input.any }'": [],
    "result: {total: '${ input.sku }'}": [("type_misfit", "$.result.total")],
    "result: '${ input.sku }'": [("type_misfit", "$.result")],
    "result: {who: '${ input.sku }'}": [("bad_output", "$.result")],
    "result: {total: 3, whu: '${ input.sku }'}": [("bad_output", "$.result.whu")],
    "result: {total: a, who: '${ input.sku }'}": [("bad_output", "$.result.total")],
    "result: {total: a}": [("bad_output", "$.result.total")],
    "result: ['${ input.sku }']": [("bad_output", "$.result")],
    "": [("bad_output", "$.output")],
}


@pytest.mark.parametrize("result", RESULTS)
def test_results_fit_the_output(result: str) -> None:
    """What the document gives is checked against its own output, part by part."""
    assert [(f.code, f.path) for f in found("", OUTPUT + result)] == RESULTS[result]


def test_an_end_gives_the_result_too() -> None:
    """The result of a step that ends the workflow has to fit as well; of one that fails it, nothing has to."""
    end = "- {{id: x, kind: end, needs: [quote], status: {}, result: {{total: '${{ input.sku }}'}}}}"
    assert [(f.code, f.path) for f in found(end.format("completed"), OUTPUT)] == [
        ("type_misfit", "$.steps[2].result.total")]  # fmt: skip
    assert found(end.format("failed"), OUTPUT) == []


def test_routes_of_expressions() -> None:
    """Members that are gone along are read whatever the spelling; calls, texts and guarded ones are left out."""
    assert route(" steps . a [ 'b c' ].x[0] ") == ("steps", "a", "b c", "x", 0)
    assert route("item") == ("item",)
    assert route("a.b + 1") == route("a.b()") == route("'a.b'") == ()
    assert list(routes("a.b.c > 3 && x.startsWith(a.d[0].e) || 'a.z' == b.y.size() // a.q")) == [
        ("a", "b", "c"), ("x",), ("a", "d", 0, "e"), ("b", "y")]  # fmt: skip
    assert list(routes("has(a.b) && a.b.c")) == list(routes("a.?b.c")) == []


# ---- properties

_literals = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(("a", "b", 1.0, 0.5))
_kinds = st.sampled_from(("null", "boolean", "integer", "number", "string", "array", "object"))


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(("p", "q"))
    # Without additionalProperties the rules take for closed what JSON Schema leaves open.
    always = {"properties": st.dictionaries(names, inner, max_size=2), "additionalProperties": st.booleans() | inner}
    required = st.lists(names, unique=True, max_size=2)
    return st.fixed_dictionaries(always, optional={"type": st.just("object"), "required": required})


parts = st.recursive(
    st.booleans() | st.just({}) | st.builds(lambda kind: {"type": kind}, _kinds)
    | st.builds(lambda kinds: {"type": kinds}, st.lists(_kinds, min_size=1, max_size=3, unique=True))
    | st.builds(lambda values: {"enum": values}, st.lists(_literals, min_size=1, max_size=3))
    | st.builds(lambda value: {"const": value}, _literals),
    lambda inner: _objects(inner) | st.builds(lambda each: {"type": "array", "items": each}, inner)
    | st.builds(lambda each: {"prefixItems": [each]}, inner)
    | st.builds(lambda key, parts: {key: parts}, st.sampled_from(("anyOf", "oneOf", "allOf")),
                st.lists(inner, min_size=1, max_size=3)),
    max_leaves=6,
)  # fmt: skip
schemas = parts | st.builds(lambda each: {"anyOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": each}}, parts)
values = st.recursive(
    _literals,
    lambda inner: st.dictionaries(st.sampled_from(("p", "q", "r")), inner, max_size=2) | st.lists(inner, max_size=2),
    max_leaves=5,
)


@settings(deadline=60_000, max_examples=400)
@given(schemas, schemas, st.lists(values, max_size=8))
def test_what_fits_both_is_no_misfit(given_: Any, wanted: Any, some: list[Any]) -> None:
    """A value that is of both types is never called impossible."""
    if misfit(known(given_), known(wanted)):
        one, other = Draft202012Validator(given_), Draft202012Validator(wanted)
        assert not [value for value in some if one.is_valid(value) and other.is_valid(value)]


@settings(deadline=60_000, max_examples=400)
@given(schemas, st.lists(values, max_size=8))
def test_properties_that_there_may_be_are_not_missing(schema: Any, some: list[Any]) -> None:
    """A member of a value that fits is of the type that the schema says, and items are too."""
    whole = Draft202012Validator(schema)
    for value in some:
        if isinstance(value, dict) and whole.is_valid(value):
            for name, inner in value.items():
                found_ = member(known(schema), name)
                assert isinstance(found_, Known)
                assert not misfit(known({"const": inner}), found_)
        elif isinstance(value, list) and whole.is_valid(value):
            for number, inner in enumerate(value):
                assert not misfit(known({"const": inner}), item(known(schema), number))


@settings(deadline=60_000, max_examples=100)
@given(json_values, json_values, json_values)
def test_schemas_that_are_none_raise_nothing(one: Any, other: Any, value: Any) -> None:
    """Whatever stands where a schema should, types are read without failing."""
    for wrong in (
        one,
        {"properties": one, "required": other, "anyOf": value},
        {"type": value, "$ref": one, "items": other},
    ):
        assert isinstance(misfit(known(wrong), known({"type": "object", "required": ["a"]})), str)
        member(known(wrong), "a")
        item(known(wrong), 0)
