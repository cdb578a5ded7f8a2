"""A JSON Schema as a table: a row for each field, also of objects in objects and in lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from actors.console.component_page import resolved, type_text
from actors.reference.markdown import cell, code, prose, table

DEPTH_LIMIT = 4
_BOUNDS = {
    "minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}", "minLength": "{} characters at least", "maxLength": "{} characters at most",
    "minItems": "{} items at least", "maxItems": "{} items at most", "pattern": "matches {}",
}  # fmt: skip
_encode = msgspec.json.Encoder(order="deterministic").encode


def schema_lines(schema: Mapping[str, Any]) -> Iterator[str]:
    """A table if it is an object with fields, else a sentence."""
    root = resolved(schema, schema)
    rows = list(_rows(root, schema, "", ()))
    if rows:
        yield from table(["field", "type", "required", "default", "description"], rows)
        return
    yield _kind(schema, schema) + "." if schema else "Anything."
    if text := prose(str(root.get("description", ""))):
        yield ""
        yield text


def _rows(owner: Mapping[str, Any], root: Mapping[str, Any], path: str, seen: tuple[Any, ...]) -> Iterator[list[str]]:
    """``seen``: the properties of the objects around it, which it may be one of again."""
    properties = owner.get("properties")
    if not isinstance(properties, Mapping) or len(seen) > DEPTH_LIMIT or properties in seen:
        return
    required = owner.get("required", ())
    for name, part in properties.items():
        field = resolved(part, root) if isinstance(part, Mapping) else {}
        default = code(_json(field["default"])) if "default" in field else ""
        yield [
            code(f"{path}{name}"), _kind(part, root), "yes" if name in required else "", default,
            cell(str(field.get("description", ""))),
        ]  # fmt: skip
        yield from _inner(field, root, f"{path}{name}", (*seen, properties))


def _inner(field: Mapping[str, Any], root: Mapping[str, Any], path: str, seen: tuple[Any, ...]) -> Iterator[list[str]]:
    items = field.get("items")
    if isinstance(items, Mapping):
        yield from _rows(resolved(items, root), root, f"{path}[].", seen)
    else:
        yield from _rows(field, root, f"{path}.", seen)


def _kind(part: Any, root: Mapping[str, Any]) -> str:
    if not isinstance(part, Mapping):
        return "anything" if part else "nothing"
    field = resolved(part, root)
    bounds = [text.format(code(_json(field[name]))) for name, text in _BOUNDS.items() if name in field]
    return ", ".join([cell(type_text(part, root)), *bounds])


def _json(value: Any) -> str:
    return _encode(value).decode()
