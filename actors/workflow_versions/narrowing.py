"""Where one JSON Schema takes less than another. Pure, and wary: what it does not understand counts as less.

Asked one way it says which inputs are refused now, asked the other way which outputs may come that could not come
before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import msgspec

Schema = dict[str, Any]

_DEFS = "#/$defs/"
_TYPES = frozenset(("null", "boolean", "integer", "number", "string", "array", "object"))
_DEPTH_LIMIT = 40
# What changes nothing about which values are right.
_PROSE = frozenset(("title", "description", "examples", "default", "deprecated", "$comment", "$schema", "$id", "$defs"))
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_UNDERSTOOD = frozenset(
    (*_PROSE, *_LEAST, *_MOST, "type", "enum", "const", "properties", "required", "additionalProperties", "items",
     "anyOf", "$ref")
)  # fmt: skip
_canonical = msgspec.json.Encoder(order="deterministic").encode


How = Literal["required", "gone", "closed", "less"]


class Narrowing(NamedTuple):
    """A place at which less is taken: ``path`` such as ``.items[].qty``, and what is the case there."""

    path: str
    what: str
    how: How = "less"


def narrowings(old: Any, new: Any) -> Iterator[Narrowing]:
    """What ``old`` takes and ``new`` does not. A field that only ``new`` knows may have any type: nobody gave it."""
    yield from _Pair(_root(old), _root(new)).compare(_root(old), _root(new), "", 0)


def _root(schema: Any) -> Schema:
    """A schema as an object: ``true`` takes everything, ``false`` nothing."""
    if isinstance(schema, dict):
        return schema
    return {} if schema is True else {"enum": []}


class _Pair:
    """The two roots, which references lead to."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = old
        self._new = new
        # A schema may hold itself, twice even: each pair of references is followed once.
        self._followed: set[tuple[bytes, bytes]] = set()

    def compare(self, old: Schema, new: Schema, path: str, depth: int) -> Iterator[Narrowing]:
        if self._same(old, new) or self._was_followed(old, new):
            return
        if depth > _DEPTH_LIMIT:  # a schema that holds itself and has changed somewhere
            yield Narrowing(path, "cannot be compared: it holds itself")
            return
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        if old.get("enum") == []:
            return
        yield from _types(old, new, path)
        yield from _enums(old, new, path)
        yield from _bounds(old, new, path)
        yield from self._objects(old, new, path, depth)
        yield from self._items(old, new, path, depth)
        yield from _options(old, new, path)
        yield from self._others(old, new, path)

    def _was_followed(self, old: Schema, new: Schema) -> bool:
        if "$ref" not in old and "$ref" not in new:
            return False
        pair = _canonical(old), _canonical(new)
        is_known = pair in self._followed
        self._followed.add(pair)
        return is_known

    def _same(self, old: Any, new: Any) -> bool:
        """The same text, and the same definitions if it may refer to any."""
        if _plain(old) != _plain(new):
            return False
        return b'"$ref"' not in _canonical(old) or self._old.get("$defs") == self._new.get("$defs")

    def _objects(self, old: Schema, new: Schema, path: str, depth: int) -> Iterator[Narrowing]:
        required = set(old.get("required", ()))
        for name in new.get("required", ()):
            if name not in required:
                yield Narrowing(f"{path}.{name}", "is required now", "required")
        olds, news = old.get("properties", {}), new.get("properties", {})
        for name, schema in olds.items():
            if name in news:
                yield from self.compare(_root(schema), _root(news[name]), f"{path}.{name}", depth + 1)
            else:
                yield Narrowing(f"{path}.{name}", "is not known any more", "gone")
        yield from self._additional(old, new, path, depth)

    def _additional(self, old: Schema, new: Schema, path: str, depth: int) -> Iterator[Narrowing]:
        before, after = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if after is False and before is not False:
            yield Narrowing(path, "takes no other fields now", "closed")
        elif isinstance(after, dict) and before is not False:
            yield from self.compare(_root(before), after, f"{path}.*", depth + 1)

    def _items(self, old: Schema, new: Schema, path: str, depth: int) -> Iterator[Narrowing]:
        if "items" in new:
            yield from self.compare(_root(old.get("items", True)), _root(new["items"]), f"{path}[]", depth + 1)

    def _others(self, old: Schema, new: Schema, path: str) -> Iterator[Narrowing]:
        """Keywords that are not understood: one that is gone takes nothing away; any other change may."""
        for key in sorted(new.keys() - _UNDERSTOOD):
            if key not in old:
                yield Narrowing(path, f"has {key} now")
            elif not self._same(old[key], new[key]):
                yield Narrowing(path, f"has another {key}")


def _resolved(schema: Schema, root: Schema) -> Schema:
    """Follow references to the top of a shared definition; one that leads elsewhere stays, and is not understood."""
    for _ in range(_DEPTH_LIMIT):
        ref = schema.get("$ref")
        target = root.get("$defs", {}).get(str(ref).removeprefix(_DEFS)) if ref else None
        if target is None:
            return {**{key: part for key, part in schema.items() if key != "$ref"}, "reference": ref} if ref else schema
        schema = {**_root(target), **{key: part for key, part in schema.items() if key != "$ref"}}
    return schema


def _plain(schema: Any) -> Any:
    """Without prose and the order of keys. A field may be named like a keyword, so names are no keywords."""
    if not isinstance(schema, dict):
        return [_plain(part) for part in schema] if isinstance(schema, list) else schema
    found: dict[str, Any] = {}
    for key, part in schema.items():
        if key == "properties" and isinstance(part, dict):
            found[key] = {name: _plain(inner) for name, inner in part.items()}
        elif key == "required" and isinstance(part, list):
            found[key] = sorted(map(str, part))
        elif key in ("const", "enum"):
            found[key] = part
        elif key not in _PROSE:
            found[key] = _plain(part)
    return found


def _kinds(schema: Schema) -> frozenset[str]:
    given = schema.get("type")
    if given is None:
        return _TYPES
    kinds = frozenset([given] if isinstance(given, str) else given)
    return kinds | {"integer"} if "number" in kinds else kinds


def _types(old: Schema, new: Schema, path: str) -> Iterator[Narrowing]:
    lost = _kinds(old) - _kinds(new)
    values = _values(old)
    if values is not None:  # only the types that its values have
        lost = frozenset() if all(_has_type(value, _kinds(new)) for value in values) else lost
    if lost:
        yield Narrowing(path, f"was {_said(old)}, is {_said(new)}")


def _has_type(value: Any, kinds: frozenset[str]) -> bool:
    match value:
        case None:
            return "null" in kinds
        case bool():
            return "boolean" in kinds
        case int():
            return "integer" in kinds
        case float():
            return "number" in kinds
        case str():
            return "string" in kinds
        case list():
            return "array" in kinds
    return "object" in kinds


def _said(schema: Schema) -> str:
    given = schema.get("type", "anything")
    return given if isinstance(given, str) else " or ".join(given)


def _values(schema: Schema) -> list[Any] | None:
    """The only values that are right; None if there is no list of them."""
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] | None = schema.get("enum")
    return values


def _enums(old: Schema, new: Schema, path: str) -> Iterator[Narrowing]:
    before, after = _values(old), _values(new)
    if after is None:
        return
    if before is None:
        yield Narrowing(path, f"is one of {_list(after)} now")
        return
    kept = {_canonical(value) for value in after}
    if lost := [value for value in before if _canonical(value) not in kept]:
        yield Narrowing(path, f"cannot be {_list(lost)} any more")


def _list(values: list[Any]) -> str:
    shown = ", ".join(_canonical(value).decode() for value in values[:5])
    return f"{shown}, ..." if len(values) > 5 else shown or "nothing"


def _bounds(old: Schema, new: Schema, path: str) -> Iterator[Narrowing]:
    yield from _bound(old, new, path, _LEAST, lambda before, after: after > before)
    yield from _bound(old, new, path, _MOST, lambda before, after: after < before)


def _bound(
    old: Schema, new: Schema, path: str, keys: tuple[str, ...], is_less: Callable[[Any, Any], bool]
) -> Iterator[Narrowing]:
    for key in keys:
        if key not in new:
            continue
        if key not in old:
            yield Narrowing(path, f"has {key} {new[key]} now")
        elif is_less(old[key], new[key]):
            yield Narrowing(path, f"has {key} {new[key]}, had {old[key]}")


def _options(old: Schema, new: Schema, path: str) -> Iterator[Narrowing]:
    """One of several: an option that is gone, or that was not there when anything was right."""
    if "anyOf" not in new:
        return
    if "anyOf" not in old:
        yield Narrowing(path, "is one of several forms now")
        return
    kept = {_canonical(_plain(option)) for option in new["anyOf"]}
    if any(_canonical(_plain(option)) not in kept for option in old["anyOf"]):
        yield Narrowing(path, "has lost one of its forms, or it has changed")
