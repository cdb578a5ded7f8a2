"""What a job's log says, folded: which operations are known, which signals wait, who owns the job, how it ended.

Pure. The live host and every replay fold the same events in the same order, so they see the same job: the first reply
in the log wins, a later one changes nothing.

A failed job may be retried (``job.retried``): its end is void then, and so are all replies up to there to the calls
that the event names. What was recorded of other calls stands. The event changes nothing in a job that has not failed,
so two retries at once are one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from actors.jobs.hold import Hold, word_in
from actors.jobs.sections import OPS, Sections
from bus.amendment import Change
from bus.approval_events import ApprovalAnswered, ApprovalAsked, ApprovalEscalated
from bus.failure import Failure, TerminalError
from bus.messages import (
    CallAgent,
    CallJob,
    CallTool,
    Copy,
    Emitted,
    Event,
    JobAmended,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobOwned,
    JobPaused,
    JobRejected,
    JobResumed,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
    ReplyProgress,
    ReplyRetrying,
    Signal,
)
from store.approval import Approval, decision_in
from store.log import Recorded


class Pending(msgspec.Struct, frozen=True):
    """Asked for, no answer yet."""


class Succeeded(msgspec.Struct, frozen=True):
    """Answered with ``output`` (JSON)."""

    output: msgspec.Raw
    sequence: int


class Spent(msgspec.Struct, frozen=True):
    """Answered with a failure; no attempt is left."""

    failure: Failure
    sequence: int


Outcome = Pending | Succeeded | Spent
PENDING = Pending()

# Owned again this soon after the last time: a crash, not a rolling upgrade.
CRASH_LOOP_S = 60.0


class Entry(msgspec.Struct):
    """One durable operation: ``op`` is tool, agent, job, local, sleep, timer, signal, approval or emit.

    ``asked_at`` is its command's sequence. ``parked_on``: the job has parked on it, so all that was to be done for its
    answer was done by then. ``void_to``: nothing up to that sequence counts as its answer, or as having been asked.
    ``copied``: a fork has it from its source, where it may have been asked with another input.
    """

    call: str
    op: str
    name: str
    outcome: Outcome = PENDING
    command: CallTool | CallAgent | CallJob | None = None
    asked_at: int = 0
    parked_on: bool = False
    void_to: int = 0
    copied: bool = False

    @property
    def is_void(self) -> bool:
        """Whether its command has to be written anew, under the same key."""
        return isinstance(self.outcome, Pending) and self.asked_at <= self.void_to and self.void_to > 0

    @property
    def sequence(self) -> int:
        """Where its outcome stands in the log, 0 while there is none."""
        return 0 if isinstance(self.outcome, Pending) else self.outcome.sequence

    @property
    def is_out(self) -> bool:
        """Whether it is a call that was given out and has no answer yet."""
        return self.command is not None and isinstance(self.outcome, Pending) and not self.is_void


class ChangedCode(TerminalError):
    """The job's code asks for another operation at a place where the log has one."""

    def __init__(self, entry: Entry, op: str, name: str) -> None:
        super().__init__(
            f"operation {entry.call!r} is recorded as {entry.op} {entry.name!r}, "
            f"the present code asks for {op} {name!r}: the job's code has changed under it",
            code="changed_code",
            details={"call": entry.call, "recorded": f"{entry.op} {entry.name}", "present": f"{op} {name}"},
        )


@dataclass
class Journal:
    """The fold. All up to sequence ``read_to`` is in it; ``heard`` is the last sequence heard of each subject.

    ``life_at`` is the last sequence of ``job.*``.
    ``parked``: nobody holds the job, and a wake-up may bring it back: it waits, or it was retried.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    signals: dict[int, Signal] = field(default_factory=dict)
    approvals: dict[str, Approval] = field(default_factory=dict)
    submitted: JobSubmitted | None = None
    owner: JobOwned | None = None
    owned_at: int = 0
    owned_in_vain: int = 0
    parked: bool = False
    hold: Hold = field(default_factory=Hold)
    ended: JobCompleted | JobFailed | JobCancelled | None = None
    ended_at: int = 0
    life_at: int = 0
    retried: JobRetried | None = None
    retried_at: int = 0
    read_to: int = 0
    heard: dict[str, int] = field(default_factory=dict)
    consumed: set[int] = field(default_factory=set)
    sections: Sections = field(default_factory=Sections)
    changes: dict[int, Change] = field(default_factory=dict)

    @property
    def amendments(self) -> list[tuple[int, Change]]:
        """What was changed, by the log's order. Nearly always nothing."""
        return sorted(self.changes.items(), key=lambda pair: pair[0]) if self.changes else []

    @property
    def has_calls_out(self) -> bool:
        """Whether the job waits for somebody else's answer, as far as the log can tell."""
        return any(entry.is_out for entry in self.entries.values())

    def read(self, events: list[Recorded]) -> list[str]:
        """Fold what was read from the log in full; returns the calls that were answered by it."""
        answered = [call for r in events if (call := self.apply(r))]
        if events:
            self.read_to = max(self.read_to, events[-1].sequence)
        return answered

    def apply(self, recorded: Recorded) -> str | None:
        """Fold one event; the call that it answered first, if it did. Events may come twice."""
        event, sequence = recorded.event, recorded.sequence
        match event:
            case ReplyCompleted():
                return self._answer(event, Succeeded(event.output, sequence))
            case ReplyFailed():
                return self._answer(event, Spent(event.failure, sequence))
            case CallTool() | CallAgent() | CallJob():
                self._command(event, sequence)
            case Emitted():
                return self._settle(event.call, "emit", Succeeded(event.data, sequence))
            case Signal():
                self._signal(event, sequence)
            case ApprovalAsked() | ApprovalAnswered() | ApprovalEscalated():
                self._approval(event, sequence)
            case ReplyProgress() | ReplyRetrying():
                pass
            case _:
                self._lifecycle(event, sequence)
        return None

    def _signal(self, event: Signal, sequence: int) -> None:
        if word := word_in(event, sequence):
            self.hold.take(word)
        elif sequence not in self.consumed:
            self.signals[sequence] = event

    def _approval(self, event: ApprovalAsked | ApprovalAnswered | ApprovalEscalated, sequence: int) -> None:
        self.approvals.setdefault(event.call, Approval()).take(event, sequence)
        if isinstance(event, ApprovalAsked):
            entry = self.entries.setdefault(event.call, Entry(event.call, "approval", "approval"))
            entry.asked_at = entry.asked_at or sequence
            self.owned_in_vain = 0

    def _answer(self, event: ReplyCompleted | ReplyFailed, outcome: Succeeded | Spent) -> str | None:
        answered = self._settle(event.call, event.op or "tool", outcome)
        if answered and event.op == "signal" and isinstance(event, ReplyCompleted):
            self._consume(event.output)
        elif answered and event.op == "approval" and isinstance(event, ReplyCompleted):
            self.approvals.setdefault(event.call, Approval()).decision = decision_in(event.output)
        elif answered and event.op in OPS and isinstance(event, ReplyCompleted):
            self.sections.apply(event, outcome.sequence)
        return answered

    def _settle(self, call: str, op: str, outcome: Succeeded | Spent) -> str | None:
        """The first outcome counts; the call, if this is it."""
        entry = self.entries.get(call)
        if entry is None:
            name = call.rpartition("/")[2].partition(":")[0]
            entry = self.entries[call] = Entry(call, op, name)
        if not isinstance(entry.outcome, Pending) or outcome.sequence <= entry.void_to:
            return None
        entry.outcome = outcome
        self.owned_in_vain = 0
        return call

    def _consume(self, output: msgspec.Raw) -> None:
        sequence = msgspec.json.decode(output).get("sequence", 0)
        self.consumed.add(sequence)
        self.signals.pop(sequence, None)

    def _command(self, event: CallTool | CallAgent | CallJob, sequence: int) -> None:
        op = str(event.__struct_config__.tag).partition(".")[2]
        entry = self.entries.setdefault(event.call, Entry(event.call, op, event.name))
        entry.op, entry.name = op, event.name
        if entry.command is None or entry.asked_at <= entry.void_to < sequence:
            entry.command, entry.asked_at, entry.copied = event, sequence, False
            self.owned_in_vain = 0

    def _lifecycle(self, event: Event, sequence: int) -> None:
        if event.kind.startswith("job."):
            self.life_at = max(self.life_at, sequence)
        match event:
            case JobSubmitted():
                self.submitted = event
                self._copy(event.recorded)
            case JobOwned() if sequence > self.owned_at:
                # A job that takes its host down each time is owned again and again with nothing in between.
                again = self.owner is not None and (event.at - self.owner.at).total_seconds() < CRASH_LOOP_S
                self.owned_in_vain = self.owned_in_vain + 1 if again and not self.parked else 1
                self.owner, self.owned_at, self.parked = event, sequence, False
            case JobWaiting():
                self.parked = self.parked or sequence > self.owned_at
                for call in event.on:
                    if (entry := self.entries.get(call)) and entry.void_to < entry.asked_at < sequence:
                        entry.parked_on = True
            case JobCompleted() | JobFailed() | JobCancelled() if sequence > self.retried_at and not self.ended:
                self.ended, self.ended_at = event, sequence
            case JobRetried() if isinstance(self.ended, JobFailed) and sequence > self.ended_at:
                self._retry(event, sequence)
            case JobPaused() | JobResumed():
                self.hold.heed(event)
            case JobAmended(change=change) if change is not None:
                self.changes[sequence] = change
            case JobRejected() | _:
                pass

    def _copy(self, recorded: tuple[Copy, ...]) -> None:
        """What a fork brings along stands where it stood in its source: before everything of its own."""
        for copy in recorded:
            self.apply(Recorded(copy.sequence, copy.event))
            if not isinstance(copy.event, JobAmended):
                entry = self.entries[copy.event.call]
                entry.copied = copy.sequence in (entry.asked_at, entry.sequence)

    def _retry(self, event: JobRetried, sequence: int) -> None:
        """Nobody's job, with nothing in its way: its end is void, and what has no outcome now is asked for anew."""
        self.ended, self.ended_at, self.parked = None, 0, True
        self.retried, self.retried_at = event, sequence
        anew: list[int] = []
        last = max((e.sequence for e in self.entries.values()), default=0)
        for entry in self.entries.values():
            failed = isinstance(entry.outcome, Spent) and entry.call in event.calls
            # Redelivered while the job was over, an unanswered call was dropped unanswered.
            dropped = isinstance(entry.outcome, Pending) and entry.command is not None and entry.op != "job"
            if failed or dropped:
                entry.outcome, entry.void_to, entry.parked_on = PENDING, sequence, False
                anew.append(entry.asked_at)
        for call in self.sections.void(anew, last):
            if call in self.entries:
                self.entries[call].outcome, self.entries[call].void_to = PENDING, sequence

    # ---- what the job core asks

    def recall(self, call: str, op: str, name: str) -> Entry | None:
        """The recorded operation at this place, None if the job has come to something new. Raises: ChangedCode."""
        entry = self.entries.get(call)
        if entry is not None and (entry.op != op or entry.name != name):
            raise ChangedCode(entry, op, name)
        return entry

    def begin(self, call: str, op: str, name: str) -> Entry:
        """Note an operation that is being asked for now."""
        entry = self.entries[call] = Entry(call, op, name)
        return entry

    def next_signal(self, name: str, since: int = 0) -> tuple[int, Signal] | None:
        """The oldest signal of that name, after ``since``, that nobody has taken."""
        if not self.signals:
            return None
        named = ((sequence, signal) for sequence, signal in self.signals.items() if signal.name == name)
        return min((pair for pair in named if pair[0] > since), default=None, key=lambda pair: pair[0])

    def take_signal(self, sequence: int) -> None:
        """Somebody has taken it; no other wait may."""
        self.consumed.add(sequence)
        self.signals.pop(sequence, None)

    @property
    def last_outcome(self) -> int:
        """The last sequence at which a replay has something to give back; 0 if there is nothing."""
        outcomes = (max(entry.sequence, entry.asked_at) for entry in self.entries.values())
        return max(*outcomes, *self.signals, *self.changes, 0, 0)

    def has_gap(self, subject: str, last_sequence: int) -> bool:
        """Whether the subject's previous message, as the server counts, is one that we have not seen."""
        return last_sequence > max(self.read_to, self.heard.get(subject, 0))
