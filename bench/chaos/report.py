"""A run as figures: for people as text, for programs as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.chaos.stage import Outcome
from bench.chaos.verdict import Finding, recovery, repeats

LIMIT_FINDINGS = 20


def figures(outcome: Outcome) -> dict[str, Any]:
    """Everything that a run says, as plain values."""
    evidence = outcome.evidence
    done = Counter(order.kind for job, (order, _) in evidence.accepted.items() if _ended(outcome, job))
    again = Counter(repeat.cause or "no fault" for repeat in repeats(evidence.runs, evidence.injuries))
    took = recovery(evidence)
    broken = Counter(finding.broken for finding in outcome.findings)
    return {
        "seed": outcome.settings.seed,
        "seconds": outcome.settings.seconds,
        "took_s": round(outcome.took_s, 1),
        "faults": dict(sorted(Counter(i.kind for i in evidence.injuries).items())),
        "jobs_accepted": len(evidence.accepted),
        "jobs_done": dict(sorted(done.items())),
        "requests_resubmitted": outcome.resubmitted,
        "events": len(evidence.log),
        "events_heard_live": len(evidence.live),
        "calls_run": len(evidence.runs),
        "calls_run_again_after": dict(sorted(again.items())),
        "nodes_that_gave_up": [f"{name}: exit code {code}" for name, code in outcome.exits],
        "lost": broken["lost"],
        "wrong": broken["wrong"],
        "duplicated_decisions": broken["doubled"],
        "recorded_calls_run_again": broken["recorded call ran again"],
        "findings": len(outcome.findings),
        "slowest_takeover": f"{took.takeover_s:.2f} s, {took.takeover_of}",
        "slowest_rerun": f"{took.rerun_s:.2f} s, {took.rerun_of}",
        "longest_overrun": f"{took.overrun_s:.2f} s, {took.overrun_of}",
    }


def _ended(outcome: Outcome, job: str) -> bool:
    history = outcome.evidence.histories.get(job)
    return history is not None and history.end is not None


def render(outcome: Outcome) -> str:
    """The figures, and the evidence for everything that is wrong."""
    lines = [f"{name.replace('_', ' '):<28} {_text(value)}" for name, value in figures(outcome).items()]
    return "\n".join([*lines, *_accusations(outcome.findings, outcome.logs)])


def _text(value: object) -> str:
    if isinstance(value, dict):
        return f"{sum(value.values())}: " + ", ".join(f"{name} {count}" for name, count in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _accusations(findings: list[Finding], logs: dict[str, list[str]]) -> list[str]:
    lines = [f"\n{f.broken.upper()} {f.job}: {f.evidence}" for f in findings[:LIMIT_FINDINGS]]
    if len(findings) > LIMIT_FINDINGS:
        lines.append(f"... and {len(findings) - LIMIT_FINDINGS} more")
    for job, log in logs.items():
        lines += [f"\nlog of {job}:", *(f"  {line}" for line in log)]
    return lines
