"""What the turns come to: the best of each, its ratio to the floor, and whether the targets are met."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from bench.load import Throughput
from bench.turn import Turn


@dataclass(frozen=True)
class Row:
    """The best that a contender reached in any of its turns, each measure for itself.

    Best, not mean: noise on a shared machine only ever makes a turn slower. CPU is in microseconds per job or step, of
    the turn that was best.
    """

    name: str
    jobs_per_s: float
    steps_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_job: dict[str, float]
    cpu_us_per_step: dict[str, float]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Target:
    """``ratio`` to the floor that the system has to reach (``at_least``) or not to exceed."""

    measure: str
    heading: str
    ratio: float
    at_least: bool

    def met(self, ratio: float) -> bool:
        return ratio >= self.ratio if self.at_least else ratio <= self.ratio


TARGETS = (
    Target("jobs_per_s", "one-step jobs/s", 0.6, at_least=True),
    Target("steps_per_s", "ten-step steps/s", 0.6, at_least=True),
    Target("p50_ms", "one-step p50 ms", 1.6, at_least=False),
    Target("p99_ms", "one-step p99 ms", float("inf"), at_least=False),
)


def best_of(name: str, turns: list[Turn]) -> Row:
    """The best of each measure over the turns of one contender."""
    one_step = max((turn.one_step for turn in turns), key=lambda found: found.jobs_per_s)
    ten_step = max((turn.ten_step for turn in turns), key=lambda found: found.steps_per_s)
    latency = min((turn.latency for turn in turns), key=lambda found: found.percentile(50))
    return Row(
        name=name,
        jobs_per_s=one_step.jobs_per_s,
        steps_per_s=ten_step.steps_per_s,
        p50_ms=latency.percentile(50),
        p99_ms=latency.percentile(99),
        cpu_us_per_job=_cpu_us(one_step),
        cpu_us_per_step=_cpu_us(ten_step),
    )


def misses(floor: Row | None, system: Row | None) -> list[Target]:
    """The targets that are missed; none while there is nothing to compare."""
    if floor is None or system is None:
        return []
    return [target for target in TARGETS if not target.met(ratio(target, floor, system))]


def ratio(target: Target, floor: Row, row: Row) -> float:
    """How the row compares with the floor."""
    return float(getattr(row, target.measure) / getattr(floor, target.measure))


def render(floor: Row | None, rows: list[Row]) -> str:
    """The table, as text for a terminal of 100 columns."""
    lines = [f"{'':<18}" + "".join(f"{row.name:>13}" for row in rows) + _ratio_heading(floor, rows)]
    lines += [_line(target, floor, rows) for target in TARGETS]
    lines += ["", *(_cpu_line(row) for row in rows)]
    return "\n".join(lines)


def _ratio_heading(floor: Row | None, rows: list[Row]) -> str:
    return "" if floor is None or len(rows) < 2 else f"{'ratio':>8}  target"


def _line(target: Target, floor: Row | None, rows: list[Row]) -> str:
    text = f"{target.heading:<18}" + "".join(f"{getattr(row, target.measure):>13,.{_digits(target)}f}" for row in rows)
    if floor is None or len(rows) < 2:
        return text
    found = ratio(target, floor, rows[-1])
    return f"{text}{found:>8.2f}  {_verdict(target, found)}"


def _digits(target: Target) -> int:
    return 2 if target.measure.endswith("_ms") else 0


def _verdict(target: Target, found: float) -> str:
    if target.ratio == float("inf"):
        return "-"
    sign = ">=" if target.at_least else "<="
    return f"{sign} {target.ratio} {'met' if target.met(found) else 'MISSED'}"


def _cpu_line(row: Row) -> str:
    def listed(cpu_us: dict[str, float]) -> str:
        return ", ".join(f"{role} {spent:.0f}" for role, spent in cpu_us.items())

    return (
        f"{row.name}: CPU us per one-step job: {listed(row.cpu_us_per_job)}\n"
        f"{' ' * len(row.name)}  CPU us per step of ten: {listed(row.cpu_us_per_step)}"
    )


def _cpu_us(found: Throughput) -> dict[str, float]:
    operations = found.jobs * found.steps
    return {role: spent / operations * 1e6 for role, spent in found.cpu_s.items()}
