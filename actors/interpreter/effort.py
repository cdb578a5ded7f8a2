"""How much work an expression may be, told from its macros and the data before it is computed.

While the library computes, nothing else in the process runs, and it cannot be stopped. Measured: a step of a loop takes
some 20 ns, and ``map`` and ``filter`` copy what they have at each step, so they take the square of their length.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from actors.workflow.expression import MACRO, tokens

# Some five seconds.
LIMIT_STEPS = 200_000_000
_BUILDERS = frozenset(("map", "filter"))
_MACROS = _BUILDERS | {"all", "exists", "exists_one", "existsOne"}


class Loops(NamedTuple):
    """``depth``: how many loops are within each other at most. ``builds``: whether one of them makes a list."""

    depth: int
    builds: bool


def loops_in(text: str) -> Loops | None:
    """The loops of an expression, None if it has none."""
    if not MACRO.search(text):
        return None
    depth, builds, brackets, last = 0, False, list[bool](), ""
    for token in tokens(text):
        if token[0] in "([{":
            is_macro = token[0] == "(" and last in _MACROS
            builds = builds or (is_macro and last in _BUILDERS)
            brackets.append(is_macro)
            depth = max(depth, sum(brackets))
        elif token[0] in ")]}" and brackets:
            brackets.pop()
        last = token[0]
    return Loops(depth, builds) if depth else None


def steps_of(loops: Loops, values: list[Any]) -> int:
    """How many steps it may take at most, if every loop goes through the longest list that there is."""
    longest, power = _longest(values), loops.depth + loops.builds
    return int(longest**power)


def _longest(values: list[Any]) -> int:
    found, walk = 1, list(values)
    while walk:
        each = walk.pop()
        if isinstance(each, dict):
            found = max(found, len(each))
            walk += each.values()
        elif isinstance(each, list):
            found = max(found, len(each))
            walk += each
    return found
