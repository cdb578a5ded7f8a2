"""The floor's submitter: publishes requests and learns of their ends by one subscription."""

from __future__ import annotations

import asyncio
from itertools import count
from uuid import uuid4

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.floor import contract
from bench.floor.appender import Appender, appender


class Submitter:
    """One connection; any number of jobs at a time."""

    def __init__(self, nc: Client, log: Appender) -> None:
        self._nc, self._log = nc, log
        self._ends: dict[str, asyncio.Future[contract.Quote]] = {}
        self._series, self._numbers = uuid4().hex[:12], count()

    @classmethod
    async def connect(cls, url: str, style: str) -> Submitter:
        nc = await nats.connect(url, skip_subject_validation=style == "tuned")
        self = cls(nc, await appender(nc, style))
        await nc.subscribe(contract.ENDS, cb=self._heard)
        await nc.flush()
        return self

    async def run_job(self, qty: int, steps: int) -> int:
        """Publish a request, wait for its end, return the total."""
        job = f"{self._series}-{next(self._numbers)}"
        end: asyncio.Future[contract.Quote] = asyncio.get_running_loop().create_future()
        self._ends[job] = end
        body = contract.encode(contract.Order("A1", qty, steps))
        await (await self._log.send(contract.REQUEST, body, {contract.JOB_ID_HEADER: job}))
        return (await end).total

    async def close(self) -> None:
        await self._nc.close()

    async def _heard(self, msg: Msg) -> None:
        completed = contract.decode_completed(msg.data)
        end = self._ends.pop(completed.job, None)
        if end is not None:
            end.set_result(completed.output)
