"""All reference pages: a file for each workflow and component, and the index."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from actors.components.component import ComponentInfo
from actors.reference.component_reference import component_reference
from actors.reference.entry import MARK, Library, Workflow, component_file, first_sentence, workflow_file
from actors.reference.markdown import cell, code, table
from actors.reference.workflow_reference import workflow_reference

INDEX = "index.md"


def book(library: Library) -> dict[str, str]:
    """Each page's text by its path in the folder."""
    pages = {INDEX: "\n".join(_index(library)) + "\n"}
    for workflow in library.workflows:
        pages[workflow_file(workflow.document.name)] = workflow_reference(workflow, library)
    for (kind, name), infos in itertools.groupby(library.components, key=lambda info: (info.kind, info.name)):
        pages[component_file(kind, name)] = component_reference(list(infos), library.users.get((kind, name), ()))
    return pages


def _index(library: Library) -> Iterator[str]:
    yield from (MARK, "", "# Workflows and components")
    if library.workflows:
        by_category = sorted(library.workflows, key=lambda one: (one.document.category, one.document.name))
        head = ["workflow", "version", "category", "description"]
        yield from ("", "## Workflows", "", *table(head, map(_workflow, by_category)))
    if library.components:
        head = ["kind", "component", "version", "app", "description"]
        yield from ("", "## Components", "", *table(head, map(_component, library.components)))


def _workflow(workflow: Workflow) -> list[str]:
    document = workflow.document
    link = f"[{code(document.name)}]({workflow_file(document.name)})"
    told = first_sentence(document.description)
    return [link, document.version, cell(document.category), f"Deprecated. {told}" if workflow.deprecated else told]


def _component(info: ComponentInfo) -> list[str]:
    link = f"[{code(info.name)}]({component_file(info.kind, info.name)})"
    return [info.kind, link, info.version, cell(info.app), first_sentence(info.description)]
