"""The place of one child, whichever process sits in it: its state, and what is remembered of those that sat there."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from supervisor.child import ChildSpec, ChildState, ChildStatus
from supervisor.heartbeat import AssetBeat
from supervisor.process import ChildProcess, Exit, OnLine

_ERROR_PREFIX = "error: "
_ERROR_LIMIT_CHARS = 500


@dataclass(eq=False)
class Seat:
    """``run`` changes with every start and stop; ``due`` is the restart that the child waits for.

    ``held``: someone has stopped it, and only a request starts it again. ``failure`` is how the process before the
    present one failed, ``complaint`` the last error that a process named on its standard error.
    """

    spec: ChildSpec
    state: ChildState = "stopped"
    process: ChildProcess | None = None
    run: int = 0
    restarts: int = 0
    streak: int = 0
    up_since: float | None = None
    started_at: datetime | None = None
    last_exit: str = ""
    failure: str = ""
    complaint: str = ""
    killed_for: str = ""
    doing: str = ""
    since: datetime | None = None
    sequence: int = 0
    busy: int = 0
    assets: tuple[AssetBeat, ...] = ()
    warnings: tuple[str, ...] = ()
    due: object = None
    held: bool = False

    def status(self) -> ChildStatus:
        """What ``ps`` shows."""
        return ChildStatus(
            name=self.spec.name, component=self.spec.component, group=self.spec.group, serves=self.spec.serves,
            state=self.state, pid=None if self.process is None else self.process.pid, restarts=self.restarts,
            started_at=self.started_at, last_exit=self.last_exit, doing=self.doing, since=self.since,
            sequence=self.sequence, busy=self.busy, assets=self.assets, warnings=self.warnings,
        )  # fmt: skip

    async def launch(self, on_line: OnLine) -> ChildProcess:
        """Start a process; it is not seated yet. Raises: whatever the system says."""
        self.complaint = ""
        return await ChildProcess.start(self.spec, self._listening(on_line), last_exit=self.failure)

    def _listening(self, on_line: OnLine) -> Callable[[str, str, str], None]:
        def listen(name: str, stream: str, text: str) -> None:
            if stream == "stderr" and text.startswith(_ERROR_PREFIX):
                self.complaint = text.removeprefix(_ERROR_PREFIX)[:_ERROR_LIMIT_CHARS]
            on_line(name, stream, text)

        return listen

    def take(self, process: ChildProcess, now: float) -> None:
        """A process runs here."""
        self.process, self.state = process, "running"
        self.up_since, self.started_at = now, datetime.now(UTC)

    def vacate(self, ended: Exit, *, expected: bool) -> Exit:
        """It has ended: how, with the reason if it was killed for one."""
        if self.killed_for and ended.code == -signal.SIGKILL:
            ended = Exit(ended.code, f"killed: {self.killed_for}")
        self.run += 1
        self.process, self.up_since, self.state = None, None, "stopped"
        self.last_exit, self.failure = ended.description, "" if expected else ended.description
        self.doing, self.since, self.sequence, self.busy, self.killed_for = "", None, 0, 0, ""
        self.assets, self.warnings = (), ()
        return ended

    def drain(self) -> None:
        """Ask its process to finish what it has begun and to end."""
        if self.process is not None and self.state == "running":
            self.state = "draining"
            self.process.signal(signal.SIGUSR1)
