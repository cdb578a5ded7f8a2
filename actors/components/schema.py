"""JSON Schema (2020-12) of a component's input and output, and what its docstring adds to it. All pure.

msgspec makes the schema; here it is brought into the shape that readers of it expect: an input is an ``object`` at the
top, not a ``$ref``, with a description for every parameter.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Schema = dict[str, Any]

_DEFS = "#/$defs/"
# What tells people something and changes no call: another wording is not another schema.
_PROSE = frozenset({"title", "description", "examples"})
# Of these keys the value maps names to schemas, so a name in it is never a keyword.
_NAMED = ("properties", "$defs", "patternProperties")
_SECTION = re.compile(
    r"(?::(?:param|arg|parameter|type|returns?|rtype|raises?)\b.*:.*"
    r"|(?:Args|Arguments|Parameters|Params|Returns?|Yields|Raises|Examples?|Notes?|Attributes):?)"
)
_PATH_STEP = re.compile(r"\.(?P<field>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_SORTED = msgspec.json.Encoder(order="deterministic")


class Doc(NamedTuple):
    """A docstring as the schema uses it: its first paragraph on one line, and a text per parameter."""

    description: str
    parameters: dict[str, str]


def read_docstring(text: str | None) -> Doc:
    """Understand Google, numpy and Sphinx style; prose that is none of them is only a description."""
    if not text or not (text := inspect.cleandoc(text)):
        return Doc("", {})
    return Doc(_first_paragraph(text), _parameter_texts(text))


def _first_paragraph(text: str) -> str:
    lines: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if not line or _SECTION.fullmatch(line):
            break
        lines.append(line)
    return " ".join(lines)


def _parameter_texts(text: str) -> dict[str, str]:
    from docstring_parser import ParseError, parse

    try:
        found = parse(text).params
    except ParseError:
        return {}
    return {p.arg_name: " ".join(p.description.split()) for p in found if p.description}


def input_schema(input_type: type[msgspec.Struct], *, title: str, doc: Doc, defaults: Mapping[str, Any]) -> Schema:
    """The schema of an input; ``defaults`` holds the defaults of its optional parameters as Python values."""
    schema = _inline_top(msgspec.json.schema(input_type))
    for name, prop in schema["properties"].items():
        prop.pop("default", None)
        if name in defaults:
            prop.update(_default(defaults[name]))
        if name in doc.parameters:
            prop.setdefault("description", doc.parameters[name])
    return {**schema, "title": title}


def output_schema(type_: Any) -> Schema:
    """The schema of a return type."""
    return _inline_top(msgspec.json.schema(type_))


def _default(value: Any) -> Schema:
    """A default that is no JSON (a sentinel, say) is left to the function."""
    try:
        return {"default": msgspec.json.decode(_SORTED.encode(value))}
    except (TypeError, ValueError, RecursionError):
        return {}


def _inline_top(schema: Schema) -> Schema:
    """Put the definition that the top refers to in its place; it stays among the others if it refers to itself."""
    if "$ref" not in schema:
        return schema
    defs: dict[str, Schema] = dict(schema["$defs"])
    top = str(schema["$ref"]).removeprefix(_DEFS)
    body = defs[top]
    if not any(ref == top for part in defs.values() for ref in _references(part)):
        del defs[top]
    return {**body, "$defs": defs} if defs else body


def _references(schema: Any) -> Iterator[str]:
    match schema:
        case {"$ref": str() as ref}:
            yield ref.removeprefix(_DEFS)
        case dict():
            for part in schema.values():
                yield from _references(part)
        case list():
            for part in schema:
                yield from _references(part)


# ---- identity


def digest(name: str, version: str, *schemas: Schema) -> str:
    """SHA-256, in hex, over what callers depend on. Reworded descriptions and the order of keys do not change it."""
    return hashlib.sha256(_SORTED.encode([name, version, *map(_canonical, schemas)])).hexdigest()


def _canonical(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return [_canonical(part) for part in schema] if isinstance(schema, list) else schema
    return {key: _canonical_part(key, part) for key, part in schema.items() if key not in _PROSE}


def _canonical_part(key: str, part: Any) -> Any:
    if key in _NAMED:
        return {name: _canonical(schema) for name, schema in part.items()}
    if key == "required":
        return sorted(part)
    return part if key in {"default", "enum", "const"} else _canonical(part)


# ---- finding the way in a schema


def fields_at(schema: Schema, path: str) -> list[str]:
    """The fields that an object at ``path`` (``$.items[2]``) may have; empty if that is not known."""
    defs: dict[str, Schema] = schema.get("$defs", {})
    nodes = list(_alternatives(schema, defs))
    for step in _PATH_STEP.finditer(path):
        below = (child for node in nodes for child in _below(node, step["field"], step["index"]))
        nodes = [option for child in below for option in _alternatives(child, defs)]
    return list(dict.fromkeys(name for node in nodes for name in node.get("properties", {})))


def _alternatives(node: Schema, defs: Mapping[str, Schema]) -> Iterator[Schema]:
    """What may stand here: references followed, unions opened."""
    if "$ref" in node:
        yield from _alternatives(defs.get(str(node["$ref"]).removeprefix(_DEFS), {}), defs)
    elif "anyOf" in node:
        for option in node["anyOf"]:
            yield from _alternatives(option, defs)
    else:
        yield node


def _below(node: Schema, field: str | None, index: str | None) -> Iterable[Schema]:
    if field is not None:
        return [node["properties"][field]] if field in node.get("properties", {}) else []
    prefix = node.get("prefixItems", [])
    if index != "..." and index is not None and int(index) < len(prefix):
        return [prefix[int(index)]]
    # msgspec writes [...] for a value of a dict, whose key it does not know any more.
    return [part for key in ("items", "additionalProperties") if isinstance(part := node.get(key), dict)]
