"""What a fork takes with it from its source, and where it leaves it. Pure.

A log up to any place is a state that the job was in: a host that takes a job over goes on from just that. So a fork is
given what had its outcome before the place of its step, in the log's order, and goes on as if it had crashed there.
What was asked for by then and had no answer is asked for anew, as the fork's own. So is a child that had not ended;
its command keeps its place, since a branch may have gone on by it. A lock that was held is asked for anew too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from actors.jobs.hold import HOLD
from actors.jobs.journal import Journal, Succeeded
from actors.jobs.signals import RESERVED
from bus import jobid
from bus.errors import UsageError
from bus.event import NULL, ForkedFrom
from bus.messages import (
    ChildCall,
    Copied,
    Copy,
    JobRejected,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
    Signal,
)
from store.log import Recorded

_SHOWN_STEPS = 12


@dataclass(frozen=True)
class ForkPlan:
    """A fork to be made: ``reused`` and ``anew`` are keys of the source's operations, in the log's order.

    ``anew`` are those that the fork comes to again if its code goes the same way; ``signals_left`` counts the signals
    that the source had not taken by then, which a fork does not get.
    """

    submitted: JobSubmitted
    forked_from: ForkedFrom
    reused: tuple[str, ...]
    anew: tuple[str, ...]
    signals_left: int


def with_copies(events: Iterable[Recorded]) -> list[Recorded]:
    """The events as they would stand if what a fork brought with it were in its log."""
    found: list[Recorded] = []
    for recorded in events:
        if isinstance(recorded.event, JobSubmitted):
            found += [Recorded(copy.sequence, copy.event) for copy in recorded.event.recorded]
        found.append(recorded)
    return found


def plan_fork(workspace: str, job: str, events: Sequence[Recorded], step: str) -> ForkPlan:
    """The fork of ``job`` from ``step``: the key of an operation, or what such keys begin with.

    Raises: UsageError ``unknown_step``, ``log_incomplete`` or ``never_ran``.
    """
    events = with_copies(events)
    journal = _folded(job, events)
    assert journal.submitted is not None
    places = _places(journal, events)
    chosen = [place for key, place in places.items() if belongs(key, step)]
    if not chosen:
        raise _unknown_step(job, step, places)
    point = min(chosen)
    _check_whole(job, journal, events, point)
    ordered = sorted(places, key=lambda key: places[key])
    kept = _kept(journal, point)
    reused = tuple(key for key in ordered if key in kept)
    return ForkPlan(
        submitted=journal.submitted, forked_from=ForkedFrom(workspace, job, point, step), reused=reused,
        anew=tuple(key for key in ordered if key not in kept),
        signals_left=_signals_left(journal, events, reused),
    )  # fmt: skip


def belongs(key: str, step: str) -> bool:
    """Whether an operation is ``step`` itself or a part of it.

    ``quote`` has ``quote:1`` and, in a document, ``quote/quote:1``; ``gather:1`` has ``gather:1.0/quote:1``.
    """
    return key == step or (bool(step) and key.startswith((f"{step}/", f"{step}.", f"{step}:")))


def copies_before(job: str, events: Sequence[Recorded], point: int, fork: str) -> tuple[Copy, ...]:
    """What ``fork`` takes from ``job`` (its log is ``events``) that has its outcome before ``point``.

    Raises: UsageError ``log_incomplete`` or ``never_ran``.
    """
    events = with_copies(events)
    journal = _folded(job, events)
    _check_whole(job, journal, events, point)
    wanted, children = set[int](), set[int]()
    kept = _kept(journal, point)
    for entry in journal.entries.values():
        if entry.call in kept:
            wanted |= {entry.sequence, entry.asked_at}
        elif isinstance(entry.command, ChildCall) and entry.asked_at < point and not entry.is_void:
            children.add(entry.asked_at)
    wanted |= {sequence for sequence in journal.changes if sequence < point}
    return tuple(
        Copy(r.sequence, _own(r.event, fork) if r.sequence in children else r.event)
        for r in events
        if isinstance(r.event, Copied) and r.sequence in wanted | children
    )


def _own(command: Copied, fork: str) -> Copied:
    """The command for a child of the fork, in the place of the source's child that had not ended.

    Without its input: the fork may have another one, and its child with it.
    """
    assert isinstance(command, ChildCall)
    return msgspec.structs.replace(command, job=fork, child=jobid.child(fork, command.call), input=NULL)


# ---- the source's log


def _folded(job: str, events: list[Recorded]) -> Journal:
    journal = Journal()
    journal.read(events)
    if journal.submitted is not None:
        return journal
    if events and any(isinstance(r.event, JobRejected) for r in events):
        raise UsageError(f"job {job} was rejected and never ran", code="never_ran", path="job", hint="submit it anew")
    raise log_incomplete(job, "its job.submitted is gone")


def _places(journal: Journal, events: list[Recorded]) -> dict[str, int]:
    """Where each operation was begun, as far as the log can tell. A wait that goes on is known by ``job.waiting``."""
    places = {key: entry.asked_at or entry.sequence for key, entry in journal.entries.items()}
    for recorded in events:
        if isinstance(recorded.event, JobWaiting):
            for key in recorded.event.on:
                if key != HOLD:
                    places.setdefault(key, recorded.sequence)
    return places


def _kept(journal: Journal, point: int) -> set[str]:
    """What has its outcome by then; but for locks that were held, which are the source's and no fork's."""
    held = set(journal.sections.open_before(point))
    return {key for key, entry in journal.entries.items() if 0 < entry.sequence < point and key not in held}


def _signals_left(journal: Journal, events: list[Recorded], reused: tuple[str, ...]) -> int:
    taken = set[int]()
    for key in reused:
        entry = journal.entries[key]
        if entry.op == "signal" and isinstance(entry.outcome, Succeeded):
            taken.add(msgspec.json.decode(entry.outcome.output).get("sequence", 0))
    signals = [r for r in events if isinstance(r.event, Signal) and r.event.name not in RESERVED]
    return sum(r.sequence not in taken for r in signals)


def _check_whole(job: str, journal: Journal, events: list[Recorded], point: int) -> None:
    """A reply to a call whose command is gone: who was to be asked what can no more be said."""
    own = {r.sequence for r in events if isinstance(r.event, ReplyCompleted | ReplyFailed) and not r.event.op}
    for entry in journal.entries.values():
        if 0 < entry.sequence < point and entry.command is None and entry.sequence in own:
            raise log_incomplete(job, f"the command of {entry.call} is gone")
    if not any(r.sequence >= point for r in events):
        raise log_incomplete(job, f"it does not reach to {point}")


def log_incomplete(job: str, what: str) -> UsageError:
    """The log of ``job`` does not hold any more what a fork would need."""
    return UsageError(
        f"the log of job {job} is not whole: {what}", code="log_incomplete", path="job",
        hint="the stream's limits may have dropped events; submit the job anew",
    )  # fmt: skip


def _unknown_step(job: str, step: str, places: dict[str, int]) -> UsageError:
    known = list(places)
    more = f" and {len(known) - _SHOWN_STEPS} more" if len(known) > _SHOWN_STEPS else ""
    there = f"{', '.join(known[:_SHOWN_STEPS])}{more}; see callboard show {job}" if known else "it has none yet"
    return UsageError(
        f"job {job} has no operation {step!r}", code="unknown_step", path="from", hint=f"its operations: {there}"
    )
