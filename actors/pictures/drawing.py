"""A picture before it is written: boxes, boxes in boxes, and arrows between neighbours.

An arrow joins two parts of one list: what orders steps is said within a list, and so it is in the log of a job. That
is what makes a layout simple: each list is laid out alone, and is a box of a known size to the list around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from actors.console.amount import duration
from bus.errors import UsageError

State = Literal["waiting", "running", "completed", "skipped", "failed", "cancelled", "compensated"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, slots=True)
class Count:
    """How many of how many are done: the items of a map; without a total how many there were: rounds of a loop."""

    done: int
    total: int | None = None

    def __str__(self) -> str:
        return (
            f"{self.done} of {self.total}"
            if self.total is not None
            else f"{self.done} {'time' if self.done == 1 else 'times'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What has become of a part. ``duration_s`` is None if it has not begun or nobody knows; ``note`` is for people."""

    state: State
    duration_s: float | None = None
    count: Count | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One box. ``id`` is unique in the drawing; ``detail`` is the line below the title, ``note`` is told on request."""

    id: str
    title: str
    detail: str = ""
    note: str = ""
    standing: Standing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A box of boxes: a step with steps, or one of its branches (``is_lane``), which is no step itself."""

    id: str
    title: str
    parts: tuple[Part, ...]
    detail: str = ""
    note: str = ""
    standing: Standing | None = None
    is_lane: bool = False


Part = Node | Group


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow between two parts of the same list. ``is_detour``: not the usual way, drawn dashed."""

    source: str
    target: str
    text: str = ""
    is_detour: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A whole picture. Raises: UsageError if ids are not unique, or an arrow joins what are no neighbours."""

    title: str
    parts: tuple[Part, ...]
    edges: tuple[Edge, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        places: dict[str, str] = {}
        for owner, part in _placed("", self.parts):
            if part.id in places:
                raise UsageError(f"two boxes of a drawing have the id {part.id!r}", code="bad_drawing")
            places[part.id] = owner
        for edge in self.edges:
            if edge.source == edge.target or places.get(edge.source, "?") != places.get(edge.target, "-"):
                raise UsageError(f"no arrow can go from {edge.source!r} to {edge.target!r}", code="bad_drawing",
                                 hint="both ends have to be boxes of the same list")  # fmt: skip

    def all_parts(self) -> Iterator[Part]:
        """Every box, the outer one before those in it."""
        return (part for _, part in _placed("", self.parts))


def _placed(owner: str, parts: tuple[Part, ...]) -> Iterator[tuple[str, Part]]:
    for part in parts:
        yield owner, part
        if isinstance(part, Group):
            yield from _placed(f"/{part.id}", part.parts)


def state_text(part: Part) -> str:
    """``completed, 7 of 10, 1.2 s``: what is written into a box beside its name; empty without a standing."""
    if (standing := part.standing) is None:
        return ""
    words = [standing.state, str(standing.count or ""), duration(standing.duration_s)]
    return ", ".join(word for word in words if word)
