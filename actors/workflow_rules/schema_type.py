"""What a JSON Schema says of the values that fit it, as far as that can be said without a value. Pure, and wary.

Whatever is not understood counts as "anything may be the case": only what can never fit is ever told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

_KINDS = frozenset(("null", "boolean", "number", "string", "array", "object"))
_DEPTH_LIMIT = 8
_WAYS_LIMIT = 8
# With one of these a schema that lists properties may mean others too.
_OPENING = ("patternProperties", "unevaluatedProperties", "allOf", "if", "dependentSchemas")
_MIXING = ("anyOf", "oneOf", "allOf", "not", "if")


class Known(NamedTuple):
    """A schema, and the one whose definitions it may refer to. Inside of it a Known may stand for a schema."""

    schema: Any
    root: Any


class Missing(NamedTuple):
    """There is no such property; ``known`` are those that there are, ``what`` has them."""

    name: str
    known: tuple[str, ...]
    what: str


ANYTHING = Known(True, True)


def is_anything(type_: Known | Missing) -> bool:
    """Whether nothing is known of it."""
    return isinstance(type_, Known) and (type_.schema is True or not type_.schema)


def known(schema: Any) -> Known:
    """A schema that stands by itself."""
    return Known(schema, schema)


def resolved(type_: Known) -> Known:
    """The schema that a reference leads to; anything at all if it leads nowhere."""
    for _ in range(_DEPTH_LIMIT):
        if isinstance(type_.schema, Known):
            type_ = type_.schema
            continue
        ref = type_.schema.get("$ref") if isinstance(type_.schema, dict) else None
        if ref is None:
            return type_ if isinstance(type_.schema, dict) else ANYTHING
        type_ = _at(type_.root, ref)
    return ANYTHING


def _at(root: Any, ref: Any) -> Known:
    here = root
    if not isinstance(ref, str) or not ref.startswith("#"):
        return ANYTHING
    for step in ref[1:].split("/")[1:]:
        here = here.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(here, dict) else None
    return Known(here, root)


def ways(type_: Known) -> list[Known]:
    """The alternatives of ``anyOf`` and ``oneOf``, itself if there are none."""
    found, left = list[Known](), [type_]
    while left and len(found) + len(left) <= _WAYS_LIMIT:
        here = resolved(left.pop(0))
        for key in ("anyOf", "oneOf"):
            parts = here.schema.get(key) if isinstance(here.schema, dict) else None
            if isinstance(parts, list) and parts:
                left += [Known(part, here.root) for part in parts]
                break
        else:
            found.append(here)
    return [ANYTHING] if left else found


def kinds(type_: Known) -> frozenset[str]:
    """The JSON types that may come; whole numbers are numbers."""
    return frozenset[str]().union(*map(_kinds, ways(type_)))


def _kinds(way: Known) -> frozenset[str]:
    if not isinstance(way.schema, dict):
        return _KINDS
    named = way.schema.get("type")
    names = [each for each in (named if isinstance(named, list) else [named]) if isinstance(each, str)]
    said = {"number" if each == "integer" else each for each in names}
    found = _KINDS & said or _KINDS
    values = constants(way)
    return found if values is None else found & frozenset(_kind_of(value) for value in values) or found


def constants(type_: Known) -> list[Any] | None:
    """The only values that may come, if the schema lists them."""
    if not isinstance(type_.schema, dict):
        return None
    if "const" in type_.schema:
        return [type_.schema["const"]]
    values = type_.schema.get("enum")
    return values if isinstance(values, list) and values else None


def _kind_of(value: Any) -> str:
    names = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


def said(type_: Known) -> str:
    """The types in words."""
    named = [way.schema.get("type") if isinstance(way.schema, dict) else None for way in ways(type_)]
    if all(isinstance(each, str) for each in named):
        return " or ".join(dict.fromkeys(map(str, named)))
    return " or ".join(sorted(kinds(type_)))


def member(type_: Known, name: str) -> Known | Missing:
    """The type of a property. Where the whole may be null too, that counts as nothing."""
    found = [_member(way, name) for way in ways(type_) if kinds(way) != {"null"}]
    good = [each for each in found if isinstance(each, Known)]
    if not found or any(each is ANYTHING for each in good):
        return ANYTHING
    if good:
        return good[0] if len(good) == 1 else known({"anyOf": good})
    names = dict.fromkeys(each for missing in found if isinstance(missing, Missing) for each in missing.known)
    return Missing(name, tuple(names), said(type_))


def _member(way: Known, name: str) -> Known | Missing:
    schema = way.schema
    if not isinstance(schema, dict):
        return ANYTHING
    if "object" not in kinds(way):
        return Missing(name, (), said(way))
    properties, more = schema.get("properties"), schema.get("additionalProperties")
    listed = properties if isinstance(properties, dict) else {}
    if name in listed:
        return Known(listed[name], way.root)
    if isinstance(more, dict):
        return Known(more, way.root)
    is_open = any(schema.get(key) not in (None, False) for key in _OPENING) or more is True
    return ANYTHING if is_open or not (listed or more is False) else Missing(name, tuple(listed), "object")


def item(type_: Known, number: int | None = None) -> Known:
    """The type of an item of a list: of that one, or of any."""
    found = []
    for way in ways(type_):
        schema = way.schema
        if not isinstance(schema, dict):
            return ANYTHING
        first = schema.get("prefixItems")
        prefix = first if isinstance(first, list) else []
        if number is not None and number < len(prefix):
            found.append(Known(prefix[number], way.root))
        elif "items" in schema and not prefix:
            found.append(Known(schema["items"], way.root))
        elif "array" in kinds(way):
            return ANYTHING
    return found[0] if len(found) == 1 else known({"anyOf": found}) if found else ANYTHING


def misfit(given: Known, wanted: Known, depth: int = 0) -> str:
    """Why no value of the one type is one of the other, or "" if some may be."""
    if depth >= _DEPTH_LIMIT:
        return ""
    reasons = []
    for mine in ways(given):
        for theirs in ways(wanted):
            if not (reason := _misfit(mine, theirs, depth)):
                return ""
            reasons.append(reason)
    return reasons[0] if len(reasons) == 1 else f"it is {said(given)}, and has to be {said(wanted)}"


def _misfit(given: Known, wanted: Known, depth: int) -> str:
    common = kinds(given) & kinds(wanted)
    if not common:
        return f"it is {said(given)}, and has to be {said(wanted)}"
    mine, theirs = constants(given), constants(wanted)
    if mine is not None and theirs is not None and not any(_same(one, other) for one in mine for other in theirs):
        return f"it is {_listed(mine)}, and has to be {_listed(theirs)}"
    if common != {"object"} or not (_is_simple(given) and _is_simple(wanted)):
        return ""
    return next(_properties(given, wanted, depth), "")


def _is_simple(way: Known) -> bool:
    return isinstance(way.schema, dict) and way.schema.keys().isdisjoint(_MIXING)


def _properties(given: Known, wanted: Known, depth: int) -> Iterator[str]:
    """What an object lacks, or has and may not have."""
    required, certain = (_names(way.schema.get("required")) for way in (wanted, given))
    taken = wanted.schema.get("properties")
    for name in dict.fromkeys((*required, *certain)):
        mine, theirs = member(given, name), member(wanted, name)
        if isinstance(mine, Missing):
            if name in required:
                yield f"it has no {name!r}, which is required"
        elif isinstance(theirs, Missing):
            if wanted.schema.get("additionalProperties") is False and isinstance(taken, dict):
                yield f"it has {name!r}, which is not taken"
        elif reason := misfit(mine, theirs, depth + 1):
            yield f"its {name!r} does not fit: {reason}"


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _listed(values: list[Any]) -> str:
    return " or ".join(map(repr, values[:5])) + (" ..." if len(values) > 5 else "")
