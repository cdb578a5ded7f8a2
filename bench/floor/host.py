"""The floor's job host: ``python -m bench.floor.host URL STYLE``."""

from __future__ import annotations

import asyncio
import os

from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.floor import contract, process, streams
from bench.floor.appender import Appender, appender
from bench.floor.intake import take_from


class Host:
    """Runs jobs, each as a task; replies reach them over one wildcard subscription."""

    def __init__(self, nc: Client, log: Appender) -> None:
        self._nc, self._log = nc, log
        self._name = f"floor-{os.getpid()}"
        self._awaited: dict[tuple[str, str], asyncio.Future[contract.Quote]] = {}

    async def heard(self, msg: Msg) -> None:
        """A reply is stored; the first one for a call counts."""
        reply = contract.decode_replied(msg.data)
        awaited = self._awaited.pop((reply.job, reply.call), None)
        if awaited is not None:
            awaited.set_result(reply.output)

    async def run(self, request: Msg) -> None:
        """One job, from its request to its end."""
        assert request.headers is not None
        job = request.headers[contract.JOB_ID_HEADER]
        order = contract.decode_order(request.data)
        log = contract.log_of(job)
        fence = contract.fenced_by(log, await self._own(job, log, order))
        total = 0
        for step in range(order.steps):
            piece = contract.Piece(order.sku, order.qty + step)
            total += (await self._call(job, log, f"quote:{step}", piece, fence)).total
        end = contract.Completed(job, contract.now(), contract.Quote(order.sku, total))
        await (await self._log.send(f"{log}.job.completed", contract.encode(end), fence))
        await request.ack()

    async def _own(self, job: str, log: str, order: contract.Order) -> int:
        """Write that the job is there and whose it is, both at once; returns the epoch."""
        submitted = contract.encode(contract.Submitted(job, contract.now(), "order", order))
        owned = contract.encode(contract.Owned(job, contract.now(), self._name))
        first = await self._log.send(f"{log}.job.submitted", submitted, contract.MUST_BE_FIRST)
        second = await self._log.send(f"{log}.job.owned", owned, contract.MUST_BE_FIRST)
        epoch = await second
        await first
        return epoch

    async def _call(
        self, job: str, log: str, call: str, piece: contract.Piece, fence: dict[str, str]
    ) -> contract.Quote:
        """Write a command and wait for its reply."""
        awaited: asyncio.Future[contract.Quote] = asyncio.get_running_loop().create_future()
        self._awaited[job, call] = awaited
        command = contract.encode(contract.Called(job, contract.now(), call, 1, piece))
        await (await self._log.send(f"{log}.{contract.CALL_KIND}", command, fence))
        return await awaited


async def serve(nc: Client, style: str) -> object:
    """Take requests for as long as the process lives."""
    host = Host(nc, await appender(nc, style))
    await nc.subscribe(contract.REPLIES, cb=host.heard)
    return await take_from(nc, streams.REQUESTS, host.run, style)


if __name__ == "__main__":
    process.main(serve)
