"""The times of the duties, which an operator may set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bus.errors import UsageError

LEASE_VARIABLE = "CALLBOARD_DUTIES_LEASE_S"
LOST_VARIABLE = "CALLBOARD_NODE_LOST_S"
SWEEP_VARIABLE = "CALLBOARD_SWEEP_S"
SETTLE_VARIABLE = "CALLBOARD_SETTLE_S"


@dataclass(frozen=True)
class Timing:
    """All in seconds.

    ``lease_s``: a leader not heard of for so long has lost the duties. ``lost_after_s``: a node silent for so long is
    lost. ``sweep_s``: between two looks at the jobs. ``settle_s``: nothing is done about a job that changed within it.
    """

    lease_s: float = 9.0
    lost_after_s: float = 15.0
    sweep_s: float = 30.0
    settle_s: float = 30.0

    @property
    def ask_s(self) -> float:
        """Between two questions to the nodes: three have to stay without answer until a node counts as lost."""
        return min(5.0, self.lost_after_s / 3)


def timing_of(env: Mapping[str, str]) -> Timing:
    """What the environment asks for. Raises: UsageError that names the variable."""
    usual = Timing()
    return Timing(
        lease_s=_seconds(env, LEASE_VARIABLE, usual.lease_s, at_least=1.0),
        lost_after_s=_seconds(env, LOST_VARIABLE, usual.lost_after_s, at_least=0.5),
        sweep_s=_seconds(env, SWEEP_VARIABLE, usual.sweep_s, at_least=0.1),
        settle_s=_seconds(env, SETTLE_VARIABLE, usual.settle_s, at_least=0.0),
    )


def _seconds(env: Mapping[str, str], variable: str, usual: float, *, at_least: float) -> float:
    text = env.get(variable, "")
    try:
        value = float(text) if text else usual
    except ValueError:
        value = -1.0
    if not at_least <= value < float("inf"):
        hint = f"a number of seconds, at least {at_least:g}"
        raise UsageError(f"{variable} is {text!r}", code="bad_setting", path=variable, hint=hint)
    return value
