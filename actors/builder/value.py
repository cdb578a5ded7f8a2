"""From what a program gives to what stands in a document."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from actors.builder.expression import Expr
from actors.components.component import Component
from actors.components.schema import output_schema
from actors.workflow.document import Cache
from bus.errors import UsageError
from bus.subjects import CallKind


def plain(value: Any) -> Any:
    """The value as JSON has it; an expression is ``${ ... }``. Raises: UsageError for what JSON does not have."""
    match value:
        case None | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case str():
            return str(value)
        case Expr():
            return f"${{ {value.text} }}"
        case dict():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case msgspec.Struct():
            return _fields(value)
    try:
        found = msgspec.to_builtins(value)
    except TypeError:
        found = value
    if found is value or isinstance(value, float):
        hint = "give texts, finite numbers, lists, mappings, or expr(...)"
        raise UsageError(f"{value!r} is no value of a document", code="bad_value", hint=hint)
    return found


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    """Those that are not so by themselves."""
    found = {}
    for each in msgspec.structs.fields(value):
        inner = getattr(value, each.name)
        if inner is msgspec.UNSET or (each.default is not msgspec.NODEFAULT and inner == each.default):
            continue
        if each.default_factory is not msgspec.NODEFAULT and inner == each.default_factory():
            continue
        is_expression = isinstance(value, Cache) and each.name == "key"
        found[each.encode_name] = str(inner) if is_expression else plain(inner)
    return found


def reference(kind: CallKind, run: str | Component[..., Any]) -> str:
    """What ``run`` names. Raises: UsageError for a component of another kind."""
    if isinstance(run, str):
        return run
    if run.kind != kind:
        hint = f"make it a step of kind {run.kind}"
        raise UsageError(f"{run!r} is of kind {run.kind}, not {kind}", code="bad_reference", path="run", hint=hint)
    return f"{run.app}.{run.name}@{run.major}"


def schema(of: Any) -> Any:
    """The JSON Schema that a mapping is, or that of a type."""
    return plain(of) if isinstance(of, dict) else output_schema(of)
