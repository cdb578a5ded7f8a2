"""What differs between two versions of a component's schemas, said in the names of its fields. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.components.component import ComponentInfo

Schema = dict[str, Any]
_PROSE = ("title", "description", "examples")


def describe_change(old: ComponentInfo, new: ComponentInfo) -> str:
    """Which fields of input and output differ, such as ``input.qty: integer there, string here``."""
    changes = [*_changes("input", old.input_schema, new.input_schema)]
    changes += _changes("output", old.output_schema, new.output_schema)
    return "; ".join(changes) or "they differ inside of shared definitions"


def _changes(path: str, old: Schema, new: Schema) -> Iterator[str]:
    old, new = _resolve(old, old), _resolve(new, new)
    olds, news = old.get("properties", {}), new.get("properties", {})
    if not olds and not news:
        if _bare(old) != _bare(new):
            yield f"{path}: {_type(old)} there, {_type(new)} here"
        return
    for name in [*olds, *(n for n in news if n not in olds)]:
        yield from _field_change(f"{path}.{name}", name, old, new)


def _field_change(path: str, name: str, old: Schema, new: Schema) -> Iterator[str]:
    before, after = old.get("properties", {}).get(name), new.get("properties", {}).get(name)
    if after is None:
        yield f"{path}: only there"
    elif before is None:
        yield f"{path}: only here"
    elif _bare(_resolve(before, old)) != _bare(_resolve(after, new)):
        yield f"{path}: {_type(_resolve(before, old))} there, {_type(_resolve(after, new))} here"
    elif (name in old.get("required", ())) != (name in new.get("required", ())):
        yield f"{path}: {'required' if name in old.get('required', ()) else 'optional'} there only"


def _resolve(schema: Schema, root: Schema) -> Schema:
    """Follow a reference to the top of a shared definition."""
    ref = schema.get("$ref", "")
    target = root.get("$defs", {}).get(ref.removeprefix("#/$defs/"))
    return target | {"$defs": root["$defs"]} if isinstance(target, dict) else schema


def _bare(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key not in (*_PROSE, "$defs")}


def _type(schema: Schema) -> str:
    """A few words for a schema: its type, and whatever limits it."""
    match schema:
        case {"anyOf": list(options)}:
            return " or ".join(_type(option) for option in options)
        case {"$ref": str(ref)}:
            return ref.rpartition("/")[2]
        case {"type": "array", "items": dict(items)}:
            return f"array of {_type(items)}"
        case {"enum": list(values)}:
            return " | ".join(map(repr, values))
    limits = [
        f"{key} {value!r}" for key, value in _bare(schema).items() if key not in ("type", "properties", "required")
    ]
    return " ".join([str(schema.get("type", "anything")), *(f"({limit})" for limit in limits[:3])])
