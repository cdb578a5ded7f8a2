"""What a type checker sees of a user's app. Checked by ``mypy tests/typing_api.py``, never executed."""

from __future__ import annotations

from typing import ParamSpec, TypeVar, assert_type

import msgspec

from actors import INJECTED, Expr, Goto, Join, Param, Workflow, expr
from actors.components.app import App
from actors.components.component import Component
from actors.operations.job import Job
from actors.tools.tool_context import ToolContext
from actors.workflow.document import Document
from supervisor.retry import Retry

app = App("shop")
P = ParamSpec("P")
R = TypeVar("R")


class Quote(msgspec.Struct):
    price: float


@app.tool
async def quote(ctx: ToolContext, sku: str, qty: int = 1) -> Quote:
    return Quote(1.0 * qty)


@app.tool(retry=Retry(attempts=4), timeout_s=10, replicas=2)
async def stock(sku: str) -> int:
    return len(sku)


@app.tool
def area(width: float, *, height: float) -> float:
    return width * height


@app.tool(concurrency=1)
def count(ctx: ToolContext, words: list[str]) -> dict[str, int]:
    return dict.fromkeys(words, 1)


@app.asset
async def catalogue() -> dict[str, float]:
    return {}


@app.asset(version="2.0.0", refresh_s=60)
class Rates:
    def load(self, catalogue: dict[str, float]) -> list[float]:
        return list(catalogue.values())


@app.tool
async def cost(sku: str, *, catalogue: dict[str, float] = INJECTED) -> float:
    return catalogue[sku]


@app.job
async def order(job: Job, sku: str) -> Quote:
    assert_type(await job.call(cost, sku), float)
    assert_type(await catalogue(), dict[str, float])
    return Quote(2.0)


@app.job(isolated=True)
async def survey(job: Job, path: str = ".") -> None:
    return None


assert_type(quote.decode_output(b""), Quote)
assert_type(stock.decode_output(b""), int)
assert_type(area.decode_output(b""), float)
assert_type(count.decode_output(b""), dict[str, int])
assert_type(order.decode_output(b""), Quote)
assert_type(survey.decode_output(b""), None)


def call(component: Component[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The shape of ``Job.call``: parameters without the context, the result without the awaitable."""
    return component.decode_output(component.bind_input(args, dict(kwargs)))


assert_type(call(quote, "A1", qty=2), Quote)
assert_type(call(area, 1.0, height=2.0), float)
assert_type(call(count, words=["a"]), dict[str, int])
assert_type(call(order, sku="A1"), Quote)
call(survey)
call(quote)  # type: ignore[call-arg]
call(quote, sku=1)  # type: ignore[arg-type]
call(stock, "A1", qty=1)  # type: ignore[call-arg]


@app.job  # type: ignore[arg-type]
def blocking(job: Job, sku: str) -> int:
    return 1


flow = Workflow("order", version="1.0.0", params={"limit": Param(default=3)}, input={"type": "object"}, output=Quote)
price = flow.tool("price", run=quote, with_={"sku": expr("input.sku")}, retry=Retry(attempts=2), timeout_s=5)
ask = flow.approval("ask", title="May I?", needs=[price], when="steps.price.output.price > params.limit", answer=bool)
with flow.map("each", over=price.output["items"], needs=[ask], join=Join(n=1)) as each:
    each.job("one", run=order, with_={"sku": expr("item")}, on_error=Goto(goto="two"))
with flow.switch("by", needs=[each, "ask"]) as by, by.case("true") as case:
    case.sleep("nap", for_s=expr("params.limit"))
flow.result = {"price": price.output["price"]}
assert_type(price.output["price"], Expr)
assert_type(flow.document(), Document)
assert_type(flow.to_yaml(), str)
flow.tool("bad")  # type: ignore[call-arg]
flow.tool("bad", run="x", retries=2)  # type: ignore[call-arg]
flow.wait("bad", signal="x", retry=Retry())  # type: ignore[call-arg]
flow.loop("bad", until="true", max_rounds="3")  # type: ignore[arg-type]
flow.tool("bad", run="x", on_error="stop")  # type: ignore[arg-type]
