"""What a tool may know about the call that it serves, and how it reports on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


class CallCancelled(Exception):
    """Raised by ``ctx.check_cancelled()``: the call's result is wanted no longer."""


@dataclass
class ToolContext:
    """First parameter of a tool that asks for it (``async def quote(ctx: ToolContext, sku: str)``).

    ``idempotency_key`` is the same for every attempt at this call and for no other call: hand it to whatever must not
    happen twice. ``attempt`` counts from 1.
    """

    workspace: str
    job: str
    call: str
    attempt: int = 1
    traceparent: str = ""
    _report: Callable[[float, float | None, str], None] | None = field(default=None, repr=False)
    _cancelled: bool = field(default=False, repr=False)

    @property
    def idempotency_key(self) -> str:
        """``<job>/<call>``."""
        return f"{self.job}/{self.call}"

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled or the time is up; sync tools look here now and then."""
        return self._cancelled

    def check_cancelled(self) -> None:
        """Raises: CallCancelled if the result is wanted no longer."""
        if self._cancelled:
            raise CallCancelled(f"call {self.call} of job {self.job} was cancelled")

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the call is, in units of its own. Cheap: at most two reports a second are recorded.

        May be called from the tool's thread.
        """
        if self._report:
            self._report(done, total, note)

    def cancel(self) -> None:
        """Called by the tool actor."""
        self._cancelled = True
