"""Requests for jobs while the server is away: kept in the clients' outbox, delivered once when it is back.

The request goes to the queue itself, not to a gateway: nobody can check its input before, so what is wrong with it
shows as a rejection in the job's log. Its job id is made when it is kept, so it is one job however it is delivered.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Coroutine
from typing import Any, TypeVar

from actors.jobs.requests import JobRequest, check_request, headers_of
from bus import subjects
from bus.connection import Bus
from bus.courier import Courier
from bus.destination import Destination
from bus.errors import Ambiguous, BusClosed, BusRefused, BusUnreachable, StreamFull, UsageError
from bus.outbox import CLIENT, Held, Outbox, outbox_path
from store.artifacts import CLAIM_BYTES

T = TypeVar("T")

# A server that restarts is back within this time; who waits for it is told so much later at most.
AWAY_S = 2.0
# The connection stands, and no answer comes: a queue without a leader or without room, a server that hangs.
STUCK_S = 10.0
_LOOK_S = 0.05


def held_request(request: JobRequest, destination: Destination) -> Held:
    """The request as the outbox keeps it. Raises: UsageError, TooLarge."""
    check_request(request)
    is_big = len(request.input) > CLAIM_BYTES
    digest = hashlib.sha256(request.input).hexdigest() if is_big else ""
    return Held(
        event_id=f"request-{secrets.token_hex(8)}", owner=CLIENT, kind="request",
        about=f"{request.workspace}/{request.job}", headers=headers_of(request, digest),
        subject=subjects.job_request(request.workspace, request.workflow, request.priority),
        body=b"" if is_big else request.input, blob=request.input if is_big else None, destination=destination,
    )  # fmt: skip


async def hold_request(request: JobRequest, destination: Destination) -> None:
    """Keep a request on this machine's disk until ``destination`` takes it; when this returns it is there.

    Delivered by the next ``callboard submit``, by ``callboard outbox flush``, by a node on this machine that connects
    as the same user, or by a client that goes on running. Raises: UsageError, TooLarge, OutboxFull, OutboxError.
    """
    outbox = Outbox(outbox_path(os.environ))
    try:
        await outbox.put(held_request(request, destination), free=True)
    finally:
        await outbox.close(empty=True)


def check_offline_name(workflow: str) -> str:
    """A workflow's bare name. Raises: UsageError for what only a gateway can resolve."""
    if "@" in workflow or "." in workflow:
        hint = f"submit {workflow.partition('@')[0].rpartition('.')[2]!r}, or wait for the server"
        raise UsageError(f"{workflow!r} cannot be resolved while the server is away", code="bad_name", path="workflow",
                         hint=hint)  # fmt: skip
    return workflow


class OfflineSubmits:
    """A client's half of the outbox: whether the server is away, what it could not take, and its delivery later."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._courier: Courier | None = None
        self._away_at = -1

    async def attempt(self, submit: Coroutine[Any, Any, T]) -> T | None:
        """What ``submit`` returns; None when the server was away for too long, and it was given up.

        What it sent may arrive all the same: it has to name the job. Raises: what ``submit`` raises.
        """
        if not self._bus.is_online and self._away_at == self._bus.reconnects:
            submit.close()  # it was waited for already, and has not been back since
            return None
        task = asyncio.ensure_future(submit)
        try:
            await self._wait(task)
            if task.done():
                return self._outcome(task)
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # it ended in the last moment: no longer of interest
        self._away_at = self._bus.reconnects
        return None

    async def _wait(self, task: asyncio.Future[Any]) -> None:
        loop = asyncio.get_running_loop()
        began_s = online_at_s = loop.time()
        while not task.done():
            if self._bus.is_online:
                online_at_s = loop.time()
            if loop.time() - online_at_s >= AWAY_S or loop.time() - began_s >= STUCK_S:
                return
            await asyncio.wait({task}, timeout=_LOOK_S)

    def _outcome(self, task: asyncio.Future[T]) -> T | None:
        match task.exception():
            case None:
                return task.result()
            case Ambiguous() | StreamFull():
                return None
            case BusUnreachable() as error if not isinstance(error, BusClosed | BusRefused) and not self._bus.is_online:
                return None
            case error:  # such as a gateway that is missing where there is a server
                raise error

    async def hold(self, request: JobRequest) -> None:
        """Keep it, and deliver it when the connection is back. Raises: UsageError, TooLarge, OutboxError."""
        await hold_request(request, self._bus.destination)
        if self._courier is None:
            self._courier = Courier(self._bus, [outbox_path(os.environ)])
            self._courier.start()

    async def close(self) -> None:
        """Deliver no more; what is held stays for others."""
        if self._courier:
            await self._courier.stop()
