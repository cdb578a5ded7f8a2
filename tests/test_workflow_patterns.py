"""The workflow control-flow patterns: what each document of ``examples/patterns`` does, for every order of answers.

One test for each pattern, named by its number. The same documents run on a real server in
``test_pattern_runs.py``; ``docs/workflow-patterns.md`` is the table. The three are kept in step here.
"""

from __future__ import annotations

import re
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest

from actors.interpreter.asks import Call, WaitSignal
from actors.interpreter.end import Withdrawn
from tests.pattern_play import FOLDER, Hand, files, pattern
from tests.test_pattern_runs import LIVE

PAGE = Path(__file__).parent.parent / "docs" / "workflow-patterns.md"
# Those that the page may say "partly" or "no" to; all others are held to be necessary.
MAY_LACK = {28, 31, 33, 38, 41, 42}
SUPPLIERS = ("north", "south", "east")


def rows() -> dict[int, tuple[str, str]]:
    """Of the page: by number whether a pattern is supported, and its name with the link."""
    found = re.findall(r"^\| (\d+) \| ([^|]+) \| (yes|partly|no) \| .* \|$", PAGE.read_text(), re.MULTILINE)
    assert len(found) == len({number for number, *_ in found})
    return {int(number): (support, name) for number, name, support in found}


def test_the_page_the_documents_and_the_tests_are_in_step() -> None:
    """43 rows; what is supported has a document that the row links, a test of it in memory, and a run on a server."""
    table = rows()
    supported = {number for number, (support, _) in table.items() if support != "no"}
    tested = {int(found[1]) for name in globals() if (found := re.match(r"test_(\d\d)_", name))}
    assert sorted(table) == list(range(1, 44))
    assert {number for number, (support, _) in table.items() if support != "yes"} <= MAY_LACK
    assert set(files()) == supported == tested == set(LIVE)
    assert len(list(FOLDER.iterdir())) == len(supported)
    for number, file in files().items():
        assert f"(../examples/patterns/{file.name})" in table[number][1]
        assert pattern(number).name == file.stem[3:]


# ---- basic control flow


def test_01_sequence() -> None:
    """Each step is asked for once the one before it has been answered."""
    play = Hand(1)
    for place in ("pick", "pay", "tell"):
        assert play.open == {place}
        play.at(place)
    assert play.result is None


def test_02_parallel_split() -> None:
    """Once the first step is through both others are out at the same time."""
    play = Hand(2).at("pick")
    assert play.open == {"pay", "carrier"}


@pytest.mark.parametrize("order", list(permutations(("pick", "pay"))))
def test_03_synchronization(order: tuple[str, str]) -> None:
    """Whichever comes last lets the next step begin, once."""
    play = Hand(3).at(order[0])
    assert play.open == {order[1]}
    play.at(order[1])
    assert play.open == {"tell"}


@pytest.mark.parametrize(("total", "way"), [(1001, "transfer"), (1000, "card")])
def test_04_exclusive_choice(total: int, way: str) -> None:
    """Exactly one way is taken."""
    assert Hand(4, {"total": total}).at(way).places == [way]


@pytest.mark.parametrize(("total", "way"), [(1001, "transfer"), (1000, "card")])
def test_05_simple_merge(total: int, way: str) -> None:
    """What comes after is done once, whichever way was taken."""
    assert Hand(5, {"total": total}).at(way, "tell").places == [way, "tell"]


# ---- advanced branching and synchronization


@pytest.mark.parametrize("chosen", list(product((False, True), repeat=2)))
def test_06_multi_choice(chosen: tuple[bool, bool]) -> None:
    """None, one or both of the branches begin, at the same time."""
    play = Hand(6, {"total": 2000 if chosen[0] else 1, "gift": chosen[1]}).at("pick")
    assert play.open == {name for name, is_so in zip(("boss", "wrap"), chosen, strict=True) if is_so}


@pytest.mark.parametrize(
    ("gift", "insured", "order"),
    [(False, False, ()), (True, False, ("paper", "wrap")), (False, True, ("insure",))]
    + [
        (True, True, order)
        for order in permutations(("paper", "wrap", "insure"))
        if order.index("paper") < order.index("wrap")
    ],
)
def test_07_structured_synchronizing_merge(gift: bool, insured: bool, order: tuple[str, ...]) -> None:
    """The merge waits for all that was chosen, in whatever order it comes, and for nothing else."""
    play = Hand(7, {"gift": gift, "insured": insured})
    for place in order:
        assert "ship" not in play.places
        play.at(place)
    assert play.open == {"ship"}
    assert play.places == [*play.places[:-1], "ship"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_08_multi_merge(order: tuple[int, ...]) -> None:
    """Each branch that arrives goes on at once, so what comes after is done as often as there are branches."""
    channels = ["letter", "phone", "letter"]
    play = Hand(8, {"channels": channels})
    assert play.open == {"threads.0/letter", "threads.1/phone", "threads.2/letter"}
    for number in order:
        play.at(f"threads.{number}/{channels[number]}")
        assert f"threads.{number}/book" in play.open
    assert play.at(*(f"threads.{number}/book" for number in order)).result == [None] * 3


@pytest.mark.parametrize("order", list(permutations(SUPPLIERS)))
def test_09_structured_discriminator(order: tuple[str, ...]) -> None:
    """The first lets it go on, the others are ignored; it is ready anew when all have come."""
    play = Hand(9)
    for day in range(2):
        assert play.open == {f"days.{day}/{name}" for name in SUPPLIERS}
        play.at(f"days.{day}/{order[0]}", f"days.{day}/first", f"days.{day}/{order[1]}")
        assert play.open == {f"days.{day}/{order[2]}"}
        play.at(f"days.{day}/{order[2]}")
    assert play.result is None
    assert sum(place.endswith("first") for place in play.places) == 2
    assert not play.dropped


@pytest.mark.parametrize("order", list(permutations(SUPPLIERS)))
def test_30_structured_partial_join(order: tuple[str, ...]) -> None:
    """The second of three lets it go on; the third is neither waited for nor given up."""
    play = Hand(30).at(order[0])
    assert "two" not in play.places
    play.at(order[1])
    assert play.open == {order[2], "two"}
    play.at("two", order[2])
    assert play.result[:3] == ["completed"] * 3
    assert play.places.count("two") == 1


@pytest.mark.parametrize("order", list(permutations(("smoke", "heat"))))
def test_28_blocking_discriminator(order: tuple[str, str]) -> None:
    """The first signal raises the alarm; nothing is taken for the next one before both have come."""
    play = Hand(28).at(f"alarms.0/{order[0]}", "alarms.0/alarm")
    assert play.open == {f"alarms.0/{order[1]}"}
    play.at(f"alarms.0/{order[1]}")
    assert play.open == {"alarms.1/smoke", "alarms.1/heat"}
    assert not any(ask.what.fresh for ask in play.asked if isinstance(ask.what, WaitSignal))


@pytest.mark.parametrize(("winner", "loser"), list(permutations(("small", "large"))))
@pytest.mark.parametrize("is_far", [False, True])
def test_29_cancelling_discriminator(winner: str, loser: str, *, is_far: bool) -> None:
    """The first branch that is through wins; the other is given up at whichever of its steps it is."""
    play = Hand(29).at(*([f"{loser}_draft"] if is_far else []), f"{winner}_draft", f"{winner}_check")
    assert play.open == {"tell"}
    assert play.dropped == [f"{loser}_check/" if is_far else f"{loser}_draft/"]


@pytest.mark.parametrize("order", list(permutations(("smoke", "heat", "gas"))))
def test_31_blocking_partial_join(order: tuple[str, ...]) -> None:
    """The second signal raises the alarm; nothing is taken for the next one before all three have come."""
    play = Hand(31).at(*(f"alarms.0/{name}" for name in order[:2]))
    assert play.open == {"alarms.0/alarm", f"alarms.0/{order[2]}"}
    play.at("alarms.0/alarm", f"alarms.0/{order[2]}")
    assert play.open == {f"alarms.1/{name}" for name in order}


@pytest.mark.parametrize("order", list(permutations(SUPPLIERS)))
def test_32_cancelling_partial_join(order: tuple[str, ...]) -> None:
    """Two branches that are through are enough; the third is given up."""
    last = {"north": "north", "south": "south", "east": "customs"}
    play = Hand(32).at("east")
    play.at(*(last[name] for name in order[:2]))
    assert play.open == {"tell"}
    assert play.dropped == [f"{last[order[2]]}/"]


@pytest.mark.parametrize("order", list(permutations(("left", "right"))))
def test_33_generalized_and_join(order: tuple[str, str]) -> None:
    """One of each is needed each time; signals that came too often are kept for the next round."""
    play = Hand(33)
    for number in range(2):
        play.at(f"pairs.{number}/{order[0]}")
        assert play.open == {f"pairs.{number}/{order[1]}"}
        play.at(f"pairs.{number}/{order[1]}", f"pairs.{number}/sell")
    assert play.result == "done"
    assert not any(ask.what.fresh for ask in play.asked if isinstance(ask.what, WaitSignal))


@pytest.mark.parametrize(("gift", "abroad"), list(product((False, True), repeat=2)))
def test_37_local_synchronizing_merge(*, gift: bool, abroad: bool) -> None:
    """Each merge waits for what was chosen of its own branches, in whatever order they come."""
    chosen = [name for name, is_so in (("wrap", gift), ("customs", abroad)) if is_so]
    for order in permutations(chosen):
        play = Hand(37, {"gift": gift, "abroad": abroad}).at("pick")
        for number, name in enumerate(order):
            assert play.open >= set(order[number:])
            assert "label" not in play.places
            play.at(name)
        assert play.open == {"label", "duty"} if abroad else {"label"}
        for name in sorted(play.open):
            assert "ship" not in play.places
            play.at(name)
        assert play.open == {"ship"}


@pytest.mark.parametrize("rounds", [0, 1, 3])
@pytest.mark.parametrize("pictures", [False, True])
def test_38_general_synchronizing_merge(rounds: int, *, pictures: bool) -> None:
    """It goes on when nothing can arrive any more, however often a branch goes round."""
    play = Hand(38, {"pictures": pictures})
    for _ in range(rounds):
        play.say(write=None, editor="rewrite")
    play.at("write")
    if pictures:
        play.at("draw")
    assert "print" not in play.places
    play.say(editor="good")
    assert play.open == {"print"}
    late = Hand(38, {"pictures": True}).say(write=None, editor="good")
    assert late.open == {"draw"}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_41_thread_merge(order: tuple[int, ...]) -> None:
    """Four threads of one branch become one, when the last has come."""
    play = Hand(41)
    for number in order:
        assert "tell" not in play.places
        play.at(f"wheels.{number}/pick", f"wheels.{number}/check")
    assert play.open == {"tell"}


def test_42_thread_split() -> None:
    """One thread becomes as many as there are wheels, and each goes on by itself."""
    play = Hand(42, {"wheels": [1, 2, 3]})
    assert play.open == {"pay"}
    play.at("pay", "wheels.1/pick")
    assert play.open == {"wheels.0/pick", "wheels.1/check", "wheels.2/pick"}


# ---- iteration and ends


@pytest.mark.parametrize(
    ("said", "places"),
    [
        (["good", "good"], "write editor lawyer publish"),
        (["rewrite", "good", "good"], "write editor write editor lawyer publish"),
        (["good", "edit", "good", "good"], "write editor lawyer editor lawyer publish"),
        (["good", "rewrite", "good", "good"], "write editor lawyer write editor lawyer publish"),
        (
            ["good", "edit", "rewrite", "good", "rewrite", "rewrite", "good", "good"],
            "write editor lawyer editor write editor lawyer write editor write editor lawyer publish",
        ),
    ],
)
def test_10_arbitrary_cycles(said: list[str], places: str) -> None:
    """Cycles that overlap, with two ways in and two ways out, are gone round in any order."""
    answers = iter(said)
    play = Hand(10, pick=lambda item: item, notify=lambda who: who, review=lambda by: next(answers))
    assert play.result == "readers"
    assert play.places == places.split()


@pytest.mark.parametrize("order", list(permutations(("carrier", "customer", "pay"))))
def test_11_implicit_termination(order: tuple[str, ...]) -> None:
    """It is over when the last of the loose ends is through, and not before."""
    play = Hand(11).at("pick")
    for place in order:
        assert play.end is None
        play.at(place)
    assert play.result == ["completed"] * 3


@pytest.mark.parametrize("n", [0, 1, 3])
def test_21_structured_loop(n: int) -> None:
    """A loop that tests after each round, and one that tests before the first as well."""
    answers = iter(["bad", "good"])
    play = Hand(21, {"n": n}, review=lambda by: next(answers), pick=lambda item: item)
    assert play.result == {"rounds": 2, "picked": n or None}
    assert [place for place in play.places if place.startswith("while")] == [f"while.{each}/pick" for each in range(n)]


def test_22_recursion() -> None:
    """It runs itself with a smaller input, down to one that needs no more."""

    def run(n: int) -> Any:
        play = Hand(22, {"n": n})
        assert play.places == ([] if n == 1 else ["rest"])
        for ask in tuple(play.pending):
            assert isinstance(ask.what, Call)
            assert (ask.what.kind, ask.what.run) == ("job", "recursion")
            play.answer(ask.place, run(**ask.what.input))
        return play.result

    assert run(4) == {"sum": 10}


def test_43_explicit_termination() -> None:
    """What still runs is given up when the end is reached, and what waits never begins."""
    play = Hand(43).say(north=70)
    assert play.result == {"price": 70}
    assert (play.dropped, play.open) == (["late/"], set())
    dear = Hand(43).say(north=200)
    assert dear.end is None
    dear.say(late=1, tell=None)
    assert dear.end is not None


# ---- multiple instances


@pytest.mark.parametrize("order", list(permutations(("tell.0/one", "tell.1/one", "pay"))))
def test_12_instances_without_synchronization(order: tuple[str, ...]) -> None:
    """The instances run beside what comes next, which neither waits for them nor is waited for by them."""
    play = Hand(12, {"subscribers": ["ann", "bob"]}).at("pick")
    assert play.open == set(order)
    assert play.at(*order).result is None


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_13_instances_known_at_design_time(order: tuple[int, ...]) -> None:
    """Three instances at the same time; the last of them lets it go on."""
    play = Hand(13)
    assert play.open == {f"reviews.{number}/one" for number in range(3)}
    for number in order:
        assert "tell" not in play.places
        play.at(f"reviews.{number}/one")
    assert play.open == {"tell"}


@pytest.mark.parametrize("n", range(4))
def test_14_instances_known_at_run_time(n: int) -> None:
    """As many instances as the input has lines; all are waited for."""
    play = Hand(14, {"lines": [f"line {number}" for number in range(n)]})
    for number in reversed(range(n)):
        assert "tell" not in play.places
        play.at(f"lines.{number}/pick")
    assert play.open == {"tell"}


def test_15_instances_not_known_beforehand() -> None:
    """Instances are added while others run, and all of them are waited for."""
    play = Hand(15, {"page": "home"}).answer("pages.0/visit/", ["a", "b"]).answer("pages.2/visit/", ["c"])
    assert play.open == {"pages.1/visit", "pages.3/visit"}
    play.answer("pages.3/visit/", [])
    assert "tell" not in play.places
    assert play.answer("pages.1/visit/", []).at("tell").result == ["home", "a", "b", "c"]


REVIEWERS = {"reviewers": list(SUPPLIERS)}
ASKED = {"suppliers": list(SUPPLIERS)}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_34_static_partial_join_for_instances(order: tuple[int, ...]) -> None:
    """The second instance lets it go on; the third goes on too, and what it gives changes nothing."""
    play = Hand(34, REVIEWERS).at(f"votes.{order[0]}/vote")
    assert "tell" not in play.places
    play.at(f"votes.{order[1]}/vote")
    assert play.open == {f"votes.{order[2]}/vote", "tell"}
    assert play.at("tell", f"votes.{order[2]}/vote").result == 2
    assert not play.dropped


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_35_cancelling_partial_join_for_instances(order: tuple[int, ...]) -> None:
    """The second instance lets it go on, and the third is given up."""
    play = Hand(35, ASKED).at(*(f"asked.{number}/ask" for number in order[:2]))
    assert play.open == {"tell"}
    assert play.dropped == [f"asked.{order[2]}/ask/"]
    assert play.at("tell").result == [SUPPLIERS[number] for number in sorted(order[:2])]


def test_36_dynamic_partial_join_for_instances() -> None:
    """After each instance it is decided whether that is enough, with those that were added while it ran."""
    good = Hand(36, {**ASKED, "good": 50}).answer("bids.1/ask/", 90).answer("bids.2/ask/", 40)
    assert good.open == {"tell"}
    assert good.dropped == ["joins/", "bids.0/ask/"]
    many = Hand(36, {**ASKED, "good": 50}).answer("joins/", "west").answer("bids.3/ask/", 90).answer("bids.1/ask/", 90)
    assert many.open == {"bids.0/ask", "bids.2/ask"}  # two of four; of three it would have been most
    assert many.answer("bids.0/ask/", 80).at("tell").result == [80, 90, 90]
    few = Hand(36, {**ASKED, "good": 50}).answer("bids.0/ask/", 80).answer("bids.1/ask/", 90)
    assert few.open == {"tell"}


# ---- state


@pytest.mark.parametrize(("event", "then"), [("accepts", "pay"), ("declines", "sorry"), ("hour", "remind")])
def test_16_deferred_choice(event: str, then: str) -> None:
    """What happens first decides, and the other offers are withdrawn at that moment."""
    play = Hand(16)
    offers = {"accepts", "declines", "hour"}
    assert play.open == offers
    play.at(event)
    assert play.open == {then}
    assert set(play.dropped) == {f"{other}/" for other in offers - {event}}


def test_17_interleaved_parallel_routing() -> None:
    """One examination at a time, each once, and none before what it needs."""
    play, seen = Hand(17), list[str]()
    while play.end is None:
        assert len(play.open) == 1
        (place,) = play.open
        seen.append(place)
        play.at(place)
    assert sorted(seen) == ["blood", "eyes", "scan", "tell"]
    assert seen.index("blood") < seen.index("scan")


def test_40_interleaved_routing() -> None:
    """One examination at a time, each once."""
    play, seen = Hand(40), list[str]()
    while play.end is None:
        assert len(play.open) == 1
        (place,) = play.open
        seen.append(place)
        play.at(place)
    assert (sorted(seen[:3]), seen[3]) == (["blood", "eyes", "scan"], "tell")


def test_39_critical_section() -> None:
    """What has begun is through before the other begins."""
    play, seen = Hand(39), list[str]()
    while play.end is None:
        assert len(play.open) == 1
        (place,) = play.open
        seen.append(place)
        play.at(place)
    assert seen in (["bills", "coins", "fetch", "put"], ["fetch", "put", "bills", "coins"])


def test_18_milestone() -> None:
    """A change can be asked for while the order is paid and not packed; what was begun by then is finished."""
    play = Hand(18)
    assert play.open == {"paid"}
    play.at("paid")
    assert play.open == {"change", "packed"}
    play.at("change", "packed")
    assert play.open == {"apply", "ship"}
    assert play.at("apply", "ship").result == "completed"
    late = Hand(18).at("paid", "packed")
    assert (late.open, late.dropped) == ({"ship"}, ["change/"])
    assert late.at("ship").result == "skipped"


def _waits(number: int) -> dict[str, bool]:
    """The signals that a document waits for once the shop is open, and whether they have to be fresh."""
    play = Hand(number).at("opens")
    return {ask.what.signal: ask.what.fresh for ask in play.pending if isinstance(ask.what, WaitSignal)}


def test_23_transient_trigger() -> None:
    """Only what comes while somebody waits counts (that it does is shown on a server)."""
    assert _waits(23) == {"ring": True}


def test_24_persistent_trigger() -> None:
    """What came before counts too (that it does is shown on a server)."""
    assert _waits(24) == {"letter": False}


# ---- to cancel


def test_19_cancel_task() -> None:
    """The step is withdrawn, what needs it goes on, and what runs beside it is not touched."""
    play = Hand(19).at("found")
    assert play.dropped == ["search/"]
    assert play.open == {"pay", "tell"}
    assert play.at("pay", "tell").result == ["cancelled", "completed", "completed"]
    assert Hand(19).at("search", "tell", "pay").result == ["completed"] * 3


@pytest.mark.parametrize("done", [(), ("pay",), ("pay", "go")])
def test_20_cancel_case(done: tuple[str, ...]) -> None:
    """Wherever it is, nothing goes on, and what was done is undone."""
    play = Hand(20).at(*done).cancel()
    if not done:
        assert play.end is None  # the payment is out, and may come to pass
        play.at("pay")
    assert play.open == {"pay/undo"}
    play.answer("pay/undo/")
    assert isinstance(play.end, Withdrawn)
    assert "search/" in play.dropped


@pytest.mark.parametrize(("done", "left"), [((), "search"), (("search",), "compare"), (("ask.0/one",), "search")])
def test_25_cancel_region(done: tuple[str, ...], left: str) -> None:
    """All steps of the region are withdrawn wherever they are, and nothing beside them."""
    play = Hand(25).at(*done)
    out = play.open - {"pay", "content"}
    assert left in out
    play.at("content")
    assert set(play.dropped) == {f"{place}/" for place in out}
    assert play.open == {"pay"}
    statuses = ["completed" if name in done else "cancelled" for name in ("search", "compare", "ask")]
    assert play.at("pay", "tell").result == [*statuses, "completed"]


@pytest.mark.parametrize("done", [(), (1,), (2, 0)])
def test_26_cancel_instances(done: tuple[int, ...]) -> None:
    """Instances that are not through are withdrawn, those that are stay, and it goes on."""
    play = Hand(26, ASKED).at(*(f"ask.{number}/one" for number in done), "withdrawn")
    assert set(play.dropped) == {f"ask.{number}/one/" for number in range(3) if number not in done}
    assert play.at("tell").result == ["cancelled", "completed"]


@pytest.mark.parametrize("done", [(), (1,), (2, 0)])
def test_27_complete_instances(done: tuple[int, ...]) -> None:
    """Instances that are not through are withdrawn, and it goes on with what the others gave."""
    play = Hand(27, ASKED)
    for number in done:
        play.answer(f"ask.{number}/one/", number)
    play.at("enough")
    assert set(play.dropped) == {f"ask.{number}/one/" for number in range(3) if number not in done}
    assert play.at("tell").result == sorted(done)
