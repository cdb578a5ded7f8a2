"""What a tool may know about the call that it serves, and how it reports on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bus.failure import TerminalError
from bus.subjects import check_name
from store.artifact import Artifact, describe, keep
from supervisor.breaker import Breaker

if TYPE_CHECKING:
    from actors.breakers.breakers import Breakers
    from actors.breakers.dependency import Dependency
    from bus.objects import Blobs

_DEFAULT_BREAKER = Breaker()


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
    _breakers: Breakers | None = field(default=None, repr=False)
    _blobs: Blobs | None = field(default=None, repr=False)
    _timeout_s: float | None = field(default=None, repr=False)
    _began_s: float = field(default_factory=time.monotonic, repr=False)

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

    def dependency(self, name: str, breaker: Breaker = _DEFAULT_BREAKER) -> Dependency:
        """A circuit breaker around what this tool depends on, shared by every tool on every node that names it.

        ``with ctx.dependency("billing-api"):`` in a sync tool, ``async with`` in an async one. What the block raises
        counts as a failure of the dependency, but for TerminalError and wrong use. While the circuit is open the block
        is not entered. ``breaker`` says when it opens; each process goes by the policy that it names first.
        Outside of a tool actor (a plain call in a test, a direct call) every block is entered.

        Raises: CircuitOpen (a RetryableError); UsageError if the name cannot be part of a subject.
        """
        from actors.breakers.dependency import Dependency

        return Dependency(self._breakers, check_name(name, "dependency"), breaker, self._is_late)

    async def artifact(self, name: str, data: bytes, media_type: str = "") -> Artifact:
        """Keep a file; return the reference as (a part of) the output, so that it can be found and opened.

        ``callboard artifacts JOB`` lists them. Outside of a tool actor nothing is stored.
        Raises: UsageError for a name with a path in it or content over 256 MiB; BusError if it cannot be stored.
        """
        if self._blobs is None:
            return describe(name, data, media_type)
        return await keep(self._blobs, name, data, media_type)

    async def content(self, artifact: Artifact) -> bytes:
        """The bytes of a file that this or another tool kept.

        Raises: TerminalError if they are not kept, as outside of a tool actor; BusError if they cannot be read.
        """
        from bus.objects import BlobMissing

        try:
            if self._blobs is not None:
                return await self._blobs.get(artifact.sha256)
        except BlobMissing:
            pass
        raise TerminalError(f"the content of artifact {artifact.name} is not kept", code="no_artifact")

    def _is_late(self) -> bool:
        return self._timeout_s is not None and time.monotonic() - self._began_s >= self._timeout_s

    def cancel(self) -> None:
        """Called by the tool actor."""
        self._cancelled = True
