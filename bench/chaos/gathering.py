"""Puts the evidence of a run together: the whole log, the ledger, what was heard, and what is left in the queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from bench.chaos.hearing import Hearing
from bench.chaos.history import History
from bench.chaos.injury import Injury
from bench.chaos.ledger import read_ledger
from bench.chaos.load import Load
from bench.chaos.verdict import Evidence
from bus.connection import Bus
from bus.errors import BusError
from bus.messages import decode
from bus.reader import Stored, scan
from bus.streams import EVENTS, JOBS, stream_info
from bus.subjects import parse_event
from bus.system_events import ActorExited

TOLD_S = 30.0
_LOOK_S = 0.1


class Gathering:
    """The log, job by job, as it is read."""

    def __init__(self, injuries: Sequence[Injury]) -> None:
        self.histories: dict[str, History] = {}
        self.subjects: dict[int, str] = {}
        self.injuries = list(injuries)

    @property
    def last(self) -> int:
        """The sequence that was read up to."""
        return max(self.subjects, default=0)

    async def read(self, bus: Bus) -> None:
        """All that is stored now; a replica that lags is asked again."""
        info = await stream_info(bus, EVENTS)
        assert info is not None
        while self.last < info["state"]["last_seq"]:
            async for page in scan(bus, EVENTS, "log.>", since=self.last):
                for stored in page:
                    self._take(stored)

    def _take(self, stored: Stored) -> None:
        self.subjects[stored.sequence] = stored.subject
        place = parse_event(stored.subject)
        if place.workspace == "default":
            self.histories.setdefault(place.job, History(place.job)).take(stored)
        elif place.kind == "actor.exited" and (death := _death(stored)):
            self.injuries.append(death)


def _death(stored: Stored) -> Injury | None:
    """An actor that ended, as its node's supervisor saw it."""
    event = decode(stored.body)
    if not isinstance(event, ActorExited) or event.pid is None:
        return None
    at_s = event.at.timestamp()
    return Injury(kind="end of a process", begun_s=at_s, ended_s=at_s, pids=(event.pid,), fatal=True, node=event.job)


async def gather(bus: Bus, load: Load, hearing: Hearing, injuries: Sequence[Injury], ledger: Path) -> Evidence:
    """Everything that the verdict asks for. Raises: BusError."""
    gathering = Gathering(injuries)
    await gathering.read(bus)
    last = gathering.last
    await _until_told(hearing, last)
    return Evidence(
        accepted=dict(load.accepted), histories=gathering.histories, runs=read_ledger(ledger),
        injuries=gathering.injuries, log=list(gathering.subjects), told=[s for s in hearing.told if s <= last],
        live=[(sequence, subject) for sequence, subject in hearing.live if sequence <= last],
        subjects=gathering.subjects, left=await requests_left(bus),
    )  # fmt: skip


async def _until_told(hearing: Hearing, last: int) -> None:
    """Until the tail has come so far; what it does not tell within ``TOLD_S`` it has missed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TOLD_S):
            while not hearing.told or hearing.told[-1] < last:  # noqa: ASYNC110 - a list has no event
                await asyncio.sleep(_LOOK_S)


async def requests_left(bus: Bus) -> list[str]:
    """What stands in the queue of jobs, in words."""
    try:
        info = await stream_info(bus, JOBS, subjects="jobs.>")
    except BusError as error:
        return [str(error)]
    counts = (info or {}).get("state", {}).get("subjects") or {}
    return [f"{count} requests on {subject}" for subject, count in counts.items()]
