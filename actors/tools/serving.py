"""One call while a tool actor serves it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from actors.tools.invocation import Invocation
from bus.mailbox import Delivery
from bus.messages import CallTool


@dataclass
class Serving:
    """One call being served. ``suspect``: the process that served it before has died.

    ``known_s``: up to when (monotonic seconds) it is known that nobody has answered it.
    """

    workspace: str
    event: CallTool
    delivery: Delivery
    task: asyncio.Task[None] | None = None
    attempt: int = 1
    suspect: bool = False
    cancelled: bool = False
    invocation: Invocation | None = None
    started_s: float = field(default_factory=time.monotonic)
    known_s: float = field(default_factory=time.monotonic)

    @property
    def duration_s(self) -> float:
        """Since this attempt began, to the microsecond."""
        return round(time.monotonic() - self.started_s, 6)

    def cancel(self) -> None:
        """The job was cancelled: ask the function to stop, and do not begin if it has not begun."""
        self.cancelled = True
        if self.invocation:
            self.invocation.cancel()
