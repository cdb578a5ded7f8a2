"""Who can be measured, by name."""

from __future__ import annotations

from bench.contender import Contender
from bench.floor.contender import Floor

FLOOR = "floor"
FLOOR_PLAIN = "floor-plain"
SYSTEM = "system"
NAMES = (FLOOR, FLOOR_PLAIN)
# What takes turns when nothing else is asked for; the floor comes first.
IN_TURN = (FLOOR,)


def contender(name: str) -> Contender:
    """A new contender; it has started nothing yet."""
    match name:
        case "floor":
            return Floor("tuned")
        case "floor-plain":
            return Floor("plain")
    raise ValueError(f"no contender {name!r}; there are {', '.join(NAMES)}")
