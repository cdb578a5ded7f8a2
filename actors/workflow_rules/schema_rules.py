"""Rules of schemas: those in a document are schemas, and values that are known beforehand fit theirs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from actors.workflow.document import ApprovalStep, Document
from actors.workflow.finding import Fault, Path, did_you_mean
from actors.workflow.outline import Outline
from store.plain_fit import fits_plainly

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

_TYPES = ("string", "integer", "number", "boolean", "object", "array")


def schema_faults(document: Document, outline: Outline) -> Iterator[Fault]:
    """All faults of the schemas in a document, and of the defaults in its input and of its parameters."""
    input_faults = list(broken(document.input, ("input",)))
    yield from input_faults or _input_defaults(document.input)
    yield from broken(document.output, ("output",))
    for name, param in document.params.items():
        faults = list(broken(param.schema, ("params", name, "schema")))
        yield from faults
        if param.default is not msgspec.UNSET and not faults:
            yield from misfits(param.schema, param.default, ("params", name, "default"), "bad_default")
    yield from _limit_keys(document)
    for entry in outline.entries:
        if isinstance(entry.step, ApprovalStep):
            yield from broken(entry.step.answer, (*entry.path, "answer"))


def _limit_keys(document: Document) -> Iterator[Fault]:
    """Limits for each value of a field that the input, which lists its properties, does not have."""
    known = document.input.get("properties")
    for name, limit in (("at_once", document.at_once), ("rate", document.rate)):
        first = limit.key.partition(".")[0] if limit else ""
        if first and isinstance(known, dict) and first not in known and "additionalProperties" not in document.input:
            message = f"the input has no property {first!r}"
            yield Fault("unknown_property", (name, "key"), message, did_you_mean(first, known))


def _input_defaults(schema: dict[str, Any]) -> Iterator[Fault]:
    for name, each in schema.get("properties", {}).items():
        if isinstance(each, dict) and "default" in each and "$ref" not in each:
            yield from misfits(each, each["default"], ("input", "properties", name, "default"), "bad_default")


def broken(schema: dict[str, Any], path: Path) -> Iterator[Fault]:
    """What makes this no JSON Schema."""
    if not schema:
        return
    try:
        errors = list(_metaschema().iter_errors(schema))
    except RecursionError:
        yield Fault("bad_schema", path, "this schema is nested too deeply", "use $defs")
        return
    for error in errors:
        hint = ""
        if error.validator == "enum":
            hint = f"one of {', '.join(map(str, error.validator_value))}"
        elif error.path and error.path[-1] == "type":
            hint = f"one of {', '.join(_TYPES)}, null"
        message = "this is no JSON Schema" if error.context else f"this is no JSON Schema: {error.message[:200]}"
        yield Fault("bad_schema", (*path, *error.path), message, hint)


def misfits(schema: Any, value: Any, path: Path, code: str) -> Iterator[Fault]:
    """How a value does not fit a schema. A schema that cannot be used says nothing about any value."""
    if fits_plainly(schema, value):
        return
    try:
        errors = list(_validator(msgspec.json.encode(schema)).iter_errors(value))
    except Exception:  # noqa: BLE001 - a reference that leads nowhere, a pattern that is none: not the value's fault
        return
    for error in errors:
        expects = f"it has to be {error.validator_value}" if error.validator in ("type", "const") else ""
        yield Fault(code, (*path, *error.path), error.message[:300], expects)


@lru_cache(maxsize=1)
def _metaschema() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(Draft202012Validator.META_SCHEMA)


@lru_cache(maxsize=1024)
def _validator(schema: bytes) -> Draft202012Validator:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    return Draft202012Validator(msgspec.json.decode(schema), registry=Registry())  # empty: nothing is fetched
