"""A job's input against the JSON Schema of its workflow, for requests that come as JSON from anywhere.

The host decodes the input again with the types themselves; here the caller is told at once, and where. A schema that is
broken or leads nowhere says nothing: then the host decides.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.components.component import ComponentInfo, InvalidInput, InvalidOutput
from store.json_fit import misfit
from store.plain_fit import fits_plainly


def check_input(info: ComponentInfo, value: Any) -> None:
    """Raises: InvalidInput with the path of what is wrong, such as ``$.items[2].qty``."""
    check_fit(info.input_schema, value, f"input of {info.kind} {info.name}", InvalidInput)


def check_fit(schema: dict[str, Any], value: Any, what: str, invalid: type[InvalidInput | InvalidOutput]) -> None:
    """Raises: ``invalid``, that says what of ``what`` does not fit, and where."""
    if fits_plainly(schema, value):
        return
    if found := misfit(msgspec.json.encode(schema), value):
        path, message, hint = found
        raise invalid(f"{what}, {path}: {message}", path=path, hint=hint)
