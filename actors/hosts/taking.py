"""How a host comes to own a job: it makes it, or claims one that the log knows already."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from actors.changes.fork import announce_fork, forked, read_origin
from actors.components.component import Component
from actors.jobs.journal import Journal
from actors.jobs.order import Order
from actors.operations.hosting import Hosting
from bus.errors import CallboardError, UsageError
from bus.mailbox import Delivery
from bus.messages import JobOwned, JobSubmitted
from store.log import JobLog

CREATE_TRIES = 10
# Another host may have that version, or be new enough to read it; 20 deliveries take half a minute.
ELSEWHERE = ("unknown_version", "unreadable_definition")
VERSION_TRIES = 20


class NoSuchVersion(CallboardError):
    """This host has the workflow, but not the version that the job began with or asks for."""


class Taking:
    """Makes or claims the job of one request. Shares the log and the journal with the job's actor."""

    def __init__(self, hosting: Hosting, order: Order, lease: Delivery, log: JobLog, journal: Journal) -> None:
        self._hosting = hosting
        self._order = order
        self._lease = lease
        self._log = log
        self._journal = journal

    def owned(self, version: str) -> JobOwned:
        """The event that makes the job this host's."""
        return JobOwned(
            job=self._order.job, host=self._hosting.host, node=self._hosting.node, pid=os.getpid(), version=version,
            request=self._lease.sequence,
        )  # fmt: skip

    async def create(self) -> bool:
        """Take up a job that the log knows nothing of, if that is so. Raises: as :meth:`create_late`."""
        return await self._create(self._log.create)

    async def create_late(self) -> bool:
        """Take up a job of which the log knows, but not its beginning. Raises: UsageError, NoSuchVersion, BusError."""
        if not await self._create(self._append_late):
            return False
        self._journal.read(await self._log.read(since=0, must_see=self._log.epoch))
        return True

    async def _create(self, create: Callable[[JobSubmitted, JobOwned], Awaitable[bool]]) -> bool:
        """Take up a new job. The input is checked first: a job that cannot run is refused and never begins."""
        submitted = await self._fork() if self._order.fork else self._submission(await self._newest())
        if not await create(submitted, self.owned(submitted.version)):
            return False
        self._journal.submitted = submitted
        self._journal.read_to = self._journal.owned_at = self._log.epoch
        return True

    async def _newest(self) -> Component[..., Any]:
        try:
            return await self._hosting.take(self._order.workflow, self._order.version)
        except UsageError as error:
            if error.code in ELSEWHERE and self._lease.attempt < VERSION_TRIES:
                raise NoSuchVersion(str(error.args[0])) from error
            raise

    def _submission(self, component: Component[..., Any]) -> JobSubmitted:
        order = self._order
        component.decode_input(order.body)
        return JobSubmitted(
            job=order.job, workflow=order.workflow, version=component.version, app=component.app,
            input=msgspec.Raw(order.body or b"{}"), priority=order.priority, parent=order.parent,
            traceparent=order.traceparent, requested_at=self._lease.stored_at, deadline_at=order.deadline_at,
            amendable=component.is_amendable,
        )  # fmt: skip

    async def _fork(self) -> JobSubmitted:
        """The beginning of a fork, of which its source is told."""
        bus, blobs = self._hosting.bus, self._hosting.blobs
        origin = await read_origin(bus, blobs, self._order, self._lease.attempt)
        submitted = forked(self._submission(self._component_of(origin.submitted)), self._order, origin)
        await announce_fork(bus, blobs, self._order)
        return submitted

    async def _append_late(self, submitted: JobSubmitted, owned: JobOwned) -> bool:
        return await self._log.create_late(submitted, owned, self._journal.owned_at, self._journal.life_at)

    async def create_later(self) -> None:
        """Another request under this id was faster, and the log will say so; or what it holds nobody can read."""
        if self._lease.attempt >= CREATE_TRIES:
            message = f"the log of {self._order.job} begins with an event that nobody can read"
            raise UsageError(message, code="job_id_conflict", hint="use another Job-Id")
        await self._lease.nak(0.1 * self._lease.attempt)

    async def claim(self, last_owned: int) -> None:
        """Own the job from here, and know its log up to here: the former owner may have ended it. Raises: Fenced."""
        epoch = await self._log.claim(self.owned(self.submitted().version), last_owned)
        self._journal.read(await self._log.read(since=self._journal.read_to, must_see=epoch))

    def submitted(self) -> JobSubmitted:
        """What the job began with; it is known once the job is owned."""
        assert self._journal.submitted is not None
        return self._journal.submitted

    def component(self) -> Component[..., Any]:
        """What the job runs. Raises: NoSuchVersion."""
        return self._component_of(self.submitted())

    def _component_of(self, submitted: JobSubmitted) -> Component[..., Any]:
        component = self._hosting.workflow(submitted.workflow, submitted.version)
        if component is None:
            raise NoSuchVersion(f"this host has no {submitted.workflow} for a job of version {submitted.version}")
        return component
