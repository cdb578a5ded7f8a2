"""A document that is shipped with an app, as a component of it: read, checked by all rules that need no registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from actors.interpreter.component import workflow_component
from actors.workflow.document_file import bases_beside, read_file
from actors.workflow.source import Source, read_source
from actors.workflow_rules.validation import check
from bus.errors import UsageError

if TYPE_CHECKING:
    from actors.components.component import Component
    from actors.workflow.document import Document


def shipped_component(
    document: Document | Mapping[str, Any] | str | Path, *, app: str, params: Mapping[str, Any], folder: Path
) -> Component[..., Any]:
    """The component; a path is from ``folder``. Raises: UsageError that says all findings."""
    source = _source(document, folder)
    checked = check(source, bases=bases_beside(), params=params, is_final=True)
    if checked.document is None or checked.findings:
        text = "\n".join(str(finding) for finding in checked.findings)
        hint = "callboard workflow validate shows them"
        raise UsageError(f"{source.file} cannot be a workflow of app {app}:\n{text}", code="bad_workflow", hint=hint)
    # What is for editors is not published, and what is published has to be the same component.
    return workflow_component(msgspec.structs.replace(checked.document, schema=None), app=app)


def _source(document: Document | Mapping[str, Any] | str | Path, folder: Path) -> Source:
    if isinstance(document, str | Path):
        file = folder / document
        return read_source(str(file), read_file(file))
    return read_source("the document", msgspec.json.encode(document), "json")
