"""Whether the run kept the promises: pure, from what was asked for, what the log holds and what the tools did.

- every accepted job ended, and so did every job that the log knows of; with the right result
- no decision twice, none by a host that did not own the job
- a call whose reply was stored was not begun again; any other one ran again only after a fault that hit it
- the tail told the log, all of it, in its order, and ``events.>`` nothing else
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from bench.chaos.history import History
from bench.chaos.injury import Injury
from bench.chaos.ledger import Run
from bench.chaos.orders import Order, Returns
from bus.messages import JobCompleted, JobEnd, JobFailed

Broken = Literal["lost", "wrong", "doubled", "recorded call ran again", "ran again without a fault", "order", "left"]

# Clock of the tools against the clock of the server, on one machine: what is between the look into the log and the
# first line of the tool, on a machine that is busy.
TOLERANCE_S = 1.0
# A fault is felt for a while after it is over: reconnects, leases that run out, a new process that starts.
AFTERMATH_S = 10.0


@dataclass(frozen=True)
class Finding:
    """One broken promise: which, of which job, and the evidence."""

    broken: Broken
    job: str
    evidence: str


@dataclass
class Evidence:
    """All that is known about a run. ``accepted``: orders with the instant of the server's answer."""

    accepted: Mapping[str, tuple[Order, float]]
    histories: Mapping[str, History]
    runs: Sequence[Run]
    injuries: Sequence[Injury]
    log: Sequence[int] = ()
    told: Sequence[int] = ()
    live: Sequence[tuple[int, str]] = ()
    subjects: Mapping[int, str] = field(default_factory=dict)
    left: Sequence[str] = ()


@dataclass(frozen=True)
class Repeat:
    """A call that ran again, and the kind of fault that explains it; ``cause`` is empty if none does."""

    first: Run
    again: Run
    cause: str


def judge(evidence: Evidence) -> list[Finding]:
    """Every broken promise."""
    return [
        *_ends(evidence),
        *_decisions(evidence.histories),
        *_recorded_runs(evidence),
        *_unexplained(evidence),
        *_order(evidence),
        *(Finding("left", "", what) for what in evidence.left),
    ]


# ---- ends


def _ends(evidence: Evidence) -> Iterator[Finding]:
    for job, (order, _) in evidence.accepted.items():
        history = evidence.histories.get(job)
        if history is None:
            yield Finding("lost", job, "accepted, and the log does not know it")
        elif history.end is None:
            yield Finding("lost", job, f"accepted, and did not end; {history.events} events")
        elif complaint := _wrong_end(order, history.end):
            yield Finding("wrong", job, complaint)
    for job, history in evidence.histories.items():
        if job not in evidence.accepted and history.end is None:
            yield Finding("lost", job, f"in the log, and did not end; {history.events} events")


def _wrong_end(order: Order, end: JobEnd) -> str:
    if isinstance(order.end, Returns):
        right = isinstance(end, JobCompleted) and bytes(end.output) == str(order.end.value).encode()
    else:
        right = isinstance(end, JobFailed) and end.failure.code == order.end.code
    return "" if right else f"{order.kind} {order.body} has to end with {order.end}, and ended with {end}"


# ---- decisions


def _decisions(histories: Mapping[str, History]) -> Iterator[Finding]:
    for job, history in histories.items():
        for wrong in history.wrong:
            yield Finding("doubled", job, wrong)


# ---- effects


def _recorded_runs(evidence: Evidence) -> Iterator[Finding]:
    """A message that a slow link brings late may be the answer to the look into the log: so much later it may begin."""
    delay_s = max((injury.delay_s for injury in evidence.injuries), default=0.0)
    for run in evidence.runs:
        history = evidence.histories.get(run.job)
        answered_s = history.answered_s.get(run.call) if history else None
        if answered_s is not None and run.begun_s > answered_s + TOLERANCE_S + 2 * delay_s:
            evidence_of = f"{run.call} began in {run.pid} {run.begun_s - answered_s:.2f} s after its reply was stored"
            yield Finding("recorded call ran again", run.job, evidence_of)


def _unexplained(evidence: Evidence) -> Iterator[Finding]:
    for repeat in repeats(evidence.runs, evidence.injuries):
        if not repeat.cause:
            yield Finding("ran again without a fault", repeat.first.job, f"{repeat.first} and again {repeat.again}")


def repeats(runs: Iterable[Run], injuries: Sequence[Injury]) -> list[Repeat]:
    """Calls that ran again though the run before did not fail, each with the fault that lay between."""
    by_call: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_call[run.job, run.call].append(run)
    return [
        Repeat(first, again, _cause(first, again, injuries))
        for same in by_call.values()
        for first, again in pairwise(sorted(same, key=lambda run: run.begun_s))
        if first.outcome != "raised"
    ]


def _cause(first: Run, again: Run, injuries: Sequence[Injury]) -> str:
    """The fault that hit the process of the first run, or the server, before the call ran again."""
    if first.outcome == "died":
        return "its own doing"
    between = [i for i in injuries if i.begun_s <= again.begun_s and i.ended_s + AFTERMATH_S >= first.begun_s]
    hit = [i for i in between if first.pid in i.pids] or [i for i in between if not i.pids]
    return min(hit, key=lambda i: (not i.fatal, i.begun_s)).kind if hit else ""


# ---- order


def _order(evidence: Evidence) -> Iterator[Finding]:
    if list(evidence.told) != list(evidence.log):
        yield Finding("order", "", f"the tail differs from the log: {_difference(evidence.told, evidence.log)}")
    sequences = [sequence for sequence, _ in evidence.live]
    for one, next_one in pairwise(sequences):
        if next_one <= one:
            yield Finding("order", "", f"events.> brought {next_one} after {one}")
    for sequence, subject in evidence.live:
        if evidence.subjects and evidence.subjects.get(sequence) != subject:
            stored = evidence.subjects.get(sequence, "nothing")
            yield Finding("order", "", f"events.> brought {subject} as {sequence}, where the log holds {stored}")


def _difference(told: Sequence[int], log: Sequence[int]) -> str:
    for place, (one, other) in enumerate(zip(told, log, strict=False)):
        if one != other:
            return f"at place {place} it told {one}, the log holds {other}"
    return f"it told {len(told)} events, the log holds {len(log)}"


# ---- how long it took


@dataclass(frozen=True)
class Recovery:
    """The longest waits after faults, in seconds, each with what it was."""

    takeover_s: float = 0.0
    takeover_of: str = ""
    rerun_s: float = 0.0
    rerun_of: str = ""
    overrun_s: float = 0.0
    overrun_of: str = ""


def recovery(evidence: Evidence) -> Recovery:
    """From the death of a host to the next claim of a job of its, from the death of a tool to the next run of its call,
    and how much longer than undisturbed a job took.
    """
    fatal = [injury for injury in evidence.injuries if injury.fatal]
    takeovers = [found for injury in fatal for found in _takeovers(injury, evidence.histories.values())]
    reruns = [
        (again.begun_s - injury.begun_s, f"{first.call} of {first.job} after {injury.kind}")
        for first, again in ((repeat.first, repeat.again) for repeat in repeats(evidence.runs, fatal))
        for injury in fatal
        if first.pid in injury.pids and first.begun_s <= injury.begun_s <= again.begun_s
    ]
    overruns = list(_overruns(evidence))
    nothing = (0.0, "")
    return Recovery(*max(takeovers, default=nothing), *max(reruns, default=nothing), *max(overruns, default=nothing))


def _takeovers(injury: Injury, histories: Iterable[History]) -> Iterator[tuple[float, str]]:
    for history in histories:
        for owner, successor in pairwise(history.owners):
            parked = any(owner.at_s < at_s <= injury.begun_s for at_s in history.parked_s)
            if owner.pid in injury.pids and owner.at_s <= injury.begun_s <= successor.at_s and not parked:
                yield successor.at_s - injury.begun_s, f"{history.job} after {injury.kind}"


def _overruns(evidence: Evidence) -> Iterator[tuple[float, str]]:
    for job, (order, accepted_s) in evidence.accepted.items():
        history = evidence.histories.get(job)
        if history and history.end is not None:
            yield history.ended_s - accepted_s - order.nominal_s, f"{job} ({order.kind})"
