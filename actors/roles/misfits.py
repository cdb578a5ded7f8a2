"""All that does not fit a schema, field for field, where a validator would tell the worst only. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from actors.workflow.finding import Fault, Path, did_you_mean
from store.json_fit import misfit

Schema = dict[str, Any]


def misfits(schema: Schema, value: Any) -> Iterator[Fault]:
    """Unknown fields, missing ones, and values that cannot be, each with its path."""
    yield from _at(schema, schema.get("$defs", {}), value, ())


def _at(schema: Schema, defs: Schema, value: Any, path: Path) -> Iterator[Fault]:
    schema = _opened(schema, defs, value)
    if isinstance(value, dict) and "properties" in schema:
        yield from _fields(schema, defs, value, path)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for place, item in enumerate(value):
            yield from _at(schema["items"], defs, item, (*path, place))
    elif found := misfit(msgspec.json.encode({**schema, "$defs": defs}), value):
        yield Fault("bad_value", path, found.message, found.hint)


def _fields(schema: Schema, defs: Schema, value: dict[str, Any], path: Path) -> Iterator[Fault]:
    known = schema["properties"]
    for name, each in value.items():
        if name in known:
            yield from _at(known[name], defs, each, (*path, name))
        else:
            yield Fault("unknown_field", (*path, name), f"there is no field {name!r}", did_you_mean(name, known))
    for name in schema.get("required", ()):
        if name not in value:
            yield Fault("missing_field", path, f"the field {name!r} is missing")


def _opened(schema: Schema, defs: Schema, value: Any) -> Schema:
    """References followed; of alternatives the one that is for a value of this kind."""
    while "$ref" in schema:
        schema = defs[str(schema["$ref"]).rpartition("/")[2]]
    for option in schema.get("anyOf", ()):
        opened = _opened(option, defs, value)
        if isinstance(value, dict) and opened.get("type") == "object":
            return opened
    return schema
