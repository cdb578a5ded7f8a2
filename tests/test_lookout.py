"""Who has stopped making progress: the pure decision, held against plain words over random histories."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.heartbeat import HEARTBEAT_S, Heartbeat, MailboxBeat, decode, encode, heartbeat_interval_s, interval_of
from supervisor.lookout import Backlog, Lookout, Verdict, Watched, ask_interval_s

STALL_S = 15.0
START_S = 60.0
STEP_S = 0.5
CALLS = ("EVENTS", "tool-quote-v1")
IGNORED = Backlog(pending=3)
BORN = datetime(2031, 4, 5, 6, 7, 8, tzinfo=UTC)


def beat(pid: int = 1, *, taken: int = 0, room: int = 8, doing: str = "idle") -> Heartbeat:
    """A heartbeat of a tool with one mailbox."""
    return Heartbeat(pid=pid, doing=doing, since=BORN, mailboxes=(MailboxBeat(*CALLS, room, taken),))


class Play:
    """One child ``quote-1`` under a lookout, on a clock that only ``step`` moves."""

    def __init__(self, *, stall_s: float = STALL_S) -> None:
        self.lookout = Lookout(start_s=START_S)
        self.child = Watched("quote-1", 1, stall_s)
        self.now = 1000.0

    def step(
        self, *, pulse: bool = True, said: Heartbeat | None = None, backlog: Backlog | None = None
    ) -> Verdict | None:
        """Half a second goes by; then what came is heard, what is to be asked is asked, and the lookout looks."""
        self.now += STEP_S
        if pulse:
            self.lookout.pulse(self.now)
        if said:
            self.lookout.heard("quote-1", said, self.now)
        found = self.lookout.look([self.child], self.now)
        for consumer in self.lookout.to_ask(self.now):
            self.lookout.told(consumer, backlog, self.now)
        return found[0] if found else None

    def until_found(self, limit_s: float, **what: object) -> tuple[float, Verdict]:
        """Step until there is a verdict: after how many seconds, and which."""
        begun = self.now
        while self.now - begun < limit_s:
            if verdict := self.step(**what):  # type: ignore[arg-type]
                return self.now - begun, verdict
        raise AssertionError(f"no verdict within {limit_s} s")


# ---- silence


def test_silent_child_is_found_after_its_time() -> None:
    """Not before ``stall_s``, at the next look after it, and the reason says what it was doing and since when."""
    play = Play()
    play.step()
    play.step(said=beat(doing="quote:1 of job-7"))
    took_s, verdict = play.until_found(60)
    assert took_s == STALL_S
    assert (verdict.name, verdict.pid, verdict.cause) == ("quote-1", 1, "stalled")
    assert verdict.reason == "said nothing for 15 s; its last words: quote:1 of job-7 since 06:07:08 UTC"


def test_child_that_has_never_spoken_has_time_to_start() -> None:
    """Importing may be slow: until the first heartbeat the start allowance counts."""
    play = Play()
    play.step()
    took_s, verdict = play.until_found(100)
    assert took_s == START_S
    assert verdict.reason == "said nothing within 60 s of its start"


def test_start_allowance_is_never_shorter_than_the_stall() -> None:
    """A component that may be silent for five minutes may also start for five minutes."""
    play = Play(stall_s=300)
    play.step()
    assert play.until_found(400)[0] == 300


def test_unwatched_child_is_left_alone() -> None:
    """``stall_s`` 0 means that it is not watched."""
    play = Play(stall_s=0)
    assert not any(play.step() for _ in range(1000))


def test_words_of_a_predecessor_do_not_count() -> None:
    """A heartbeat that comes late, of a process that is gone, says nothing of the one that runs."""
    play = Play()
    play.step(said=beat())
    play.child = Watched("quote-1", 2, STALL_S)
    play.step()
    assert not play.lookout.heard("quote-1", beat(pid=1), play.now)
    assert play.lookout.heard("quote-1", beat(pid=2), play.now)
    took_s, verdict = play.until_found(60, said=beat(pid=1))
    assert (took_s, verdict.pid) == (STALL_S, 2)


history = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=400)
rare = st.integers(0, 40).map(lambda n: n == 0)
rare_history = st.lists(st.tuples(st.integers(0, 12).map(bool), rare), min_size=60, max_size=400)


@given(history | rare_history, st.sampled_from([2.0, 5.0, STALL_S, 40.0]))
def test_verdict_of_silence(story: list[tuple[bool, bool]], stall_s: float) -> None:
    """Told at each step: silent for ``stall_s``, while the node heard itself without a gap. Both ways round."""
    play = Play(stall_s=stall_s)
    gap_s = 2.5 * heartbeat_interval_s(stall_s)
    play.step(said=beat())
    play.step(said=beat())
    heard_at = clock = pulse_at = play.now
    for pulse, said in story:
        verdict = play.step(pulse=pulse, said=beat() if said else None)
        if pulse:
            if play.now - pulse_at > gap_s:
                clock = play.now
            pulse_at = play.now
        if said:
            heard_at = play.now
        is_dead = pulse_at - max(heard_at, clock) >= stall_s and play.now - pulse_at <= gap_s
        assert (verdict is not None) == is_dead
        if verdict:
            break


@given(st.lists(st.booleans(), max_size=300))
def test_nobody_is_killed_while_the_node_does_not_hear_itself(said: list[bool]) -> None:
    """Invariant 7: a server that is away, or a supervisor that was stopped, is nobody's fault."""
    play = Play()
    play.step(said=beat())
    for _ in range(10):
        play.step()
    assert not any(play.step(pulse=False, said=beat() if one else None) for one in said)


def test_clocks_start_anew_when_the_node_hears_itself_again() -> None:
    """After an outage everyone has the whole time once more, also for the start."""
    for words, limit_s in ((beat(), STALL_S), (None, START_S)):
        play = Play()
        play.step()
        play.step(said=words)
        for _ in range(28):
            assert play.step() is None
        for _ in range(1000):
            assert play.step(pulse=False) is None
        assert play.step() is None
        assert play.until_found(100)[0] == limit_s


# ---- deafness


def deaf(play: Play, limit_s: float, *, pid: int = 1) -> tuple[float, Verdict]:
    """A child that beats and takes nothing, while work waits: until it is found."""
    play.step()
    return play.until_found(limit_s, said=beat(pid), backlog=IGNORED)


def test_deaf_child_is_found() -> None:
    """It beats, has room, takes nothing, and work waits: found after ``stall_s``, at most two questions later."""
    play = Play()
    play.step(said=beat())
    took_s, verdict = deaf(play, 100)
    assert STALL_S <= took_s <= STALL_S + 2 * ask_interval_s(STALL_S) + 1
    assert verdict.cause == "deaf"
    assert verdict.reason.startswith("has room for 8 and took nothing from consumer tool-quote-v1 of EVENTS for")


def test_deafness_that_killing_does_not_cure_is_treated_ever_more_rarely() -> None:
    """Where the server's figures are wrong, each successor has twice the time, until one takes anything."""
    play = Play()
    play.step(said=beat())
    times = []
    for pid in itertools.islice(itertools.count(1), 4):
        play.child = Watched("quote-1", pid, STALL_S)
        times.append(deaf(play, 1000, pid=pid)[0])
    assert all(second > 1.5 * first for first, second in itertools.pairwise(times))
    play.child = Watched("quote-1", 9, STALL_S)
    play.step()
    play.step(said=beat(9, taken=1))
    assert play.until_found(100, said=beat(9, taken=1), backlog=IGNORED)[0] < 1.5 * times[0]


@pytest.mark.parametrize(
    "backlog",
    [
        Backlog(pending=0),
        Backlog(pending=3, waiting=1),
        Backlog(pending=3, held_back=True),
        None,
    ],
    ids=["no work", "somebody asks for it", "paused, or enough are out", "no answer: no leader, no consumer"],
)
def test_what_is_no_deafness(backlog: Backlog | None) -> None:
    """Where no work waits, where the server holds it back, and where nobody knows, nobody is deaf."""
    play = Play()
    assert not any(play.step(said=beat(), backlog=backlog) for _ in range(400))


def test_no_room_is_no_deafness() -> None:
    """Who is full, is paused by a circuit, or is in trouble says room 0, and the server is not even asked."""
    play = Play()
    for _ in range(400):
        assert play.step(said=beat(room=0), backlog=IGNORED) is None
        assert not play.lookout.to_ask(play.now)


step = st.tuples(st.integers(0, 25), st.sampled_from(["take", "full", "empty", "mute", "cut"]))


@given(st.lists(step, max_size=12))
def test_verdict_of_deafness_needs_all_of_that_time(story: list[tuple[int, str]]) -> None:
    """Whatever breaks the state in between (a message taken, no room, no work, an outage) starts the time anew."""
    play = Play()
    play.step(said=beat())
    clean_since, taken = play.now, 0
    for quiet_steps, event in story:
        for _ in range(quiet_steps):
            if play.step(said=beat(taken=taken), backlog=IGNORED):
                assert play.now - clean_since >= STALL_S
                return
        match event:
            case "take":
                taken += 1
                verdict = play.step(said=beat(taken=taken), backlog=IGNORED)
            case "full":
                verdict = play.step(said=beat(taken=taken, room=0), backlog=IGNORED)
            case "empty":
                play.lookout.told(CALLS, Backlog(0), play.now)
                verdict = None
            case "mute":
                play.lookout.told(CALLS, None, play.now)
                verdict = None
            case _:
                verdict = next(filter(None, (play.step(pulse=False) for _ in range(12))), None)
                verdict = verdict or play.step(said=beat(taken=taken), backlog=IGNORED)
        if verdict:
            assert play.now - clean_since >= STALL_S
            return
        clean_since = play.now
    assert play.until_found(100, said=beat(taken=taken), backlog=IGNORED)[1].cause == "deaf"


def test_replicas_share_a_question() -> None:
    """Three deaf replicas on one node cost one question each five seconds, and a consumer that is busy costs none."""
    lookout, children = Lookout(), [Watched(f"quote-{n}", n, STALL_S) for n in (1, 2, 3)]
    asked = []
    for tick in range(120):
        now = float(tick)
        lookout.pulse(now)
        lookout.look(children, now)
        for child in children:
            busy = MailboxBeat("JOBS", "job-order-normal", 1000, tick)
            said = Heartbeat(pid=child.pid, doing="", mailboxes=(MailboxBeat(*CALLS, 8, 5), busy))
            assert lookout.heard(child.name, said, now)
        asked += lookout.to_ask(now)
    assert set(asked) == {CALLS}
    assert len(asked) <= 120 / 5


def test_many_mailboxes_are_asked_about_in_turn() -> None:
    """A host of a hundred workflows costs sixteen questions a look at most, and where work waits it is asked first."""
    lookout, host = Lookout(), Watched("host-1", 1, STALL_S)
    names = [f"job-{n:03}-normal" for n in range(300)]
    said = Heartbeat(pid=1, doing="idle", mailboxes=tuple(MailboxBeat("JOBS", name, 1000) for name in names))
    looks: list[list[tuple[str, str]]] = []
    verdicts: list[Verdict] = []
    for tick in range(60):
        now = 2.0 * tick
        lookout.pulse(now)
        verdicts += lookout.look([host], now)
        lookout.heard("host-1", said, now)
        looks.append(lookout.to_ask(now))
        for consumer in looks[-1]:
            lookout.told(consumer, IGNORED if consumer[1] == names[-1] else Backlog(0), now + 0.1)
        if verdicts:
            break
    assert max(map(len, looks)) == 16
    assert {name for look in looks for _, name in look} == set(names)
    assert [verdict.cause for verdict in verdicts] == ["deaf"]
    assert names[-1] in verdicts[0].reason


# ---- heartbeats on the wire


def test_heartbeat_is_read_as_written() -> None:
    """What another version of us adds is ignored, what an older one leaves out has a default."""
    whole = Heartbeat(pid=7, doing="2 jobs", since=BORN, handled=5, busy=2, sequence=9,
                      mailboxes=(MailboxBeat("JOBS", "job-order-low", 4, 1),))  # fmt: skip
    assert decode(encode(whole)) == whole
    assert decode(b'{"pid": 7, "doing": "idle", "mood": "good"}') == Heartbeat(pid=7, doing="idle")


def test_interval_fits_the_stall() -> None:
    """Four heartbeats within the time after which one is taken for dead, never more rarely than every two seconds."""
    assert heartbeat_interval_s(15) == HEARTBEAT_S
    assert heartbeat_interval_s(4) == 1
    assert heartbeat_interval_s(0) == HEARTBEAT_S
    assert [interval_of(text) for text in (None, "", "15", "2", "soon")] == [2.0, 2.0, 2.0, 0.5, 2.0]
