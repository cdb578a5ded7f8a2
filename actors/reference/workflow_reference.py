"""The page of a workflow."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from actors.pictures.document_drawing import draw_document
from actors.pictures.mermaid import mermaid
from actors.reference.entry import MARK, Library, Workflow
from actors.reference.markdown import cell, code, prose, table
from actors.reference.schema_table import schema_lines
from actors.reference.steps_table import steps_lines
from actors.workflow.document import Document, Param
from actors.workflow.writing import to_yaml


def workflow_reference(workflow: Workflow, library: Library) -> str:
    """Markdown, with a line's end at its end."""
    return "\n".join(_page(workflow, library)) + "\n"


def _page(workflow: Workflow, library: Library) -> Iterator[str]:
    document = workflow.document
    yield from (MARK, "", f"# Workflow {document.name}")
    if document.description.strip():
        yield from ("", prose(document.description))
    yield from ("", *table(["", ""], _facts(workflow)))
    yield from ("", "## Input", "", *schema_lines(document.input))
    yield from ("", "## Output", "", *schema_lines(document.output))
    if document.params:
        head = ["parameter", "type", "required", "default", "description"]
        rows = (_param(name, param) for name, param in document.params.items())
        yield from ("", "## Parameters", "", *table(head, rows))
    yield from ("", "## Steps", "", "```mermaid", mermaid(draw_document(document)).rstrip("\n"), "```")
    yield from ("", *steps_lines(document, library))
    yield from _result(document)


def _facts(workflow: Workflow) -> Iterator[list[str]]:
    document = workflow.document
    yield ["version", code(document.version)]
    if workflow.others:
        yield ["other versions", ", ".join(map(code, workflow.others))]
    if workflow.deprecated:
        yield ["deprecated", cell(workflow.deprecated)]
    if document.category:
        yield ["category", cell(document.category)]
    if document.labels:
        yield ["labels", ", ".join(code(f"{name}={value}") for name, value in sorted(document.labels.items()))]
    if at_once := document.at_once:
        yield ["at once", f"{at_once.limit}{_for_each(at_once.key)}"]
    if rate := document.rate:
        yield ["rate", f"{rate.limit} in {rate.per_s:g} s{_for_each(rate.key)}"]


def _for_each(key: str) -> str:
    return f" for each {code(key)}" if key else ""


def _param(name: str, param: Param) -> list[str]:
    has_default = param.default is not msgspec.UNSET
    kind = " ".join(schema_lines(param.schema)).removesuffix(".").lower() if not _has_fields(param) else "object"
    default = code(msgspec.json.encode(param.default, order="deterministic").decode()) if has_default else ""
    return [code(name), kind, "" if has_default else "yes", default, cell(param.description)]


def _has_fields(param: Param) -> bool:
    return "properties" in param.schema


def _result(document: Document) -> Iterator[str]:
    if document.result is not None:
        text = to_yaml({"result": msgspec.to_builtins(document.result)}).rstrip("\n")
        yield from ("", "## Result", "", "```yaml", text, "```")
