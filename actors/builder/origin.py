"""Where in a Python program a part of a workflow was made, as a source of findings."""

from __future__ import annotations

import sys
from itertools import islice
from types import FrameType

from actors.workflow.finding import Path
from actors.workflow.source import Place, Source

_ROOM = __name__.rpartition(".")[0]


class PythonSource(Source):
    """One call in a program: everything of it has the place of the call."""

    def __init__(self, file: str, place: Place) -> None:
        super().__init__(file, "json", "")
        self._place = place

    def place(self, path: Path) -> Place:  # noqa: ARG002 - the same for all
        """Line and column, both from 1."""
        return self._place


def calling_source() -> PythonSource:
    """Of the call into this room that is going on."""
    frame: FrameType = sys._getframe(1)
    while frame.f_globals.get("__name__", "").startswith(_ROOM) and (outer := frame.f_back):
        frame = outer
    code = frame.f_code
    line, _, column, _ = next(islice(code.co_positions(), frame.f_lasti // 2, None), (None, None, None, None))
    return PythonSource(code.co_filename, (line or frame.f_lineno, (column or 0) + 1))
