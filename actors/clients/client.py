"""The client: submit jobs, wait for their results, follow them, and speak to them.

    async with Client.connect() as client:
        handle = await client.submit(order, sku="A1", qty=2)     # a component: checked here, typed result
        receipt = await handle.result(timeout_s=30)
        other = await client.submit("order", sku="A1", qty=2)    # a name: checked by a gateway, plain JSON result

``job_id``, ``priority``, ``idempotency_key``, ``delay_s``, ``at``, ``deadline_s``, ``deadline_at``, ``offline_ok`` and
``input`` are words of ``submit`` itself. A workflow that has inputs of these names takes them with
``input={"priority": ...}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Generator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, cast, overload

from actors.changes.job_retry import retry_job
from actors.clients.approving import Approving
from actors.clients.bulk import Told, Verb, can_be, tell_all
from actors.clients.changing import Changing
from actors.clients.handle import JobHandle
from actors.clients.planned_view import find_jobs, view_of
from actors.clients.workflows import Workflows
from actors.components.component import Component
from actors.jobs.hold import data_of
from actors.jobs.signals import CANCEL, PAUSE, RESUME, TERMINATE, make_signal, send_signal
from bus.connection import Bus
from bus.options import resolve_options
from bus.subjects import DEFAULT_WORKSPACE, check_job_id, check_name
from store.job_list import ListedJob, ListedState, Wanted
from store.log import Recorded
from store.tail import TailItem, live_filter, tail
from store.view import JobView

log = logging.getLogger("callboard.client")

R = TypeVar("R")


class Connecting:
    """A client under way: ``await`` it, or enter it with ``async with`` to have it closed at the end."""

    def __init__(self, url: str | None, context: str | None, workspace: str, bus: Bus | None, timeout_s: float) -> None:
        self._arguments = (url, context, timeout_s)
        self._workspace = check_name(workspace, "workspace")
        self._bus = bus
        self._client: Client | None = None

    def __await__(self) -> Generator[Any, None, Client]:
        return self._open().__await__()

    async def _open(self) -> Client:
        if self._bus is not None:
            return Client(self._bus, self._workspace)
        url, context, timeout_s = self._arguments
        bus = await Bus.connect(resolve_options(url, context), name="callboard client", timeout_s=timeout_s)
        return Client(bus, self._workspace, owns_bus=True)

    async def __aenter__(self) -> Client:
        self._client = await self._open()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()


class Client(Changing, Approving):
    """Speaks to one workspace over one connection. Made by :meth:`connect`."""

    def __init__(self, bus: Bus, workspace: str = DEFAULT_WORKSPACE, *, owns_bus: bool = False) -> None:
        super().__init__(bus, workspace)
        self._owns_bus = owns_bus
        self._workflows = Workflows(bus)

    @property
    def workflows(self) -> Workflows:
        """Published workflows: publish, list, get, deprecate."""
        return self._workflows

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        context: str | None = None,
        workspace: str = DEFAULT_WORKSPACE,
        bus: Bus | None = None,
        timeout_s: float = 5,
    ) -> Connecting:
        """Connect within ``timeout_s`` seconds: ``await`` it, or enter it with ``async with``.

        Without ``url`` and ``context`` the environment and the ``nats`` CLI's context say where to. A ``bus`` that is
        given is used, and not closed. Raises: UsageError, BusUnreachable, ServerUnsuitable.
        """
        return Connecting(url, context, workspace, bus, timeout_s)

    async def close(self) -> None:
        """Let go of the connection; jobs go on."""
        await self._offline.close()
        await self._ends.close()
        await self._workflows.close()
        if self._owns_bus:
            await self.bus.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- results

    async def result(self, job_id: str, *, timeout_s: float | None = None) -> Any:
        """The JSON result of any job, see :meth:`JobHandle.result`."""
        return await self.handle(job_id).result(timeout_s)

    @overload
    def handle(self, job_id: str) -> JobHandle[Any]: ...
    @overload
    def handle(self, job_id: str, component: Component[..., R]) -> JobHandle[R]: ...
    def handle(self, job_id: str, component: Component[..., Any] | None = None) -> JobHandle[Any]:
        """A handle on a job that was submitted before, perhaps by somebody else. Raises: UsageError."""
        return JobHandle(self, check_job_id(job_id), component)

    async def wait_for_end(
        self, job_id: str, *, timeout_s: float | None = None, since: int = 0, fresh: bool = False
    ) -> Recorded:
        """The event that ended the job (after sequence ``since``). Raises: TimeoutError, BusClosed, Unreadable."""
        if timeout_s is None:
            return await self._ends.wait(job_id, since=since, fresh=fresh)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ends.wait(job_id, since=since, fresh=fresh)
        except TimeoutError:
            raise TimeoutError(f"job {job_id} did not end within {timeout_s:g} s; it goes on") from None

    async def retry(self, job_id: str, *, calls: Iterable[str] = (), by: str = "") -> JobHandle[Any]:
        """Let a failed job go on from where it failed; the handle's result is that of its new end.

        Made anew are the calls by which it failed, and those named in ``calls``; what the job has recorded is not done
        again. Raises: UsageError ``unknown_job``, ``not_failed`` or ``no_such_call``, BusError.
        """
        return JobHandle(self, job_id, since=await self.retry_now(job_id, calls=calls, by=by))

    async def retry_now(self, job_id: str, *, calls: Iterable[str] = (), by: str = "") -> int:
        """As :meth:`retry`; only the sequence at which the retry stands in the log."""
        return (await retry_job(self.bus, self.blobs, self.workspace, job_id, calls=calls, by=by)).sequence

    async def get(self, job_id: str) -> JobView:
        """The job as it stands. Raises: UsageError ``unknown_job``."""
        return await view_of(self.bus, self.blobs, self.workspace, job_id)

    async def follow(self, job_id: str | None = None, since_seq: int = 0) -> AsyncGenerator[TailItem, None]:
        """The events of one job (None: of the workspace) after ``since_seq``, then each new one as it is stored.

        Goes on until the caller stops; leave it with ``contextlib.aclosing``. Raises: UsageError, BusError.
        """
        source = tail(self.bus, self.blobs, live_filter(self.workspace, job_id), since=since_seq)
        async with contextlib.aclosing(cast("AsyncGenerator[TailItem, None]", source)) as items:
            async for item in items:
                yield item

    # ---- signals

    async def signal(self, job_id: str, name: str, data: Any = None, *, by: str = "", wait_s: float = 0.0) -> int:
        """Write a signal into the job's log and wake it; the sequence at which it stands there.

        Raises: UsageError ``unknown_job`` (not taken up within ``wait_s`` seconds) or ``job_ended``, BusError.
        """
        signal = make_signal(job_id, name, data, by)
        return await send_signal(self.bus, self.blobs, self.workspace, signal, wait_s=wait_s)

    async def cancel(self, job_id: str, reason: str = "", *, by: str = "", wait_s: float = 0.0) -> int:
        """Ask the job to end as cancelled. Raises: like :meth:`signal`."""
        return await self.signal(job_id, CANCEL, {"reason": reason}, by=by, wait_s=wait_s)

    async def terminate(self, job_id: str, reason: str = "", *, by: str = "", wait_s: float = 0.0) -> int:
        """End the job now, as cancelled with reason "terminated": its function gets no time to clean up.

        Its children are terminated too. Raises: like :meth:`signal`.
        """
        return await self.signal(job_id, TERMINATE, {"reason": reason}, by=by, wait_s=wait_s)

    async def pause(self, job_id: str, *, children: bool = True, by: str = "", wait_s: float = 0.0) -> int:
        """Let the job begin nothing new; calls in flight finish, and its deadline goes on.

        Its children are paused too unless ``children`` is false. Raises: like :meth:`signal`.
        """
        return await self.signal(job_id, PAUSE, data_of(children), by=by, wait_s=wait_s)

    async def resume(self, job_id: str, *, children: bool = True, by: str = "", wait_s: float = 0.0) -> int:
        """Let a paused job go on, and its children unless ``children`` is false. Raises: like :meth:`signal`."""
        return await self.signal(job_id, RESUME, data_of(children), by=by, wait_s=wait_s)

    # ---- many at once

    async def find_jobs(
        self,
        *,
        workflow: str = "",
        states: Iterable[ListedState] = (),
        older_than_s: float | None = None,
        verb: Verb | None = None,
    ) -> list[ListedJob]:
        """Jobs that have not ended or have failed, the oldest first; with ``verb`` those to which it does anything.

        Reads the lifecycle events of all jobs of the workspace: for people and operations, not for each request.
        Raises: UsageError, BusError.
        """
        wanted = Wanted(workflow=workflow, states=tuple(states), older_than_s=older_than_s)
        found = await find_jobs(self.bus, self.workspace, wanted)
        return [job for job in found if verb is None or can_be(verb, job)]

    def tell(
        self, verb: Verb, jobs: Iterable[str], *, reason: str = "", children: bool = True, by: str = ""
    ) -> AsyncGenerator[Told]:
        """Pause, resume, cancel, terminate or retry each of ``jobs``; yields what came of it, job by job, in no order.

        A job that refuses stops no other. Raises: UsageError for an unknown verb, BusError.
        """
        return tell_all(self, verb, jobs, reason=reason, children=children, by=by)
