"""What the load asks for: jobs of every kind in turn, each with the end that it must have. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

# The share of each kind, out of their sum. Jobs that kill a process are few: each costs a start of Python.
SHARES = {
    "one": 30, "fan": 20, "long": 10, "stumbling": 10, "failing": 8, "waiting": 12, "family": 8, "killing": 2,
}  # fmt: skip
GIVEN = 100


@dataclass(frozen=True)
class Returns:
    """The job has to complete with ``value``."""

    value: int


@dataclass(frozen=True)
class Fails:
    """The job has to fail with the code ``code``."""

    code: str


@dataclass(frozen=True)
class Order:
    """One job to submit. ``nominal_s`` is about how long it takes when nothing is in its way.

    ``go_after_s``: when to give it the signal that it waits for, in seconds after it was accepted.
    """

    job: str
    kind: str
    body: dict[str, Any] = field(hash=False)
    end: Returns | Fails
    nominal_s: float = 0.1
    go_after_s: float | None = None


def make_order(seed: int, number: int) -> Order:
    """Order ``number`` of the load with that seed."""
    rng = Random(f"{seed}/{number}")
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    job, n = f"c{seed}-{number}", number
    match kind:
        case "fan":
            width = rng.randint(5, 10)
            return Order(job, kind, {"n": n, "width": width}, Returns(sum(n + i + 1 for i in range(width))))
        case "long":
            seconds = round(rng.uniform(0.5, 2.0), 2)
            return Order(job, kind, {"n": n, "seconds": seconds}, Returns(n + 3), nominal_s=3 * seconds)
        case "stumbling":
            return Order(job, kind, {"n": n}, Returns(n * 2), nominal_s=1.0)
        case "failing":
            return Order(job, kind, {"n": n}, Fails("doomed"))
        case "waiting":
            after_s = round(rng.uniform(0.5, 8.0), 2)
            return Order(job, kind, {"n": n}, Returns(n + 2 + GIVEN), nominal_s=after_s, go_after_s=after_s)
        case "family":
            return Order(job, kind, {"n": n}, Returns(n + 1 + sum(n + i + 1 for i in range(3))))
        case "killing":
            return Order(job, kind, {"n": n}, Returns(n + 3), nominal_s=2.0)
        case _:
            return Order(job, kind, {"n": n}, Returns(n + 1))
