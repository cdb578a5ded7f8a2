"""A workflow document as a component: what hosts run, the registry lists and others call, as if it were a function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import msgspec

from actors.components.codec import InvalidInput, InvalidOutput
from actors.components.component import Component, Options, declare
from actors.components.input_check import check_fit
from actors.components.schema import digest
from actors.interpreter.interpreter import interpret
from actors.interpreter.plan import Plan, make_plan
from actors.operations.job import Job
from actors.workflow.document import Document
from bus.errors import UsageError

_encode = msgspec.json.encode


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class WorkflowComponent(Component[..., Any]):
    """A component of kind job that interprets ``document``."""

    document: Document
    plan: Plan = field(repr=False)

    @property
    def winds_up(self) -> bool:
        """A cancelled workflow undoes what it did, as far as the document says how."""
        return True

    @property
    def keeps_version(self) -> bool:
        """Other steps are another workflow, whatever the version says."""
        return True

    @property
    def is_amendable(self) -> bool:
        """Its steps can be changed while it runs."""
        return True

    def limit_fields(self, arguments: dict[str, Any]) -> Mapping[str, Any]:
        """The input itself, of which a document's function has only one argument."""
        value = arguments["value"]
        return value if isinstance(value, dict) else {}

    def bind_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The JSON input of these keyword arguments. Raises: InvalidInput."""
        if args:
            raise UsageError(f"{self.name} is a document, so its input needs names", hint="call(ref, name=value)")
        return _encode(self._checked(msgspec.to_builtins(kwargs)))

    def decode_input(self, raw: bytes) -> dict[str, Any]:
        """The input, checked against the document's schema. Raises: InvalidInput."""
        try:
            value = msgspec.json.decode(raw if raw and not raw.isspace() else b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(
                f"input of job {self.name} is not JSON: {error}", code="invalid_json", path="$"
            ) from error
        return {"value": _with_defaults(self.input_schema, self._checked(value))}

    def _checked(self, value: Any) -> Any:
        check_fit(self.input_schema, value, f"input of job {self.name}", InvalidInput)
        return value

    def encode_output(self, value: Any) -> bytes:
        """The result as JSON, checked against the document's schema. Raises: InvalidOutput."""
        check_fit(self.output_schema, value, f"output of job {self.name}", InvalidOutput)
        return _encode(value)

    def decode_output(self, raw: bytes) -> Any:
        """A result as plain JSON values."""
        return msgspec.json.decode(raw)


def _with_defaults(schema: dict[str, Any] | None, value: Any) -> Any:
    """The input with what the schema says of properties that are not given, as for the parameters of a function."""
    properties = (schema or {}).get("properties")
    if not isinstance(value, dict) or not isinstance(properties, dict):
        return value
    given = {name: each["default"] for name, each in properties.items() if isinstance(each, dict) and "default" in each}
    return {**given, **value}


async def _interpret(job: Job, value: Any = None) -> Any:
    del job, value
    raise AssertionError("replaced for each document")


def workflow_component(
    document: Document, *, app: str = "", params: dict[str, Any] | None = None
) -> Component[..., Any]:
    """Make a component of a document, with these values of its parameters.

    Raises: UsageError for a document that cannot run; ``callboard workflow validate`` says all that is wrong.
    """
    plan = make_plan(document, params)
    options = Options(name=document.name, version=document.version, description=document.description)
    plain = declare("job", _interpret, app=app or document.name, app_version=document.version, options=options)
    fields = {name: getattr(plain, name) for name in Component.__dataclass_fields__}
    takes, returns = document.input, document.output
    sha = digest(document.name, document.version, cast("Any", msgspec.to_builtins(document)), returns)
    fields |= {"fn": partial(_run, plan), "input_schema": takes, "output_schema": returns, "digest": sha}
    fields |= {"at_once": document.at_once, "rate": document.rate}
    return WorkflowComponent(**fields, document=document, plan=plan)


async def _run(plan: Plan, job: Job, value: Any) -> Any:
    return await interpret(job.operations, plan, value)
