"""The log of one job, folded as it is read from the stream: what the verdict asks of it, and nothing more. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bus import headers as h
from bus.errors import Unreadable
from bus.messages import (
    CallAgent,
    CallJob,
    CallTool,
    Ended,
    Event,
    JobEnd,
    JobOwned,
    JobRetried,
    JobSubmitted,
    JobWaiting,
    ReplyCompleted,
    ReplyFailed,
    decode,
)
from bus.reader import Stored
from bus.subjects import parse_event

_FENCED = frozenset({"job.waiting", "job.paused", "job.resumed", "job.completed", "job.failed", "job.cancelled"})


@dataclass(frozen=True, slots=True)
class Owner:
    """Who took the job, and when (seconds since the epoch, by the server's clock)."""

    sequence: int
    at_s: float
    host: str
    pid: int


@dataclass(slots=True)
class History:
    """What happened to one job. ``wrong`` holds what no log may show, each as one sentence."""

    job: str
    submitted_s: float = 0.0
    ended_s: float = 0.0
    end: JobEnd | None = None
    owners: list[Owner] = field(default_factory=list)
    parked_s: list[float] = field(default_factory=list)
    commands: Counter[str] = field(default_factory=Counter)
    answered_s: dict[str, float] = field(default_factory=dict)
    events: int = 0
    wrong: list[str] = field(default_factory=list)

    def take(self, stored: Stored) -> None:
        """The next message of this job's log."""
        self.events += 1
        try:
            event = decode(stored.body, subject=stored.subject, sequence=stored.sequence)
        except Unreadable as error:
            self.wrong.append(f"event {stored.sequence} cannot be read: {error}")
            return
        self._check_fence(stored)
        self._fold(stored, event)

    def _check_fence(self, stored: Stored) -> None:
        """What a host writes was written by the owner: it names the last claim before it as its epoch."""
        kind = parse_event(stored.subject).kind
        if kind not in _FENCED and not kind.startswith("call."):
            return
        owner = self.owners[-1].sequence if self.owners else 0
        if stored.headers.get(h.EXPECTED_SEQUENCE) != str(owner):
            epoch = stored.headers.get(h.EXPECTED_SEQUENCE, "nothing")
            self.wrong.append(f"{kind} at {stored.sequence} was written under {epoch}, the owner's claim is {owner}")

    def _fold(self, stored: Stored, event: Event) -> None:
        at_s = stored.at.timestamp()
        match event:
            case JobSubmitted():
                if self.submitted_s:
                    self.wrong.append(f"submitted again at {stored.sequence}")
                self.submitted_s = at_s
            case JobOwned(host=host, pid=pid):
                self.owners.append(Owner(stored.sequence, at_s, host, pid))
            case JobWaiting():
                self.parked_s.append(at_s)
            case JobRetried(calls=calls):
                self.end = None
                for call in calls:
                    self.answered_s.pop(call, None)
                    self.commands.pop(call, None)
            case CallTool(call=call) | CallAgent(call=call) | CallJob(call=call):
                self.commands[call] += 1
                if self.commands[call] > 1:
                    self.wrong.append(f"command {call} was given again at {stored.sequence}")
            case ReplyCompleted(call=call) | ReplyFailed(call=call):
                self.answered_s.setdefault(call, at_s)
            case _ if isinstance(event, Ended):
                if self.end is not None:
                    self.wrong.append(f"ended again at {stored.sequence}: {event.kind}")
                self.end, self.ended_s = event, at_s
            case _:
                pass
