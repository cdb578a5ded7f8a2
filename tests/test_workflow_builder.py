"""Workflows built in Python: the same documents as those that are read, with faults where the program made them."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings

from actors import App, Cache, Compensation, Escalate, Expr, Goto, Join, Param, Retry, UsageError, Workflow, expr
from actors.builder import steps as builder_steps
from actors.builder.steps import Block, Steps
from actors.workflow.document import Document, ParallelStep, Step, SwitchStep
from actors.workflow.finding import Finding
from actors.workflow.shape import shape
from actors.workflow.source import read_source
from actors.workflow.writing import plain
from actors.workflow_rules.component_rules import Catalogue
from tests.documents import documents

app = App("shop", version="2.1.0")


@app.tool
async def quote(sku: str, qty: int = 1) -> dict[str, float]:
    """A price."""
    return {"total": 1.0}


class Wanted(msgspec.Struct):
    """The input of a workflow."""

    sku: str
    items: list[str] = []


ORDER = """\
name: order
version: 1.2.0
labels: {team: sales}
input:
  type: object
  title: Wanted
  description: The input of a workflow.
  required: [sku]
  properties: {sku: {type: string}, items: {type: array, items: {type: string}, default: []}}
params: {limit: {schema: {type: number}, default: 100}}
steps:
- {id: price, kind: tool, run: shop.quote@2, with: {sku: '${ input.sku }', qty: 2},
   retry: {attempts: 4}, cache: {ttl_s: 60, key: input.sku}, timeout_s: 5}
- {id: ask, kind: approval, needs: [price], when: steps.price.output.total > params.limit, title: May I?,
   details: {total: '${ steps.price.output.total }'}, answer: {type: boolean}, roles: [boss], quorum: 2,
   expires_s: 60, escalate: [{after_s: 30, roles: [chief]}], on_reject: continue, on_error: {goto: sorry}}
- {id: sorry, kind: end, status: failed, message: No.}
- {id: each, kind: map, needs: [ask], over: input.items, as: thing, max_parallel: 3,
   output: '${ steps.one.output }', steps: [
   {id: one, kind: job, run: other, with: {x: '${ thing }'}, wait: false, priority: low}]}
- {id: by, kind: switch, needs: [each], cases: [
   {when: params.limit > 3, steps: [{id: dear, kind: wait, signal: go, fresh: true}]}],
   else: [{id: cheap, kind: sleep, for_s: 3}]}
- {id: both, kind: parallel, needs: [by], join: {of: [left], n: 1}, branches: {
   left: [{id: l, kind: set, values: {a: [1, '${ params.limit }']}}],
   right: [{id: r, kind: emit, event: told, data: {a: b}, lock: x}]}}
- {id: again, kind: loop, needs: [both], until: round > 1, max_rounds: 3, steps: [
   {id: think, kind: agent, run: thinker, compensate: {tool: forget, with: {what: '${ steps.think.output }'}}}]}
- {id: more, kind: add, to: each, items: '[1]'}
- {id: back, kind: goto, needs: [again], when: now == now, to: by, max_times: 2}
result: {total: '${ steps.price.output.total }', sku: '${ input.sku }'}
"""


def order() -> Workflow:
    """What ORDER is, in Python."""
    flow = Workflow(
        "order", version="1.2.0", labels={"team": "sales"}, input=Wanted,
        params={"limit": Param(schema={"type": "number"}, default=100)},
    )  # fmt: skip
    price = flow.tool(
        "price", run=quote, with_={"sku": expr("input.sku"), "qty": 2}, retry=Retry(attempts=4),
        cache=Cache(ttl_s=60, key="input.sku"), timeout_s=5,
    )  # fmt: skip
    ask = flow.approval(
        "ask", needs=[price], when="steps.price.output.total > params.limit", title="May I?",
        details={"total": price.output["total"]}, answer=bool, roles=["boss"], quorum=2, expires_s=60,
        escalate=[Escalate(after_s=30, roles=("chief",))], on_reject="continue", on_error=Goto(goto="sorry"),
    )  # fmt: skip
    flow.end("sorry", status="failed", message="No.")
    with flow.map("each", needs=[ask], over=expr("input.items"), as_="thing", max_parallel=3,
                  output=expr("steps.one.output")) as each:  # fmt: skip
        each.job("one", run="other", with_={"x": expr("thing")}, wait=False, priority="low")
    with flow.switch("by", needs=[each]) as by:
        with by.case("params.limit > 3") as dear:
            dear.wait("dear", signal="go", fresh=True)
        by.else_().sleep("cheap", for_s=3)
    with flow.parallel("both", needs=[by], join=Join(of=("left",), n=1)) as both:
        with both.branch("left") as left:
            left.set("l", values={"a": [1, expr("params.limit")]})
        both.branch("right").emit("r", event="told", data={"a": "b"}, lock="x")
    with flow.loop("again", needs=[both], until="round > 1", max_rounds=3) as again:
        again.agent(
            "think", run="thinker", compensate=Compensation(tool="forget", with_={"what": Expr("steps.think.output")})
        )
    flow.add("more", to=each, items="[1]")
    flow.goto("back", needs=[again], when="now == now", to=by, max_times=2)
    flow.result = {"total": price.output["total"], "sku": expr("input.sku")}
    return flow


def test_it_reads_as_the_document_does() -> None:
    """All kinds of steps with all that is special to them: the same as the text, in YAML and in JSON."""
    built, read = order(), shape(read_source("order.yaml", ORDER.encode()).value).document
    assert read is not None and built.document() == read
    for file, text in (("a.yaml", built.to_yaml()), ("a.json", built.to_json())):
        assert shape(read_source(file, text.encode()).value).document == read


def test_expressions() -> None:
    """Members and items of an outcome are written as CEL writes them."""
    price = Workflow("w", version="1.0.0").wait("price", signal="x")
    assert [str(price.output["total"]["a b"][0]), str(price.status), str(price.error["code"])] == [
        'steps.price.output.total["a b"][0]', "steps.price.status", "steps.price.error.code"]  # fmt: skip
    assert price == "price" and f"{price}" == "price"
    with pytest.raises(TypeError, match="no items"):
        list(price.output)  # type: ignore[call-overload]


def line_of(text: str) -> int:
    """The line of this file that holds the text first."""
    return next(number for number, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line)


def told(findings: list[Finding]) -> list[tuple[str, int, str, str]]:
    """Where the findings are in this file, and what they are."""
    assert {finding.file for finding in findings} <= {__file__}
    return [(finding.code, finding.line, finding.path, finding.hint) for finding in findings]


def test_faults_have_the_line_of_the_call() -> None:
    """Each fault says where in the program it was made, also inside of maps, cases and branches."""
    flow = Workflow("w", version="one")  # the workflow
    flow.wait("a", signal="x", needs=["b"])  # the need
    with flow.map("m", over="input.items") as each:
        each.set("s", values={"x": expr("1 +")})  # the expression
    flow.switch("none")  # no case
    by = flow.switch("by")
    by.case("1 +").wait("c", signal="x")  # the case
    flow.parallel("p").branch("q").tool("t", run="quot")  # the tool
    flow.result = expr("steps.nobody.output")  # the result
    assert told(flow.findings(Catalogue([quote.info()]))) == [
        ("bad_version", line_of("# the workflow"), "$.version", "write it as major.minor.patch, such as 1.2.0"),
        ("unknown_step", line_of("# the need"), "$.steps[0].needs[0]", "did you mean 'by'?"),
        ("bad_expression", line_of("# the expression"), "$.steps[1].steps[0].values.x", ""),
        ("bad_value", line_of("# no case"), "$.steps[2].cases", "give it 1 at least"),
        ("bad_expression", line_of("# the case"), "$.steps[3].cases[0].when", ""),
        ("unknown_component", line_of("# the tool"), "$.steps[4].branches.q[0].run", "did you mean 'quote'?"),
        ("unknown_step", line_of("# the result"), "$.result", "there is a, by, c, m, none, p, s, t"),
    ]
    with pytest.raises(UsageError, match=rf"test_workflow_builder\.py:{line_of('# the need')}:5: .*no step 'b'"):
        flow.document()


def test_what_is_wrong_at_once() -> None:
    """What can be no part of any document is refused where it is said."""
    flow = Workflow("w", version="1.0.0")
    for wrong, make in {
        "of kind tool, not job": lambda: flow.job("a", run=quote),
        "no value of a document": lambda: flow.set("a", values={"x": object()}),
        "nan is no value": lambda: flow.set("a", values={"x": float("nan")}),
        "is a text": lambda: flow.wait("a", signal="x", needs="quote"),
    }.items():
        with pytest.raises(UsageError, match=wrong):
            make()
    both = flow.parallel("both")
    both.branch("left")
    with pytest.raises(UsageError, match="a branch 'left' already"):
        both.branch("left")


def test_missing_parameters_and_catalogues() -> None:
    """Before a run each parameter has to have a value, and what is run has to fit."""
    flow = Workflow("w", version="1.0.0", params={"limit": Param()})
    flow.tool("a", run=quote, with_={"sku": 3})
    assert flow.findings() == []
    assert [finding.code for finding in flow.findings(Catalogue([quote.info()]), is_final=True)] == [
        "missing_param", "bad_input"]  # fmt: skip


def test_every_kind_and_field_can_be_said() -> None:
    """Each kind of step has a method, with each of its fields as an argument."""
    for kind in typing.get_args(Step):
        method = getattr(Steps, str(kind.__struct_config__.tag))
        signature = inspect.signature(method)
        named = set(signature.parameters)
        unpacked = typing.get_type_hints(method, vars(builder_steps), include_extras=True)["fields"]
        said = named | set(typing.get_type_hints(typing.get_args(unpacked)[0]))
        inner = {"steps", "cases", "else_", "branches"}
        assert set(kind.__struct_fields__) - inner - {"id"} <= said, kind


def rebuilt(document: Document) -> Workflow:
    """The document, made by calls of the builder."""
    fields = {
        name: getattr(document, name) for name in ("description", "category", "labels", "input", "output", "params")
    }
    flow = Workflow(document.name, version=document.version, **fields)
    add_all(flow, document.steps)
    if document.result is not None:
        flow.result = document.result
    return flow


def add_all(to: Steps, steps: tuple[Step, ...]) -> None:
    """Add the steps, and those inside of them, in order."""
    for step in steps:
        skipped = {"id", "steps", "cases", "else_", "branches"}
        pairs = [(each.name, each, getattr(step, each.name)) for each in msgspec.structs.fields(step)]
        fields = {name: value for name, each, value in pairs if name not in skipped and not is_default(each, value)}
        made: Any = getattr(to, str(step.__struct_config__.tag))(step.id, **fields)
        if isinstance(step, SwitchStep):
            for case in step.cases:
                add_all(made.case(case.when), case.steps)
            if step.else_:
                add_all(made.else_(), step.else_)
        elif isinstance(step, ParallelStep):
            for name, inner in step.branches.items():
                with made.branch(name) as branch:
                    add_all(branch, inner)
        elif isinstance(made, Block):
            add_all(made, getattr(step, "steps", ()))


def is_default(each: msgspec.structs.FieldInfo, value: Any) -> bool:
    """Whether the field need not be said."""
    factory = each.default_factory
    return value == (factory() if factory is not msgspec.NODEFAULT else each.default)


@settings(deadline=60_000, max_examples=60)
@given(documents())
def test_any_document_can_be_built(value: dict[str, Any]) -> None:
    """Built step by step it is the document that is read, and what it writes is read as the same again."""
    read = shape(value).document
    assert read is not None
    built = rebuilt(read)
    assert built.findings() == [] and built.document() == read
    assert yaml.safe_load(built.to_yaml()) == plain(read)
