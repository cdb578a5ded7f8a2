"""The same job of ten steps twice: as a function, and as a document."""

from __future__ import annotations

from typing import Any

import msgspec

from actors import App, Job
from actors.interpreter.component import workflow_component
from actors.workflow.shape import shape
from bench.floor.contract import price

STEPS = 10

app = App("bench", version="1.0.0")


@app.tool(concurrency=256)
async def quote(sku: str, qty: int) -> dict[str, Any]:
    """Price one line."""
    priced = price(sku, qty)
    return {"sku": priced.sku, "total": priced.total}


@app.job
async def by_code(job: Job, sku: str, qty: int) -> dict[str, Any]:
    """Ten quotes, one after the other."""
    total = 0
    for step in range(STEPS):
        total += (await job.call(quote, sku=sku, qty=qty + step))["total"]
    return {"sku": sku, "total": total}


def _step(number: int) -> dict[str, Any]:
    values = {"sku": "${ input.sku }", "qty": f"${{ input.qty + {number} }}" if number else "${ input.qty }"}
    needs = {"needs": [f"s{number - 1}"]} if number else {}
    return {"id": f"s{number}", "kind": "tool", "run": "quote", "with": values, **needs}


def _document() -> dict[str, Any]:
    total = " + ".join(f"steps.s{number}.output.total" for number in range(STEPS))
    return {
        "name": "by_document",
        "version": "1.0.0",
        "input": {
            "type": "object",
            "required": ["sku", "qty"],
            "properties": {"sku": {"type": "string"}, "qty": {"type": "integer"}},
        },
        "steps": [_step(number) for number in range(STEPS)],
        "result": {"sku": "${ input.sku }", "total": f"${{ {total} }}"},
    }


_shaped = shape(msgspec.json.decode(msgspec.json.encode(_document())))
assert _shaped.document is not None, _shaped.faults
app.components.append(workflow_component(_shaped.document, app="bench"))
