"""Who can be measured, by name."""

from __future__ import annotations

from bench.contender import Contender
from bench.floor.contender import Floor
from bench.system import System

FLOOR = "floor"
FLOOR_PLAIN = "floor-plain"
SYSTEM = "system"
NAMES = (FLOOR, FLOOR_PLAIN, SYSTEM)
# What takes turns when nothing else is asked for; the floor comes first.
IN_TURN = (FLOOR, SYSTEM)


def contender(name: str) -> Contender:
    """A new contender; it has started nothing yet."""
    match name:
        case "floor":
            return Floor("tuned")
        case "floor-plain":
            return Floor("plain")
        case "system":
            return System()
    raise ValueError(f"no contender {name!r}; there are {', '.join(NAMES)}")
