"""A job's input against the JSON Schema of its workflow, for requests that come as JSON from anywhere.

The host decodes the input again with the types themselves; here the caller is told at once, and where.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from actors.components.component import ComponentInfo, InvalidInput
from actors.components.plain_fit import fits_plainly

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

log = logging.getLogger("callboard.gateway")

_PLAIN_FIELD = re.compile(r"[^\W\d]\w*")
_SHOWN_CHARS = 60
_KEPT_VALIDATORS = 256


def check_input(info: ComponentInfo, value: Any) -> None:
    """Raises: InvalidInput with the path of what is wrong, such as ``$.items[2].qty``."""
    if fits_plainly(info.input_schema, value):
        return
    validator = _validator(msgspec.json.encode(info.input_schema))
    if validator is None or (error := _worst(validator, value)) is None:
        return
    path, message, hint = _explain(error)
    raise InvalidInput(f"input of {info.kind} {info.name}, {path}: {message}", path=path, hint=hint)


@lru_cache(maxsize=_KEPT_VALIDATORS)
def _validator(schema: bytes) -> Draft202012Validator | None:
    """None if the schema itself is broken: then the host decides."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    decoded = msgspec.json.decode(schema)
    try:
        Draft202012Validator.check_schema(decoded)
    except SchemaError as error:
        log.warning("the registry holds a schema that is none: %s", error.message)
        return None
    return Draft202012Validator(decoded, registry=Registry())  # an empty one: never fetch a reference from the net


def _worst(validator: Draft202012Validator, value: Any) -> ValidationError | None:
    """The error that tells most; None if there is none, or if the schema leads nowhere: then the host decides."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        worst: ValidationError | None = best_match(validator.iter_errors(value))
    except (Unresolvable, RecursionError) as error:
        log.warning("a schema in the registry cannot be followed: %s", error)
        return None
    return worst


def _explain(error: ValidationError) -> tuple[str, str, str]:
    """(path, message, hint) in the words that a component itself uses for bad input."""
    path = _path(error.absolute_path)
    value: Any = error.instance
    limit: Any = error.validator_value
    match error.validator:
        case "required":
            missing = next(name for name in limit if name not in value)
            return _step(path, missing), f"missing required field `{missing}`", ""
        case "additionalProperties" if isinstance(error.schema, dict):
            known = list(error.schema.get("properties", {}))
            unknown = next(name for name in value if name not in known)
            return _step(path, unknown), f"unknown field `{unknown}`", _field_hint(unknown, known)
        case "type":
            wanted = " or ".join(limit) if isinstance(limit, list) else limit
            return path, f"expected {wanted}, got {_type_name(value)} {_show(value)}", ""
        case "enum":
            return path, f"{_show(value)} is not one of {', '.join(_show(v) for v in limit)}", ""
        case _:
            return path, error.message if len(error.message) < 200 else f"{_show(value)} fails {error.validator}", ""


def _path(steps: Iterable[str | int]) -> str:
    path = "$"
    for step in steps:
        path = f"{path}[{step}]" if isinstance(step, int) else _step(path, step)
    return path


def _step(path: str, field: str) -> str:
    return f"{path}.{field}" if _PLAIN_FIELD.fullmatch(field) else f"{path}[{json.dumps(field)}]"


def _field_hint(name: str, known: list[str]) -> str:
    if close := difflib.get_close_matches(name, known, n=1):
        return f"did you mean `{close[0]}`?"
    return f"the fields are {', '.join(known)}" if known else "it takes no fields"


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _type_name(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    return names.get(type(value), "null")
