"""The documents of the workflow patterns (``examples/patterns``), and how one is played in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.interpreter.asks import Ask, Lock, Unlock
from actors.interpreter.end import Finished
from actors.workflow.document import Document
from actors.workflow.source import read_source
from actors.workflow_rules.validation import check_source
from tests.play import NEVER, Play, Tool

FOLDER = Path(__file__).parent.parent / "examples" / "patterns"


def files() -> dict[int, Path]:
    """The documents, by the number of their pattern."""
    return {int(file.name[:2]): file for file in sorted(FOLDER.glob("*.yaml"))}


def pattern(number: int) -> Document:
    """One document; it has to be valid, but for components."""
    file = files()[number]
    made, findings = check_source(read_source(str(file), file.read_bytes(), None))
    assert made is not None
    assert not findings
    return made


class Hand(Play):
    """A play whose calls are answered by hand, but for the tools that are given. Locks are kept by one at a time."""

    def __init__(self, number: int, input_: Any = None, **tools: Tool) -> None:
        super().__init__(pattern(number), input_, tools)
        self.held: set[str] = set()
        self.start()

    def _value(self, ask: Ask) -> Any:
        match ask.what:
            case Lock(name) if name in self.held:
                return NEVER
            case Lock(name):
                self.held.add(name)
                return name
            case Unlock(key):
                self.held.remove(key)
                return None
        return super()._value(ask)

    @property
    def open(self) -> set[str]:
        """The places at which something is out just now, locks aside."""
        return {ask.place.rstrip("/") for ask in self.pending if not isinstance(ask.what, Lock)}

    @property
    def places(self) -> list[str]:
        """All places at which something was asked for, in order, locks aside."""
        return [ask.place.rstrip("/") for ask in self.asked if not isinstance(ask.what, Lock | Unlock)]

    @property
    def result(self) -> Any:
        """What it finished with."""
        assert isinstance(self.end, Finished), (self.end, self.open)
        return self.end.result

    def say(self, **answers: Any) -> Hand:
        """Answer what is open at these places of the top list, in this order."""
        for place, value in answers.items():
            self.answer(f"{place}/", value)
        return self

    def at(self, *places: str) -> Hand:
        """Answer what is open at these places, in this order, with nothing."""
        for place in places:
            self.answer(f"{place}/", None)
        return self
