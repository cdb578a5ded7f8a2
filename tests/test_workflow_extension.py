"""Documents that extend others: what comes out, where each fault of it stands, and that nothing is raised."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from actors.workflow.document import Document
from actors.workflow.editor_schema import document_schema
from actors.workflow.extension import Bases
from actors.workflow.finding import Fault
from actors.workflow.layer import ids_of
from actors.workflow.merged import merge
from actors.workflow.origins import Origins, Spot
from actors.workflow.shape import shape
from actors.workflow.source import read_source
from actors.workflow.writing import by_rank, plain, to_json, to_yaml
from actors.workflow_rules.validation import Checked, check
from tests.documents import documents
from tests.strategies import json_values, texts

unhurried = settings(deadline=60_000, max_examples=60)

BASE = """\
name: order
version: 1.2.0
labels: {team: sales}
params:
  limit: {schema: {type: number}, default: 100}
  who: {}
steps:
  - {id: quote, kind: tool, run: quote@1, retry: {attempts: 4, factor: 3}}
  - {id: ask, kind: approval, needs: [quote], when: steps.quote.output > params.limit, title: '${ params.who }'}
  - id: ship
    kind: parallel
    needs: [ask]
    branches:
      a: [{id: s1, kind: tool, run: ship, timeout_s: 5}]
      b: [{id: s2, kind: switch, cases: [{when: now != null, steps: [{id: deep, kind: wait, signal: x}]}]}]
result: '${ steps.quote.output }'
"""


def checked(files: dict[str, str], file: str = "ext.yaml", **more: Any) -> Checked:
    """What is made of one of these files."""

    def read(name: str) -> bytes:
        if name not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[name].encode()

    return check(read_source(file, files[file].encode()), bases=Bases(read, more.pop("published", None)), **more)


def extended(extension: str, base: str = BASE, **more: Any) -> Checked:
    """What is made of an extension of the base."""
    return checked({"ext.yaml": "extends: {file: base.yaml}\n" + extension, "base.yaml": base}, **more)


def laid_over(own: dict[str, Any], base: Any) -> Checked:
    """What is made of both, in JSON."""
    files = {"ext.json": json.dumps({"extends": {"file": "base.json"}, **own}), "base.json": json.dumps(base)}
    return checked(files, "ext.json")


def told(result: Checked) -> list[tuple[str, int, int, str]]:
    """Where the findings are, and their codes."""
    return [(each.file, each.line, each.column, each.code) for each in result.findings]


# ---- what comes out


def test_what_an_extension_changes() -> None:
    """Fields are merged deeply and taken away by null; steps are removed, changed and put at any depth by their ids."""
    result = extended(
        """\
version: 2.0.0
labels: {team: null, tier: gold}
params: {limit: 50, who: boss}
declare: {margin: {default: 2}}
remove: [ask, deep]
override:
  quote: {retry: {attempts: 6, factor: null}, timeout_s: 60}
  ship: {needs: [quote]}
  s1: {run: ship@2, with: {margin: "${ params.margin }"}, timeout_s: null}
steps:
  - {id: after1, kind: emit, event: x, after: s1}
  - {id: after2, kind: emit, event: x, after: s1, needs: [s1]}
  - {id: before1, kind: emit, event: x, before: s1}
  - {id: instead, kind: wait, signal: y, after: s1}
  - {id: last, kind: map, over: '[1]', steps: [{id: inner, kind: wait, signal: y}], needs: [ship]}
  - {id: deeper, kind: wait, signal: y, before: inner}
""".replace("remove: [ask, deep]", "remove: [ask]")
    )
    assert result.findings == []
    assert result.value == {
        "name": "order", "version": "2.0.0", "labels": {"tier": "gold"}, "result": "${ steps.quote.output }",
        "params": {"limit": {"schema": {"type": "number"}, "default": 50}, "who": {"default": "boss"},
                   "margin": {"default": 2}},
        "steps": [
            {"id": "quote", "kind": "tool", "run": "quote@1", "retry": {"attempts": 6}, "timeout_s": 60},
            {"id": "ship", "kind": "parallel", "needs": ["quote"], "branches": {
                "a": [{"id": "before1", "kind": "emit", "event": "x"},
                      {"id": "s1", "kind": "tool", "run": "ship@2", "with": {"margin": "${ params.margin }"}},
                      {"id": "after1", "kind": "emit", "event": "x"},
                      {"id": "after2", "kind": "emit", "event": "x", "needs": ["s1"]},
                      {"id": "instead", "kind": "wait", "signal": "y"}],
                "b": [{"id": "s2", "kind": "switch", "cases": [
                    {"when": "now != null", "steps": [{"id": "deep", "kind": "wait", "signal": "x"}]}]}]}},
            {"id": "last", "kind": "map", "over": "[1]", "needs": ["ship"], "steps": [
                {"id": "deeper", "kind": "wait", "signal": "y"}, {"id": "inner", "kind": "wait", "signal": "y"}]},
        ],
    }  # fmt: skip


def test_a_chain_of_documents() -> None:
    """Each is laid over the one it extends, from the last one; folders count from the file that names the next."""
    files = {
        "a/top.json": json.dumps({"extends": {"file": "../b/mid.toml"}, "remove": ["ask"], "result": 1,
                                  "override": {"ship": {"needs": None}}}),
        "b/mid.toml": 'version = "1.3.0"\nremove = ["quote"]\n[extends]\nfile = "../base.yaml"\n'
                      '[[steps]]\nid = "quote"\nkind = "wait"\nsignal = "q"\nbefore = "ask"\n',
        "base.yaml": BASE,
    }  # fmt: skip
    result = checked(files, "a/top.json")
    assert result.findings == []
    assert [step["id"] for step in result.value["steps"]] == ["quote", "ship"]
    assert result.value["steps"][0] == {"id": "quote", "kind": "wait", "signal": "q"}
    assert (result.value["version"], result.value["result"]) == ("1.3.0", 1)


def test_a_published_base() -> None:
    """A base by name and version comes from who knows them; its faults are its own, and so is what is said of it."""
    base = shape(yaml.safe_load(BASE)).document
    asked = []

    def published(name: str, version: str) -> Document | Fault:
        asked.append((name, version))
        return base if base and version == "1.2.0" else Fault("unknown_base", (), "no such version", "there is 1.2.0")

    files = {"ext.yaml": "extends: order@1.2.0\nversion: 1.2.1\nremove: [s1]\n", "bad.yaml": "extends: order@7.0.0\n"}
    result = checked(files, published=published)
    assert asked == [("order", "1.2.0")]
    assert told(result) == [("ext.yaml", 3, 10, "bad_value")]
    (finding,) = checked(files, "bad.yaml", published=published).findings
    assert (finding.code, finding.path, finding.hint) == ("unknown_base", "$.extends", "there is 1.2.0")
    assert told(checked(files)) == [("ext.yaml", 1, 1, "unknown_base")]


def test_parameters() -> None:
    """Values of the extender and then of the caller replace defaults; for a run each parameter has to have one."""
    assert told(extended("params: {limit: 5}")) == []
    assert told(extended("params: {limit: 5}", is_final=True)) == [("base.yaml", 6, 3, "missing_param")]
    assert told(extended("params: {limit: 5}", params={"who": "me"}, is_final=True)) == []
    result = extended("params: {limit: 5, who: x}", params={"limit": 7})
    assert result.document and result.document.params["limit"].default == 7
    assert told(extended("params: {limit: x, whu: 3}")) == [
        ("ext.yaml", 2, 10, "bad_default"), ("ext.yaml", 2, 20, "unknown_param")]  # fmt: skip
    assert told(extended("name: x", params={"whu": 3})) == [("ext.yaml", 1, 1, "unknown_param")]
    assert told(checked({"w.yaml": BASE}, "w.yaml", params={"limit": "x"})) == [("w.yaml", 5, 3, "bad_default")]


# ---- faults


FAULTS = {
    "versoin: 2.0.0": [("ext.yaml", 2, 1, "unknown_field", "did you mean 'version'?")],
    "remove: [quote]\noverride: {ask: {needs: null, when: null}, ship: {needs: null}}\nresult: null": [],
    "remove: [quote]": [
        ("ext.yaml", 2, 10, "removed_step", "override its 'needs' too, or keep the step"),
        ("ext.yaml", 2, 10, "removed_step", "override it too, or keep the step")],
    "remove: [aks]": [("ext.yaml", 2, 10, "unknown_step", "did you mean 'ask'?")],
    "remove: [deep]": [("ext.yaml", 2, 10, "bad_value", "")],
    "override: {qoute: {timeout_s: 1}}": [("ext.yaml", 2, 12, "unknown_step", "did you mean 'quote'?")],
    "override: {s2: {when: 1 +}}": [("ext.yaml", 2, 17, "bad_expression", "")],
    "override: {quote: {run: null}}": [("ext.yaml", 2, 20, "missing_field", "")],
    "override: {quote: {id: q}}": [("ext.yaml", 2, 20, "bad_value", "remove the step, and add another")],
    "override: {deep: {needs: [s1]}}": [
        ("ext.yaml", 2, 27, "other_list", "steps of an outer list are through already where this list begins")],
    "override: {new: {}}\nsteps: [{id: new, kind: wait, signal: x}]": [
        ("ext.yaml", 2, 12, "unknown_step", "write it where the step is added")],
    "remove: [s1]\noverride: {s1: {}}\nsteps: [{id: n, kind: wait, signal: x, before: s1}]": [
        ("ext.yaml", 2, 10, "bad_value", ""),
        ("ext.yaml", 3, 12, "unknown_step", "do one of the two"),
        ("ext.yaml", 4, 40, "unknown_step", "do one of the two")],
    "steps: [{id: s1, kind: wait, signal: x}]": [
        ("ext.yaml", 2, 10, "duplicate_id", "to change it write override: {s1: ...}, or remove it first")],
    "steps: [{id: n, kind: wiat, after: s1}]": [("ext.yaml", 2, 17, "unknown_kind", "did you mean 'wait'?")],
    "steps: [{id: n, kind: wait, after: s1}]": [("ext.yaml", 2, 9, "missing_field", "")],
    "steps: [{id: n, kind: wait, signal: x, after: s}]": [("ext.yaml", 2, 40, "unknown_step", "did you mean 's2'?")],
    "steps: [{id: n, kind: wait, signal: x, after: n}]": [
        ("ext.yaml", 2, 40, "unknown_step", "put one of them beside another")],
    "steps: [{id: n, kind: wait, signal: x, after: s1, before: s2}]": [("ext.yaml", 2, 51, "bad_value", "")],
    "steps: [{id: n, kind: wait, signal: x, after: 1}, 7]": [
        ("ext.yaml", 2, 40, "bad_value", ""), ("ext.yaml", 2, 51, "bad_value", "")],
    "declare: {limit: {default: x}}": [("ext.yaml", 2, 19, "bad_default", "it has to be number")],
    "input: {type: txt}": [("ext.yaml", 2, 9, "bad_schema", "")],
    "labels: [a]\nname: 5": [("ext.yaml", 2, 1, "bad_value", ""),
        ("ext.yaml", 3, 1, "bad_value", "put it in quotes")],
}  # fmt: skip


@pytest.mark.parametrize("extension", FAULTS)
def test_faults_stand_where_they_were_made(extension: str) -> None:
    """A fault of the merged document has the place of what made it, and says what would be right."""
    result = extended(extension)
    hints = [hint for *_, hint in FAULTS[extension]]
    assert told(result) == [(*each[:4],) for each in FAULTS[extension]]
    assert [f.hint if hint else "" for f, hint in zip(result.findings, hints, strict=True)] == hints


BASES = {
    "a fault of the base": (BASE.replace("kind: approval", "kind: aproval"), [("base.yaml", 9, 15, "unknown_kind")]),
    "a base that cannot be read": ("a: [", [("base.yaml", 2, 1, "syntax")]),
    "a base that is no mapping": ("- a", [("base.yaml", 1, 1, "not_a_workflow")]),
    "a key twice": (BASE.replace("labels:", "labels: {}\nlabels:"), [("base.yaml", 4, 1, "duplicate_key")]),
    "itself": ("extends: {file: ./base.yaml}", [("base.yaml", 1, 11, "extends_cycle")]),
    "the one that extends it": ("extends: {file: ext.yaml}", [("base.yaml", 1, 11, "extends_cycle")]),
    "a file that is not there": ("extends: {file: none.yaml}", [("base.yaml", 1, 11, "unknown_base")]),
    "a file from the root": ("extends: {file: /etc/passwd}", [("base.yaml", 1, 11, "unknown_base")]),
    "no name": ("extends: 5", [("base.yaml", 1, 1, "bad_value")]),
    "no version": ("extends: order", [("base.yaml", 1, 1, "bad_value")]),
    "a list of steps that is none": ("name: w\nversion: 1.0.0\nsteps: {}\n", [("base.yaml", 3, 1, "bad_value")]),
}


@pytest.mark.parametrize("what", BASES)
def test_faults_of_bases(what: str) -> None:
    """What is wrong with a base is told in its own file, also when it cannot be merged."""
    base, expected = BASES[what]
    assert told(extended("version: 2.0.0", base)) == expected


def test_long_chains() -> None:
    """More bases in a row than anybody means are refused, and a thousand steps one after the other are put."""
    files = {f"{number}.yaml": f"extends: {{file: {number + 1}.yaml}}\n" for number in range(100)}
    assert [code for *_, code in told(checked(files, "0.yaml"))] == ["extends_cycle"]
    new = [{"id": f"n{i}", "kind": "wait", "signal": "x", "after": f"n{i - 1}" if i else "s1"} for i in range(3000)]
    result = laid_over({"steps": new}, yaml.safe_load(BASE))
    assert [step["id"] for step in result.value["steps"][2]["branches"]["a"]] == ["s1", *(n["id"] for n in new)]


def test_a_base_without_steps() -> None:
    """The steps of a base that has none are those of the extension."""
    result = extended("steps: [{id: a, kind: wait, signal: x}]", "name: w\nversion: 1.0.0\n")
    assert result.findings == [] and [step["id"] for step in result.value["steps"]] == ["a"]
    assert told(extended("name: v", "name: w\nversion: 1.0.0\n")) == [("base.yaml", 1, 1, "missing_field")]


# ---- properties


def reference_patch(target: Any, change: Any) -> Any:
    """The pseudo code of RFC 7386."""
    if not isinstance(change, dict):
        return change
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = reference_patch(target.get(name), value)
    return target


@unhurried
@given(json_values, st.dictionaries(texts, json_values, max_size=4))
def test_merging_is_json_merge_patch(target: Any, change: dict[str, Any]) -> None:
    """Fields are merged as the RFC says, and what is merged is left as it was."""
    before = copy.deepcopy((target, change))
    top = Spot(read_source("x.yaml", b"{}"), ())
    assert Origins(top).patch(target, change, top) == reference_patch(target, change)
    assert (target, change) == before


@unhurried
@given(documents())
def test_an_extension_of_nothing_changes_nothing(document: dict[str, Any]) -> None:
    """The merged document is the base, part by part, and every place in it is the one that the base says."""
    result = laid_over({}, document)
    assert (result.value, result.findings) == (document, [])
    merged = merge(read_source("e.json", b'{"extends": {"file": "b"}}'), Bases(lambda _: json.dumps(document).encode()))
    for path in (("steps", 0, "id"), ("params", "limit"), ("result", "last")):
        assert merged.origins.spot(merged.value, path).path == path


@unhurried
@given(documents(), st.data())
def test_each_step_by_its_id(document: dict[str, Any], data: st.DataObject) -> None:
    """Whichever steps are changed, removed or put beside: the others are as they were, and in the same order."""
    names = [name for name, _ in ids_of(document)]
    some = st.lists(st.sampled_from(names), unique=True, max_size=3)
    changed, removed, anchors = data.draw(some), data.draw(some), data.draw(some)
    new = [{"id": f"new_{a}", "kind": "wait", "signal": "x", "after": a} for a in anchors]
    override = {name: {"description": "changed"} for name in changed}
    result = laid_over({"override": override, "remove": removed, "steps": new}, document)
    steps = dict(ids_of(result.value))
    gone = {inner for name, step in ids_of(document) if name in removed for inner in (name, *dict(ids_of(step)))}
    kept = [name for name, _ in ids_of(result.value) if not name.startswith("new_")]
    assert kept == [name for name in names if name not in gone]
    assert {name for name, step in steps.items() if step.get("description") == "changed"} == set(changed) - gone
    assert {name for name in steps if name.startswith("new_")} == {f"new_{a}" for a in anchors if a not in gone}
    assert removed or not result.findings


EXTENDING = ("params", "declare", "remove", "override", "steps", "name", "input")


@unhurried
@given(st.dictionaries(st.sampled_from(EXTENDING), json_values), documents(), json_values, st.booleans())
def test_any_extension_raises_nothing(own: dict[str, Any], base: Any, value: Any, is_base: bool) -> None:
    """Whatever is written in an extension or in its base, there are findings or a document."""
    if is_base:
        base = {**base, "steps": value, "params": value}
    result = laid_over(own, base)
    assert result.findings or result.document is not None


strange = st.text("0123456789xoeE+-._:,#'\"|>&*!%@`{}[]?~ \n\tyesnotrulnof\u2028\x85é", max_size=12)


@settings(unhurried, max_examples=200)
@given(st.recursive(json_values | strange, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strange, inner)))
def test_what_is_written_is_read_again(value: Any) -> None:
    """YAML and JSON of any values are read as the same values; what looks like a number in YAML 1.2 is quoted."""
    whole = {"value": value}
    for file, text in (("a.yaml", to_yaml(whole)), ("a.json", to_json(whole))):
        source = read_source(file, text.encode())
        assert source.fault is None and not source.doubtful, text
        assert source.value == whole, text


@unhurried
@given(documents(), st.sampled_from((to_yaml, to_json)))
def test_shown_again_it_is_the_same(document: dict[str, Any], write: Callable[[dict[str, Any]], str]) -> None:
    """What is shown of a merged document is valid input, and shown again it is the same text."""
    shown = write(by_rank(laid_over({"labels": {"a": "0o7"}, "version": "2.0.0"}, document).value))
    file = "shown.yaml" if write is to_yaml else "shown.json"
    again = checked({file: shown}, file)
    assert again.findings == [] and write(by_rank(again.value)) == shown
    assert again.document is not None
    assert shape(json.loads(json.dumps(plain(again.document)))).document == again.document


def test_the_schema_takes_extensions() -> None:
    """An editor completes an extension too, and underlines fields of steps that there are not."""
    validator = Draft202012Validator(document_schema())
    good = yaml.safe_load(
        "extends: {file: b.yaml}\nlabels: {a: null}\nparams: {x: 1}\ndeclare: {y: {default: 2}}\nremove: [a]\n"
        "override: {b: {timeout_s: null, with: {x: 1}}}\nsteps: [{id: c, kind: wait, signal: x, after: b}]\n"
    )
    assert [error.message for error in validator.iter_errors(good)] == []
    for wrong in ({"override": {"b": {"timeout": 1}}}, {"stepz": []}, {"extends": "order"}, {"steps": [{"id": "c"}]}):
        assert not validator.is_valid({**good, **wrong}), wrong
