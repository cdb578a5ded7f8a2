"""The JSON Schema (2020-12) of files that hold a workflow: whole documents, and those that extend others."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from actors.workflow.document import Document, Step
from actors.workflow.extension import Extension

_REF = "#/$defs/{name}"
_PLACES = {
    "after": {"type": "string", "description": "put it after the step of this id"},
    "before": {"type": "string", "description": "put it before the step of this id"},
}


def document_schema() -> dict[str, Any]:
    """What editors use to complete and to underline."""
    _, defs = msgspec.json.schema_components((Document, Extension), ref_template=_REF)
    kinds = [kind.__name__ for kind in get_args(Step)]
    placed = {f"New{name}": _placed(defs[name]) for name in kinds}
    fields = {field for name in kinds for field in defs[name]["properties"]}
    extension = defs["Extension"]["properties"]
    extension["steps"]["items"] = {"anyOf": [{"$ref": _REF.format(name=name)} for name in placed]}
    extension["override"]["additionalProperties"]["propertyNames"] = {"enum": sorted(fields - {"id"})}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Callboard workflow",
        "if": {"required": ["extends"]},
        "then": {"$ref": _REF.format(name="Extension")},
        "else": {"$ref": _REF.format(name="Document")},
        "$defs": {**defs, **placed},
    }


def _placed(step: dict[str, Any]) -> dict[str, Any]:
    """The schema of a step that may say where it is put."""
    return {**step, "properties": {**step["properties"], **_PLACES}}
