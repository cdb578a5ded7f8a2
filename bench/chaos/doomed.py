"""A job host in a process of its own that dies at one event of one job: forked (``bench.chaos.forking``)."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from actors.components.registry import Registry
from actors.hosts.host import JobHost
from actors.operations.hosting import Hosting
from actors.operations.operation_core import OperationCore
from bench.chaos.pieces import app_of, names_of
from bus import crash
from bus.connection import Bus
from bus.leases import LeaseBook
from bus.mailbox import hand_back_inherited
from bus.objects import Blobs
from bus.options import ConnectOptions
from store.log import JobLog, Recorded

Side = Literal["before", "after", "hearing", "named"]
PARK_AFTER_S = 0.25
# A host that is killed is followed by one that hands its jobs back at once: this is for what that does not reach.
LEASE_S = 4.0


class Doom(msgspec.Struct, frozen=True):
    """Where a host dies: before or after its own append of an event, or when it hears one of others.

    ``call`` is the key of an operation, empty for events that have none. ``named`` is a crash point of the code, by the
    name in ``kind``. ``hit``: the how manieth time.
    """

    side: Side
    kind: str
    call: str = ""
    hit: int = 1

    def __str__(self) -> str:
        return f"{self.side} {self.kind} {self.call}".rstrip() + (f" ({self.hit})" if self.hit > 1 else "")


class Cast(msgspec.Struct, frozen=True):
    """What a host runs: a piece, under the names of one run. ``book``: where it notes what it holds."""

    url: str
    piece: str
    number: str
    book: str
    doom: Doom | None = None
    job: str = ""


def be_host(cast: Cast) -> None:
    """Run it, until it dies."""
    logging.basicConfig(level=os.environ.get("CALLBOARD_LOG", "ERROR"))
    if cast.doom is not None:
        _arm(_own(cast.doom, cast.number), cast.job, Path(f"{cast.book}.died"))
    asyncio.run(_host(cast))


async def _host(cast: Cast) -> None:
    app = app_of(cast.piece, cast.number)
    bus = await Bus.connect(ConnectOptions(servers=[cast.url]), name="doomed")
    leases = LeaseBook(Path(cast.book))
    await hand_back_inherited(bus, leases)
    hosting = Hosting(bus, Blobs(bus), app, Registry(bus), host=f"doomed/{os.getpid()}", park_after_s=PARK_AFTER_S)
    await JobHost(hosting, names_of(app), leases=leases, lease_s=LEASE_S).start()
    await bus.closed.wait()


def _own(doom: Doom, number: str) -> Doom:
    kind, call = (text.replace("-NUMBER", f"-{number}") for text in (doom.kind, doom.call))
    return msgspec.structs.replace(doom, kind=kind, call=call)


def _arm(doom: Doom, job: str, marker: Path) -> None:
    if doom.side == "named":
        crash.arm(f"{doom.kind}:{doom.hit}:{marker}")
    elif doom.side == "hearing":
        OperationCore.hear = _hearing(OperationCore.hear, _Fate(doom, job))  # type: ignore[method-assign]
    else:
        fate = _Fate(doom, job)
        for name in ("append", "create", "create_late", "claim"):
            setattr(JobLog, name, _appending(getattr(JobLog, name), fate))


class _Fate:
    """Counts the times that its event comes by."""

    def __init__(self, doom: Doom, job: str) -> None:
        self.doom = doom
        self._job = job
        self._left = doom.hit

    def strikes(self, event: Any) -> bool:
        """Whether this is the event."""
        if (event.job, event.kind, getattr(event, "call", "")) != (self._job, self.doom.kind, self.doom.call):
            return False
        self._left -= 1
        return self._left == 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _appending(append: Callable[..., Awaitable[Any]], fate: _Fate) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(append)
    async def doomed(self: JobLog, event: Any, *more: Any) -> Any:
        strikes = fate.strikes(event)
        if strikes and fate.doom.side == "before":
            _die()
        answer = await append(self, event, *more)
        if strikes:
            _die()
        return answer

    return doomed


def _hearing(hear: Callable[..., None], fate: _Fate) -> Callable[..., None]:
    seen: set[int] = set()

    @functools.wraps(hear)
    def doomed(self: OperationCore, recorded: Recorded) -> None:
        if recorded.sequence not in seen:
            seen.add(recorded.sequence)
            if fate.strikes(recorded.event):
                _die()
        hear(self, recorded)

    return doomed
