"""What this process has counted of its calls of models; its heartbeat tells the node, which shows it as metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from actors.model.model import Usage
from supervisor.heartbeat import LATENCY_BOUNDS_S, ModelBeat

# Names of models come from users: what exceeds this is counted together.
MODELS_MOST = 50
OTHERS = ("other", "other")


@dataclass
class _Counted:
    outcomes: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    seconds: float = 0.0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))


class CallCounts:
    """Counts by provider and model since the process began."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str], _Counted] = {}

    def note(
        self, provider: str, model: str, seconds: float, outcome: str = "ok", usage: Usage | None = None,
        cost_usd: float | None = None,
    ) -> None:  # fmt: skip
        """One call has ended after so many seconds; ``outcome`` is "ok" or the code of its error."""
        key = (provider, model)
        if key not in self._counted and len(self._counted) >= MODELS_MOST:
            key = OTHERS
        counted = self._counted.setdefault(key, _Counted())
        counted.outcomes[outcome] += 1
        counted.usage += usage or Usage()
        counted.cost_usd += cost_usd or 0.0
        counted.seconds += seconds
        counted.latency[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1

    def beats(self) -> tuple[ModelBeat, ...]:
        """What the heartbeat says of it."""
        return tuple(_beat(*key, counted) for key, counted in self._counted.items())


def _beat(provider: str, model: str, counted: _Counted) -> ModelBeat:
    usage = counted.usage
    return ModelBeat(
        provider, model, dict(counted.outcomes), usage.input_tokens, usage.output_tokens, usage.cache_read_tokens,
        usage.cache_write_tokens, round(counted.cost_usd, 9), round(counted.seconds, 6), tuple(counted.latency),
    )  # fmt: skip


COUNTS = CallCounts()
"""Those of this process."""
