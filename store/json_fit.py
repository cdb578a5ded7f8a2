"""A JSON value against a JSON Schema: where it does not fit, in words for whoever sent it. Pure."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from store.json_place import field_hint, field_of

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

log = logging.getLogger("callboard.schema")

_SHOWN_CHARS = 60
_KEPT_VALIDATORS = 256


class Misfit(NamedTuple):
    """``path`` is the place in the value, such as ``$.items[2].qty``."""

    path: str
    message: str
    hint: str


def misfit(schema: bytes, value: Any) -> Misfit | None:
    """What is most wrong with ``value``; None if it fits, or if ``schema`` (JSON) cannot be followed."""
    validator = _validator(schema)
    if validator is None or (error := _worst(validator, value)) is None:
        return None
    return _explain(error)


def schema_fault(schema: Any) -> str:
    """What makes ``schema`` no JSON Schema; empty if it is one."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return str(error.message)[:200]
    except RecursionError:
        return "it is nested too deeply"
    return ""


@lru_cache(maxsize=_KEPT_VALIDATORS)
def _validator(schema: bytes) -> Draft202012Validator | None:
    """None if the schema itself is broken."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    decoded = msgspec.json.decode(schema)
    if fault := schema_fault(decoded):
        log.warning("a schema that is none: %s", fault)
        return None
    return Draft202012Validator(decoded, registry=Registry())  # an empty one: never fetch a reference from the net


def _worst(validator: Draft202012Validator, value: Any) -> ValidationError | None:
    """The error that tells most; None if there is none, or if the schema leads nowhere."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        worst: ValidationError | None = best_match(validator.iter_errors(value))
    except (Unresolvable, RecursionError) as error:
        log.warning("a schema cannot be followed: %s", error)
        return None
    return worst


def _explain(error: ValidationError) -> Misfit:
    """The fault in the words that a component itself uses for bad input."""
    path = _path(error.absolute_path)
    value: Any = error.instance
    limit: Any = error.validator_value
    match error.validator:
        case "required":
            missing = next(name for name in limit if name not in value)
            return Misfit(field_of(path, missing), f"missing required field `{missing}`", "")
        case "additionalProperties" if isinstance(error.schema, dict):
            known = list(error.schema.get("properties", {}))
            unknown = next(name for name in value if name not in known)
            return Misfit(field_of(path, unknown), f"unknown field `{unknown}`", field_hint(unknown, known))
        case "type":
            wanted = " or ".join(limit) if isinstance(limit, list) else limit
            got = "null" if value is None else f"{type_name(value)} {_show(value)}"
            return Misfit(path, f"expected {wanted}, got {got}", "")
        case "enum":
            return Misfit(path, f"{_show(value)} is not one of {', '.join(_show(v) for v in limit)}", "")
        case _:
            said = error.message if len(error.message) < 200 else f"{_show(value)} fails {error.validator}"
            return Misfit(path, said, "")


def _path(steps: Iterable[str | int]) -> str:
    path = "$"
    for step in steps:
        path = f"{path}[{step}]" if isinstance(step, int) else field_of(path, step)
    return path


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def type_name(value: Any) -> str:
    """What JSON calls the type of a value."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    return names.get(type(value), "null")
