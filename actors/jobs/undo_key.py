"""The keys of calls that undo something: ``<what is undone>/undo/<tool>:1``."""

from __future__ import annotations

import re

# A step of a document may be named undo: in an instance of a map or a round it has ``<map>.<number>`` before it.
_UNDO = re.compile(r"(?:^|/)(?![^/]*\.\d+/)[^/]+/undo/")


def is_undo(key: str) -> bool:
    """Whether that is the key of a call that undoes what another one did."""
    return _UNDO.search(key) is not None
