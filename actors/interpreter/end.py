"""How a run of a document ended: a closed union."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bus.failure import Failure


@dataclass(frozen=True, slots=True)
class Finished:
    """It came to its end, or to a step of kind ``end``."""

    result: Any


@dataclass(frozen=True, slots=True)
class Broken:
    """A step failed, and nothing in the document deals with that; or a step of kind ``end`` says so.

    ``can_go_on``: by a retry, which finds what was under way as it was.
    """

    failure: Failure
    can_go_on: bool = False


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """It was cancelled, and what it did is undone as far as the document says how. ``not_undone``: which failed."""

    not_undone: tuple[str, ...] = ()


End = Finished | Broken | Withdrawn
