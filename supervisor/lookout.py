"""Who has stopped making progress: a decision over what was heard and when. Pure: fed with times, it reads no clock.

Silence counts only while the node hears *itself* over the bus. A server that is away, a link that is cut, or a
supervisor that was stopped itself silences everyone alike, and is nobody's fault; then all clocks start anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from bus.system_events import KillCause
from supervisor.heartbeat import BEATS_WITHIN_STALL, Heartbeat, MailboxBeat, heartbeat_interval_s

# Until its first heartbeat a process imports the user's module, which may load a model.
START_S = 60.0
# A mailbox finds a lost pull by itself within ten seconds; to kill its process earlier would help nobody.
DEAF_LEAST_S = 15.0
# How long the node may not hear itself before it doubts everything else it did not hear, in heartbeats.
PULSES_MISSED = 2.5
# A deaf actor whose successors are deaf as well is not cured by killing them: each time twice as long.
CURE_DOUBLINGS = 6
# Questions in one look: a node with hundreds of idle mailboxes goes through them in turn, some eight a second.
ASK_AT_ONCE = 16

Consumer = tuple[str, str]  # stream, name


@dataclass(frozen=True)
class Watched:
    """A child that runs, and after how many seconds of silence it is taken for dead (0: never)."""

    name: str
    pid: int
    stall_s: float


@dataclass(frozen=True)
class Backlog:
    """What the server says of a consumer: messages not yet given to anybody, and requests for messages that wait."""

    pending: int
    waiting: int = 0
    held_back: bool = False  # paused, or as many are out as may be

    @property
    def is_ignored(self) -> bool:
        """Whether there is work to be had and nobody asks for it."""
        return self.pending > 0 and self.waiting == 0 and not self.held_back


@dataclass(frozen=True)
class Verdict:
    """A child is to be killed: ``cause`` for programs, ``reason`` for people."""

    name: str
    pid: int
    cause: KillCause
    reason: str


@dataclass
class _Ear:
    """One mailbox of a child: since when nothing came, and since when work was there for it all the same."""

    beat: MailboxBeat
    quiet_since: float
    ignored_since: float | None = None
    told_at: float = 0.0

    def hear(self, beat: MailboxBeat, now: float) -> None:
        if beat.taken != self.beat.taken or beat.room <= 0:
            self.quiet_since, self.ignored_since = now, None
        self.beat = beat

    def be_told(self, backlog: Backlog | None, now: float, gap_s: float) -> None:
        """``gap_s``: what was seen longer ago says nothing about the time between."""
        if backlog is None or not backlog.is_ignored or self.beat.room <= 0:
            self.ignored_since = None
        elif self.ignored_since is None or now - self.told_at > gap_s:
            self.ignored_since = now
        self.told_at = now


@dataclass
class _Seen:
    """One process as it was heard: ``clock`` is when its silence began."""

    watched: Watched
    clock: float
    heard_at: float | None = None
    beat: Heartbeat | None = None
    ears: dict[Consumer, _Ear] = field(default_factory=dict)

    def hear(self, beat: Heartbeat, now: float) -> None:
        self.clock, self.heard_at, self.beat = now, now, beat
        kept = {}
        for each in beat.mailboxes:
            key = each.stream, each.consumer
            kept[key] = ear = self.ears.get(key) or _Ear(each, now)
            ear.hear(each, now)
        self.ears = kept

    def pardon(self, now: float) -> None:
        self.clock = now
        for ear in self.ears.values():
            ear.quiet_since, ear.ignored_since = now, None


class Lookout:
    """Keeps what was heard of each child. ``now`` is any monotonic time in seconds, the same for all methods."""

    def __init__(self, *, start_s: float = START_S, deaf_least_s: float = DEAF_LEAST_S) -> None:
        self._start_s = start_s
        self._deaf_least_s = deaf_least_s
        self._seen: dict[str, _Seen] = {}
        self._cures: dict[tuple[str, Consumer], int] = {}
        self._asked_at: dict[Consumer, float] = {}
        self._pulse_at = float("-inf")

    # ---- what is heard

    def pulse(self, now: float) -> None:
        """The node heard itself: until now the way over the bus was open, unless the last time was long ago."""
        if now - self._pulse_at > self._pulse_limit_s():
            for seen in self._seen.values():
                seen.pardon(now)
        self._pulse_at = now

    def heard(self, name: str, beat: Heartbeat, now: float) -> bool:
        """A heartbeat came; False if it is of a process that is not (or no longer) watched."""
        seen = self._seen.get(name)
        if seen is None or seen.watched.pid != beat.pid:
            return False
        seen.hear(beat, now)
        for key, ear in seen.ears.items():
            if ear.beat.taken:
                self._cures.pop((name, key), None)
        return True

    def told(self, consumer: Consumer, backlog: Backlog | None, now: float) -> None:
        """What the server says of a consumer; None if it did not say."""
        for seen in self._seen.values():
            if ear := seen.ears.get(consumer):
                ear.be_told(backlog, now, 3 * ask_interval_s(seen.watched.stall_s))

    # ---- what follows

    def interval_s(self) -> float:
        """How often the node has to speak to itself, and to look."""
        return min((heartbeat_interval_s(seen.watched.stall_s) for seen in self._seen.values()), default=2.0)

    def know(self, running: Iterable[Watched], now: float) -> None:
        """Those that run now, and no others, are watched; the clock of a new process begins here."""
        kept = {}
        for child in running:
            seen = self._seen.get(child.name)
            if seen is None or seen.watched.pid != child.pid:
                seen = _Seen(child, now)
            seen.watched = child
            kept[child.name] = seen
        self._seen = kept

    def look(self, running: Iterable[Watched], now: float) -> list[Verdict]:
        """Who of those that run now is to be killed."""
        self.know(running, now)
        if now - self._pulse_at > self._pulse_limit_s():
            return []
        found = (self._judge(seen, now) for seen in self._seen.values() if seen.watched.stall_s > 0)
        return [verdict for verdict in found if verdict is not None]

    def to_ask(self, now: float) -> list[Consumer]:
        """The consumers to ask the server about: an actor here has room, and nothing came since the last look.

        First those where work was seen waiting, then those that were not asked about for longest, ASK_AT_ONCE in all.
        """
        due = {key for seen in self._seen.values() for key in self._quiet(seen, now)}
        suspect = {
            key for seen in self._seen.values() for key, ear in seen.ears.items() if ear.ignored_since is not None
        }
        first = sorted(due, key=lambda key: (key not in suspect, self._asked_at.get(key, float("-inf")), key))
        chosen = first[: max(ASK_AT_ONCE, len(due & suspect))]
        known = {key for seen in self._seen.values() for key in seen.ears}
        self._asked_at = {key: at for key, at in self._asked_at.items() if key in known} | dict.fromkeys(chosen, now)
        return chosen

    def last_beat(self, name: str) -> Heartbeat | None:
        """The last heartbeat of the process that runs as ``name``."""
        return self.beats().get(name)

    def beats(self) -> dict[str, Heartbeat]:
        """The last heartbeat of each child that has spoken."""
        return {name: seen.beat for name, seen in self._seen.items() if seen.beat is not None}

    def ages_s(self, now: float) -> dict[str, float]:
        """How long ago that was."""
        return {name: now - seen.heard_at for name, seen in self._seen.items() if seen.heard_at is not None}

    # ---- inside

    def _pulse_limit_s(self) -> float:
        return PULSES_MISSED * self.interval_s()

    def _judge(self, seen: _Seen, now: float) -> Verdict | None:
        # Up to when the node heard itself: of the time since then nothing is known.
        child, silent_s = seen.watched, self._pulse_at - seen.clock
        limit_s = child.stall_s if seen.beat else max(self._start_s, child.stall_s)
        if silent_s >= limit_s:
            return Verdict(child.name, child.pid, "stalled", _silence(seen.beat, silent_s))
        for key, ear in seen.ears.items():
            deaf_s = self._deaf_s(child, key)
            # Judged only with a look at both ends of that time, and a heartbeat after the last one.
            if ear.ignored_since is not None and seen.clock > ear.told_at >= ear.ignored_since + deaf_s:
                self._cures[child.name, key] = self._cures.get((child.name, key), 0) + 1
                ear.ignored_since = None
                return Verdict(child.name, child.pid, "deaf", _deafness(ear, now))
        return None

    def _deaf_s(self, child: Watched, key: Consumer) -> float:
        doublings = min(self._cures.get((child.name, key), 0), CURE_DOUBLINGS)
        return float(max(child.stall_s, self._deaf_least_s) * 2**doublings)

    def _quiet(self, seen: _Seen, now: float) -> Iterator[Consumer]:
        if seen.watched.stall_s <= 0:
            return
        ask_s = ask_interval_s(seen.watched.stall_s)
        for key, ear in seen.ears.items():
            if (
                ear.beat.room > 0
                and now - ear.quiet_since >= ask_s
                and now - self._asked_at.get(key, float("-inf")) >= ask_s
            ):
                yield key


def ask_interval_s(stall_s: float) -> float:
    """The least time between two questions about one consumer."""
    return min(5.0, stall_s / 3)


def _silence(beat: Heartbeat | None, silent_s: float) -> str:
    if beat is None:
        return f"said nothing within {silent_s:.0f} s of its start"
    return f"said nothing for {silent_s:.0f} s; its last words: {_words(beat.doing, beat.since)}"


def _words(doing: str, since: datetime | None) -> str:
    return f"{doing or 'starting'} since {since:%H:%M:%S} UTC" if since else doing or "starting"


def _deafness(ear: _Ear, now: float) -> str:
    since = ear.quiet_since
    return (
        f"has room for {ear.beat.room} and took nothing from consumer {ear.beat.consumer} of {ear.beat.stream} "
        f"for {now - since:.0f} s, while work was waiting there"
    )


__all__ = ["BEATS_WITHIN_STALL", "Backlog", "Lookout", "Verdict", "Watched", "ask_interval_s"]
