"""``python -m bench.chaos.matrix``: the host of a workflow is killed between any two events of its log.

Each piece is played once without a crash: that log says where its host can die. Then one run for each place, several at
a time; another host takes over, and what came of it is judged by the log, the tools' own record and a replay. The
pieces: a workflow that uses every kind of step; one that is cancelled and undoes what it did, and a function that does;
and, without a crash, words to a workflow (cancel, terminate, pause) at each of its events.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.chaos.errand import NEVER, Word, errand, outing
from bench.chaos.everything import EVERYTHING
from bench.chaos.house import House, house
from bench.chaos.rehearsal import Piece, Run, dooms, named_dooms, rehearse
from bus.embedded import EmbeddedServer

Tell = Callable[[Run], None]


@dataclass(frozen=True)
class Pace:
    """Only every ``step``-th place; ``at_once`` runs at a time, each told to ``tell`` once it is over."""

    step: int = 1
    at_once: int = 6
    tell: Tell | None = None


async def crash_everywhere(at: House, pace: Pace) -> list[Run]:
    """The piece that uses every step."""
    plain = await _plainly(at, EVERYTHING, "0", pace)
    places = [] if plain.wrong else [*dooms(plain), *named_dooms()]
    runs = [Run(EVERYTHING, str(number), doom) for number, doom in enumerate(places[:: pace.step], 1)]
    return [plain, *await _rehearse(at, runs, pace)]


async def crash_while_undoing(at: House, pace: Pace) -> list[Run]:
    """From the moment at which something begins to be undone, in a document and in a function."""
    found, runs = [], []
    for name, piece, first in (
        ("u", errand("cancel", NEVER), "signal.cancel"),
        ("f", outing(cancelled=False), "call.tool.undo.v1"),
        ("c", outing(cancelled=True), "signal.cancel"),
    ):
        plain = await _plainly(at, piece, name, pace)
        found.append(plain)
        begins = next((r.sequence for r in plain.log if r.event.kind == first), 0)
        places = [] if plain.wrong else dooms(plain, since=begins - 1)
        runs += [Run(piece, f"{name}{number}", doom) for number, doom in enumerate(places[:: pace.step])]
    return [*found, *await _rehearse(at, runs, pace)]


async def say_words(at: House, pace: Pace) -> list[Run]:
    """A word at any event, up to the last ones."""
    plain = await _plainly(at, errand("", NEVER), "w", pace)
    words: tuple[Word, ...] = ("cancel", "terminate", "pause")
    moments = [(word, event) for word in words for event in range(2, len(plain.log))]
    runs = [Run(errand(word, event), f"{word}{event}") for word, event in moments[:: pace.step]]
    return [plain, *await _rehearse(at, runs, pace)]


async def _plainly(at: House, piece: Piece, number: str, pace: Pace) -> Run:
    plain = Run(piece, number)
    await _rehearse(at, [plain], pace)
    return plain


async def _rehearse(at: House, runs: list[Run], pace: Pace) -> list[Run]:
    await rehearse(at, runs, at_once=pace.at_once, tell=pace.tell)
    return runs


PARTS = {"steps": crash_everywhere, "undoing": crash_while_undoing, "words": say_words}


async def _all(options: argparse.Namespace) -> list[Run]:
    pace = Pace(options.step, options.at_once, _tell)
    async with await EmbeddedServer.start() as server, house(server.url) as at:
        return [run for part in options.parts or PARTS for run in await PARTS[part](at, pace)]


def _tell(run: Run) -> None:
    sys.stderr.write(f"{run}\n")


def main() -> int:
    """Run, print, and return 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos.matrix", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--step", type=int, default=1, help="only every so manieth place")
    parser.add_argument("--at-once", type=int, default=6, help="how many runs at a time")
    options = parser.parse_args()
    began_s = time.monotonic()
    runs = asyncio.run(_all(options))
    wrong = [run for run in runs if run.wrong]
    for run in wrong:
        sys.stdout.write(f"{run}\n")
    died = sum(run.died for run in runs)
    sys.stdout.write(f"{len(runs)} runs, {died} crashes, {len(wrong)} wrong, {time.monotonic() - began_s:.0f} s\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
