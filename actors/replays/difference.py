"""What a replay finds: where the present code departs from the history first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["new", "operation", "input", "unasked", "end", "stuck"]
_WORDS: dict[Kind, str] = {
    "new": "asks for something that is not in the history",
    "operation": "asks for another operation",
    "input": "calls with another input",
    "unasked": "does not ask for something that is in the history",
    "end": "ends differently",
    "stuck": "waits for something that is not in the history",
}


@dataclass(frozen=True)
class Difference:
    """Where the present code departs from the history: ``call`` is the operation's key, empty for the job's end."""

    kind: Kind
    call: str
    recorded: str
    present: str

    def __str__(self) -> str:
        where = f"at {self.call}, " if self.call else ""
        return f"{where}the job {_WORDS[self.kind]}: recorded is {self.recorded}, present is {self.present}"


class ReplayDiffers(AssertionError):
    """The present code does not do what the history says."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


@dataclass(frozen=True)
class ReplayResult:
    """``difference`` is the first one, None if the code fits; ``asked``: the operations' keys, as they came."""

    difference: Difference | None
    asked: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the code does what the history says."""
        return self.difference is None

    def check(self) -> None:
        """Raises: ReplayDiffers."""
        if self.difference is not None:
            raise ReplayDiffers(self.difference)
