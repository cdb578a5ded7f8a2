"""Whether a value fits a JSON Schema that says no more than types and fields, as most do.

jsonschema takes 50 times as long for the same answer, and is asked for whatever this does not understand.
"""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "object": (dict,),
    "array": (list,), "null": (type(None),),
}  # fmt: skip
_PROSE = frozenset(("type", "title", "description", "default", "examples", "$schema"))
_OBJECT = _PROSE | {"properties", "required", "additionalProperties"}
_ARRAY = _PROSE | {"items"}


def fits_plainly(schema: Any, value: Any) -> bool:
    """True if it fits for sure; False says nothing: it may be that the schema is not plain."""
    if schema is True or schema == {}:
        return True
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in _TYPES or not _is_a(value, kind):
        return False
    if kind == "object":
        return schema.keys() <= _OBJECT and _fields_fit(schema, value)
    if kind == "array":
        items = schema.get("items", True)
        return schema.keys() <= _ARRAY and all(fits_plainly(items, each) for each in value)
    return schema.keys() <= _PROSE


def _is_a(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")


def _fields_fit(schema: dict[str, Any], value: dict[str, Any]) -> bool:
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    if not isinstance(properties, dict) or not isinstance(others, bool):
        return False
    if not all(name in value for name in schema.get("required", ())):
        return False
    for name, each in value.items():
        if name not in properties:
            if not others:
                return False
        elif not fits_plainly(properties[name], each):
            return False
    return True
