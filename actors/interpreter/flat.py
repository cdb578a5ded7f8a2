"""An expression with its paths taken out: ``steps.quote.output.total > params.limit`` becomes ``v0_ > v1_``.

To hand whole values over to the library costs far more than to compute with them (300 us for a sum over ten steps
against 3), so what a path leads to is looked up here. A path that leads nowhere is not an error yet: it may stand on
the side of an ``||`` that does not count. Then the expression is computed as it was written.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from actors.workflow.expression import MACRO, tokens

Path = tuple[str, ...]


class Flat(NamedTuple):
    """``text`` with a variable for each of ``paths``; ``others`` are the variables that stand alone in it."""

    text: str
    paths: dict[str, Path]
    others: frozenset[str]


def flatten(text: str, variables: frozenset[str]) -> Flat | None:
    """The flat form, None if there is none: macros bind names, and ``has`` is about the path itself."""
    if MACRO.search(text) or re.search(r"\bhas\s*\(|`", text):
        return None
    pieces, paths, others, at = list[str](), dict[Path, str](), set[str](), 0
    found = list(tokens(text))
    number = 0
    while number < len(found):
        token = found[number]
        is_root = token["word"] in variables and (number == 0 or found[number - 1][0] != ".")
        length = _path_length(found, number) if is_root else 0
        if length > (1 if token[0] != "steps" else 2):
            path = tuple(each[0] for each in found[number : number + 2 * length - 1 : 2])
            name = paths.setdefault(path, f"v{len(paths)}_")
            pieces += [text[at : token.start()], name]
            at = found[number + 2 * length - 2].end()
            number += 2 * length - 1
            continue
        if is_root and token[0] == "steps":
            return None
        if is_root:
            others.add(token[0])
        number += 1
    pieces.append(text[at:])
    return Flat("".join(pieces), {name: path for path, name in paths.items()}, frozenset(others))


def _path_length(found: list[re.Match[str]], number: int) -> int:
    """How many words from here on are a path; a word before a bracket is a function."""
    length, at = 1, number + 1
    while at + 1 < len(found) and found[at][0] == "." and found[at + 1]["word"]:
        if at + 2 < len(found) and found[at + 2][0] == "(":
            break
        length, at = length + 1, at + 2
    return length
