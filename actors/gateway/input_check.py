"""A job's input against the JSON Schema of its workflow, for requests that come as JSON from anywhere.

The host decodes the input again with the types themselves; here the caller is told at once, and where. A schema that is
broken or leads nowhere says nothing: then the host decides.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.components.component import ComponentInfo, InvalidInput
from store.json_fit import misfit
from store.plain_fit import fits_plainly


def check_input(info: ComponentInfo, value: Any) -> None:
    """Raises: InvalidInput with the path of what is wrong, such as ``$.items[2].qty``."""
    if fits_plainly(info.input_schema, value):
        return
    if found := misfit(msgspec.json.encode(info.input_schema), value):
        path, message, hint = found
        raise InvalidInput(f"input of {info.kind} {info.name}, {path}: {message}", path=path, hint=hint)
