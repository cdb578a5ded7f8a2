"""The parameters of a definition, given: a document that has them as its defaults needs nothing more to run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from actors.workflow.document import Document, Param
from actors.workflow.finding import did_you_mean, path_text
from actors.workflow.schema_rules import misfits
from bus.errors import UsageError


def bind_params(document: Document, values: Mapping[str, Any]) -> Document:
    """The document with ``values`` as the defaults of its parameters.

    Raises: UsageError ``unknown_param``, ``bad_param`` (it does not fit its schema) or ``missing_param`` (it has no
    default and is not given).
    """
    for name in values:
        if name not in document.params:
            hint = did_you_mean(name, document.params, "it has no parameters")
            raise _refused("unknown_param", document, name, "is no parameter of it", hint)
    bound = {name: _bound(document, name, param, values) for name, param in document.params.items()}
    return msgspec.structs.replace(document, params=bound)


def _bound(document: Document, name: str, param: Param, values: Mapping[str, Any]) -> Param:
    if name not in values:
        if param.default is msgspec.UNSET:
            raise _refused("missing_param", document, name, "has no default and is not given", "give it a value")
        return param
    for fault in misfits(param.schema, values[name], ("params", name), "bad_param"):
        raise _refused("bad_param", document, name, f"cannot be that: {fault.message}", fault.hint)
    return msgspec.structs.replace(param, default=values[name])


def _refused(code: str, document: Document, name: str, what: str, hint: str) -> UsageError:
    path = path_text(("params", name))
    return UsageError(f"workflow {document.name}: parameter {name!r} {what}", code=code, path=path, hint=hint)
