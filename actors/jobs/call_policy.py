"""How a job wants its calls made, as far as it says so: what is None is left to the tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bus.errors import UsageError
from supervisor.breaker import ON_OPEN, OnOpen
from supervisor.retry import Retry

if TYPE_CHECKING:
    from actors.operations.hosting import Target


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """``timeout_s`` bounds one attempt; ``on_open`` is what to do while the tool's circuit is open.

    Raises: UsageError if ``on_open`` is no word of its kind.
    """

    retry: Retry | None = None
    timeout_s: float | None = None
    on_open: OnOpen | None = None

    def __post_init__(self) -> None:
        if self.on_open is not None and self.on_open not in ON_OPEN:
            raise UsageError(
                f"on_open cannot be {self.on_open!r}", code="bad_option", path="on_open", hint=" or ".join(ON_OPEN)
            )

    def but(self, other: CallPolicy) -> CallPolicy:
        """This policy, and what ``other`` says instead."""
        return CallPolicy(
            other.retry or self.retry, other.timeout_s or self.timeout_s, other.on_open or self.on_open
        )  # fmt: skip

    def waits_for(self, target: Target) -> bool:
        """Whether a call of ``target`` is given out even while its circuit is open."""
        wish = self.on_open or (target.breaker.on_open if target.breaker else "wait")
        return wish == "wait" or target.kind != "tool"
