"""Submitting: the part of a client that puts requests for jobs into the queue, itself or by a gateway."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import msgspec

from actors.clients.bulk_submit import submit_entries
from actors.clients.entries import BadEntries, Batch, Entries, conflict_of
from actors.clients.handle import JobHandle
from actors.clients.input_checks import check_of
from actors.clients.inputs import input_of, plain_input
from actors.clients.offline import OfflineSubmits, check_offline_name
from actors.clients.schedules import Schedules
from actors.clients.terms import Terms, terms_of
from actors.clients.threads import Threads
from actors.components.component import Component
from actors.jobs.ends import JobEnds
from actors.jobs.requests import JobRequest, check_request, find_earlier, job_id_for, publish_request
from bus import jobid, subjects
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, BusUnreachable, StreamFull
from bus.objects import Blobs
from bus.service import ask
from bus.subjects import Priority

if TYPE_CHECKING:
    from actors.clients.client import Client

R = TypeVar("R")
T = TypeVar("T")

FULL_WAIT_S = 30.0
_API_TIMEOUT_S = 5.0
_API_TRIES = 3


class Submitting:
    """One workspace's submits over one connection; a :class:`Client` is one."""

    def __init__(self, bus: Bus, workspace: str) -> None:
        self.bus = bus
        self.workspace = workspace
        self.blobs = Blobs(bus)
        self._ends = JobEnds(bus, self.blobs, workspace)
        self._offline = OfflineSubmits(bus)
        self.schedules = Schedules(self._ask)
        self.threads = Threads(bus, self.blobs, workspace)

    @property
    def _client(self) -> Client:
        return cast("Client", self)  # the only one there is; its module imports this one

    @overload
    async def submit(
        self,
        target: Component[..., R],
        /,
        *args: Any,
        job_id: str | None = None,
        priority: Priority = "normal",
        idempotency_key: str | None = None,
        delay_s: float | None = None,
        at: datetime | None = None,
        deadline_s: float | None = None,
        deadline_at: datetime | None = None,
        offline_ok: bool = False,
        input: dict[str, Any] | bytes | None = None,
        **kwargs: Any,
    ) -> JobHandle[R]: ...
    @overload
    async def submit(
        self,
        target: str,
        /,
        *args: Any,
        job_id: str | None = None,
        priority: Priority = "normal",
        idempotency_key: str | None = None,
        delay_s: float | None = None,
        at: datetime | None = None,
        deadline_s: float | None = None,
        deadline_at: datetime | None = None,
        offline_ok: bool = False,
        input: dict[str, Any] | bytes | None = None,
        **kwargs: Any,
    ) -> JobHandle[Any]: ...
    async def submit(
        self,
        target: Component[..., Any] | str,
        /,
        *args: Any,
        job_id: str | None = None,
        priority: Priority = "normal",
        idempotency_key: str | None = None,
        delay_s: float | None = None,
        at: datetime | None = None,
        deadline_s: float | None = None,
        deadline_at: datetime | None = None,
        offline_ok: bool = False,
        input: dict[str, Any] | bytes | None = None,  # noqa: A002 - the word that the wire uses
        **kwargs: Any,
    ) -> JobHandle[Any]:
        """Request a job; when this returns the request is stored.

        A component is checked here and published at once. A name such as ``"order"`` or ``"order@2"`` goes to a
        gateway, which checks the input against the registered schema. ``input`` is an object, or JSON text, in the
        place of arguments. The same ``job_id`` or ``idempotency_key`` again is the same job. Waits up to 30 s while
        the queue is full.

        ``delay_s`` or ``at`` (with a time zone): the job is planned, and begins then; it has its id at once, and can be
        cancelled. ``deadline_s`` or ``deadline_at``: it fails with code ``deadline`` if it has not ended by then;
        seconds count from its planned start, or from now.

        ``offline_ok``: when the server is away for more than some seconds the request is kept in this machine's outbox
        and delivered once when it is back, by this client or by others (``callboard outbox``); the handle is ``held``.

        Raises: UsageError (bad input, unknown workflow, an id that is another job's), TooLarge, StreamFull,
        BusUnreachable (a name, and no gateway answers), PermissionRefused, BusClosed; with ``offline_ok`` OutboxError.
        """
        terms = terms_of(priority, delay_s, at, deadline_s, deadline_at)
        job = job_id_for(self.workspace, job_id, idempotency_key)
        is_new = job_id is None and idempotency_key is None
        publish: Coroutine[Any, Any, JobHandle[Any]]
        if isinstance(target, Component):
            raw = input_of(target, args, kwargs, input)
            publish = self._submit_component(target, job, raw, terms, is_new=is_new)
        else:
            raw = plain_input(target, args, kwargs, input)
            publish = self._submit_name(target, job, raw, terms, is_new=is_new)
        if not offline_ok:
            return await publish
        return await self._offline.attempt(publish) or await self._hold(target, job, raw, terms)

    async def submit_many(
        self,
        target: Component[..., Any] | str,
        inputs: Iterable[dict[str, Any] | bytes],
        *,
        batch: str | None = None,
        id_field: str = "",
        priority: Priority = "normal",
        delay_s: float | None = None,
        at: datetime | None = None,
        deadline_s: float | None = None,
        deadline_at: datetime | None = None,
    ) -> list[JobHandle[Any]]:
        """Request a job for each of ``inputs``; when this returns all requests are stored. Their handles, in order.

        All inputs are checked first: one that is bad, and nothing is sent. Their ids follow from the name ``batch``,
        their place and what they say, so the same batch again submits nothing twice; without a name they are new jobs.
        With ``id_field`` that field of each input is the job's id. The other words are those of :meth:`submit`. The
        requests go to the queue itself, many at once. Waits while the server is away or full.

        Raises: BadEntries (a UsageError) with all that is wrong, UsageError, PermissionRefused, BusClosed, ApiError.
        """
        workflow, version, check = await check_of(self.bus, target)
        entries = Entries(
            Batch(
                workspace=self.workspace, workflow=workflow, key=jobid.new() if batch is None else batch, check=check,
                terms=terms_of(priority, delay_s, at, deadline_s, deadline_at), id_field=id_field, version=version,
            )
        )  # fmt: skip
        good = list(entries.read(each if isinstance(each, bytes) else msgspec.json.encode(each) for each in inputs))
        if entries.bad:
            raise BadEntries(entries.bad)
        component = target if isinstance(target, Component) else None
        handles: list[JobHandle[Any]] = []
        async for sent in submit_entries(self.bus, self.blobs, entries.batch, good):
            if wrong := [conflict_of(each.entry) for each in sent if each.outcome == "conflict"]:
                raise BadEntries(wrong)
            handles += [JobHandle(self._client, each.entry.job, component, since=each.since) for each in sent]
        return handles

    def _request(self, workflow: str, job: str, raw: bytes, terms: Terms) -> JobRequest:
        return JobRequest(
            workflow=workflow, job=job, input=raw, workspace=self.workspace, priority=terms.priority,
            start=terms.start, deadline=terms.deadline,
        )  # fmt: skip

    async def _hold(self, target: Component[..., Any] | str, job: str, raw: bytes, terms: Terms) -> JobHandle[Any]:
        component = target if isinstance(target, Component) else None
        name = component.name if component else check_offline_name(str(target))
        request = self._request(name, job, raw, terms.fixed(datetime.now(UTC)))
        await self._offline.hold(request)
        return JobHandle(self._client, job, component, held=True)

    async def _submit_component(
        self, target: Component[..., R], job: str, raw: bytes, terms: Terms, *, is_new: bool
    ) -> JobHandle[R]:
        request = self._request(target.name, job, raw, terms)
        since = 0
        if is_new:
            self._ends.expect(job)
        else:
            exists, since = await find_earlier(self.bus, self.blobs, check_request(request))
            if exists:
                return JobHandle(self._client, job, target)
        await while_full(lambda: publish_request(self.bus, self.blobs, request))
        return JobHandle(self._client, job, target, since=since, fresh=is_new)

    async def _submit_name(self, name: str, job: str, raw: bytes, terms: Terms, *, is_new: bool) -> JobHandle[Any]:
        if is_new:
            self._ends.expect(job)
        workflow, _, version = name.partition("@")
        fields: dict[str, Any] = {"workflow": workflow, "job_id": job, **terms.words()}
        if version:
            fields["version"] = version
        if len(raw) > self.bus.max_body_bytes // 2:
            fields["input_blob"] = await self.blobs.put(raw)
        else:
            fields["input"] = msgspec.Raw(raw)
        body = msgspec.json.encode(fields)
        answer = await while_full(lambda: self._ask("jobs", "submit", body))
        return JobHandle(self._client, job, fresh=is_new, warning=_decode_answer(answer).warning)

    async def _ask(self, noun: str, verb: str, body: bytes) -> bytes:
        """Call a gateway. Asking again after a lost answer is safe: the job id goes along, or it is said twice."""
        subject = subjects.api(self.workspace, noun, verb)
        for tries_left in reversed(range(_API_TRIES)):
            try:
                return await ask(self.bus, subject, body, timeout_s=_API_TIMEOUT_S)
            except NoResponder as error:
                hint = "start one with 'callboard node', or submit the component itself"
                raise BusUnreachable(f"no gateway answers at {subject}", hint=hint) from error
            except Ambiguous:
                if not tries_left:
                    raise
                await self.bus.settle()
        raise AssertionError("unreachable")


class _Answer(msgspec.Struct, frozen=True):
    """What is read of a gateway's answer."""

    warning: str = ""


_decode_answer = msgspec.json.Decoder(_Answer).decode


async def while_full(publish: Callable[[], Awaitable[T]]) -> T:
    """A full queue is backpressure: wait for room, up to ``FULL_WAIT_S`` seconds. Raises: StreamFull."""
    deadline = asyncio.get_running_loop().time() + FULL_WAIT_S
    while True:
        try:
            return await publish()
        except StreamFull:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(0.2 + random.random() * 0.8)
