"""How far to the right each vertex of a row stands: the second half of a layered drawing.

Each row is put as near to where its neighbours pull it as its order and its gaps allow: the least sum of squares, which
pooling of adjacent violators finds exactly and in one pass.
"""

from __future__ import annotations

from actors.pictures.layers import Rows

ROUNDS = 6
BOX_GAP = 26.0
WAY_GAP = 10.0
# A way through rows is kept straight before a box is put into the middle of its neighbours.
_WEIGHTS = (1.0, 2.0, 8.0)


def centers(made: Rows) -> list[float]:
    """The middle of each vertex, in whole units from 0 on; the leftmost edge is at 0."""
    neighbours = _pulls(made)
    found = [0.0] * len(made.sizes)
    for row in made.rows:
        _put(made, row, [0.0] * len(row), [1.0] * len(row), found)
    for turn in range(2 * ROUNDS):
        pulls = neighbours[turn % 2]
        for row in made.rows if turn % 2 == 0 else reversed(made.rows):
            wanted = [_pulled(pulls[vertex], found, found[vertex]) for vertex in row]
            weights = [sum(weight for _, weight in pulls[vertex]) or 0.1 for vertex in row]
            _put(made, row, wanted, weights, found)
    left = min((found[v] - made.sizes[v][0] / 2 for v in range(len(found))), default=0.0)
    return [float(round(center - left)) for center in found]


def _pulls(made: Rows) -> tuple[list[list[tuple[int, float]]], list[list[tuple[int, float]]]]:
    """(neighbour, weight) above and below each vertex."""
    above: list[list[tuple[int, float]]] = [[] for _ in made.sizes]
    below: list[list[tuple[int, float]]] = [[] for _ in made.sizes]
    for top, bottom in made.links():
        weight = _WEIGHTS[(top >= made.boxes) + (bottom >= made.boxes)]
        above[bottom].append((top, weight))
        below[top].append((bottom, weight))
    return above, below


def _pulled(pulls: list[tuple[int, float]], found: list[float], otherwise: float) -> float:
    total = sum(weight for _, weight in pulls)
    return sum(found[vertex] * weight for vertex, weight in pulls) / total if total else otherwise


def _put(made: Rows, row: list[int], wanted: list[float], weights: list[float], found: list[float]) -> None:
    offsets, offset = list[float](), 0.0
    for place, vertex in enumerate(row):
        if place:
            offset += _distance(made, row[place - 1], vertex)
        offsets.append(offset)
    goals = [goal - offset for goal, offset in zip(wanted, offsets, strict=True)]
    for vertex, goal, offset in zip(row, rising(goals, weights), offsets, strict=True):
        found[vertex] = goal + offset


def _distance(made: Rows, left: int, right: int) -> float:
    gap = BOX_GAP if left < made.boxes and right < made.boxes else WAY_GAP
    return (made.sizes[left][0] + made.sizes[right][0]) / 2 + gap


def rising(goals: list[float], weights: list[float]) -> list[float]:
    """The numbers nearest to ``goals`` (least squares with weights) of which none is below the one before it."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for goal, weight in zip(goals, weights, strict=True):
        pool = (goal, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, heavy, many = pools.pop()
            total = heavy + pool[1]
            pool = ((mean * heavy + pool[0] * pool[1]) / total, total, many + pool[2])
        pools.append(pool)
    return [mean for mean, _, many in pools for _ in range(many)]
