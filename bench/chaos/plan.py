"""Which fault comes when, to whom, for how long: all of it follows from the seed. Pure.

Kinds are dealt from a shuffled deck that holds each of them once, so that a short run has seen all of them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

FaultKind = Literal[
    "kill tool", "kill host", "kill gateway", "kill node", "kill server", "stop tool", "stop host", "delay link",
    "stall link", "cut link",
]  # fmt: skip

# How long a fault lasts, from and to, in seconds. What is stopped stays so for less and for more than its lease
# (5 s for a call, 8 s for a job); for what is killed it is the time until it is started again from outside.
LENGTHS_S: dict[FaultKind, tuple[float, float]] = {
    "kill tool": (0, 0),
    "kill host": (0, 0),
    "kill gateway": (0, 0),
    "kill node": (0.5, 6),
    "kill server": (0.1, 4),
    "stop tool": (0.5, 9),
    "stop host": (0.5, 12),
    "delay link": (2, 8),
    "stall link": (0.5, 12),
    "cut link": (0.2, 8),
}
MEAN_GAP_S = 2.0
QUIET_S = 2.0


@dataclass(frozen=True)
class Fault:
    """One fault: ``at_s`` after the load began, for ``length_s``. ``pick`` in [0, 1) chooses among those there are."""

    at_s: float
    kind: FaultKind
    pick: float
    length_s: float
    delay_s: float = 0.0


def make_plan(seed: int, seconds: float, mean_gap_s: float = MEAN_GAP_S) -> list[Fault]:
    """The faults of a run of ``seconds``; the first and the last ``QUIET_S`` are without."""
    rng, faults, deck = Random(seed), list[Fault](), list[FaultKind]()
    at_s = QUIET_S
    while at_s < seconds - QUIET_S:
        if not deck:
            deck = list(LENGTHS_S)
            rng.shuffle(deck)
        kind = deck.pop()
        length_s = round(rng.uniform(*LENGTHS_S[kind]), 2)
        delay_s = round(rng.uniform(0.02, 0.5), 3) if kind == "delay link" else 0.0
        faults.append(Fault(round(at_s, 2), kind, rng.random(), length_s, delay_s))
        at_s += min(rng.expovariate(1 / mean_gap_s), 3 * mean_gap_s)
    return faults
