"""The load: a steady rate of jobs, submitted as a user would who has nothing but a NATS client.

A request whose answer was lost is published again with the same ``Nats-Msg-Id``; a job counts as accepted from the
first answer on. From then on it must not be lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import msgspec

from actors.jobs.signals import make_signal, send_signal
from bench.chaos.orders import GIVEN, Order, make_order
from bus import headers as h
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, BusError, UsageError
from bus.objects import Blobs

log = logging.getLogger("chaos")

SIGNAL_WAIT_S = 60.0


class Load:
    """Submits orders over ``bus``. ``accepted``: each order that the server took, with the instant of its answer."""

    def __init__(self, bus: Bus, seed: int) -> None:
        self.accepted: dict[str, tuple[Order, float]] = {}
        self.resubmitted = 0
        self._bus = bus
        self._blobs = Blobs(bus)
        self._seed = seed
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: list[BaseException] = []

    async def run(self, seconds: float, jobs_per_s: float) -> None:
        """Submit for ``seconds``, whatever happens to the server meanwhile."""
        begun = time.monotonic()
        for number in self._numbers(begun, seconds, jobs_per_s):
            await asyncio.sleep(max(0.0, begun + number / jobs_per_s - time.monotonic()))
            self.submit(make_order(self._seed, number))

    @staticmethod
    def _numbers(begun: float, seconds: float, jobs_per_s: float) -> Iterator[int]:
        for number in range(int(seconds * jobs_per_s)):
            if time.monotonic() > begun + seconds:
                return
            yield number

    async def settle(self) -> None:
        """Wait until every request is accepted and every signal given. Raises what one of them raised."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._failed:
            raise ExceptionGroup("the load failed", [e for e in self._failed if isinstance(e, Exception)])

    def cancel(self) -> None:
        """Leave off."""
        for task in self._tasks:
            task.cancel()

    def submit(self, order: Order) -> None:
        """See this order through: until it is accepted, and until the signal that it waits for is given."""
        task = asyncio.create_task(self._see_through(order), name=order.job)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failed.append(error)

    async def _see_through(self, order: Order) -> None:
        await self._submit(order)
        self.accepted[order.job] = (order, time.time())
        if order.go_after_s is not None:
            await asyncio.sleep(order.go_after_s)
            await self._give(order)

    async def _submit(self, order: Order) -> None:
        subject, body = f"jobs.default.{order.kind}", msgspec.json.encode(order.body)
        headers = {h.JOB_ID: order.job, h.MSG_ID: order.job}
        while True:
            try:
                await self._bus.append(subject, body, headers=headers, timeout_s=2)
                return
            except (Ambiguous, NoResponder):
                self.resubmitted += 1
            await self._bus.settle()
            await asyncio.sleep(0.2)

    async def _give(self, order: Order) -> None:
        """The signal that the job waits for; given again if it is not known whether it was given, as people do."""
        signal, deadline = make_signal(order.job, "go", GIVEN), time.monotonic() + SIGNAL_WAIT_S
        while True:
            try:
                await send_signal(self._bus, self._blobs, "default", signal, wait_s=5)
                return
            except UsageError as error:
                if error.code == "job_ended":
                    return
                if time.monotonic() > deadline:
                    raise
            except BusError as error:
                log.info("signal to %s: %s; giving it again", order.job, error)
                await self._bus.settle()
