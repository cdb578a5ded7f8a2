"""Validation of workflow documents: valid ones have no finding, each fault has its own, and nothing is raised."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors import App
from actors.workflow.document import Document
from actors.workflow.editor_schema import document_schema
from actors.workflow.expression import BadExpression, Expression, embedded, parse
from actors.workflow.finding import Finding
from actors.workflow_rules.component_rules import Catalogue
from actors.workflow_rules.validation import validate
from tests.documents import MUTATIONS, broken_documents, documents, lists_of
from tests.strategies import json_values

ROOT = Path(__file__).parent.parent
HEAD = "name: w\nversion: 1.0.0\n"

# A document takes some milliseconds to make; a busy machine may take its time for one of them.
unhurried = settings(deadline=60_000, max_examples=60)


def found(text: str, file: str = "w.yaml", catalogue: Catalogue | None = None) -> list[Finding]:
    """The findings of a text."""
    return validate(file, text.encode(), catalogue=catalogue)


def codes(text: str, file: str = "w.yaml") -> set[str]:
    """The codes of its findings."""
    return {finding.code for finding in found(text, file)}


# ---- properties


@settings(unhurried, max_examples=300)
@given(st.text() | st.text("ab.[]()!?:'\"\\ $+{},1/", max_size=30))
@example("(" * 3_999)
@example("-" * 3_998 + "1")
@example("1+" * 1_999 + "1")
@example("[" * 2_000 + "]" * 2_000)
@example("true?" * 600 + "1" + ":1" * 600)
@example("a" + ".a" * 1_999)
@example("x" * 4_001)
@example("[1,2].map(a, [1,2].map(b, [1,2].map(c, true)))")
@example("\ud800")
def test_any_text_is_an_expression_or_none(text: str) -> None:
    """Compiling what people type raises nothing, and what it names is read from it without failing."""
    assert isinstance(parse(text), Expression | BadExpression)
    assert embedded(text) is None or text.strip().startswith("${")


def test_what_an_expression_names() -> None:
    """Members are found whatever the spelling; texts, comments and the names of macros are none."""
    found = parse("steps . a.output + steps['b c'].error + 'steps.d' + input.list.map(x, x.y).c // steps.e")
    assert isinstance(found, Expression)
    assert found.variables == {"steps", "input"}
    assert set(found.members) >= {("steps", "a", "output"), ("steps", "b c", "error"), ("input", "list", "")}
    assert not {member.name for member in found.members if member.root == "steps"} - {"a", "b c"}
    for text, value in (("1 > 2", False), ("true", True), ("1", None), ("now == now", None), ("1 / 0 == 1", None)):
        assert isinstance(constant := parse(text), Expression) and constant.constant is value


@unhurried
@given(documents())
def test_valid_documents_have_no_findings(document: dict[str, Any]) -> None:
    """Whatever is made by the rules has no fault, as YAML and as JSON."""
    assert found(yaml.safe_dump(document)) == []
    assert found(json.dumps(document), "w.json") == []


@settings(unhurried, max_examples=200)
@given(broken_documents())
def test_a_single_fault_is_found(broken: tuple[str, str, dict[str, Any]]) -> None:
    """One change to a valid document gives at least the finding that belongs to it, in YAML and JSON alike."""
    what, code, document = broken
    as_yaml, as_json = found(yaml.safe_dump(document)), found(json.dumps(document, indent=1), "w.json")
    assert code in {finding.code for finding in as_yaml}, (what, as_yaml)
    assert {(f.code, f.path, f.message) for f in as_yaml} == {(f.code, f.path, f.message) for f in as_json}


@pytest.mark.parametrize("what", MUTATIONS)
def test_each_fault_is_found_alone(what: str) -> None:
    """On the smallest document each change is found, and no finding belongs to another one."""
    step = {"id": "a", "kind": "tool", "run": "quote", "with": {}}
    schema = {"properties": {"sku": {}}}
    params: dict[str, Any] = {"limit": {"default": 3, "schema": {"type": "integer"}}}
    document: dict[str, Any] = {"name": "w", "version": "1.0.0", "input": schema, "params": params, "steps": [step]}
    assert found(yaml.safe_dump(document)) == []
    code, mutate = MUTATIONS[what]
    mutate(document, document["steps"], step)
    along = {"unreachable": {"cycle"}}.get(code, set())
    assert codes(yaml.safe_dump(document)) - along == {code}


@unhurried
@given(st.text() | st.binary() | json_values.map(json.dumps), st.sampled_from(("w.yaml", "w.json", "w.toml")))
@example("a: &a [*a]", "w.yaml")
@example("[" * 100_000, "w.json")
@example("[" * 100_000, "w.yaml")
@example("a = " + "[" * 100_000, "w.toml")
@example("9" * 10_000, "w.json")
@example("- !!python/object:os.system []", "w.yaml")
@example('{"steps": NaN}', "w.json")
@example("", "w.yaml")
def test_garbage_gives_findings_only(raw: str | bytes, file: str) -> None:
    """Whatever a file holds, there is a finding and no exception."""
    data = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass")
    lines = data.count(b"\n") + data.count(b"\r") + data.count("\u2028".encode()) + data.count("\u2029".encode())
    lines += data.count("\x85".encode()) + 2
    findings = validate(file, data)
    assert findings
    assert all(1 <= finding.line <= lines and finding.column >= 1 for finding in findings)


@settings(unhurried, max_examples=150)
@given(documents(), json_values, st.data())
def test_documents_with_any_value_anywhere_raise_nothing(document: Any, value: Any, data: st.DataObject) -> None:
    """A value of a document that is replaced by any other gives findings or a valid document."""
    place: Any = document
    while True:
        keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    place[key] = value
    assert all(finding.code for finding in found(json.dumps(document), "w.json"))


@settings(unhurried, max_examples=30)
@given(documents())
def test_the_published_schema_takes_valid_documents(document: dict[str, Any]) -> None:
    """An editor that uses the schema underlines nothing that is right, and an unknown field of a step."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(document_schema())
    assert [error.message for error in validator.iter_errors(document)] == []
    wrong = copy.deepcopy(document)
    next(lists_of(wrong["steps"]))[0]["neds"] = []
    assert not validator.is_valid(wrong)


# ---- places and hints

EXAMPLES = {
    "steps:\n- {id: a, kind: tool, run: q, needs: [b]}\n- {id: bb, kind: wait, signal: x}": (
        4, 39, "$.steps[0].needs[0]", "there is no step 'b'", "did you mean 'bb'?"),
    "steps:\n- {id: quote, kind: wait, signal: x}\n- {id: b, kind: wait, signal: x, needs: [qoute]}": (
        5, 42, "$.steps[1].needs[0]", "there is no step 'qoute'", "did you mean 'quote'?"),
    "stepz:\n- {id: a, kind: wait, signal: x}\nsteps:\n- {id: b, kind: wait, signal: x}": (
        3, 1, "$.stepz", "there is no field 'stepz' here", "did you mean 'steps'?"),
    "steps:\n- {id: a, kind: emit, event: x, on_error: contine}": (
        4, 33, "$.steps[0].on_error", "'contine' cannot be", "did you mean 'continue'?"),
    "steps:\n- id: a\n  kind: set\n  values:\n    x: [1, '${ now + }']": (
        7, 12, "$.steps[0].values.x[1]", "this is no CEL expression: at character 6", ""),
    "steps:\n- {id: a, kind: wait, signal: x, when: 'a and b'}": (
        4, 34, "$.steps[0].when", "this is no CEL expression: at character 3", "write && for 'and'"),
    "steps:\n- {id: a, kind: set, values: {}}\n- {id: b, kind: set, values: {x: '${ steps.a.output }'}}": (
        5, 31, "$.steps[1].values.x", "step 'a' need not have run before step 'b'", "add 'a' to the needs of 'b'"),
    "steps:\n- {id: a, kind: set, values: {}}\n- {id: b, needs: [a], kind: set, values: {x: '${ steps.a.total }'}}": (
        5, 43, "$.steps[1].values.x", "a step has no 'total'", "write steps.a.output.total"),
    "steps:\n- {id: a, kind: set, values: {x: '${ a.output }'}}": (
        4, 31, "$.steps[0].values.x", "there is nothing named 'a' here", "write steps.a.output"),
    "steps:\n- &a {id: a, kind: wait, signal: x}\n- *a": (
        4, 3, "$.steps[0]", "&a: a document has no anchors", "leave it out"),
    "steps:\n- {id: a, kind: wait, signal: x, id: b}": (
        4, 34, "$.steps[0].id", "the key 'id' comes twice", "remove one of them"),
    "input: {properties: {who: {}}}\nat_once: {limit: 1, key: whom.id}\nsteps:\n- {id: a, kind: wait, signal: x}": (
        4, 21, "$.at_once.key", "the input has no property 'whom'", "did you mean 'who'?"),
    "rate: {limit: 0}\nsteps:\n- {id: a, kind: wait, signal: x}": (
        3, 8, "$.rate.limit", "limit of Rate cannot be 0", "a whole number from 1 to 1,000,000"),
    "steps:\n- {id: a, kind: agent, run: q, retry: {attempts: 2}}": (
        4, 32, "$.steps[0].retry", "an agent has no 'retry', only a tool has",
        "its own steps are tried again; 'on_error' says what follows its failure"),
    "steps:\n- {id: a, kind: job, run: q, cache: {ttl_s: 9}}": (
        4, 30, "$.steps[0].cache", "a job has no 'cache', only a tool has",
        "put it at the tool that it calls, or call that here"),
    "steps:\n- {id: a, kind: tool, run: q, retry: {attempts: 0}}": (
        4, 39, "$.steps[0].retry.attempts", "Retry.attempts is 0",
        "it has to be a whole number from 1; 1 means no retry"),
    "steps:\n- {id: a, kind: wait, signal: x}\n  - b": (
        5, 3, "$", "this is no YAML", ""),
}  # fmt: skip


@pytest.mark.parametrize("text", EXAMPLES)
def test_findings_say_where_what_and_what_would_be_right(text: str) -> None:
    """File, line, column, path, message and hint of a finding are those of its place."""
    line, column, path, message, hint = EXAMPLES[text]
    findings = [finding for finding in found(HEAD + text) if finding.message.startswith(message)]
    assert [(f.line, f.column, f.path, f.hint or hint) for f in findings] == [(line, column, path, hint)], findings


def test_all_findings_come_at_once() -> None:
    """Faults of the text, the shape, the order and the expressions of one file are told in one run."""
    text = (
        "name: w\nversion: '1'\nsteps:\n- {id: a, kind: tol}\n- {id: a2, kind: approval, when: '1 +', needs: [b]}\n"
        "- {id: c, kind: wait, signal: x, signal: y, needs: [c], neds: []}\n"
    )
    assert [(finding.line, finding.code) for finding in found(text)] == [
        (2, "bad_version"), (4, "unknown_kind"), (5, "missing_field"), (5, "bad_expression"), (5, "unknown_step"),
        (6, "cycle"), (6, "duplicate_key"), (6, "unknown_field"),
    ]  # fmt: skip


def test_broken_steps_do_not_make_others_wrong() -> None:
    """Who needs or names a step that is broken in itself is not told that there is no such step."""
    inner = "{id: deep, kind: wiat}"
    text = (
        f"steps:\n- {{id: a, kind: tol, steps: [{inner}]}}\n- {{id: b, kind: approval}}\n- {{id: c, kind: set, "
        "needs: [a, b], values: {x: '${ [steps.a.output, steps.deep.output, steps.b.output] }'}}\n"
    )
    assert [finding.code for finding in found(HEAD + text)] == ["unknown_kind", "missing_field"]


def test_the_same_place_in_all_formats() -> None:
    """JSON has the places of its text; TOML those that a search for the key finds."""
    as_json = '{"name": "w", "version": "1.0.0", "steps": [\n  {"id": "a", "kind": "wait",\n   "signl": "x"}]}'
    as_toml = (
        'name = "w"\nversion = "1.0.0"\n\n[[steps]]\nid = "a"\nkind = "wait"\nsignal = "x"\n\n'
        '[[steps]]\nid = "b"\nkind = "set"\n[steps.values]\nx = "${ steps.z.output }"\n'
    )
    assert [(f.line, f.column, f.code) for f in found(as_json, "w.json")] == [
        (2, 3, "missing_field"), (3, 4, "unknown_field")]  # fmt: skip
    assert [(f.line, f.column, f.code) for f in found(as_toml, "w.toml")] == [(13, 1, "unknown_step")]
    assert [(f.line, f.code) for f in found("name = 'w'\nversion == 3\n", "w.toml")] == [(2, "syntax")]


def test_yaml_is_read_as_yaml_1_2() -> None:
    """Words that YAML 1.1 takes for true and false are texts, and numbers are numbers."""
    text = "labels: {on: yes, 1: no}\nsteps:\n- {id: a, kind: sleep, for_s: 1.5}\n- {id: b, kind: sleep, for_s: 0x10}\n"
    assert found(HEAD + text) == []


@pytest.mark.parametrize("depth", [30, 45, 300, 20_000])
def test_what_is_nested_deeply_raises_nothing(depth: int) -> None:
    """Schemas and values of any depth are taken or refused in YAML and JSON; more than 100 deep is no document."""
    schema = '{"not": ' * depth + "{}" + "}" * depth
    step = '{"id": "a", "kind": "set", "values": ' + '{"a": ' * depth + "1" + "}" * depth + "}"
    text = f'{{"name": "w", "version": "1.0.0", "input": {schema}, "steps": [{step}]}}'
    for file in ("w.json", "w.yaml"):
        assert codes(text, file) - {"bad_schema"} == ({"syntax"} if depth > 100 else set())


# ---- what would be right


@pytest.mark.parametrize(
    ("step", "hint"),
    [
        ("{id: a, kind: sleep, for_s: 1, timeout_s: -1}", "write a number above 0"),
        ("{id: a, kind: switch, cases: []}", "give it 1 at least"),
        ("{id: a, kind: set, values: 7}", "write a mapping"),
        ("{id: a, kind: sleep, for_s: 1, needs: b}", "write a list"),
        ("{id: a, kind: wait, signal: s, when: foo(1) == 2}", "CEL has size, has, string"),
    ],
)
def test_what_is_wrong_has_what_would_be_right(step: str, hint: str) -> None:
    """Also where the reader of values says only what it expected."""
    found = validate("flow.yaml", f"name: n\nversion: 1.0.0\nsteps:\n  - {step}\n".encode())
    assert [finding.hint[: len(hint)] for finding in found] == [hint]


# ---- scopes


SCOPES = {
    "what a map has found so far, elsewhere": (
        "- {id: a, kind: map, over: '[1]', until: total > 1, when: total, steps: [{id: b, kind: wait, signal: s}]}",
        ["unknown_name"],
    ),
    "an item named as what a map has": (
        "- {id: a, kind: map, over: '[1]', as: outputs, steps: [{id: b, kind: emit, event: x}]}",
        ["bad_value"],
    ),
    "what completes what is no map": (
        "- {id: a, kind: sleep, for_s: 1, completes: [b, c]}\n- {id: b, kind: sleep, for_s: 1}",
        ["bad_value", "unknown_step"],
    ),
    "an item outside of its map": (
        ("- {id: m, kind: map, over: '[1]', steps: [{id: a, kind: set, values: {x: '${ item }'}}]}\n"
        "- {id: b, kind: set, values: {x: '${ item }'}}"), ["unknown_name"]),
    "a step inside of a map from outside": (
        ("- {id: m, kind: map, over: '[1]', steps: [{id: a, kind: set, values: {}}]}\n"
        "- {id: b, kind: set, needs: [m], values: {x: '${ steps.a.output }'}}"), ["not_before"]),
    "a step inside of a branch from outside": (
        ("- {id: m, kind: parallel, branches: {p: [{id: a, kind: set, values: {}}]}}\n"
        "- {id: b, kind: set, needs: [m], values: {x: '${ steps.a.output }'}}"), []),
    "a step of the branch beside": (
        ("- {id: m, kind: parallel, branches: {p: [{id: a, kind: set, values: {}}],"
        " q: [{id: b, kind: set, values: {x: '${ steps.a.output }'}}]}}"), ["not_before"]),
    "an outer step from inside": (
        ("- {id: o, kind: set, values: {}}\n- {id: m, needs: [o], kind: loop, max_rounds: 2, until: steps.a.output>1, "
        "steps: [{id: a, kind: set, values: {x: '${ steps.o.output }'}}]}"), []),
    "the loop around": (
        ("- {id: m, kind: loop, max_rounds: 2, until: 'round > 1', "
        "steps: [{id: a, kind: set, values: {x: '${ steps.m.output }'}}]}"), ["not_before"]),
    "by way of goto": (
        ("- {id: a, kind: wait, signal: x, on_error: {goto: b}}\n"
        "- {id: b, kind: set, values: {x: '${ steps.a.error }'}}"), []),
    "goto back": (
        "- {id: a, kind: wait, signal: x}\n- {id: b, kind: wait, signal: x, needs: [a], on_error: {goto: a}}",
        []),
    "a case after one that holds always": (
        ("- {id: s, kind: switch, cases: [{when: 'true', steps: [{id: a, kind: wait, signal: x}]}, "
        "{when: now > now, steps: [{id: b, kind: wait, signal: x}]}], else: [{id: c, kind: wait, signal: x}]}"),
        ["unreachable", "unreachable"]),
    "a join of steps that never run": (
        ("- {id: a, kind: wait, signal: x}\n- {id: b, kind: wait, signal: x, when: 'false'}\n"
        "- {id: c, kind: wait, signal: x, join: {of: [a, b], n: 2}}"), ["join_never_met", "unreachable"]),
    "more than there are branches": (
        "- {id: m, kind: parallel, join: {n: 2}, branches: {p: [{id: a, kind: wait, signal: x}]}}",
        ["join_never_met"]),
    "a branch that is not there": (
        "- {id: m, kind: parallel, join: {of: [q]}, branches: {p: [{id: a, kind: wait, signal: x}]}}",
        ["unknown_branch"]),
    "an item named like something else": (
        "- {id: m, kind: map, over: '[1]', as: input, steps: [{id: a, kind: set, values: {}}]}", ["bad_value"]),
    "a macro's own name": (
        "- {id: a, kind: set, values: {x: '${ [1].map(v, v * 2).filter(w, w > 1) }'}}", []),
}  # fmt: skip


@pytest.mark.parametrize("what", SCOPES)
def test_scopes(what: str) -> None:
    """What may be named where, and what can be reached."""
    text, expected = SCOPES[what]
    assert sorted(finding.code for finding in found(f"{HEAD}steps:\n{text}\n")) == expected


# ---- components


def shop() -> Catalogue:
    """A catalogue with two versions of one tool, and a job."""
    infos = []
    for version in ("1.0.0", "2.1.0"):
        app = App("shop", version=version)

        async def quote(sku: str, qty: int = 1, tags: list[str] | None = None) -> float:
            return 0.0

        infos.append(app.tool(quote).info())
    return Catalogue(infos)


COMPONENTS = {
    "{kind: tool, run: quote, with: {sku: a, qty: 2, tags: [x]}}": [],
    "{kind: tool, run: shop.quote@2, with: {sku: '${ now }', tags: ['${ 1 }']}}": [],
    "{kind: tool, run: qoute, with: {sku: a}}": [("unknown_component", "run", "did you mean 'quote'?")],
    "{kind: job, run: quote, with: {sku: a}}": [("unknown_component", "run", "'quote' is of kind 'tool'")],
    "{kind: tool, run: quote@3, with: {sku: a}}": [("unknown_version", "run", "there is shop.quote@1, shop.quote@2")],
    "{kind: tool, run: quote}": [("missing_input", "", "add it to 'with': a value of type string")],
    "{kind: tool, run: quote, with: {sku: a, qyt: 2}}": [("unknown_input", "with.qyt", "did you mean 'qty'?")],
    "{kind: tool, run: quote, with: {sku: 3}}": [("bad_input", "with.sku", "it has to be string")],
    "{kind: tool, run: quote, with: {sku: a, qty: true}}": [("bad_input", "with.qty", "it has to be integer")],
    "{kind: wait, signal: x, compensate: {tool: quote}}": [
        ("missing_input", "compensate", "add it to 'with': a value of type string")],
}  # fmt: skip


@pytest.mark.parametrize("step", COMPONENTS)
def test_components(step: str) -> None:
    """What a step runs exists in that version and gets what it requires; without a catalogue nobody knows."""
    text = f"{HEAD}steps:\n- {{id: a, {step[1:]}\n"
    findings = found(text, catalogue=shop())
    told = [(f.code, f.path.removeprefix("$.steps[0]").removeprefix("."), f.hint) for f in findings]
    assert told == COMPONENTS[step], findings
    assert found(text) == []


# ---- documentation


def test_every_code_is_documented() -> None:
    """The guide has a row for each code of a finding, and for nothing else."""
    code = "".join(file.read_text() for file in (ROOT / "actors").glob("workflow*/*.py"))
    said = set(re.findall(r'(?:Fault|_wrong|_fault)\(\s*"(\w+)"', code)) | {"bad_default", "bad_input"}
    said |= {"too_large", "duplicate_version", "version_taken", "breaking_change"}  # of publishing
    page = (ROOT / "docs" / "guide-workflows.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page.partition("## Findings")[2], re.MULTILINE)) == said


def test_every_field_is_documented() -> None:
    """Each field of a document and of each kind of step is in the guide."""
    page = (ROOT / "docs" / "guide-workflows.md").read_text()
    fields = {name for part in document_schema()["$defs"].values() for name in part["properties"]}
    assert Document.__struct_encode_fields__
    assert not [name for name in sorted(fields - {"$schema"}) if f"`{name}" not in page and f"{name}:" not in page]
