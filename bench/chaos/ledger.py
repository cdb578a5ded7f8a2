"""What the tools really did, written outside of the system: one line as a call begins, one as it ends.

A line is one atomic append of a process that may be killed at any instant, so a run without an end is a run that its
process did not survive, or that goes on.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from actors import ToolContext

LEDGER_VARIABLE = "CALLBOARD_CHAOS_LEDGER"

Outcome = Literal["none", "returned", "raised", "died"]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line; an end names its beginning by ``run`` alone. ``at_s`` in seconds since the epoch."""

    run: str
    at_s: float
    outcome: Outcome = "none"
    job: str = ""
    call: str = ""
    attempt: int = 0
    pid: int = 0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a call. ``ended_s`` is None, and the outcome ``none``, if it left no word of its end."""

    job: str
    call: str
    attempt: int
    pid: int
    begun_s: float
    ended_s: float | None = None
    outcome: Outcome = "none"


class Entry:
    """The ledger's view of a call that runs."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(6)

    def begin(self, ctx: ToolContext) -> None:
        """The call begins."""
        _append(Line(self._run, time.time(), job=ctx.job, call=ctx.call, attempt=ctx.attempt, pid=os.getpid()))

    def end(self, outcome: Outcome) -> None:
        """It has ended so."""
        _append(Line(self._run, time.time(), outcome))


@contextlib.contextmanager
def entered(ctx: ToolContext) -> Iterator[Entry]:
    """Note the beginning and the end of what is done inside."""
    entry = Entry()
    entry.begin(ctx)
    try:
        yield entry
    except BaseException:
        entry.end("raised")
        raise
    entry.end("returned")


def _append(line: Line) -> None:
    fd = os.open(os.environ[LEDGER_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, msgspec.json.encode(line) + b"\n")
    os.close(fd)


def read_ledger(path: Path) -> list[Run]:
    """Every run, in the order of their beginnings."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return fold_lines([msgspec.json.decode(line, type=Line) for line in lines])


def fold_lines(lines: list[Line]) -> list[Run]:
    """Pure: beginnings and ends put together."""
    runs: dict[str, Run] = {}
    for line in lines:
        if line.outcome == "none":
            runs[line.run] = Run(job=line.job, call=line.call, attempt=line.attempt, pid=line.pid, begun_s=line.at_s)
        elif begun := runs.get(line.run):
            runs[line.run] = msgspec.structs.replace(begun, ended_s=line.at_s, outcome=line.outcome)
    return sorted(runs.values(), key=lambda run: run.begun_s)
