"""Places in a JSON value, such as ``$.items[2].qty``, and hints at what was meant there. Pure."""

from __future__ import annotations

import difflib
import json
import re

_PLAIN_FIELD = re.compile(r"[^\W\d]\w*")


def field_of(path: str, field: str) -> str:
    """The place of a field in the object at ``path``."""
    return f"{path}.{field}" if _PLAIN_FIELD.fullmatch(field) else f"{path}[{json.dumps(field)}]"


def field_hint(name: str, known: list[str]) -> str:
    """Which of the known fields ``name`` may stand for, or else which there are."""
    if close := difflib.get_close_matches(name, known, n=1):
        return f"did you mean `{close[0]}`?"
    return f"the fields are {', '.join(known)}" if known else "it takes no fields"
