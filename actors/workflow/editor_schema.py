"""The JSON Schema (2020-12) of files that hold a workflow: whole documents, and those that extend others."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from actors.workflow.document import Document, Step
from actors.workflow.extension import Extension

_REF = "#/$defs/{name}"
# Only its outline: a pre-release and a build may follow.
_VERSION = r"^\d+\.\d+\.\d+($|[-+])"
_PLACES = {
    "after": {"type": "string", "description": "put it after the step of this id"},
    "before": {"type": "string", "description": "put it before the step of this id"},
}


def document_schema() -> dict[str, Any]:
    """What editors use to complete and to underline."""
    _, defs = msgspec.json.schema_components((Document, Extension), ref_template=_REF)
    for name in ("Document", "Extension"):
        _string(defs[name]["properties"]["version"])["pattern"] = _VERSION
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


def _string(schema: dict[str, Any]) -> dict[str, Any]:
    """The part that is about texts."""
    return next(each for each in schema.get("anyOf", [schema]) if each.get("type") == "string")


def _placed(step: dict[str, Any]) -> dict[str, Any]:
    """The schema of a step that may say where it is put."""
    return {**step, "properties": {**step["properties"], **_PLACES}}
